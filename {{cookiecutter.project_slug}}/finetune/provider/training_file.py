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
    with uploaded_mix(path, replay_file() if path == TRAIN else None, profile) as uploaded:
        yield uploaded


@contextmanager
def uploaded_mix(path: Path, replay: Path | None, profile: Profile) -> Iterator[Path]:
    """Give a file as it is uploaded, with the rows of `replay` among its own."""
    if replay is None:
        with uploaded_form(path, profile) as uploaded:
            yield uploaded
        return
    with tempfile.TemporaryDirectory(dir=PREPARED) as folder:
        mixed = Path(folder) / path.name
        write_lines(mixed, mixed_lines(path, replay))
        with uploaded_form(mixed, profile) as uploaded:
            yield uploaded


def replay_file() -> Path | None:
    """Return the file whose rows are mixed into the training rows; None if there are none."""
    return REPLAY if REPLAY.is_file() and REPLAY.stat().st_size else None


def mixed_lines(path: Path, replay: Path) -> Iterator[bytes]:
    """Yield the lines of both files, in the order of the uploaded file."""
    counts = count_lines(path), count_lines(replay)
    with open(path, "rb") as rows, open(replay, "rb") as replay_rows:
        for number in range(1, sum(counts) + 1):
            yield next(replay_rows if source(number, *counts)[0] == REPLAY else rows)


def source_of(line: int) -> tuple[Path, int]:
    """Return the prepared file and its line that are line `line` of the uploaded training file."""
    replay = replay_file()
    return source(line, count_lines(TRAIN), count_lines(replay)) if replay and TRAIN.is_file() else (TRAIN, line)


def source(line: int, train: int, replay: int) -> tuple[Path, int]:
    """Return the file and the line in it of one line of the mixed file. Lines count from 1.

    Of the first n of all rows, the share of replay rows is that of the whole file, rounded down.
    """
    total = train + replay
    before, now = (line - 1) * replay // total, line * replay // total
    return (REPLAY, now) if now > before else (TRAIN, line - now)
