"""The texts that prepare and validate print when they have finished."""

from typing import Any, Literal

from finetune.core.params import Params
from finetune.core.paths import LEFT_OUT, PREPARED
from finetune.core.records.checks import ValidationReport
from finetune.core.records.costs import CostEstimate, Usd
from finetune.core.records.prepared import Account, PrepareReport
from finetune.core.sections.data import Data
from finetune.core.shown_difference import shown_difference

LEFT_OUT_WORDS = {
    "duplicate": "duplicates",
    "same_question": "with the question of a later split",
    "near_duplicate": "near duplicates",
}
NO_EXAMPLE_WORDS: dict[Literal["blank", "not_accepted"], str] = {
    "blank": "blank",
    "not_accepted": "that the annotator rejected or ignored",
}
REPLAY_WORDS = {
    "not_needed": "not needed",
    "duplicate": "duplicates",
    "same_question": "with a question of the project",
    "near_duplicate": "near duplicates of questions that are not trained",
}


def prepare_summary(report: PrepareReport, data: Data) -> str:
    """Return lines that say what was read, and how many rows each split has."""
    lines = [f"prepare: read {file} ({how_read(note)})" for file, note in sources(report["source"], data)]
    lines += [
        f"prepare: The encoding of {file} is a guess. If letters look wrong, set data.encoding in params.yaml."
        for file, note in sources(report["source"], data)
        if "encoding_confidence" in note
    ]
    lines += [f"prepare: {line}" for line in account_lines(report["account"], report["shares"])]
    if "marked_unanswerable" in report:
        lines.append(f"prepare: {report['marked_unanswerable']} rows are marked unanswerable")
    if trimmed := report.get("labels_trimmed"):
        lines.append(f"prepare: {trimmed:,} answers had white space around their class, which is removed")
    if unused := report.get("unused"):
        names = [f"{name} ({rows:,} row{'s' if rows != 1 else ''})" for name, rows in sorted(unused.items())]
        if others := report.get("unused_others"):
            names.append(f"further keys ({others:,} values)")
        lines.append("prepare: not used: " + ", ".join(names))
    if kept := report.get("white_space_kept"):
        lines.append(f"prepare: {kept:,} rows have an answer that begins or ends with white space, which is kept")
    if labels := report.get("labels"):
        lines.append(f"prepare: {len(labels)} classes found: {', '.join(labels)}")
    if marks := report["completion"]:
        lines.append("prepare: marks of completions: " + ", ".join(f"{key} {text!r}" for key, text in marks.items()))
    if found := {key: text for key, text in report.get("found_marks", {}).items() if text}:
        done = "kept"
        if not report["completion"]:
            done = "taken off, for they are no content (if they are, write a template under data.prompt)"
        lines.append("prepare: marks in the data, " + done + ": " + ", ".join(f"{k} {t!r}" for k, t in found.items()))
    if codes := report["codes"]:
        lines.append("prepare: answers are codes: " + ", ".join(f"{code} = {name}" for name, code in codes.items()))
    if "redacted" in report:
        replaced = ", ".join(f"{number} {kind}" for kind, number in report["redacted"].items() if number)
        lines.append(f"prepare: replaced by placeholders: {replaced or 'nothing'}")
    if report["abstain"]:
        lines.append(f"prepare: the answer to unanswerable rows: {report['abstain']!r}")
    return "\n".join(lines)


def account_lines(account: Account, shares: dict[str, float]) -> list[str]:
    """Return lines that say where every row has gone: "880 rows read = 631 train (71.7%) + … + 2 duplicates"."""
    read, unanswered, examples = account["rows"], account["without_answer"], account["examples"]
    no_examples = {words: account.get(reason, 0) for reason, words in NO_EXAMPLE_WORDS.items()}
    blank = "".join(f" + {rows:,} {words}" for words, rows in no_examples.items() if rows)
    filled = read - sum(no_examples.values())
    parts = [f"{account[split]:,} {split} ({share:.1%})" for split, share in shares.items()]  # type: ignore[literal-required]
    left_out = [f"{account[reason]:,} {words}" for reason, words in LEFT_OUT_WORDS.items() if account[reason]]  # type: ignore[literal-required]
    added = f" + {account['added']:,} added with another row's context" if account["added"] else ""
    equal = f"{added} = {' + '.join(parts + left_out)}"
    lines = [f"{read:,} rows read{equal}{blank}"]
    if examples != filled:
        without = f" + {unanswered:,} rows without an answer to train on" if unanswered else ""
        rows = f"{filled - unanswered:,} conversations{without}{blank}"
        lines = [f"{read:,} rows read = {rows}", f"{examples:,} examples{equal}"]
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
    return ", ".join([note["format"], *(f"{key.replace('_', ' ')} {value}" for key, value in others.items())])


def validate_summary(report: ValidationReport, params: Params, estimate: CostEstimate, jobs: int) -> str:
    """Return lines that say that the data are valid, what training costs, and what to look at.

    `estimate` is that of the project's next job, corrected by `jobs` earlier ones.
    """
    at_least = "at least " if report["tokens_at_least"] else ""
    about = at_least or ("" if report["tokens_exact"] else "about ")
    counted = f"{about}{report['train_tokens_per_epoch']:,} training tokens per epoch"
    lines = [
        *replay_lines(report),
        f"validate: no mistakes; {counted}, {cost_words(report['train_usd_per_epoch'], at_least)}",
        f"validate: training: {training_words(params, estimate, jobs, at_least)}",
        f"validate: {shown_difference(report)}",
        "validate: review the training data in reports/data.html",
    ]
    if warnings := report["warnings"]:
        counts = ", ".join(f"{times} {code}" for code, times in warnings.items())
        lines.append(f"validate: warnings: {counts}. List them with: finetune check {PREPARED}")
    return "\n".join(lines)


def replay_lines(report: ValidationReport) -> list[str]:
    """Return a line on the rows of train.replay, and a warning if its file has too few; [] without it."""
    found = report.get("replay")
    if not found:
        return []
    left_out = [f"{found[reason]:,} {words}" for reason, words in REPLAY_WORDS.items() if found[reason]]  # type: ignore[literal-required]
    parts = [f"{found['rows']:,} replay rows ({found['share']:.1%} of the uploaded rows)", *left_out]
    lines = [f"validate: {found['examples']:,} examples of {found['file']} = {' + '.join(parts)}"]
    if found["rows"] < found["wanted"]:
        lines.append(
            f"validate: warning: train.replay.share needs {found['wanted']:,} rows, and {found['file']} has only"
            f" {found['rows']:,} that can be used."
        )
    return lines


def cost_words(usd: Usd, at_least: str) -> str:
    return "cost unknown" if isinstance(usd, str) else f"{at_least}${usd:.2f}"


def training_words(params: Params, estimate: CostEstimate, jobs: int, at_least: str) -> str:
    """Return what the next job takes, such as "local, 3 epochs of …, $0.00, about 2 minutes".

    `at_least` is put before figures that may be higher.
    """
    seconds, n_epochs = estimate["seconds"], estimate["n_epochs"]
    words = [
        f"{params.provider.name}, {n_epochs} {'epoch' if n_epochs == 1 else 'epochs'} of {params.train.base}",
        f"{at_least}{estimate['billed_tokens']:,} tokens",
        cost_words(estimate["train_usd"], at_least),
    ]
    words += [] if isinstance(seconds, str) else [f"about {max(1, round(seconds / 60))} min"]
    earlier = f" (corrected by {jobs} earlier {'job' if jobs == 1 else 'jobs'} on this base)" if jobs else ""
    return ", ".join(words) + earlier
