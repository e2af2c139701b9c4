"""Check what validate is about to accept: each split, the splits against each other, and the rows of train.replay."""

from collections.abc import Callable, Iterable
from itertools import combinations, permutations

from finetune.core.callbacks import Progress
from finetune.core.errors import FinetuneError
from finetune.core.params import Params
from finetune.core.paths import PREPARED, REPLAY
from finetune.core.preferences import holds_preferences
from finetune.core.read_records import read_prepare_report
from finetune.core.records.prepared import PrepareReport
from finetune.data.checks.across_files import check_languages, check_leaks, check_missing_classes, common_pieces_of
from finetune.data.checks.completion_endings import check_completion_endings
from finetune.data.checks.project_files import allowed_answers, prepared_common_pieces
from finetune.data.checks.whole_file import CheckedFile

LISTED = 20  # mistakes spelled out in an error
LONG_WORK = 64 * 1024**2  # bytes from which progress is shown

CheckFile = Callable[..., CheckedFile]  # `check_file` with the method and the base


def check_splits(params: Params, check: CheckFile, progress: Progress | None = None) -> dict[str, CheckedFile]:
    """Check each split, then each against the others. Raises FinetuneError naming the file and line of each mistake."""
    prepared = read_prepare_report()
    refuse_other_rows(params, prepared)
    labels = allowed_answers(params.data, prepared)
    checked: dict[str, CheckedFile] = {}
    for split in ("train", "valid", "test"):
        path = PREPARED / f"{split}.jsonl"
        if not path.is_file():
            raise FinetuneError(f"{path} is missing.", "Create it with: dvc repro prepare")
        if split == "valid" and path.stat().st_size == 0:
            continue
        shown = progress if path.stat().st_size > LONG_WORK else None
        checked[split] = check(path, training=split == "train", progress=shown, labels=labels)
        check_completion_endings(checked[split])
    # prepare saw the rows that it left out too. With its pieces, both compare alike.
    common = prepared_common_pieces() or common_pieces_of(*checked.values())
    for one, other in combinations(checked.values(), 2):
        check_leaks(one, other, params.data.near, common)
    for one, other in permutations(checked.values(), 2):
        check_missing_classes(one, other)
        check_languages(one, other)
    refuse_mistakes(checked.values())
    return checked


def refuse_other_rows(params: Params, prepared: PrepareReport) -> None:
    """Raise FinetuneError for rows with two answers where the method takes one, and the other way round."""
    method, are_preferences = params.train.method, holds_preferences(prepared)
    if are_preferences and method != "dpo":
        raise FinetuneError(
            f"The rows are preferences, each with two answers, and train.method {method} takes one answer.",
            "Set train.method to dpo in params.yaml, or keep only the better answer in the raw data.",
        )
    if method == "dpo" and not are_preferences:
        raise FinetuneError(
            "train.method dpo takes preferences, and each row has one answer.",
            "Give each row `input`, `preferred_output` and `non_preferred_output`; or set train.method to supervised.",
        )


def check_replay(check: CheckFile) -> CheckedFile:
    """Check the rows of train.replay, which may have other system prompts. Raises FinetuneError naming each mistake."""
    found = check(REPLAY, training=False)
    refuse_mistakes([found])
    found.findings = [finding for finding in found.findings if finding.code != "system_differs"]
    return found


def refuse_mistakes(checked: Iterable[CheckedFile]) -> None:
    """Raise FinetuneError for all mistakes together: the first twenty with place and remedy."""
    errors = [finding for found in checked for finding in found.findings if finding.severity == "error"]
    if not errors:
        return
    listed = [
        f"{f.file}{f', line {f.line}' if f.line else ''}: {f.message} [{f.code}]. {f.fix}" for f in errors[:LISTED]
    ]
    if len(errors) > LISTED:
        listed.append(
            f"... and {len(errors) - LISTED} more: finetune check {' '.join(sorted({f.file for f in errors}))}"
        )
    count = "1 mistake" if len(errors) == 1 else f"{len(errors)} mistakes"
    raise FinetuneError(
        "\n".join([f"{count} in the prepared data; nothing was sent.", *listed]),
        "Correct the raw data or params.yaml, then run: dvc repro. A damaged file of data/prepared is written again by:"
        " dvc repro -f -s prepare",
    )
