"""Check a file as a whole: repeated examples, system prompts and classes."""

import unicodedata
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from finetune.data.alike_classes import spelling_key
from finetune.data.checks.check_lines import EXAMPLE_DTYPE, ExampleRows, answer_hash, example_at, question_hashes
from finetune.data.checks.findings import Finding, first_names
from finetune.data.checks.rule import Severity
from finetune.data.examples import turn_texts
from finetune.data.hashes import xxh3_64
from finetune.data.identity import GOLDEN_RATIO
from finetune.data.text_normalization import normalize

FEW_IN_CLASS = 100  # examples; smaller classes are reported
IMBALANCE = 10  # how many times as large as the smallest class the largest may be
ONE_SIDED = 0.9  # share of one answer
UNKNOWN_LISTED = 100  # different answers outside data.labels with a finding each
LINES_LISTED = 10
NOTHING_ASKED = np.uint64(xxh3_64(b""))


@dataclass
class CheckedFile:
    """A file, its findings, and a row of EXAMPLE_DTYPE for each example that could be read."""

    file: str
    findings: list[Finding] = field(default_factory=list)
    rows: ExampleRows = field(default_factory=lambda: np.empty(0, EXAMPLE_DTYPE))
    answers: Counter[str] | None = None  # how often each answer occurs, where answers may be classes
    unknown_images: int = 0  # counted examples with an image whose tokens are not known
    with_functions: int = 0  # counted examples that declare or call functions

    def add(self, code: str, severity: Severity, line: int, message: str, fix: str) -> None:
        self.findings.append(Finding(code, severity, self.file, line, message, fix))

    @property
    def tokens(self) -> NDArray[Any]:
        """The tokens of each example without an error; empty where tokens are not counted."""
        return self.rows["tokens"][self.rows["tokens"] >= 0]

    @property
    def refused_lines(self) -> int:
        """The number of lines whose tokens are not counted, because of an error. Blank lines have no tokens."""
        return len(self.lines_with_errors - set(self.rows["line"][self.rows["tokens"] >= 0].tolist()))

    @property
    def unread_lines(self) -> int:
        """The number of lines without an example that could be read. Blank lines have none."""
        return len(self.lines_with_errors - set(self.rows["line"].tolist()))

    @property
    def lines_with_errors(self) -> set[int]:
        """The numbers of the lines with an error, except blank lines."""
        return {f.line for f in self.findings if f.severity == "error" and f.line and f.code != "blank_line"}

    @property
    def tokens_at_least(self) -> bool:
        """Whether the file has more tokens than were counted: in images, or in lines with an error."""
        return bool(self.unknown_images or self.refused_lines)

    @property
    def tokens_are_exact(self) -> bool:
        """Whether the tokens are those of the bill, if the tokenizer is the base's.

        Those of functions may differ: their formula is the cookbook's, which one call confirms, and calls have none.
        """
        return not (self.with_functions or self.tokens_at_least)

    @property
    def classes(self) -> Counter[str]:
        """The number of examples of each class, the largest class first; empty where the answers are not classes.

        Answers are classes when less than a third of them differ, the limit of OpenAI's old tool.
        """
        answers = self.answers or Counter()
        return Counter(dict(answers.most_common())) if len(answers) * 3 < len(self.rows) else Counter()


def check_repeats(checked: CheckedFile) -> None:
    """Find examples that occur twice, and questions with two different answers."""
    rows = checked.rows
    questions = question_hashes(rows)
    first = first_of(questions * np.uint64(GOLDEN_RATIO) + rows["answer"])
    is_copy = first != np.arange(len(rows))
    for index in np.flatnonzero(is_copy):
        what = f"the same example as line {rows['line'][first[index]]}"
        checked.add("duplicate", "warning", int(rows["line"][index]), what, "Keep one of them.")
    first = first_of(questions)
    conflicts = ~is_copy & (first != np.arange(len(rows))) & (rows["asked"] != NOTHING_ASKED)
    for index in np.flatnonzero(conflicts):
        what = f"line {rows['line'][first[index]]} has another answer to the same question"
        checked.add("conflicting_answers", "warning", int(rows["line"][index]), what, "Keep the right answer.")


def first_of(keys: NDArray[Any]) -> NDArray[Any]:
    """Return for each key the index of its first occurrence."""
    ordered = np.sort(keys)
    if (ordered[1:] != ordered[:-1]).all():  # all keys differ: the common case, in a tenth of the time
        return np.arange(len(keys))
    _, first, inverse = np.unique(keys, return_index=True, return_inverse=True)
    return first[inverse]


def check_systems(checked: CheckedFile) -> None:
    """Find system prompts that are missing, or differ from a more common one only in case, spaces or punctuation."""
    rows = checked.rows
    if not len(rows) or (rows["system"] == rows["system"][0]).all():
        return
    given = rows["system"] != 0
    if given.any() and (~given).sum() < len(rows) / 2:
        for line in rows["line"][~given]:
            what = "no system prompt, which most examples have"
            checked.add("system_differs", "warning", int(line), what, "Add it.")
    prompts, index, times = np.unique(rows["system"][given], return_index=True, return_counts=True)
    most_common: dict[int, int] = {}  # prompt by its letters; of equally common prompts the first
    for n in sorted(range(len(prompts)), key=lambda n: (-times[n], index[n])):
        most_common.setdefault(int(rows["system_letters"][given][index[n]]), int(prompts[n]))
    if len(most_common) == len(prompts):
        return
    columns = (rows[given][name] for name in ("line", "system", "system_letters"))
    for line, system, letters in zip(*columns, strict=True):
        if most_common[int(letters)] != system:
            what = "the system prompt differs from the most common one only in case, spaces or punctuation"
            checked.add("system_differs", "warning", int(line), what, "Use the same system prompt.")


def check_classes(checked: CheckedFile) -> None:
    """Find classes that are small, or unbalanced, or written in two ways, also where data.labels has both."""
    classes = checked.classes
    if not classes:
        return
    small = [f"{name} ({n})" for name, n in classes.items() if n < FEW_IN_CLASS]
    if small:
        what = f"classes with fewer than {FEW_IN_CLASS} examples: {first_names(small)}"
        checked.add("small_class", "warning", 0, what, "Add examples; the metrics of small classes are uncertain.")
    (most, many), (least, few) = classes.most_common()[0], classes.most_common()[-1]
    if many > IMBALANCE * few:
        what = f"{most} has {many} examples, {least} has {few}"
        checked.add("imbalance", "warning", 0, what, "Add examples of the small classes, or look at macro F1.")
    if many >= ONE_SIDED * len(checked.rows):
        what = f"{many} of {len(checked.rows)} answers are the same"
        checked.add("one_sided", "warning", 0, what, "Add examples with other answers.")
    first_spelling: dict[str, str] = {}
    for name in classes:
        common = first_spelling.setdefault(spelling_key(name), name)
        if common != name:
            line = int(checked.rows["line"][np.argmax(checked.rows["answer"] == np.uint64(answer_hash(name)))])
            what = f"the answer {name!r} is another spelling of {common!r}"
            checked.add("class_spelling", "warning", line, what, "Use one spelling for a class.")


def check_labels(checked: CheckedFile, labels: Sequence[str]) -> None:
    """Find answers that are not in `labels`, by answer, with their lines; without labels none."""
    if not labels:
        return
    known = np.array([answer_hash(label.strip()) for label in labels], np.uint64)
    others = checked.rows[~np.isin(checked.rows["answer"], known)]
    answers, first = np.unique(others["answer"], return_index=True)
    for index in sorted(first.tolist())[:UNKNOWN_LISTED]:
        same = others["line"][others["answer"] == others["answer"][index]]
        name = answer_at(checked.file, others[index])
        shown = f"the answer {name!r}" if name in checked.classes else "the answer"
        what = f"{shown} is not in data.labels: {lines_text(same.tolist())}"
        spelled = next((label for label in labels if normalize(label) == normalize(name)), None)
        fix = f"Write {spelled.strip()!r}." if spelled else "Correct it, or add it to data.labels."
        if spelled and unicodedata.normalize("NFC", spelled.strip()) == unicodedata.normalize("NFC", name):
            fix = "The same letters are in data.labels in another Unicode form: write both in NFC."
        if name.strip() in {label.strip() for label in labels}:
            fix = "Remove the calls or the refusal beside it: the answer is a class alone."
        checked.add("unknown_label", "error", int(same[0]), what, fix)
    if len(answers) > UNKNOWN_LISTED:
        what = f"{len(answers) - UNKNOWN_LISTED} more different answers are not in data.labels"
        checked.add("unknown_label", "error", 0, what, "Correct them, or remove data.labels if answers are no classes.")


def answer_at(file: str, row: Any) -> str:
    """Return the last answer of a row's example, as it is compared with classes."""
    texts, _ = turn_texts(example_at(file, row))
    return texts[-1].strip() if texts else ""


def lines_text(lines: Sequence[int]) -> str:
    """Return the first ten lines for a message, and how many more there are."""
    more = f" and {len(lines) - LINES_LISTED:,} more" if len(lines) > LINES_LISTED else ""
    return f"line{'s' if len(lines) > 1 else ''} {', '.join(map(str, lines[:LINES_LISTED]))}{more}"
