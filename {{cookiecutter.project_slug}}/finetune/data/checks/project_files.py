"""Decide how files are checked in a project: their answers, the other splits, and which are no training files."""

from collections.abc import Iterable, Sequence
from itertools import chain
from pathlib import Path

from finetune.core.class_labels import labels_of
from finetune.core.disk import read_json
from finetune.core.errors import FinetuneError
from finetune.core.params import Params
from finetune.core.paths import COMMON_PIECES, PREPARED, REPLAY, TEST_ROWS, TRAIN_GROUPS
from finetune.core.read_records import read_prepare_report_if_there
from finetune.core.records.prepared import PrepareReport
from finetune.core.sections.data import Data
from finetune.data.checks.across_files import FileToCheck
from finetune.data.common_pieces import CommonPieces, common_pieces_from
from finetune.data.existing_marks import NO_MARKS
from finetune.data.split import SPLITS

SUFFIXES = (".jsonl", ".json")
TABLES = (".csv", ".tsv", ".xlsx", ".parquet", ".gz")


def expand(paths: Iterable[Path]) -> tuple[list[Path], list[str]]:
    """Return the training files among `paths`, and a sentence on the files that are none.

    A folder stands for its files in JSON Lines. Beside the splits, the stages write other files into data/prepared:
    the files on the test and training rows, and records in JSON. Raises FinetuneError for a table or a compressed file,
    and where nothing is left.
    """
    found: list[Path] = []
    others: list[str] = []
    for path in chain.from_iterable(files_in(path) if path.is_dir() else [path] for path in paths):
        refuse_table(path)
        in_prepared = path.resolve().parent.parts[-len(PREPARED.parts) :] == PREPARED.parts
        may_be_empty = in_prepared and path.name in ("valid.jsonl", REPLAY.name)
        is_empty = may_be_empty and path.exists() and not path.stat().st_size
        if is_empty or (in_prepared and (path.name in (TEST_ROWS.name, TRAIN_GROUPS.name) or path.suffix == ".json")):
            others.append(f"{path} (empty)" if is_empty else str(path))
        elif path not in found:
            found.append(path)
    said = f"not checked, for no training file: {', '.join(others)}." if others else ""
    if not found:
        raise FinetuneError(
            f"There is no training file to check. {said}".strip(), "Name a file in JSON Lines, or data/prepared."
        )
    return found, [said] if said else []


def prepared_common_pieces() -> CommonPieces | None:
    """Return the common pieces that prepare has found, in the rows that it left out too; None if it has not run."""
    if not COMMON_PIECES.exists():
        return None
    return common_pieces_from(read_json(COMMON_PIECES, "prepare", dict[str, list[int]]))


def refuse_table(path: Path) -> None:
    """Raise FinetuneError for a table or a compressed file: its rows are no examples yet."""
    if path.suffix.lower() in TABLES:
        kind = "compressed" if path.suffix.lower() == ".gz" else "a table"
        raise FinetuneError(
            f"{path} is {kind}, not a training file in JSON Lines.",
            f"Make training files of it in a project: finetune init {path}. Then name data/prepared.",
        )


def files_in(folder: Path) -> list[Path]:
    """Return the files of a folder that may be training files: the splits in their order, then others by name."""
    names = sorted(path.name for path in folder.iterdir() if path.suffix in SUFFIXES)
    order = [f"{split}.jsonl" for split in SPLITS]
    return [
        folder / name for name in sorted(names, key=lambda name: order.index(name) if name in order else len(order))
    ]


def files_to_check(params: Params, paths: Sequence[Path], against: Sequence[Path]) -> list[FileToCheck]:
    """Return files with what the project knows: the answers they may have, and for a split the other splits.

    A regression set and the rows of train.replay have other answers. A file that is not prepared may have classes in
    place of codes, and the marks of raw completions.
    """
    report = read_prepare_report_if_there()
    prepared, classes = allowed_answers(params.data, report), class_names(params.data, report)
    raw = [name + ((report.get("found_marks") or NO_MARKS)["stop"] or "") for name in classes]
    others = {REPLAY.resolve(), *(Path(one.file).resolve() for one in params.evaluate.also.values())}
    found = []
    for path in paths:
        if split := split_of(path):
            rest = [PREPARED / f"{name}.jsonl" for name in SPLITS if name != split]
            given = against or [one for one in rest if one.is_file() and one.stat().st_size]
            found.append(FileToCheck(path, given, prepared, training=split == "train"))
        else:
            # data.map gives raw answers other texts.
            labels = [] if path.resolve() in others or params.data.map else [*prepared, *classes, *raw]
            found.append(FileToCheck(path, against, labels, training=path.resolve() != REPLAY.resolve()))
    return found


def split_of(path: Path) -> str | None:
    """Return the split that a file of data/prepared holds; None for any other file."""
    return next((split for split in SPLITS if path.resolve() == (PREPARED / f"{split}.jsonl").resolve()), None)


def are_splits(files: Iterable[FileToCheck]) -> bool:
    """Return whether files are compared, and all of these are splits of data/prepared."""
    compared = [path for file in files if file.against for path in (file.path, *file.against)]
    return bool(compared) and all(map(split_of, compared))


def allowed_answers(data: Data, prepared: PrepareReport) -> list[str]:
    """Return every answer that a prepared file may have, as it is written there; [] where any is allowed."""
    names = list(prepared.get("codes", {}).values()) or class_names(data, prepared)
    marks = prepared.get("completion")
    return [marks["lead"] + name + marks["stop"] for name in names] if marks else names


def class_names(data: Data, prepared: PrepareReport) -> list[str]:
    """Return the classes and the answer to unanswerable rows; [] where the answers are no classes."""
    if data.labels == "auto" and "labels" not in prepared:  # not prepared yet
        return []
    labels, abstain = labels_of(data, prepared), prepared.get("abstain")
    return [*labels, *([abstain] if abstain and abstain not in labels else [])] if labels else []
