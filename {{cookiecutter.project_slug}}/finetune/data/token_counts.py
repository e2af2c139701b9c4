"""Count the tokens that an example is billed for, without the network."""

import gzip
import hashlib
import math
import os
from collections.abc import Callable
from contextlib import suppress
from functools import cache, lru_cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any, cast

import orjson
import platformdirs

from finetune.core.cache_folders import writable_cache
from finetune.core.damage import set_aside
from finetune.core.errors import FinetuneError
from finetune.core.records.prepared import Example
from finetune.data.examples import OUTPUTS, messages_of, refusals_of, text_of
from finetune.data.images import image_bytes, images_of, size_of
from finetune.data.tool_tokens import functions_of, tokens_of_functions

ImagePrices = tuple[int, int]  # tokens of an image at low detail, and of each tile at high detail
IMAGE_PRICES: ImagePrices = (85, 170)  # of gpt-4o
TILE = 512  # pixels
PROBES = (
    "The parcel's not here, isn't it? 12345.67 USD",
    '\n\n  \t{"a": [1, 2]}\r\n<|endoftext|> ',
    "https://example.com/a_b?c=%20 # == != ->",
    "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa" * 20,
)
VOCABULARY_URL = "https://openaipublic.blob.core.windows.net/encodings/{}.tiktoken"


@cache
def encoder(encoding: str) -> Callable[[str], list[int]]:
    """Return a function from a text to its token IDs in one of tiktoken's vocabularies; special tokens are text."""
    import tiktoken

    try:
        fill_cache(encoding)
        return tiktoken.get_encoding(encoding).encode_ordinary
    except OSError as error:  # those of requests, too
        raise FinetuneError(
            f"The vocabulary {encoding} is not on this machine, and cannot be downloaded.",
            "Count once with a network, or set TIKTOKEN_CACHE_DIR to a folder that has it.",
        ) from error


def length_in(encoding: str) -> Callable[[str], int]:
    """Return a function from a text to tiktoken's number of tokens, counted by quicktok where it has a wheel.

    Measured with quicktok 0.4.0: on 142 million ASCII characters, random and not, its numbers are tiktoken's; on other
    texts it is sometimes one token off, so tiktoken counts those.
    """
    encode = encoder(encoding)
    try:
        import quicktok

        quick = cast("Callable[[str], int]", quicktok.get_encoding(encoding).count)
        if all(quick(text) == len(encode(text)) for text in PROBES):
            return lambda text: quick(text) if text.isascii() else len(encode(text))
    except (ImportError, ValueError, RuntimeError, OSError):  # no wheel for this system, or not this vocabulary
        pass
    return lambda text: len(encode(text))


@cache
def counter(encoding: str, image_prices: ImagePrices = IMAGE_PRICES) -> Callable[[Example], int]:
    """Return a function from an example to its billed tokens in one epoch.

    An example has 1 token, and each message 3, those of its role and those of its texts: the people who found this
    formula checked it against two bills of OpenAI, to the token. Not checked: names, which count 1 more; declared
    functions (see tool_tokens.py); calls, which count as their JSON; images (see `image_tokens`). A preference counts
    its question with each of the two outputs.
    """
    length = lru_cache(10_000)(length_in(encoding))  # most examples share roles, system prompt and classes

    @lru_cache(1_000)  # most examples declare the same functions
    def declared(functions: bytes) -> int:
        return tokens_of_functions(orjson.loads(functions), encoding, length)

    def message_tokens(message: Example) -> int:
        content = message.get("content")
        if len(message) == 2 and isinstance(content, str):  # the common case
            return 3 + length(message["role"]) + length(content)
        texts = [message["role"], text_of(content), *refusals_of(message)]
        texts += [as_sent(message[key]) for key in ("tool_calls", "function_call") if message.get(key)]
        name = 1 + length(message["name"]) if message.get("name") else 0
        images = sum(image_tokens(image, image_prices) for image in images_of(message))
        return 3 + sum(map(length, texts)) + name + images

    def chat_tokens(messages: list[Example], asked: Example) -> int:
        functions = functions_of(asked) if len(asked) > 1 else None
        return 1 + sum(map(message_tokens, messages)) + (declared(as_sent(functions).encode()) if functions else 0)

    def count(example: Example) -> int:
        if "messages" in example:
            return chat_tokens(example["messages"], example)
        if "input" in example:
            asked = example["input"]
            return sum(chat_tokens([*asked["messages"], *example[output]], asked) for output in OUTPUTS)
        return length(example["prompt"]) + length(example["completion"])

    return count


def as_sent(value: Any) -> str:
    """Return the JSON of a value as it is sent: without spaces and without escapes of letters."""
    return orjson.dumps(value, default=float).decode()


def image_tokens(image: Example, prices: ImagePrices) -> int:
    """Return the tokens of an image: those of low detail, and for high detail those of each tile of 512 pixels.

    An image of an unknown size counts as one of low detail, the least that it can have.
    """
    low, tile = prices
    size = None if image.get("detail") == "low" else size_of(image_bytes(image["url"]))
    return low + tile * tiles(*size) if size else low


def tiles(width: int, height: int) -> int:
    """Return the tiles of an image, which is first made to fit into 2,048 pixels, and then its short side into 768."""
    scale = min(1, 2048 / max(width, height))
    scale = min(scale, 768 / min(width, height))
    across, down = (max(1, math.ceil(int(side * scale) / TILE)) for side in (width, height))
    return across * down


def has_unknown_image(example: Example, prices: ImagePrices | None) -> bool:
    """Return whether an example has an image whose tokens are not known: by its size, its detail or its `prices`."""
    return any(
        prices is None
        or image.get("detail") == "original"
        or (image.get("detail") != "low" and size_of(image_bytes(image["url"])) is None)
        for _, message in messages_of(example)
        for image in images_of(message)
    )


def fill_cache(encoding: str) -> None:
    """Copy a vocabulary from the wheel `bpe-openai` to tiktoken's cache, so that tiktoken needs no network.

    A damaged one is replaced. Where the cache cannot be written, tiktoken gets another folder.
    """
    usual = Path(os.environ.get("TIKTOKEN_CACHE_DIR") or platformdirs.user_cache_dir("tiktoken"))
    # tiktoken names a cached file by the SHA-1 of its address.
    name = hashlib.sha1(VOCABULARY_URL.format(encoding).encode()).hexdigest()
    vocabulary = vocabulary_of_wheel(encoding)
    folder = usual
    if vocabulary is None:
        folder = usual if (usual / name).is_file() else writable_cache(usual)
    elif not has_content(usual / name, vocabulary):
        folder = writable_cache(usual, len(vocabulary))
        if not has_content(folder / name, vocabulary):
            if (folder / name).is_dir():
                set_aside(folder / name)
            temporary = folder / f"{name}.{os.getpid()}"
            temporary.write_bytes(vocabulary)
            temporary.replace(folder / name)
    os.environ["TIKTOKEN_CACHE_DIR"] = str(folder)


def vocabulary_of_wheel(encoding: str) -> bytes | None:
    """Return a vocabulary in tiktoken's form from the wheel `bpe-openai`; None where it has none."""
    spec = find_spec("bpe_openai")
    if spec is None or spec.origin is None:
        return None
    packed = Path(spec.origin).parent / "data" / f"{encoding}.tiktoken.gz"
    return gzip.decompress(packed.read_bytes()) if packed.exists() else None


def has_content(file: Path, content: bytes) -> bool:
    """Return whether a file is there and has this content."""
    with suppress(OSError):
        return file.is_file() and file.stat().st_size == len(content) and file.read_bytes() == content
    return False
