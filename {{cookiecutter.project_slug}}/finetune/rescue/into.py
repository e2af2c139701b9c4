"""Make the project of a successor: this project's code, the saved rows, and the recorded answers to compare with.

It is another folder, because this project's history, records and ledger are of the model that ends, and stay usable.
"""

import shutil
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from finetune.core.damage import read_bytes
from finetune.core.disk import read_json, write_csv, write_jsonl, write_text
from finetune.core.errors import FinetuneError
from finetune.core.params import checked
from finetune.core.paths import LEDGER, PARAMS
from finetune.core.profiles import PROFILES
from finetune.core.yaml_edit import edit_yaml
from finetune.data.questions import ASKS_A_MODEL
from finetune.data.readers import read_rows
from finetune.data.replay import ANSWERED_BY
from finetune.project.history import git
from finetune.project.ledger import COLUMNS
from finetune.rescue.downloads import OF
from finetune.rescue.questions import questions_in_data
from finetune.rescue.rows import SAVE, Choice, Divided, divide, saved_rows
from finetune.rescue.save import ROOT

DATA = Path("data/raw/rescued.jsonl")
ANSWERS = Path("data/also/rescued.jsonl")
MARGIN = 0.05
SHARES = {"train": 0.7, "valid": 0.1, "test": 0.2}
# What belongs to the model that ends. `.dvc` files of data/raw are below it.
LEFT = ("data/raw", "data/prepared", "data/rescued", "models", "predictions", "reports", "exports", "dvc.lock")
KEPT = ("models/variants/README.md",)
SHARED = ("data/also", "data/replay")
# Keys of params.yaml that are for the former data, provider or base, or change how a model answers.
OF_DATA = ("near",)
NOT_OF_TRAIN = ("from", "continue_from", "suffix", "hyperparameters", "training_type", "integrations")
NOT_OF_EVALUATE = ("stop", "presence_penalty", "frequency_penalty", "batch", "judge", "compare")
COMMENTS = {
    "data.split": "The column that names the split of each row, or the shares of the splits.",
    "evaluate.rescued": "The answers of a model that was shut down: is the tuned one worse by at most the margin?",
}
GATES = ("tuned.", "also.", "lift.", "floors.")


@dataclass(frozen=True)
class Found:
    """A saved model, and the rows for its successor."""

    model: str
    settings: dict[str, Any]  # how it was asked
    rows: Divided

    def summary(self) -> str:
        """Return how the rows divide, and what the comparison will say less surely."""
        found = self.rows
        if found.held_out:
            splits = [row["split"] for row in found.rows]
            counts = ", ".join(f"{splits.count(name):,} {name}" for name in ("train", "valid", "test"))
        else:
            counts = (
                "data.split divides them. The model was trained on them, which favours it in the comparison. For other"
                " test rows, save answers to rows that it has not seen: finetune rescue save MODEL --rows FILE"
            )
        left = "".join(f"; left out: {count:,} ({why})" for why, count in found.left_out.items())
        own = sum(bool(row.get("is_expected")) for row in found.recorded)
        scored = f"; {own:,} rows that may be tested have only the model's own answer to be scored by" if own else ""
        return f"{len(found.rows):,} rows of {self.model}: {counts}{left}{scored}"


def read_saved(model: str | None, choice: Choice, general: Collection[int] = ()) -> Found:
    """Return the saved model with its rows, but those of `general`, the `key_of` of rows of train.replay.

    Raises FinetuneError where there is none, or several and no choice.
    """
    folders = {read_json(path, SAVE)["model"]: path.parent for path in sorted(ROOT.glob(f"*/{OF}"))}
    if not folders:
        remedy = "Save one before its shutdown: finetune rescue save MODEL"
        in_dvc = any(ROOT.glob("*.dvc")) or Path(f"{ROOT}.dvc").exists()
        raise FinetuneError(f"{ROOT} has no saved model.", "Fetch it with: dvc pull" if in_dvc else remedy)
    answered = [name for name, folder in folders.items() if any(folder.glob("answers*.jsonl"))] or list(folders)
    if model is None and len(answered) > 1:
        raise FinetuneError(f"{ROOT} has several models: {', '.join(answered)}.", "Choose one with --model.")
    model = model or answered[0]
    if model not in folders:
        raise FinetuneError(f"{ROOT} has no {model}.", f"It has: {', '.join(folders)}.")
    rows = divide(saved_rows(folders[model], general), choice)
    rows.left_out.update(questions_in_data(folders[model], general).left_out)
    manifests = sorted(folders[model].glob("manifest*.json"))
    if not manifests:
        raise FinetuneError(f"{folders[model]} has no manifest.json.", "Finish: finetune rescue save, same options")
    settings = [read_json(path, SAVE)["settings"] for path in manifests]
    return Found(model, settings[-1] | {"max_tokens": max(one["max_tokens"] for one in settings)}, rows)


def make_project(
    folder: Path, former: Mapping[str, Any], found: Found, provider: Mapping[str, str | None], base: str
) -> list[str]:
    """Write the successor's project into a new folder, whole or not at all; return what it has not of this one.

    Raises FinetuneError if the folder has files, or is in this project, and for an invalid provider or base.
    """
    if folder.resolve().is_relative_to(Path.cwd().resolve()):
        raise FinetuneError(f"{folder} is in this project.", f"Choose a folder beside it, such as ../{folder.name}.")
    if folder.is_file() or (folder.is_dir() and any(folder.iterdir())):
        raise FinetuneError(f"{folder} has files already.", "Name a folder that is empty, or does not exist.")
    values = new_values(former, found, provider, base)
    profile = PROFILES[checked(values).provider.name]
    if profile.base_url is None and profile.name != "local" and not provider["base_url"]:
        raise FinetuneError(
            f"The provider {profile.name!r} has no default address.", "Give it: --base-url https://host/v1"
        )
    without_split = {key: value for key, value in values["data"].items() if key != "split"}  # nor its comment
    text = edit_yaml(read_bytes(PARAMS).decode("utf-8"), values | {"data": without_split})
    text = edit_yaml(text, values, COMMENTS)
    files = code_files()
    unfinished = folder.with_name(f".{folder.name}.unfinished")
    shutil.rmtree(unfinished, ignore_errors=True)
    for file in files:
        (unfinished / file).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(file, unfinished / file, follow_symlinks=False)
    write_text(unfinished / PARAMS, text)
    write_csv(unfinished / LEDGER, COLUMNS, [])
    write_jsonl(unfinished / DATA, found.rows.rows)
    write_jsonl(unfinished / ANSWERS, found.rows.recorded)
    git("init", "--quiet", str(unfinished))
    if folder.is_dir():
        folder.rmdir()
    unfinished.rename(folder)
    if (former.get("train") or {}).get("replay") and "replay" not in values["train"]:
        return ["train.replay is left out: its answers are another base's. Write this one's: finetune replay"]
    return []


def code_files() -> list[Path]:
    """Return the files of this project that a successor shares: those that Git tracks, without its data and outputs.

    Regression sets and replay rows may be in DVC, so all files of their folders are shared.
    """
    tracked = {Path(name) for name in git("ls-files", "-z").split("\0") if name}
    if not tracked:
        raise FinetuneError("Git tracks no files here.", "Run this in the project's folder, after: git add .")
    shared = {path for folder in SHARED for path in Path(folder).rglob("*")}
    files = {file for file in tracked | shared if file.is_file() and file != PARAMS}
    return sorted(file for file in files if file.as_posix() in KEPT or not any(map(file.is_relative_to, LEFT)))


def new_values(
    former: Mapping[str, Any], found: Found, provider: Mapping[str, str | None], base: str
) -> dict[str, Any]:
    """Return the successor's values of params.yaml: asked as the model was, trained and scored on the saved rows."""
    data, evaluate, train = (dict(former.get(name) or {}) for name in ("data", "evaluate", "train"))
    labels = labels_of(data.get("labels") or [], found.rows, evaluate.get("task", "classify"))
    new_data: dict[str, Any] = {"file": DATA.as_posix(), "format": "messages", "labels": labels}
    new_data["split"] = {"column": "split"} if found.rows.held_out else (data.get("split") or SHARES)
    if not found.rows.held_out and "column" in new_data["split"]:
        new_data["split"] = SHARES
    new_data |= {key: data[key] for key in OF_DATA if key in data}
    train = {key: value for key, value in train.items() if key not in NOT_OF_TRAIN}
    if not is_for(base, train.get("replay")):
        train.pop("replay", None)
    train |= {"base": base, **dict.fromkeys(("n_epochs", "batch_size", "learning_rate_multiplier"), "auto")}
    evaluate = {key: value for key, value in evaluate.items() if key not in NOT_OF_EVALUATE}
    graders = {
        name: one for name, one in (evaluate.get("graders") or {}).items() if one.get("type") not in ASKS_A_MODEL
    }
    gates = {name: gate for name, gate in (evaluate.get("require") or {}).items() if name.startswith(GATES)}
    evaluate |= {
        "rescued": {"model": found.model, "answers": ANSWERS.as_posix(), "margin": MARGIN},
        "require": {**gates, "rescued.kept": "== 1"},
        "max_tokens": found.settings["max_tokens"],
        "temperature": found.settings["temperature"],
    }
    if graders or "graders" in evaluate:
        evaluate["graders"] = graders
    kept = {key: (former.get("provider") or {})[key] for key in ("warn_days",) if key in (former.get("provider") or {})}
    where = {key: value for key, value in provider.items() if value is not None}
    values = {"data": new_data, "provider": {**where, **kept}, "train": train, "evaluate": evaluate}
    return {key: values.get(key, value) for key, value in former.items() if key != "export"}


def is_for(base: str, replay: Mapping[str, Any] | None) -> bool:
    """Return whether the rows of train.replay may be mixed in for a base: they are not the answers of another one."""
    if replay is None or not Path(replay["file"]).is_file():
        return False
    first = next(iter(read_rows(Path(replay["file"]))[0]), {})
    return first.get(ANSWERED_BY) in (None, base)


def labels_of(labels: list[str] | str, rows: Divided, task: str) -> list[str] | str:
    """Return the classes of the saved rows: those of the former project if they have no others."""
    if task != "classify":
        return []
    answers = {str(row["messages"][-1]["content"]).strip() for row in rows.rows}
    return labels if labels and labels != "auto" and answers <= set(labels) else "auto"
