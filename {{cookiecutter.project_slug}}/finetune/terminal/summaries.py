"""The texts that prepare and validate print when they have finished."""

from typing import Any

from finetune.core.params import Data
from finetune.core.paths import PREPARED
from finetune.core.records import PrepareReport, ValidationReport

COUNTS = {
    "rows": "rows read",
    "train": "train",
    "valid": "valid",
    "test": "test",
    "duplicates": "duplicates left out",
    "near_duplicates_left_out": "near duplicates left out",
    "marked_unanswerable": "marked unanswerable",
    "mismatched": "added with another row's context",
}


def prepare_summary(report: PrepareReport, data: Data) -> str:
    """Return lines that say what was read, and how many rows each split has."""
    counts = ", ".join(f"{report[key]} {words}" for key, words in COUNTS.items() if key in report)  # type: ignore[literal-required]
    lines = [f"prepare: read {file} ({how_read(note)})" for file, note in sources(report["source"], data)]
    lines.append(f"prepare: {counts}")
    if marks := report["completion"]:
        lines.append("prepare: marks of completions: " + ", ".join(f"{key} {text!r}" for key, text in marks.items()))
    if codes := report["codes"]:
        lines.append("prepare: answers are codes: " + ", ".join(f"{code} = {name}" for name, code in codes.items()))
    if "redacted" in report:
        replaced = ", ".join(f"{number} {kind}" for kind, number in report["redacted"].items() if number)
        lines.append(f"prepare: replaced by placeholders: {replaced or 'nothing'}")
    if report["abstain"]:
        lines.append(f"prepare: the answer to unanswerable rows: {report['abstain']!r}")
    return "\n".join(lines)


def sources(source: dict[str, Any], data: Data) -> list[tuple[str, dict[str, str]]]:
    """Return each raw file, and how it was read."""
    if data.files:
        return [(str(file), source[split]) for split, file in data.files.model_dump().items() if file]
    return [(str(data.file), source)]


def how_read(note: dict[str, str]) -> str:
    """Return how one file was read, such as "CSV, encoding utf-8, rows in the format columns"."""
    others = {key: value for key, value in note.items() if key != "format"}
    if "rows" in others:
        others["rows"] = f"in the format {others['rows']}"
    return ", ".join([note["format"], *(f"{key} {value}" for key, value in others.items())])


def validate_summary(report: ValidationReport) -> str:
    """Return lines that say that the data are valid, what training costs, and what to look at."""
    usd = report["train_usd_per_epoch"]
    cost = "cost unknown" if isinstance(usd, str) else f"${usd:.2f}"
    about = "" if report["tokens_exact"] else "about "
    lines = [
        f"validate: no mistakes; {about}{report['train_tokens_per_epoch']:,} training tokens per epoch, {cost}",
        "validate: review the training data in reports/data.html",
    ]
    if warnings := report["warnings"]:
        counts = ", ".join(f"{times} {code}" for code, times in warnings.items())
        files = f"{PREPARED / 'train.jsonl'} --against {PREPARED / 'test.jsonl'}"
        lines.append(f"validate: warnings: {counts}. List those of the training data with: finetune check {files}")
    return "\n".join(lines)
