"""What two files, or two splits, may not share, and what both should have."""

from collections import Counter
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from finetune.data.checks.check_file import Checked, check_file
from finetune.data.checks.check_lines import example_at
from finetune.data.checks.completion_endings import check_frames
from finetune.data.checks.findings import report_of
from finetune.data.examples import question_of
from finetune.data.near_duplicates import Index, Sketches, sketch, twins
from finetune.data.parallel import side_by_side

BATCH = 2_000  # texts sketched at once
SHOWN = 10  # classes named in a finding
LANGUAGE_SAMPLE = 1_000
MIN_SAMPLE, FEW_OF_LANGUAGE = 10, 3  # examples
SURE = 0.9  # probability of a language


def check(files: Sequence[Path], against: Sequence[Path] = (), **settings: Any) -> dict[str, Any]:
    """The report on some files: `examples`, `errors`, `warnings`, and `findings` in the order of files and lines.

    `settings` are those of `check_file`. Raises FinetuneError when a file cannot be read.
    """
    others = [check_file(path, **{**settings, "training": False}) for path in against]
    findings, examples = [], 0
    for path in files:
        checked = check_file(path, **settings)
        check_frames(checked)
        for other in others:
            check_against(checked, other)
        examples += len(checked.rows)
        findings += sorted(checked.findings, key=lambda finding: finding.line)
    return report_of(examples, findings)


def check_against(checked: Checked, other: Checked, workers: int | None = None) -> None:
    """All that is wrong with a file beside another split of the same data."""
    check_leaks(checked, other, workers)
    check_for_classes(checked, other)
    check_languages(checked, other)


def check_for_classes(checked: Checked, other: Checked) -> None:
    """The classes that the other file has and this one lacks, where the answers are classes."""
    lacking = [name for name in other.classes if name not in (checked.answers or other.classes)]
    if lacking and len(checked.rows):
        named = f"{', '.join(lacking[:SHOWN])}{', …' if len(lacking) > SHOWN else ''}"
        what = f"no example of {'classes' if len(lacking) > 1 else 'a class'} that {other.file} has: {named}"
        checked.add("missing_class", "warning", 0, what, "Add examples, or split by a column.")


def check_languages(checked: Checked, other: Checked) -> None:
    """The languages that this file has and the other lacks, by a sample of each."""
    mine, theirs = languages_of(checked), languages_of(other)
    for language, times in mine.items():
        if (
            times >= max(FEW_OF_LANGUAGE, 0.02 * mine.total())
            and language not in theirs
            and theirs.total() >= MIN_SAMPLE
        ):
            what = f"{times} of {mine.total()} examples looked at are in {language!r}, none of {other.file}"
            checked.add("only_language", "warning", 0, what, "Let both splits have each language.")


def languages_of(checked: Checked) -> Counter[str]:
    """How often each language is asked in, by its ISO 639 code, among a thousand examples; the unsure are left out."""
    rows = checked.rows[:: max(1, len(checked.rows) // LANGUAGE_SAMPLE)]
    guesses = (language_model().classify(question_at(checked.file, row)) for row in rows)
    return Counter(language for language, sure in guesses if sure > SURE)


@cache  # half a second to load
def language_model() -> Any:
    from py3langid import langid

    return langid.LanguageIdentifier.from_model_file(langid.MODEL_FILE, norm_probs=True)


def check_leaks(checked: Checked, other: Checked, workers: int | None = None) -> None:
    """What the file shares with another split: the same question is a leak, and so is nearly the same."""
    mine, theirs = checked.rows, other.rows
    questions, first = np.unique(theirs["question"], return_index=True)
    place = np.searchsorted(questions, mine["question"])
    same = np.isin(mine["question"], questions)
    for row, n in zip(mine[same], place[same], strict=True):
        what = f"the same question as {other.file}:{theirs['line'][first[n]]}"
        checked.add("leak", "error", int(row["line"]), what, "Keep it in one of the splits.")
    rest = mine[~same]
    alike = twins(
        Index(sketches_of(other.file, theirs, workers)),
        sketches_of(checked.file, rest, workers),
        lambda n: question_at(checked.file, rest[n]),
        lambda n: question_at(other.file, theirs[n]),
    )
    for n, (twin, similarity) in alike.items():
        what = f"nearly the same question as {other.file}:{theirs['line'][twin]} (similarity {similarity:.2f})"
        checked.add("near_leak", "error", int(rest["line"][n]), what, "Keep both in one split.")


def sketches_of(file: str, rows: NDArray[Any], workers: int | None = None) -> Sketches:
    """The sketches of the questions of some rows of a file."""
    batches = ([question_at(file, row) for row in rows[start : start + BATCH]] for start in range(0, len(rows), BATCH))
    done = list(side_by_side(sketch, batches, int(rows["size"].sum()), workers))
    return np.concatenate(done) if done else sketch([])


def question_at(file: str, row: Any) -> str:
    return question_of(example_at(file, row))
