"""Put the proposed settings into the values of params.yaml."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from finetune.core.params import checked_data
from finetune.core.task import PREFERENCE_GATES, default_gates
from finetune.data.choose_columns import Choices
from finetune.data.prompts import columns_in
from finetune.data.propose_settings import Proposal
from finetune.data.readers import is_utf8

Values = dict[str, Any]

# Keys that do not depend on the file. All other keys of `data` are for the former file, and are removed.
KEPT = ("target", "near", "redact")
# Keys of `data` that say how a file is read.
READING = ("encoding", "delimiter", "quoting")
NOT_FOR_PREFERENCES = ("codes", "abstain", "turns", "target")
# Keys of `evaluate` that are for the former file's answers.
FOR_ANSWERS = ("schema", "graders", "metric")
COMMENTS = {
    "data.sheet": "The sheet of the workbook.",
    "data.prompt": "How a row becomes a chat example: {column} is replaced by the row's cell. `assistant` is the"
    " expected answer.",
    "data.group": "Rows with the same cell in this column stay in one split.",
}


def is_file_of(former: Mapping[str, Any], file: str) -> bool:
    """Return whether `file` is the data.file of params.yaml."""
    name = (former.get("data") or {}).get("file")
    return isinstance(name, str) and Path(name).resolve() == Path(file).resolve()


def reading_of(former: Mapping[str, Any], file: Path, target: str) -> Values:
    """Return what data.encoding, data.delimiter and data.quoting of params.yaml say about a file that `init` reads.

    They hold for another file than data.file too: an error says to set them, and params.yaml does not name the file
    yet. But UTF-8 is never read in another encoding, which was for the former file. Raises FinetuneError where a value
    is not allowed.
    """
    suffix = Path(target.removesuffix(".gz")).suffix.lower()
    keys = READING if suffix in (".csv", ".tsv") else READING[:1] if suffix not in (".xlsx", ".parquet") else ()
    data = former.get("data") or {}
    found = {key: data[key] for key in keys if data.get(key) is not None}
    checked_data({"file": target, "split": {"column": "split"}, **found})
    if "encoding" in found and not is_file_of(former, target) and is_utf8(file):
        del found["encoding"]
    return found


def with_former_choices(choices: Choices, former: Mapping[str, Any], file: str) -> Choices:
    """Return the choices; where params.yaml is for this file, its group and shares are choices too.

    So the rows stay in their splits. Its prompt is the default, and its system prompt stays if the answer is the same.
    """
    if not is_file_of(former, file):
        return choices
    prompt, group, split = (former["data"].get(key) for key in ("prompt", "group", "split"))
    if isinstance(prompt, Mapping):
        choices = replace(choices, former_prompt=prompt)
    if choices.group is None and isinstance(group, str):
        choices = replace(choices, group=group)
    if isinstance(split, Mapping) and "column" not in split:
        choices = replace(choices, split=dict(split))
    return choices


def new_values(
    former: Mapping[str, Any], proposal: Proposal, file: str, sheet: str | None, reading: Mapping[str, Any]
) -> Values:
    """Return the values of params.yaml for a file. Where it is the former file, settings beside the proposal stay.

    `reading`: what `reading_of` returned.
    """
    data, evaluate, train = (dict(former.get(name) or {}) for name in ("data", "evaluate", "train"))
    same = is_file_of(former, file)
    written = {
        "file": file,
        "sheet": sheet,
        **reading,
        "prompt": kept_texts(data.get("prompt"), proposal.prompt) if same else proposal.prompt,
        "group": proposal.group,
        "labels": proposal.labels,
        "split": proposal.split,
    }
    left = {key: value for key, value in data.items() if key in KEPT or (same and key not in ("files", "format"))}
    new_data = {key: value for key, value in written.items() if value is not None}
    new_data |= {key: value for key, value in left.items() if key not in written}
    changed_task = evaluate.get("task", "classify") != proposal.task
    changed_method = train.get("method", "supervised") != proposal.method
    if not same or changed_task or changed_method:
        evaluate = {key: value for key, value in evaluate.items() if key not in FOR_ANSWERS}
        kept = {key: gate for key, gate in (evaluate.get("require") or {}).items() if key.startswith("also.")}
        gates = PREFERENCE_GATES if proposal.method == "dpo" else default_gates(proposal.task)
        evaluate["require"] = gates | kept
        # The number was for the former data. `auto` depends on the number of rows.
        train["n_epochs"] = "auto"
    if changed_method:
        train |= {"method": proposal.method, "learning_rate_multiplier": "auto"}
        train.pop("beta", None)
    if proposal.method == "dpo":  # what it cannot be used with
        train["replay"] = None
        new_data = {key: value for key, value in new_data.items() if key not in NOT_FOR_PREFERENCES}
    evaluate |= {"task": proposal.task, "max_tokens": proposal.max_tokens}
    if proposal.few_shot is not None:
        evaluate["few_shot"] = proposal.few_shot
    return {**former, "data": new_data, "train": train, "evaluate": evaluate}


def kept_texts(former: object, proposed: dict[str, str] | None) -> dict[str, str] | None:
    """Return the proposed prompt, with the texts of the former one that have the same columns."""
    if proposed is None or not isinstance(former, Mapping):
        return proposed
    texts = {role: former[role] for role in ("user", "assistant") if isinstance(former.get(role), str)}
    same = {
        role: text for role, text in texts.items() if columns_in({role: text}) == columns_in({role: proposed[role]})
    }
    return {**proposed, **same}


def differences(former: Mapping[str, Any], values: Mapping[str, Any]) -> tuple[list[str], list[str]]:
    """Return the keys of two levels, such as `data.labels`, that have another value, and those that were removed."""
    one, other = two_levels(former), two_levels(values)
    written = [key for key, value in other.items() if key not in one or one[key] != value]
    return written, [key for key in one if key not in other]


def two_levels(values: Mapping[str, Any]) -> Values:
    return {
        f"{name}.{key}": value
        for name, section in values.items()
        for key, value in (section.items() if isinstance(section, Mapping) else ())
    }
