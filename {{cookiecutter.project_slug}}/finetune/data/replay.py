"""Choose the rows of train.replay: general chat that is trained together with the project's rows, against forgetting.

To train again on rows of another kind is the usual remedy for forgetting, and few rows are enough (Robins 1995,
"Catastrophic forgetting, rehearsal and pseudorehearsal"; Scialom, Chakrabarty and Muresan 2022, "Fine-tuned language
models are continual learners"). They are written to a file of their own and mixed with the training rows only when
these are uploaded, because they are no rows of the task: floors, classes and few-shot examples must not see them.
"""

import tempfile
from collections.abc import Iterator, Mapping
from itertools import islice
from pathlib import Path
from typing import BinaryIO, cast

import numpy as np
import orjson
from numpy.typing import NDArray

from finetune.core.callbacks import Say, say_nothing
from finetune.core.disk import write_lines
from finetune.core.errors import FinetuneError
from finetune.core.params import Params
from finetune.core.paths import PREPARED, REPLAY
from finetune.core.records.checks import ReplayAccount
from finetune.core.records.settings import Questions
from finetune.core.sections.data import Data
from finetune.core.sections.train import Replay
from finetune.data.checks.whole_file import CheckedFile
from finetune.data.example_spool import SpooledExamples, SpoolRows, spool_examples
from finetune.data.hashes import mix_bits
from finetune.data.identity import asked_hash, question_of
from finetune.data.near_duplicates import near_duplicates_of
from finetune.data.raw_examples import ReadingNotes, raw_examples
from finetune.data.readers import read_rows

ANSWERED_BY = "answered_by"  # the key of a row with the model that gave its answer; `finetune replay` writes it
COMPARED_AT_ONCE = 50_000  # rows of a split whose texts are in memory


def write_replay(
    params: Params, checked: Mapping[str, CheckedFile], questions: Questions, say: Say = say_nothing
) -> ReplayAccount | None:
    """Write data/prepared/replay.jsonl and return its account; without train.replay an empty file, and None.

    Left out are copies, rows that ask what a row of a split or of evaluate.also asks, and rows that nearly ask what a
    row of `valid`, `test` or evaluate.also asks. System prompts do not count there. `seed` decides which of the other
    rows are taken; a larger share keeps the rows of a smaller one. No row is taken twice: if the file has too few rows,
    all are taken.
    """
    settings = params.train.replay
    if settings is None or not settings.share:
        write_lines(REPLAY, ())
        return None
    train = len(checked["train"].rows)
    wanted = max(1, round(train * settings.share / (1 - settings.share)))
    with tempfile.TemporaryFile(dir=PREPARED) as spool:
        gathered = read_replay(params, settings, cast("BinaryIO", spool))
        refuse_answers_of_another(params, settings, say)
        rows = in_seeded_order(gathered.rows, settings.seed)
        same, near = already_asked(gathered, rows, params.data.near, checked, questions)
        free = rows[~(same | near)]
        taken = free[:wanted]
        if not len(taken):
            raise FinetuneError(
                f"train.replay: {settings.file} has no row that the project does not ask already.",
                "Give rows of other chat in train.replay.file, or remove train.replay.",
            )
        write_lines(REPLAY, map(gathered.line, taken))
    return {
        "file": settings.file,
        "examples": len(gathered.rows),
        "rows": len(taken),
        "wanted": wanted,
        "share": round(len(taken) / (train + len(taken)), 4),
        "duplicate": len(gathered.rows) - len(rows),
        "same_question": int(same.sum()),
        "near_duplicate": int((near & ~same).sum()),
        "not_needed": len(free) - len(taken),
    }


def read_replay(params: Params, settings: Replay, spool: BinaryIO) -> SpooledExamples:
    """Read the file of train.replay as chat examples. Of `data` in params.yaml, only `redact` counts for it.

    Raises FinetuneError for a file that cannot be read, and for raw completions, which chat is not mixed with.
    """
    if params.data.target == "completion":
        raise FinetuneError(
            "train.replay mixes in chat, but data.target is 'completion'.",
            "Remove train.replay, or set data.target to 'chat'.",
        )
    prompt = settings.prompt
    data = Data.model_construct(file=settings.file, prompt=prompt, redact=params.data.redact)
    try:
        return spool_examples(raw_examples(data, prompt.model_dump() if prompt else None, {}, ReadingNotes()), spool)
    except FinetuneError as error:
        raise with_keys_of_replay(error) from error


def refuse_answers_of_another(params: Params, settings: Replay, say: Say) -> None:
    """Raise FinetuneError for answers that another base gave, which this one would learn; for the engine only warn."""
    by = next(iter(read_rows(Path(settings.file))[0])).get(ANSWERED_BY)
    if by is None or by == params.train.base:
        return
    what = f"train.replay: {settings.file} has the answers of {by}, but train.base is {params.train.base}."
    remedy = "Write this base's own answers: finetune replay. Then name that file, or set train.replay to null."
    if params.provider.name != "local":
        raise FinetuneError(what, remedy)
    say(f"warning: {what} {remedy}")


def with_keys_of_replay(error: FinetuneError) -> FinetuneError:
    """Return an error on reading the file with the names of the keys of train.replay."""
    what, remedy = (text.replace("data.prompt", "train.replay.prompt") for text in (error.what, error.remedy))
    prefix = "" if what.startswith("train.replay") else "train.replay: "
    return FinetuneError(prefix + what, remedy.replace("data.file", "train.replay.file"))


def in_seeded_order(rows: SpoolRows, seed: int) -> SpoolRows:
    """Return the rows without copies, in an order that their content and the seed decide."""
    _, first = np.unique(rows["digest"], return_index=True)
    distinct = rows[first]
    return distinct[np.argsort(mix_bits(distinct["digest"] ^ mix_bits(np.array([seed], np.uint64))), kind="stable")]


def already_asked(
    gathered: SpooledExamples,
    rows: SpoolRows,
    threshold: float | None,
    checked: Mapping[str, CheckedFile],
    questions: Questions,
) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """Return which rows ask the same as a row of the project, and which nearly the same as one that is not trained."""
    own = [gathered.question(row) for row in rows]
    also = [question_of(example) for one in questions["also"].values() for example in one["examples"]]
    known = [split.rows["asked"] for split in checked.values()] + [np.array(list(map(asked_hash, also)), np.uint64)]
    same = np.isin(np.array(list(map(asked_hash, own)), np.uint64), np.concatenate(known))
    near = np.zeros(len(rows), bool)
    if threshold is not None:
        asked = [split for name, split in checked.items() if name != "train"]
        for texts in (*(texts for split in asked for texts in texts_of(split.file)), [one.asked for one in also]):
            near[list(near_duplicates_of([one.asked for one in own], texts, threshold))] = True
    return same, near


def texts_of(file: str) -> Iterator[list[str]]:
    """Yield the questions of a prepared file, some at a time."""
    with open(file, "rb") as lines:
        while some := [question_of(orjson.loads(line)).asked for line in islice(lines, COMPARED_AT_ONCE)]:
            yield some
