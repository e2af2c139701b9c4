"""The adapter that the training has made: what is in models/weights, and the same as PEFT's folder for others."""

import json
import shutil
import warnings
from pathlib import Path
from typing import Any

from finetune.core.disk import read_json, write_json
from finetune.core.errors import FinetuneError
from finetune.core.paths import WEIGHTS
from finetune.export.base_folder import hub_name

CONFIG, TENSORS = "adapter_config.json", "adapter_model.safetensors"


def trained_adapter(base: str | None) -> Path:
    """Return the folder with the adapter of the record.

    Raises FinetuneError if the provider has handed out none, or if it names another base than `base`, where that is
    given.
    """
    if not (WEIGHTS / CONFIG).is_file() or not (WEIGHTS / TENSORS).is_file():
        note = WEIGHTS / "README.txt"
        why, remedy = f"{WEIGHTS} has no adapter.", "Fetch the weights with: dvc pull train, or: dvc repro -f -s train"
        if note.is_file():
            why = note.read_text(encoding="utf-8").strip()
            remedy = "Train where weights are handed out: local or nebius. If your provider does: dvc repro -f -s train"
        raise FinetuneError(f"There is nothing to export: {why}", remedy)
    if base is None:
        return WEIGHTS
    config = read_json(WEIGHTS / CONFIG, "train")
    name, revision = hub_name(base)
    other, at = hub_name(str(config["base_model_name_or_path"]))
    at = config.get("revision") or at
    # The engine writes the name without its organisation, and the revision after it.
    if other.rpartition("/")[2] not in (short := name.rpartition("/")[2], f"{short}@{revision}") or (
        revision and at and at != revision
    ):
        raise FinetuneError(
            f"{WEIGHTS / CONFIG} names the base {named(other, at)}; the model was tuned from {named(name, revision)}.",
            "Restore the weights with: dvc checkout train",
        )
    return WEIGHTS


def export_adapter(adapter: Path, base: str, target: Path) -> None:
    """Write PEFT's folder with the base's name and revision, as vLLM, Transformers and hosted services take it."""
    target.mkdir(parents=True)
    shutil.copy(adapter / TENSORS, target)
    config: dict[str, Any] = json.loads((adapter / CONFIG).read_text(encoding="utf-8"))
    config["base_model_name_or_path"], config["revision"] = hub_name(base)
    write_json(target / CONFIG, config)


def check_adapter(folder: Path, base: str) -> None:
    """Raise FinetuneError if an exported adapter is of another base or revision than the model was tuned from."""
    config = json.loads((folder / CONFIG).read_text(encoding="utf-8"))
    found, wanted = (config["base_model_name_or_path"], config.get("revision")), hub_name(base)
    if found != wanted:
        raise FinetuneError(
            f"{folder / CONFIG} names the base {named(*found)}; the model was tuned from {named(*wanted)}.",
            "Export again with: dvc repro -f -s export",
        )


def named(name: str, revision: str | None) -> str:
    return f"{name} at revision {revision}" if revision else name


def with_adapter(model: Any, adapter: Path, in_float32: bool) -> Any:
    """Return PEFT's model of a base in memory and an adapter, whose weights are in float32 or in the base's format."""
    from peft import PeftModel

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)  # PEFT uses an old name in Transformers
        return PeftModel.from_pretrained(model, adapter, autocast_adapter_dtype=in_float32)
