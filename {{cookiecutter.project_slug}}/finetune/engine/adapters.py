"""Models of adapters: the folder of each, and its row in the database."""

import json
import shutil
import sqlite3
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from finetune.engine import bases
from finetune.engine.api_errors import ApiError
from finetune.engine.digests import sha256_of
from finetune.engine.fingerprint import ADAPTER_FILES
from finetune.engine.ids import new_id
from finetune.engine.schema import ModelRow
from finetune.engine.store import Store

CONFIG, TENSORS = ADAPTER_FILES
WRAPPING = ("modules_to_save", "layer_replication", "trainable_token_indices", "target_parameters")


def copy_adapter(store: Store, source: Path, base: str) -> Path:
    """Copy an adapter into a new folder, with a configuration that names the base by its short name."""
    config = json.loads((source / CONFIG).read_text(encoding="utf-8"))
    # The file is versioned: it must not depend on the order of a set or on a path of this machine.
    if isinstance(config["target_modules"], list):
        config["target_modules"].sort()
    config["base_model_name_or_path"] = bases.short_name(base)
    text = json.dumps(config, indent=2, sort_keys=True) + "\n"
    folder = store.home / "models" / new_id("")
    folder.mkdir()
    try:
        shutil.copy(source / TENSORS, folder)
        (folder / CONFIG).write_bytes(text.encode())  # as text, Windows would write other line ends
    except OSError:  # such as a full disk
        shutil.rmtree(folder, ignore_errors=True)
        raise
    return folder


def digests_of(folder: Path) -> dict[str, str]:
    """Return the SHA-256 of each file of an adapter."""
    return {file: sha256_of(folder / file) for file in ADAPTER_FILES if (folder / file).is_file()}


def add_model(
    db: sqlite3.Connection,
    name: str,
    base: str,
    folder: Path,
    digests: Mapping[str, str],
    job: str | None = None,
    dtype: str | None = None,
) -> None:
    """Add a model of a copied adapter to the database, with the digests of its files."""
    db.execute(
        "INSERT INTO models (id, created_at, job, base, dtype, folder) VALUES (?, ?, ?, ?, ?, ?)",
        (name, int(time.time()), job, base, dtype, folder.name),
    )
    keys = [(f"models/{folder.name}/{file}", digest) for file, digest in digests.items()]
    db.executemany("INSERT INTO digests VALUES (?, ?)", keys)


def load_adapter(store: Store, name: str, base: str, source: Path) -> None:
    """Make a model of an adapter that was trained elsewhere. The same adapter again changes nothing.

    Raises ApiError if another model has this name.
    """
    folder = copy_adapter(store, source, base)
    digests = digests_of(folder)
    with store.transaction() as db:
        other: ModelRow | None = store.row("SELECT * FROM models WHERE id = ?", name)
        if other is None:
            add_model(db, name, base, folder, digests)
            return
    shutil.rmtree(folder)
    if other["base"] != base or digests_of(store.home / "models" / other["folder"]) != digests:
        raise ApiError(400, f"There is another model {name}. Delete it, or give the adapter another name.")


def remove_model(db: sqlite3.Connection, name: str) -> Path | None:
    """Remove a model from the database. Return its folder below the home, to be deleted afterwards, if it had one."""
    row = db.execute("SELECT folder FROM models WHERE id = ?", (name,)).fetchone()
    db.execute("DELETE FROM models WHERE id = ?", (name,))
    db.execute("DELETE FROM permissions WHERE checkpoint = ?", (name,))
    if row is None:
        return None
    folder = Path("models", row["folder"])
    db.execute("DELETE FROM digests WHERE path LIKE ?", (f"{folder.as_posix()}/%",))
    return folder


def read_config(folder: Path) -> dict[str, Any]:
    """Return the configuration of the adapter in a folder, as PEFT writes it. Raises ApiError if there is no LoRA."""
    from safetensors import SafetensorError, safe_open

    try:
        config = json.loads((folder / CONFIG).read_text(encoding="utf-8"))
        modules = config["target_modules"]
        names = modules if isinstance(modules, list) else [modules]
        if config["peft_type"] != "LORA" or not all(isinstance(name, str) for name in names):
            raise ValueError("it is no LoRA of named modules")
        if changes := base_changes(config):
            raise ValueError(f"{changes} would change the base, which other models share")
        with safe_open(folder / TENSORS, "numpy"):
            pass
    except FileNotFoundError as error:
        raise ApiError(
            404, f"No adapter found in {folder}: it lacks {CONFIG} or {TENSORS}.", None, "lora_path"
        ) from error
    except (OSError, ValueError, KeyError, TypeError, RecursionError, SafetensorError) as error:
        raise ApiError(400, f"The adapter in {folder} cannot be read: {error}", None, "lora_path") from error
    return dict(config)


def base_changes(config: Mapping[str, Any]) -> str:
    """Return the settings by which an adapter is more than LoRA beside the base's layers; "" if there are none.

    With them, PEFT changes or wraps the base itself, which all its adapters share.
    """
    start = str(config.get("init_lora_weights", True)).lower()
    settings = {
        "init_lora_weights": start.startswith(("pissa", "olora", "corda", "loftq")),
        "bias": config.get("bias", "none") != "none",
        **{name: bool(config.get(name)) for name in WRAPPING},
    }
    return ", ".join(f"{name} {json.dumps(config[name])}" for name, is_set in settings.items() if is_set)
