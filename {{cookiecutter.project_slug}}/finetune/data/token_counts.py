"""Count the tokens that an example is billed for, without the network."""

import gzip
import hashlib
import json
import os
from collections.abc import Callable
from functools import cache, lru_cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any, cast

import platformdirs

from finetune.core.records import Example
from finetune.data.examples import OUTPUTS, text_of

IMAGE = 85  # tokens, at low detail
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

    fill_cache(encoding)
    return tiktoken.get_encoding(encoding).encode_ordinary


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
def counter(encoding: str) -> Callable[[Example], int]:
    """Return a function from an example to its billed tokens in one epoch.

    An example has 1 token, and each message 3, those of its role and those of its text: the people who found this
    formula checked it against two bills of OpenAI, to the token. Not checked: tools, which count as their JSON, and
    images, 85 each. A preference counts its question with each of the two outputs.
    """
    length = lru_cache(10_000)(length_in(encoding))  # most examples share roles, system prompt and classes

    def message_tokens(message: Example) -> int:
        content = message.get("content")
        if len(message) == 2 and isinstance(content, str):  # the common case
            return 3 + length(message["role"]) + length(content)
        images = sum(part.get("type") == "image_url" for part in content) if isinstance(content, list) else 0
        calls = [json.dumps(message[key]) for key in ("tool_calls", "function_call") if message.get(key)]
        return 3 + length(message["role"]) + length(text_of(content)) + IMAGE * images + sum(map(length, calls))

    def chat_tokens(messages: list[Example], tools: Any) -> int:
        return 1 + sum(map(message_tokens, messages)) + (length(json.dumps(tools)) if tools else 0)

    def count(example: Example) -> int:
        if "messages" in example:
            return chat_tokens(example["messages"], example.get("tools"))
        if "input" in example:
            asked, tools = example["input"]["messages"], example["input"].get("tools")
            return sum(chat_tokens([*asked, *example[output]], tools) for output in OUTPUTS)
        return length(example["prompt"]) + length(example["completion"])

    return count


def fill_cache(encoding: str) -> None:
    """Copy a vocabulary from the wheel `bpe-openai` to tiktoken's cache, so that tiktoken needs no network."""
    folder = Path(os.environ.setdefault("TIKTOKEN_CACHE_DIR", platformdirs.user_cache_dir("tiktoken")))
    # tiktoken names a cached file by the SHA-1 of its address.
    target = folder / hashlib.sha1(VOCABULARY_URL.format(encoding).encode()).hexdigest()
    spec = find_spec("bpe_openai")
    if target.exists() or spec is None or spec.origin is None:
        return
    packed = Path(spec.origin).parent / "data" / f"{encoding}.tiktoken.gz"
    if packed.exists():
        folder.mkdir(parents=True, exist_ok=True)
        temporary = target.with_suffix(f".{os.getpid()}")
        temporary.write_bytes(gzip.decompress(packed.read_bytes()))
        temporary.replace(target)
