"""The texts that prepare and validate print when they have finished."""

from typing import Any

from finetune.core.params import Data
from finetune.core.paths import LEFT_OUT, PREPARED
from finetune.core.records import Account, PrepareReport, ValidationReport

LEFT_OUT_WORDS = {
    "duplicate": "duplicates",
    "same_question": "with the question of a later split",
    "near_duplicate": "near duplicates",
}


def prepare_summary(report: PrepareReport, data: Data) -> str:
    """Return lines that say what was read, and how many rows each split has."""
    lines = [f"prepare: read {file} ({how_read(note)})" for file, note in sources(report["source"], data)]
    lines += [f"prepare: {line}" for line in account_lines(report["account"], report["shares"])]
    if "marked_unanswerable" in report:
        lines.append(f"prepare: {report['marked_unanswerable']} rows are marked unanswerable")
    if marks := report["completion"]:
        lines.append("prepare: marks of completions: " + ", ".join(f"{key} {text!r}" for key, text in marks.items()))
    if codes := report["codes"]:
        lines.append("prepare: answers are codes: " + ", ".join(f"{code} = {name}" for name, code in codes.items()))
    if report["abstain"]:
        lines.append(f"prepare: the answer to unanswerable rows: {report['abstain']!r}")
    return "\n".join(lines)


def account_lines(account: Account, shares: dict[str, float]) -> list[str]:
    """Return lines that say where every row has gone: "880 rows read = 631 train (71.7%) + … + 2 duplicates"."""
    read, unanswered, examples = account["rows"], account["without_answer"], account["examples"]
    parts = [f"{account[split]:,} {split} ({share:.1%})" for split, share in shares.items()]  # type: ignore[literal-required]
    left_out = [f"{account[reason]:,} {words}" for reason, words in LEFT_OUT_WORDS.items() if account[reason]]  # type: ignore[literal-required]
    added = f" + {account['added']:,} added with another row's context" if account["added"] else ""
    equal = f"{added} = {' + '.join(parts + left_out)}"
    lines = [f"{read:,} rows read{equal}"]
    if examples != read:
        without = f" + {unanswered:,} rows without an answer to train on" if unanswered else ""
        lines = [f"{read:,} rows read = {read - unanswered:,} conversations{without}", f"{examples:,} examples{equal}"]
    if left_out:
        lines.append(f"{sum(account[reason] for reason in LEFT_OUT_WORDS):,} left out, listed in {LEFT_OUT}")  # type: ignore[literal-required]
    return lines


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
