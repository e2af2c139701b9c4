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
from finetune.core.paths import GROUPS, PREPARED, PREPARED_REPORT
from finetune.core.profiles import PROFILES
from finetune.core.records import Example
from finetune.data.class_codes import codes_for, codes_text
from finetune.data.completion_format import choose_completion_format, question_and_answer, to_completion
from finetune.data.example_spool import NewExample, SpooledExamples, spool_examples
from finetune.data.formats import each_turn, examples_of
from finetune.data.prompts import Template, cell_text, check_column, fingerprint_of
from finetune.data.readers import Note, Row, read_rows
from finetune.data.split import SPLITS, assign_splits, leaks, split_key, without_duplicates
from finetune.data.token_counts import encoder
from finetune.data.unanswerable import is_marked, question_columns, with_mismatched
from finetune.provider.base_tokenizer import tokenizer

SHOWN = 10  # rows named in an error
SPLIT_NAMES = {"train": 0, "training": 0, "valid": 1, "validation": 1, "val": 1, "dev": 1, "test": 2}


def run(
    params: Params, workers: int | None = None, progress: Progress | None = None, say: Say = say_nothing
) -> dict[str, Any]:
    """Write the splits and the report, which comes back: counts, and under `source` how the raw data were read.

    The examples of a split stand in the order of their hashes, so that the bytes do not depend on the order of the raw
    rows; splits that were given stay as they are. Raises FinetuneError where given splits share a question.
    """
    data = params.data
    if data.target == "completion" and not PROFILES[params.provider.name].completions:
        raise FinetuneError(
            f"data.target is 'completion', but {params.provider.name!r} trains on chat alone.", "Set it to 'chat'."
        )
    template = data.prompt.model_dump() if data.prompt else None
    codes: dict[str, str] = {}
    if data.codes:
        with tokenizer(params, encoder) as encode:
            codes = codes_for(data.labels, encode)
        if data.abstain and data.abstain.answer not in codes:
            raise FinetuneError("data.abstain.answer is none of data.labels, so it has no code.", "Add it there.")
    frame = None
    notes: dict[str, Note] = {}
    counts: Counter[str] = Counter()
    with spool_file() as spool:
        gathered = spool_examples(all_examples(data, template, codes, notes, counts), spool, progress)
        rows = gathered.rows
        if data.target == "completion":
            with tokenizer(params, encoder) as encode:
                frame = choose_completion_format(partial(pairs_of, gathered, data.abstain), encode)
            gathered = replace(gathered, convert=partial(to_completion, marks=frame))
        if data.split and data.split.shares:
            assign_splits(rows, data.split.shares)
            distinct = without_duplicates(rows)
            near = {int(leak.row["start"]) for leak in leaks(gathered, distinct, workers, progress)}
            counts.update(duplicates=len(rows) - len(distinct), near_duplicates_left_out=len(near))
            rows = distinct[~np.isin(distinct["start"], list(near))]
        else:
            refuse_leaks(gathered, data, workers)
        if data.abstain and data.abstain.share is not None:
            before = len(rows)
            rows = with_mismatched(gathered, rows, data.abstain, asking(data), codes, workers, progress)
            counts["mismatched"] = len(rows) - before
        for split, name in enumerate(SPLITS):
            part = rows[rows["split"] == split]
            counts[name] = len(part)
            write_lines(PREPARED / f"{name}.jsonl", map(gathered.written, part))
        tested = rows[rows["split"] == SPLITS.index("test")] if data.by else ()
        groups = [group_line(gathered.cells(row).get(data.by or "")) for row in tested]
        write_lines(GROUPS, groups or [b"\n"])  # DVC warns of empty files
    report = {
        **counts,
        "source": notes if data.files else next(iter(notes.values())),
        "prompt": fingerprint_of(template),
        "codes": codes,
        "abstain": data.abstain.answer if data.abstain else None,
        "completion": asdict(frame) if frame else None,
    }
    write_json(PREPARED_REPORT, report)
    return report


@contextmanager
def spool_file() -> Iterator[BinaryIO]:
    """A file without a name, beside what is written, for as long as the block lasts. FinetuneError on a full disk."""
    try:
        PREPARED.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=PREPARED) as spool:
            yield cast("BinaryIO", spool)
    except OSError as error:
        raise FinetuneError(
            f"Cannot write {PREPARED}: {error.strerror or error}.",
            "Make room or mend the permissions, then run the same command again; what was there before is untouched.",
        ) from error


def all_examples(
    data: Data, template: Template | None, codes: dict[str, str], notes: dict[str, Note], counts: Counter[str]
) -> Iterator[NewExample]:
    """Of all files each example, for `spool_examples`: its split is what was given, and the first where none was."""
    files = data.files.model_dump() if data.files else {"": data.file}
    abstain, columns = data.abstain, set[str]()
    kept = sorted(kept_columns(data, codes))
    for name, file in files.items():
        if file is None:
            continue
        rows, note = read_rows(Path(file), data.sheet)
        fixed = {"codes": codes_text(codes)} if codes else {}
        instead = partial(answer_instead, abstain, file, counts) if abstain and abstain.column else None
        pairs, note["rows"] = examples_of(rows, data.format, template, file, fixed, instead)
        notes[name] = note
        own: set[str] = set()
        for number, (row, example) in enumerate(pairs, 1):
            split = SPLITS.index(name) if name else given_split(data, row, number)
            key = group_of(data, row, number) if data.group else split_key(example)
            if codes:
                encode_answer(example, codes, f"{file}, row {number}")
            for turn in each_turn(example) if data.turns == "each" and "messages" in example else [example]:
                yield number, split, key, turn, {column: row[column] for column in kept if column in row}
            counts["rows"] += 1
            own.update(row)
        if data.by and name in ("", "test"):
            check_column("data.by", data.by, own, file)
        columns |= own
    if abstain and abstain.column:
        check_column("data.abstain.column", abstain.column, columns, " and ".join(filter(None, files.values())))


def kept_columns(data: Data, codes: dict[str, str]) -> set[str]:
    """The columns of the raw data that are needed again when the splits are known."""
    kept = {data.by} if data.by else set()
    if data.abstain and data.abstain.context:
        kept |= {data.abstain.context, *question_columns(asking(data), data.abstain.context, codes)}
    return kept


def asking(data: Data) -> Template:
    """The texts that rows are asked with; none where there is no template, and no system prompt in completions."""
    texts = data.prompt.model_dump() if data.prompt else {}
    return texts if data.target == "chat" else {role: text for role, text in texts.items() if role != "system"}


def answer_instead(abstain: Abstain, file: str, counts: Counter[str], row: Row, number: int) -> str | None:
    """The answer of a row that is marked as unanswerable; None for others, which have their own."""
    marked = is_marked(row, abstain.column or "", f"{file}, row {number}")
    counts["marked_unanswerable"] += marked
    return abstain.answer if marked else None


def group_line(cell: object) -> bytes:
    return json.dumps(cell_text(cell).strip(), ensure_ascii=False).encode() + b"\n"


def pairs_of(gathered: SpooledExamples, abstain: Abstain | None) -> Iterator[tuple[str, str]]:
    """All questions and answers, in the order of their hashes, so that a sample is the same whatever the raw order.

    Raises FinetuneError naming a row that is not one of each.
    """
    for row in gathered.rows[np.argsort(gathered.rows["digest"], kind="stable")]:
        try:
            yield question_and_answer(gathered.example(row))
        except ValueError as error:
            raise FinetuneError(
                f"data.target is 'completion', but row {row['row']} has {error}.",
                "Train on chat, which takes whole conversations.",
            ) from error
    if abstain:  # its answer may come to stand in rows that are made later
        yield "", abstain.answer


def encode_answer(example: Example, codes: dict[str, str], place: str) -> None:
    """Put the code of its class in the place of an example's answer. Raises FinetuneError where it is no class."""
    answer = example["messages"][-1] if example.get("messages") else {}
    if not isinstance(answer.get("content"), str) or answer["content"] not in codes:
        raise FinetuneError(
            f"{place}: the answer is none of data.labels, so there is no code for it.", "Mend it, or add it there."
        )
    answer["content"] = codes[answer["content"]]


def given_split(data: Data, row: Row, number: int) -> int:
    """The split that a row's own column names; the first where shares decide later."""
    column = data.split.column if data.split else None
    if column is None:
        return 0
    name = cell_text(row.get(column)).strip().lower()
    if name not in SPLIT_NAMES:
        raise FinetuneError(
            f"data.split.column names {column!r}, which says {name!r} in {data.file}, row {number}.",
            "Write train, valid or test there.",
        )
    return SPLIT_NAMES[name]


def group_of(data: Data, row: Row, number: int) -> str:
    """A row's cell in the column `group`. Raises FinetuneError where the column is missing or the cell empty."""
    key = cell_text(row.get(data.group or "")).strip()
    if not key:
        raise FinetuneError(
            f"data.group names {data.group!r}, which is empty in {data.file}, row {number}.",
            f"Fill that column, or name another of: {', '.join(sorted(row))}.",
        )
    return key


def refuse_leaks(gathered: SpooledExamples, data: Data, workers: int | None) -> None:
    """Raises FinetuneError naming the rows of given splits that ask the same, or nearly so."""
    files = dict(enumerate((data.files.train, data.files.valid, data.files.test))) if data.files else {}

    def place(row: Any) -> str:
        return f"{files.get(int(row['split']), data.file)}, row {row['row']} ({SPLITS[row['split']]})"

    found = list(leaks(gathered, gathered.rows, workers))
    if found:
        told = [f"{place(leak.row)} is like {place(leak.other)}: {leak.similarity:.2f}" for leak in found[:SHOWN]]
        more = [f"... and {len(found) - SHOWN} more"] if len(found) > SHOWN else []
        counts = Counter((SPLITS[leak.row["split"]], SPLITS[leak.other["split"]]) for leak in found)
        pairs = ", ".join(f"{n} of {one} in {other}" for (one, other), n in sorted(counts.items()))
        raise FinetuneError(
            "\n".join([f"The given splits are not disjoint: {pairs}.", *told, *more]),
            "Keep what is alike in one split, or let data.split share out one file.",
        )
