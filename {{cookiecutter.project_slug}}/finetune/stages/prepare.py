"""prepare: raw data → chat examples in three splits."""

import tempfile
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any, BinaryIO, cast

import numpy as np

from finetune.core.callbacks import Progress, Say, say_nothing
from finetune.core.disk import write_json, write_jsonl, write_lines
from finetune.core.errors import FinetuneError
from finetune.core.params import Params
from finetune.core.paths import PREPARED, PREPARED_REPORT, TEST_ROWS, TRAIN_GROUPS
from finetune.core.records.prepared import Account, PrepareReport
from finetune.core.sections.data import Data
from finetune.data.alike_classes import alike_classes
from finetune.data.cell_map import cell_map_of
from finetune.data.class_codes import codes_for
from finetune.data.collect_labels import collect_labels
from finetune.data.completion_format import CompletionFormat
from finetune.data.example_spool import SpooledExamples, SpoolRows, spool_examples
from finetune.data.left_out import account_of, warning_of_same_questions
from finetune.data.prompts import cell_text, fingerprint_of
from finetune.data.raw_examples import ReadingNotes, question_template, raw_examples
from finetune.data.redaction import redact, refuse_redacted_answers
from finetune.data.split import SPLITS
from finetune.data.split_examples import nearness, split_rows
from finetune.data.split_shares import share_of, warnings_of_shares
from finetune.data.to_completions import as_completions
from finetune.data.token_counts import encoder
from finetune.data.unanswerable import with_mismatched
from finetune.provider.base_tokenizer import tokenizer

RAW = Path("data/raw")


def run(
    params: Params, workers: int | None = None, progress: Progress | None = None, say: Say = say_nothing
) -> PrepareReport:
    """Write the splits and the report, and return the report.

    The examples of a split are written in the order of their hashes, so that the bytes do not depend on the order of
    the raw rows; given splits keep their order. Raises FinetuneError if given splits share a question.
    """
    data = params.data
    warn_of_untracked(data, say)
    template = data.prompt.model_dump() if data.prompt else None
    labels = collect_labels(data, template) if data.labels == "auto" else data.labels
    for warning in alike_classes(labels) if data.labels == "auto" else ():
        say(f"warning: {warning}")
    data = data.model_copy(update={"labels": labels})
    refuse_redacted_answers(data)
    codes = codes_of(params, labels)
    notes = ReadingNotes()
    with spool_file() as spool:
        gathered = spool_examples(raw_examples(data, template, codes, notes, with_preferences=True), spool, progress)
        marks = None
        if data.target == "completion":
            with tokenizer(params, encoder) as encode:
                gathered, marks = as_completions(gathered, data.abstain, notes, encode)
        near = nearness(gathered, data)
        rows, left_out = split_rows(gathered, data, near, workers, progress)
        originals = rows
        if data.abstain and data.abstain.share is not None:
            question = question_template(data)
            rows = with_mismatched(gathered, rows, data.abstain, question, codes, near, workers, progress, data.redact)
            notes.counts["mismatched"] = len(rows) - len(originals)
        written = write_splits(gathered, rows, data)
    added = len(rows) - len(originals)
    account = account_of(notes.counts["rows"], notes.left_out, gathered.rows, originals, left_out, written, added)
    shares, seed = (data.split.shares, data.split.seed) if data.split else ([], 0)
    for warning in warnings_of_shares(gathered, list(written.values()), shares, seed):
        say(f"warning: {warning}")
    if lost := warning_of_same_questions(left_out, written["train"], data):
        say(f"warning: {lost}")
    report = report_of(params, notes, account, labels, codes, marks)
    write_json(PREPARED_REPORT, report)
    return report


def report_of(
    params: Params,
    notes: ReadingNotes,
    account: Account,
    labels: list[str],
    codes: dict[str, str],
    marks: CompletionFormat | None,
) -> PrepareReport:
    """Return the report: how the data were read, and where every row has gone."""
    data = params.data
    written = {"train": account["train"], "valid": account["valid"], "test": account["test"]}
    report: dict[str, Any] = {
        **notes.counts,
        **written,
        "account": account,
        "shares": dict(zip(written, (round(share, 4) for share in share_of([*written.values()])), strict=True)),
        "unused": dict(notes.unused.rows),
        "source": notes.sources if data.files else next(iter(notes.sources.values())),
        "prompt": fingerprint_of(data.prompt.model_dump() if data.prompt else None, cell_map_of(data.map)),
        "codes": codes,
        "abstain": data.abstain.answer if data.abstain else None,
        "completion": asdict(marks) if marks else None,
    }
    if data.split and data.split.shares:
        near_duplicates = account["same_question"] + account["near_duplicate"]
        report |= {"duplicates": account["duplicate"], "near_duplicates_left_out": near_duplicates}
    if notes.unused.others:
        report["unused_others"] = notes.unused.others
    if data.labels == "auto":
        report["labels"] = labels
    if any(notes.found_marks.values()):
        report["found_marks"] = notes.found_marks
    if data.redact:
        report["redacted"] = {kind: notes.redacted[kind] for kind in data.redact}
    return cast("PrepareReport", report)


def warn_of_untracked(data: Data, say: Say) -> None:
    """Warn of raw data outside data/raw, whose changes DVC does not see."""
    for file in data.files.model_dump().values() if data.files else [data.file]:
        if file and not Path(file).resolve().is_relative_to(RAW.resolve()):
            say(f"warning: {file} is outside {RAW}, so DVC does not see its changes. Move it there.")


def codes_of(params: Params, labels: list[str]) -> dict[str, str]:
    """Return a code for each class; {} without data.codes."""
    data = params.data
    if not data.codes:
        return {}
    with tokenizer(params, encoder) as encode:
        codes = codes_for(labels, encode)
    if data.abstain and data.abstain.answer not in codes:
        raise FinetuneError("data.abstain.answer is not in data.labels, so it has no code.", "Add it to data.labels.")
    return codes


def write_splits(gathered: SpooledExamples, rows: SpoolRows, data: Data) -> dict[str, int]:
    """Write the three splits, and the files on training and test rows. Return the number of lines of each split."""
    written = Counter[str]()

    def lines(name: str, part: SpoolRows) -> Iterator[bytes]:
        for row in part:
            yield gathered.written(row)
            written[name] += 1

    for split, name in enumerate(SPLITS):
        write_lines(PREPARED / f"{name}.jsonl", lines(name, rows[rows["split"] == split]))
    groups = groups_of(gathered, rows, "train").tolist()
    write_lines(TRAIN_GROUPS, (b'{"group": %d}\n' % group for group in groups))
    tested = rows[rows["split"] == SPLITS.index("test")]
    # Redacted together, so that two cells do not become one.
    cells = redact([gathered.cells(row).get(data.by or "") for row in tested], data.redact) if data.by else None
    found = []
    for number, (row, group) in enumerate(zip(tested, groups_of(gathered, rows, "test").tolist(), strict=True)):
        by = {} if cells is None else {"by": cell_text(cells[number]).strip()}
        found.append({"question": f"{row['question']:016x}", "group": group, **by})
    write_jsonl(TEST_ROWS, found)
    return {name: written[name] for name in SPLITS}


def groups_of(gathered: SpooledExamples, rows: SpoolRows, name: str) -> Any:
    """Return the group of each row of a split, from 0: rows whose raw rows could not be in two splits are a group.

    These are the rows of one data.group, of one conversation, and with the same user messages. A row that was added
    with another context belongs to its original.
    """
    split = SPLITS.index(name)
    own, inside = rows[rows["split"] == split], gathered.rows["split"] == split
    raw, first = np.unique(gathered.rows["row"][inside], return_index=True)
    keys = gathered.keys[inside][first][np.searchsorted(raw, own["row"])]
    _, first, place = np.unique(keys, return_index=True, return_inverse=True)
    return np.argsort(np.argsort(first))[place]


@contextmanager
def spool_file() -> Iterator[BinaryIO]:
    """Yield a temporary file beside the outputs. Raises FinetuneError if the disk is full."""
    try:
        PREPARED.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=PREPARED) as spool:
            yield cast("BinaryIO", spool)
    except OSError as error:
        raise FinetuneError(
            f"Cannot write {PREPARED}: {error.strerror or error}.",
            "Make room or correct the permissions, then run the same command again. The former files are unchanged.",
        ) from error
