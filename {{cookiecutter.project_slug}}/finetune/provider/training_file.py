"""The training file as it is uploaded: the training rows, with the rows of train.replay spread evenly among them.

Not every server shuffles the rows of a file, so replay rows at its end would be trained last.
"""

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from finetune.core.disk import count_lines, write_lines
from finetune.core.paths import PREPARED, REPLAY
from finetune.core.profiles import Profile
from finetune.provider.remote_files import uploaded_form

TRAIN = PREPARED / "train.jsonl"


@contextmanager
def uploaded_split(split: str, profile: Profile) -> Iterator[Path]:
    """Give a split as it is uploaded. Without replay rows it is the prepared file."""
    path = PREPARED / f"{split}.jsonl"
    if path != TRAIN or not replay_rows():
        with uploaded_form(path, profile) as uploaded:
            yield uploaded
        return
    with tempfile.TemporaryDirectory(dir=PREPARED) as folder:
        mixed = Path(folder) / path.name
        write_lines(mixed, mixed_lines())
        with uploaded_form(mixed, profile) as uploaded:
            yield uploaded


def replay_rows() -> int:
    """Return the number of rows that are mixed into the training rows."""
    return count_lines(REPLAY) if REPLAY.is_file() and TRAIN.is_file() else 0


def mixed_lines() -> Iterator[bytes]:
    """Yield the lines of the training rows and of the replay rows, in the order of the uploaded file."""
    counts = count_lines(TRAIN), count_lines(REPLAY)
    with open(TRAIN, "rb") as train, open(REPLAY, "rb") as replay:
        for number in range(1, sum(counts) + 1):
            yield next(train if source(number, *counts)[0] == TRAIN else replay)


def source_of(line: int) -> tuple[Path, int]:
    """Return the prepared file and its line that are line `line` of the uploaded training file."""
    replay = replay_rows()
    return source(line, count_lines(TRAIN), replay) if replay else (TRAIN, line)


def source(line: int, train: int, replay: int) -> tuple[Path, int]:
    """Return the file and the line in it of one line of the mixed file. Lines count from 1.

    Of the first n of all rows, the share of replay rows is that of the whole file, rounded down.
    """
    total = train + replay
    before, now = (line - 1) * replay // total, line * replay // total
    return (REPLAY, now) if now > before else (TRAIN, line - now)
