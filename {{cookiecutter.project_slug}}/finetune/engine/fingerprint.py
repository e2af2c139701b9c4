"""What answers under a model's name: a fingerprint of the base's and the adapter's files."""

import os
from fnmatch import fnmatchcase
from functools import lru_cache
from pathlib import Path

import xxhash

from finetune.engine import bases
from finetune.engine.api_errors import damaged
from finetune.engine.store import Store

Stamp = tuple[tuple[str, int, int], ...]  # of each file: its name, size and time of change in nanoseconds
# Weights, settings, tokenizers and chat templates, as Transformers loads them.
FILES = ("*.safetensors", "*.bin", "*.json", "*.jinja", "*.model", "merges.txt", "vocab.txt")
ADAPTER_FILES = ("adapter_config.json", "adapter_model.safetensors")
CHUNK = 1 << 24


def base_and_adapter(store: Store, model: str) -> tuple[str, Path | None]:
    """Return the base of a model, and the folder of its adapter; None for a base itself."""
    row = store.row("SELECT base, folder FROM models WHERE id = ?", model)
    return (row["base"], store.home / "models" / row["folder"]) if row else (model, None)


def fingerprint_of(store: Store, model: str) -> str:
    """Return the fingerprint of what answers. Raises JobError if there is no such base, or the adapter is damaged."""
    base, adapter = base_and_adapter(store, model)
    if adapter:
        check_adapter(store, adapter, model)
    folders = [bases.folder_of(base, store.home), *([adapter] if adapter else [])]
    digest = xxhash.xxh3_128("".join(digest_of(folder, stamp_of(folder)) for folder in folders).encode())
    return f"fp_{digest.hexdigest()[:16]}"


def check_adapter(store: Store, adapter: Path, model: str) -> None:
    """Raise JobError if a model's adapter is not what its job wrote. Files that do not change are read once."""
    if not is_intact(store, adapter, stamp_of(adapter)):
        raise damaged(f"the weights of the model `{model}`", "model")


@lru_cache(maxsize=256)
def is_intact(store: Store, adapter: Path, stamp: Stamp) -> bool:
    return not any(store.is_damaged(adapter / name) for name in ADAPTER_FILES)


def stamp_of(folder: Path) -> Stamp:
    """Return what tells quickly whether a folder's files have changed: each pass of the generator asks."""
    found = []
    if folder.is_dir():
        with os.scandir(folder) as entries:
            for entry in entries:
                if is_of_model(entry.name):
                    stat = os.stat(entry.path)  # what the entry itself knows may be old, on Windows
                    found.append((entry.name, stat.st_size, stat.st_mtime_ns))
    return tuple(sorted(found))


@lru_cache(maxsize=4096)
def is_of_model(name: str) -> bool:
    return any(fnmatchcase(name, pattern) for pattern in FILES)


@lru_cache(maxsize=64)
def digest_of(folder: Path, stamp: Stamp) -> str:
    """Return the digest of the files that a stamp lists; computed once for files that do not change."""
    digest = xxhash.xxh3_128()
    for name, *_ in stamp:
        digest.update(name.encode())
        with open(folder / name, "rb") as file:
            while chunk := file.read(CHUNK):
                digest.update(chunk)
    return digest.hexdigest()
