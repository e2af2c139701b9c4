"""prepare: raw data → chat examples in three splits."""

import json
import tempfile
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path
from typing import Any, BinaryIO, cast

import numpy as np

from finetune.core.callbacks import Progress, Say, say_nothing
from finetune.core.disk import write_json, write_lines
from finetune.core.errors import FinetuneError
from finetune.core.params import Abstain, Data, Params
from finetune.core.paths import COMMON_PIECES, GROUPS, LEFT_OUT, PREPARED, PREPARED_REPORT
from finetune.core.profiles import PROFILES
from finetune.core.records import PrepareReport
from finetune.data.cell_map import cell_map_of
from finetune.data.class_codes import codes_for
from finetune.data.collect_labels import collect_labels
from finetune.data.common_pieces import CommonPieces, find_common_pieces
from finetune.data.completion_format import (
    CompletionFormat,
    Pairs,
    choose_completion_format,
    joined_marks,
    marks_of_pairs,
    question_and_answer,
    to_completion,
)
from finetune.data.example_spool import SpooledExamples, SpoolRows, spool_examples
from finetune.data.existing_marks import without_marks
from finetune.data.left_out import (
    NONE_LEFT_OUT,
    LeftOut,
    account_of,
    left_out_copies,
    left_out_leaks,
    left_out_lines,
    refuse_many_near,
)
from finetune.data.prompts import cell_text, fingerprint_of
from finetune.data.raw_examples import ReadingNotes, question_template, raw_examples
from finetune.data.redaction import redact, refuse_redacted_answers
from finetune.data.split import SPLITS, Nearness, assign_splits, leaks, settle_keys, sort_by_digest, without_duplicates
from finetune.data.split_shares import share_of, warnings_of_shares
from finetune.data.token_counts import encoder
from finetune.data.unanswerable import with_mismatched
from finetune.provider.base_tokenizer import tokenizer

LISTED = 10  # rows named in an error
RAW = Path("data/raw")


def run(
    params: Params, workers: int | None = None, progress: Progress | None = None, say: Say = say_nothing
) -> PrepareReport:
    """Write the splits and the report, and return the report.

    The examples of a split are written in the order of their hashes, so that the bytes do not depend on the order of
    the raw rows; given splits keep their order. Raises FinetuneError if given splits share a question.
    """
    data = params.data
    refuse_unknown_target(params)
    warn_of_untracked(data, say)
    template = data.prompt.model_dump() if data.prompt else None
    labels = collect_labels(data, template) if data.labels == "auto" else data.labels
    data = data.model_copy(update={"labels": labels})
    refuse_redacted_answers(data)
    codes = codes_of(params, labels)
    notes = ReadingNotes()
    with spool_file() as spool:
        gathered = spool_examples(raw_examples(data, template, codes, notes), spool, progress)
        gathered, marks = as_completions(params, gathered, notes)
        near = nearness(gathered, data)
        rows, left_out = split_rows(gathered, data, near, workers, progress)
        originals = rows
        if data.abstain and data.abstain.share is not None:
            question = question_template(data)
            rows = with_mismatched(gathered, rows, data.abstain, question, codes, near, workers, progress, data.redact)
            notes.counts["mismatched"] = len(rows) - len(originals)
        written = write_splits(gathered, rows, data)
    account = account_of(notes.counts["rows"], gathered.rows, originals, left_out, written, len(rows) - len(originals))
    counts, shares = list(written.values()), data.split.shares if data.split else []
    for warning in warnings_of_shares(gathered, counts, shares):
        say(f"warning: {warning}")
    if shares:
        near_duplicates = account["same_question"] + account["near_duplicate"]
        notes.counts.update(duplicates=account["duplicate"], near_duplicates_left_out=near_duplicates)
    report: dict[str, Any] = {
        **notes.counts,
        **written,
        "account": account,
        "shares": {name: round(share, 4) for name, share in zip(SPLITS, share_of(counts), strict=True)},
        "unused": dict(notes.unused.rows),
        **({"unused_others": notes.unused.others} if notes.unused.others else {}),
        **({"labels": labels} if params.data.labels == "auto" else {}),
        "source": notes.sources if data.files else next(iter(notes.sources.values())),
        "prompt": fingerprint_of(template, cell_map_of(data.map)),
        "codes": codes,
        "abstain": data.abstain.answer if data.abstain else None,
        "completion": asdict(marks) if marks else None,
    }
    if any(notes.found_marks.values()):
        report["found_marks"] = notes.found_marks
    if data.redact:
        report["redacted"] = {kind: notes.redacted[kind] for kind in data.redact}
    write_json(PREPARED_REPORT, report)
    return cast("PrepareReport", report)


def refuse_unknown_target(params: Params) -> None:
    """Raise FinetuneError if the provider does not train on prompts and completions."""
    if params.data.target == "completion" and not PROFILES[params.provider.name].completions:
        raise FinetuneError(
            f"data.target is 'completion', but {params.provider.name!r} trains on chat only.",
            "Set data.target to 'chat'.",
        )


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


def as_completions(
    params: Params, gathered: SpooledExamples, notes: ReadingNotes
) -> tuple[SpooledExamples, CompletionFormat | None]:
    """Return the examples as prompts and completions, and their marks; if the target is chat, as they are, and None.

    Marks that the texts have already are kept, and noted.
    """
    if params.data.target != "completion":
        return gathered, None
    abstain = params.data.abstain
    pairs = partial(pairs_of, gathered, abstain)
    own = marks_of_pairs(partial(answered_pairs, pairs, abstain), notes.found_marks)
    notes.found_marks = joined_marks(notes.found_marks, own)

    def unmarked() -> Iterator[tuple[str, str]]:
        return (without_marks(*pair, own) for pair in pairs())

    with tokenizer(params, encoder) as encode:
        marks = choose_completion_format(unmarked, encode, notes.found_marks)
    return replace(gathered, convert=partial(to_completion, marks=marks, own=own)), marks


def pairs_of(gathered: SpooledExamples, abstain: Abstain | None) -> Iterator[tuple[str, str]]:
    """Yield all questions and answers in the order of their hashes, so that a sample does not depend on the raw order.

    Raises FinetuneError naming a row that is not one question and one answer.
    """
    for row in gathered.rows[np.argsort(gathered.rows["digest"], kind="stable")]:
        try:
            yield question_and_answer(gathered.example(row))
        except ValueError as error:
            raise FinetuneError(
                f"data.target is 'completion', but row {row['row']} has {error}.",
                "Set data.target to 'chat', which takes whole conversations.",
            ) from error
    if abstain:  # rows that are added later may have this answer
        yield "", abstain.answer


def answered_pairs(pairs: Pairs, abstain: Abstain | None) -> Iterator[tuple[str, str]]:
    """Yield all questions and answers without the answer to unanswerable rows, which `prepare` wrote itself."""
    return ((question, "" if abstain and answer == abstain.answer else answer) for question, answer in pairs())


def nearness(gathered: SpooledExamples, data: Data) -> Nearness:
    """Return how questions are compared, and write what `validate` needs to compare them alike."""
    rows = gathered.rows
    compared = data.near is not None
    common = find_common_pieces(rows["question"], gathered.questions(rows)) if compared else CommonPieces()
    write_json(COMMON_PIECES, common.record())
    return Nearness(data.near, common)


def split_rows(
    gathered: SpooledExamples, data: Data, near: Nearness, workers: int | None, progress: Progress | None
) -> tuple[SpoolRows, LeftOut]:
    """Assign splits by shares, and return the rows without duplicates and near duplicates, and the rows left out.

    Given splits are checked, and keep all rows. Raises FinetuneError if they share a question, or if a large share of
    the training rows would be left out.
    """
    rows = gathered.rows
    if not (data.split and data.split.shares):
        refuse_leaks(gathered, data, near, workers)
        write_lines(LEFT_OUT, left_out_lines(NONE_LEFT_OUT))
        return rows, NONE_LEFT_OUT
    if not data.group:
        settle_keys(gathered)
    assign_splits(gathered, data.split.shares, data.split.seed)
    sort_by_digest(gathered)
    distinct = without_duplicates(rows)
    leaky = left_out_leaks(leaks(gathered, distinct, near, workers, progress))
    left_out = np.concatenate([left_out_copies(rows, distinct), leaky])
    write_lines(LEFT_OUT, left_out_lines(left_out))
    refuse_many_near(leaky, int((distinct["split"] == SPLITS.index("train")).sum()), near.threshold)
    kept: SpoolRows = distinct[~np.isin(distinct["start"], leaky["start"])]
    return kept, left_out


def write_splits(gathered: SpooledExamples, rows: SpoolRows, data: Data) -> dict[str, int]:
    """Write the three splits, and the group of each test row. Return the number of lines written to each split."""
    written = Counter[str]()

    def lines(name: str, part: SpoolRows) -> Iterator[bytes]:
        for row in part:
            yield gathered.written(row)
            written[name] += 1

    for split, name in enumerate(SPLITS):
        write_lines(PREPARED / f"{name}.jsonl", lines(name, rows[rows["split"] == split]))
    tested = rows[rows["split"] == SPLITS.index("test")] if data.by else ()
    groups = [group_line(redact(gathered.cells(row).get(data.by or ""), data.redact)) for row in tested]
    write_lines(GROUPS, groups or [b"\n"])  # DVC warns of empty files
    return {name: written[name] for name in SPLITS}


def group_line(cell: object) -> bytes:
    """Return a cell as a line of JSON."""
    return json.dumps(cell_text(cell).strip(), ensure_ascii=False).encode() + b"\n"


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


def refuse_leaks(gathered: SpooledExamples, data: Data, near: Nearness, workers: int | None) -> None:
    """Raise FinetuneError naming the rows of given splits that ask the same, or nearly the same."""
    files = dict(enumerate((data.files.train, data.files.valid, data.files.test))) if data.files else {}

    def place(row: Any) -> str:
        return f"{files.get(int(row['split']), data.file)}, row {row['row']} ({SPLITS[row['split']]})"

    found = list(leaks(gathered, gathered.rows, near, workers))
    if found:
        named = [f"{place(leak.row)} is like {place(leak.other)}: {leak.similarity:.2f}" for leak in found[:LISTED]]
        more = [f"... and {len(found) - LISTED} more"] if len(found) > LISTED else []
        counts = Counter((SPLITS[leak.row["split"]], SPLITS[leak.other["split"]]) for leak in found)
        pairs = ", ".join(f"{n} of {one} in {other}" for (one, other), n in sorted(counts.items()))
        raise FinetuneError(
            "\n".join([f"The given splits share questions: {pairs}.", *named, *more]),
            "Keep similar rows in one split, or let data.split divide one file. If they ask different questions, set"
            " data.near in params.yaml to a larger number, or to off.",
        )
