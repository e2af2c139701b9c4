"""The texts that prepare and validate print when they have finished."""

from typing import Any

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


def prepare_summary(report: PrepareReport) -> str:
    """Return lines that say what was read, and how many rows each split has."""
    counts = ", ".join(f"{report[key]} {words}" for key, words in COUNTS.items() if key in report)  # type: ignore[literal-required]
    lines = [*map(source_line, sources(report["source"])), f"prepare: {counts}"]
    if marks := report["completion"]:
        lines.append("prepare: marks of completions: " + ", ".join(f"{key} {text!r}" for key, text in marks.items()))
    if codes := report["codes"]:
        lines.append("prepare: answers are codes: " + ", ".join(f"{code} = {name}" for name, code in codes.items()))
    if report["abstain"]:
        lines.append(f"prepare: the answer to unanswerable rows: {report['abstain']!r}")
    return "\n".join(lines)


def sources(source: dict[str, Any]) -> list[dict[str, Any]]:
    """Return how each file was read: one note, or one for each split."""
    return list(source.values()) if all(isinstance(note, dict) for note in source.values()) else [source]


def source_line(note: dict[str, Any]) -> str:
    """Return how one file was read, such as "read CSV, encoding utf-8, rows in the format columns"."""
    others = {**note, "rows": f"in the format {note['rows']}"}
    words = [others.pop("format"), *(f"{key} {value}" for key, value in others.items())]
    return f"prepare: read {', '.join(words)}"


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
        lines.append(f"validate: warnings: {counts}. List them with: finetune check data/prepared/*.jsonl")
    return "\n".join(lines)
