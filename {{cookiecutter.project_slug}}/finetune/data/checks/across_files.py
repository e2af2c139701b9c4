"""Compare files or splits: questions that both have, and classes or languages that only one has."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path
from typing import Any

import numpy as np

from finetune.core.callbacks import Progress
from finetune.core.counted import counted
from finetune.core.records.checks import CheckReport
from finetune.data.checks.check_file import Bom, Method, check_file
from finetune.data.checks.check_lines import ExampleRows, example_at, question_hashes
from finetune.data.checks.completion_endings import check_completion_endings
from finetune.data.checks.findings import first_names, report_of
from finetune.data.checks.whole_file import CheckedFile
from finetune.data.common_pieces import CommonPieces, find_common_pieces
from finetune.data.identity import question_of
from finetune.data.near_duplicates import NEAR, Sketches, SketchIndex, find_near_duplicates, sketch
from finetune.data.parallel import map_in_parallel
from finetune.data.question import Question
from finetune.data.token_counts import IMAGE_PRICES, ImagePrices

BATCH = 2_000  # texts sketched at once
LANGUAGE_SAMPLE = 1_000
MIN_SAMPLE, FEW_OF_LANGUAGE = 10, 3  # examples
SURE = 0.9  # probability of a language


@dataclass(frozen=True)
class FileToCheck:
    """A file, and what it is checked for."""

    path: Path
    against: Sequence[Path] = ()  # the other splits, which must not have its questions
    labels: Sequence[str] = ()  # the answers that it may have; () for any
    training: bool = True


def check(
    files: Sequence[Path],
    against: Sequence[Path] = (),
    method: Method | None = None,
    encoding: str | None = None,
    context: int | None = None,
    bom: Bom = "refused",
    training: bool = True,
    progress: Progress | None = None,
    image_prices: ImagePrices | None = IMAGE_PRICES,
) -> CheckReport:
    """Return the report on some files; `against` are the other splits of each. See `check_each`."""
    each = [FileToCheck(path, against, training=training) for path in files]
    return check_each(each, method, encoding, context, bom, progress, image_prices)


def check_each(
    files: Sequence[FileToCheck],
    method: Method | None = None,
    encoding: str | None = None,
    context: int | None = None,
    bom: Bom = "refused",
    progress: Progress | None = None,
    image_prices: ImagePrices | None = IMAGE_PRICES,
    near: float | None = NEAR,
    common: CommonPieces | None = None,
    tokens_exact: bool = True,
) -> CheckReport:
    """Return the report on some files, with the findings in the order of files and lines.

    A question that two of the files share is found once. `near` and `common` are those of `check_leaks`, the other
    parameters those of `check_file`. Raises FinetuneError when a file cannot be read.
    """

    def checked_file(path: Path, training: bool, labels: Sequence[str] = ()) -> CheckedFile:
        return check_file(
            path, method, encoding, context, bom, training, None, progress, image_prices, labels, tokens_exact
        )

    known = {file.path.resolve(): checked_file(file.path, file.training, file.labels) for file in files}
    compared: set[frozenset[Path]] = set()
    for file in files:
        own = file.path.resolve()
        check_completion_endings(known[own])
        for path in file.against:
            other = path.resolve()
            if other == own:
                continue
            if other not in known:
                known[other] = checked_file(path, training=False)
                check_is_read(known[own], known[other])
            if {own, other} not in compared:
                check_leaks(known[own], known[other], near, common)
            compared.add(frozenset({own, other}))
            check_missing_classes(known[own], known[other])
            check_languages(known[own], known[other])
    checked = [known[file.path.resolve()] for file in files]
    findings = [finding for one in checked for finding in sorted(one.findings, key=lambda finding: finding.line)]
    return report_of(sum(len(one.rows) for one in checked), findings)


def check_is_read(checked: CheckedFile, other: CheckedFile) -> None:
    """Find another split that cannot be compared with, or not with all of its lines."""
    if not len(other.rows):
        what = f"not compared with {other.file}, in which no example can be read"
        checked.add("not_compared", "error", 0, what, f"Correct it: finetune check {other.file}")
    elif other.unread_lines:
        lines = f"{counted(other.unread_lines, 'line')} of {other.file}"
        what = f"not compared with {lines}, in which no example can be read"
        checked.add("not_compared", "warning", 0, what, f"Correct it: finetune check {other.file}")


def check_missing_classes(checked: CheckedFile, other: CheckedFile) -> None:
    """Find the classes of the other file that this file does not have."""
    missing = [name for name in other.classes if name not in (checked.answers or other.classes)]
    if missing and len(checked.rows):
        classes = "classes" if len(missing) > 1 else "a class"
        what = f"no example of {classes} that {other.file} has: {first_names(missing)}"
        checked.add("missing_class", "warning", 0, what, "Add examples, or split by a column.")


def check_languages(checked: CheckedFile, other: CheckedFile) -> None:
    """Find the languages that this file has and the other does not, in a sample of each."""
    own, others = languages_of(checked), languages_of(other)
    if others.total() < MIN_SAMPLE:
        return
    for language, times in own.items():
        if times >= max(FEW_OF_LANGUAGE, 0.02 * own.total()) and language not in others:
            what = f"{times} of a sample of {own.total()} examples are in {language!r}, none of {other.file}"
            checked.add("only_language", "warning", 0, what, "Add examples in this language to the other split.")


def languages_of(checked: CheckedFile) -> Counter[str]:
    """Return how often each language occurs in a thousand questions, by its ISO 639 code, where it is clear."""
    rows = checked.rows[:: max(1, len(checked.rows) // LANGUAGE_SAMPLE)]
    guesses = (language_model().classify(question_at(checked.file, row).asked) for row in rows)
    return Counter(language for language, sure in guesses if sure > SURE)


@cache  # half a second to load
def language_model() -> Any:
    from py3langid import langid

    return langid.LanguageIdentifier.from_model_file(langid.MODEL_FILE, norm_probs=True)


def check_leaks(
    checked: CheckedFile,
    other: CheckedFile,
    near: float | None = NEAR,
    common: CommonPieces | None = None,
    workers: int | None = None,
) -> None:
    """Find the questions that another split has too, or that are near to one of its questions.

    `near` is the similarity from which questions are near, None if only the same question counts. `common` are the
    pieces that do not count, by default those that stand in a large share of the questions of both files.
    """
    own, others = checked.rows, other.rows
    asked = question_hashes(own)
    questions, first = np.unique(question_hashes(others), return_index=True)
    place = np.searchsorted(questions, asked)
    is_leak = np.isin(asked, questions)
    for row, n in zip(own[is_leak], place[is_leak], strict=True):
        what = f"the same question as {other.file}:{others['line'][first[n]]}"
        checked.add("leak", "error", int(row["line"]), what, "Keep it in one of the splits.")
    if near is None:
        return
    common = common_pieces_of(checked, other) if common is None else common
    rest = own[~is_leak]
    found = find_near_duplicates(
        SketchIndex(sketches_of(other.file, others, common, workers)),
        sketches_of(checked.file, rest, common, workers),
        lambda n: question_at(checked.file, rest[n]),
        lambda n: question_at(other.file, others[n]),
        near,
        common,
    )
    for n, (other_n, similarity) in found.items():
        what = f"nearly the same question as {other.file}:{others['line'][other_n]} (similarity {similarity:.2f})"
        checked.add("near_leak", "error", int(rest["line"][n]), what, "Keep both in one split.")


def common_pieces_of(*files: CheckedFile) -> CommonPieces:
    """Return the pieces that stand in a large share of the questions of some files."""
    hashes = np.concatenate([question_hashes(checked.rows) for checked in files])
    ends = np.cumsum([len(checked.rows) for checked in files])

    def question(number: int) -> Question:
        which = int(np.searchsorted(ends, number, "right"))
        return question_at(files[which].file, files[which].rows[number - int(ends[which])])  # counts from the end

    return find_common_pieces(hashes, question)


def sketches_of(file: str, rows: ExampleRows, common: CommonPieces, workers: int | None = None) -> Sketches:
    """Return the sketches of the questions of some rows of a file."""
    batches = ([question_at(file, row) for row in rows[start : start + BATCH]] for start in range(0, len(rows), BATCH))
    done = list(map_in_parallel(partial(sketch, common=common), batches, int(rows["size"].sum()), workers))
    return np.concatenate(done) if done else sketch([])


def question_at(file: str, row: Any) -> Question:
    return question_of(example_at(file, row))
