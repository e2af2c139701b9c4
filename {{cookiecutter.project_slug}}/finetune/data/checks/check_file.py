"""Training files, checked before anything is sent: line by line, then as a whole.

Every finding is reported, not the first: with a stable code, its file and line, what is wrong, and how to mend it. It
never says what a text says, but for the names of classes and separators. A file is read in pieces, side by side, and of
each example only hashes are kept: so a file larger than memory is checked like any other.
"""

from codecs import BOM_UTF8
from collections import Counter
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any, Literal

import numpy as np
import orjson
from numpy.typing import NDArray

from finetune.core.callbacks import Progress
from finetune.core.errors import FinetuneError
from finetune.data.checks.check_lines import MOST_CLASSES, ROW, Lines, check_piece, digest
from finetune.data.checks.findings import Finding
from finetune.data.checks.rules import Severity
from finetune.data.examples import shape_of
from finetune.data.near_duplicates import normal
from finetune.data.parallel import cut, side_by_side
from finetune.data.token_counts import counter

MIN_EXAMPLES = 10
FEW_IN_CLASS = 100
IMBALANCE = 10  # how many times the smallest class the largest may be before it is said
LARGEST_DOCUMENT = 64 * 1024**2  # bytes; a larger file is not read whole to see whether it is one JSON document
WHOLE_FILE = {"not_utf8_file", "json_not_jsonl"}  # said once, and then nothing of its lines
Bom = Literal["refused", "required"]
Method = Literal["supervised", "dpo", "reinforcement"]


@dataclass
class Checked:
    """A file, what was found in it, and a ROW (see check_lines.py) for each example that could be read."""

    file: str
    findings: list[Finding] = field(default_factory=list)
    rows: NDArray[Any] = field(default_factory=lambda: np.empty(0, ROW))
    answers: Counter[str] | None = None  # how often each answer is given, where they are few and short

    def add(self, code: str, severity: Severity, line: int, message: str, fix: str) -> None:
        self.findings.append(Finding(code, severity, self.file, line, message, fix))

    @property
    def tokens(self) -> NDArray[Any]:
        """The tokens of each sound example; empty where nobody counted."""
        return self.rows["tokens"][self.rows["tokens"] >= 0]

    @property
    def classes(self) -> Counter[str]:
        """How many examples each class has, the largest first; nothing where the answers are not classes.

        Answers are classes when few of them differ: less than a third, as OpenAI's old tool had it.
        """
        answers = self.answers or Counter()
        return Counter(dict(answers.most_common())) if len(answers) * 3 < len(self.rows) else Counter()


def check_file(
    path: Path,
    method: Method | None = None,
    encoding: str | None = None,
    context: int | None = None,
    bom: Bom = "refused",
    training: bool = True,
    workers: int | None = None,
    progress: Progress | None = None,
) -> Checked:
    """All that is wrong with one JSONL file.

    `method` is what it shall train (None: what its first example speaks for), `encoding` names the vocabulary in which
    its tokens are counted (None: they are not), `context` is the training context in tokens. A file that is not for
    `training` needs but one example, and may have small classes. Raises FinetuneError when the file cannot be read.
    """
    checked = Checked(str(path))
    try:
        with open(path, "rb") as content:
            first = content.readline(LARGEST_DOCUMENT)
        start = check_opening(checked, first, bom)
        if start is not None:
            pieces = cut(path, start)
            work = partial(
                check_piece,
                file=checked.file,
                method=method or method_of(path, start),
                encoding=encoding,
                context=context,
            )
            if encoding:
                counter(encoding)  # loaded once, for all that are forked from here
            parts = []
            for part in side_by_side(work, pieces, path.stat().st_size, workers, may_fork=True):
                parts.append(part)
                if progress:
                    progress(len(parts), len(pieces), path.name)
            join(checked, parts)
    except OSError as error:
        raise FinetuneError(f"Cannot read {path}: {error.strerror or error}.", "Check its name.") from error
    if not len(checked.rows) and not checked.findings:
        checked.add("empty_file", "error", 0, "the file has no examples", "Put data in it.")
    elif training and len(checked.rows) < MIN_EXAMPLES and not any(f.code in WHOLE_FILE for f in checked.findings):
        what = f"{len(checked.rows)} examples; a job needs at least {MIN_EXAMPLES}"
        checked.add("too_few_examples", "error", 0, what, "Add examples; 50 to 100 are where gains begin.")
    check_repeats(checked)
    check_systems(checked)
    if training:
        check_classes(checked)
    return checked


def check_opening(checked: Checked, first: bytes, bom: Bom) -> int | None:
    """The place behind a byte-order mark, which some providers require and others refuse; None for no JSONL at all."""
    if first.startswith((b"\xff\xfe", b"\xfe\xff")) or b"\x00" in first[:4]:
        checked.add("not_utf8_file", "error", 0, "the file is in UTF-16 or UTF-32", "Save it as UTF-8.")
        return None
    has = first.startswith(BOM_UTF8)
    if has and bom == "refused":
        checked.add("bom", "error", 1, "the file begins with a byte-order mark", "Save it as UTF-8 without one.")
    elif first and not has and bom == "required":
        checked.add("bom", "error", 1, "the file lacks the byte-order mark that this provider requires", "Add it.")
    if is_json_document(first.removeprefix(BOM_UTF8), checked.file):
        what = "the file is one JSON document, not one example a line"
        checked.add("json_not_jsonl", "error", 0, what, "Write each example on a line of its own (--fix does).")
        return None
    return len(BOM_UTF8) if has else 0


def is_json_document(first: bytes, file: str) -> bool:
    """Whether a file is one JSON value over several lines, or a list of examples."""
    if first.strip()[:1] not in (b"[", b"{"):
        return False
    with suppress(orjson.JSONDecodeError):
        return isinstance(orjson.loads(first), list)
    if Path(file).stat().st_size < LARGEST_DOCUMENT:
        with suppress(orjson.JSONDecodeError):
            return isinstance(orjson.loads(Path(file).read_bytes().removeprefix(BOM_UTF8)), (list, dict))
    return False


def method_of(path: Path, start: int) -> Method:
    """What the first example of a file speaks for."""
    with open(path, "rb") as content:
        content.seek(start)
        for line in islice(content, 100):
            with suppress(orjson.JSONDecodeError):
                example = orjson.loads(line)
                if isinstance(example, dict):
                    return "dpo" if shape_of(example) == "preference" else "supervised"
    return "supervised"


def join(checked: Checked, parts: list[Lines]) -> None:
    """Put the pieces of a file together, their lines counted through."""
    before = 0
    checked.answers = Counter()
    for part in parts:
        checked.findings += [replace(finding, line=finding.line + before) for finding in part.findings]
        part.rows["line"] += before
        before += part.count
        if checked.answers is not None:
            checked.answers = checked.answers + part.answers if part.answers is not None else None
            if checked.answers is not None and len(checked.answers) > MOST_CLASSES:
                checked.answers = None
    if parts:
        checked.rows = np.concatenate([part.rows for part in parts])


def check_labels(checked: Checked, labels: Sequence[str]) -> None:
    """Answers that are none of the declared classes, each with its first line."""
    known = np.array([digest(label) for label in labels], np.uint64)
    others = checked.rows[~np.isin(checked.rows["answer"], known)] if labels else checked.rows[:0]
    _, first, times = np.unique(others["answer"], return_index=True, return_counts=True)
    for index, n in sorted(zip(first.tolist(), times.tolist(), strict=True)):
        what = f"an answer that is none of data.labels ({n} examples with it)"
        checked.add("unknown_label", "warning", int(others["line"][index]), what, "Mend it, or add it to data.labels.")


def check_repeats(checked: Checked) -> None:
    """Examples that say the same again, and questions that are answered in two ways."""
    rows = checked.rows
    asked = rows["question"] * np.uint64(0x9E3779B97F4A7C15) + rows["system"]
    first = first_of(asked * np.uint64(0x9E3779B97F4A7C15) + rows["answer"])
    again = first != np.arange(len(rows))
    for index in np.flatnonzero(again):
        what = f"the same example as line {rows['line'][first[index]]}"
        checked.add("duplicate", "warning", int(rows["line"][index]), what, "Keep one of them.")
    first = first_of(asked)
    other = ~again & (first != np.arange(len(rows))) & (rows["question"] != np.uint64(digest("")))
    for index in np.flatnonzero(other):
        what = f"line {rows['line'][first[index]]} answers the same question otherwise"
        checked.add("conflicting_answers", "warning", int(rows["line"][index]), what, "Keep the right answer.")


def first_of(keys: NDArray[Any]) -> NDArray[Any]:
    """For each key the index of its first occurrence."""
    ordered = np.sort(keys)
    if (ordered[1:] != ordered[:-1]).all():  # the common case, told in a tenth of the time
        return np.arange(len(keys))
    _, first, inverse = np.unique(keys, return_index=True, return_inverse=True)
    return first[inverse]


def check_systems(checked: Checked) -> None:
    """System prompts that differ by accident: in case, spaces or punctuation alone; or missing here and there."""
    rows = checked.rows
    if not len(rows) or (rows["system"] == rows["system"][0]).all():
        return
    given = rows["system"] != 0
    if given.any() and (~given).sum() < len(rows) / 2:
        for line in rows["line"][~given]:
            what = "no system prompt, which most examples have"
            checked.add("system_differs", "warning", int(line), what, "Add it.")
    prompts, index, times = np.unique(rows["system"][given], return_index=True, return_counts=True)
    spelt: dict[int, int] = {}  # the most common prompt of the same letters; of equally common ones the first
    for n in sorted(range(len(prompts)), key=lambda n: (-times[n], index[n])):
        spelt.setdefault(int(rows["style"][given][index[n]]), int(prompts[n]))
    if len(spelt) == len(prompts):
        return
    for line, system, style in zip(*(rows[given][name] for name in ("line", "system", "style")), strict=True):
        if spelt[int(style)] != system:
            what = "its system prompt differs from the most common one in case, spaces or punctuation alone"
            checked.add("system_differs", "warning", int(line), what, "Use the same.")


def check_classes(checked: Checked) -> None:
    """The balance of the classes, where the answers are classes."""
    classes = checked.classes
    if not classes:
        return
    small = [f"{name} ({n})" for name, n in classes.items() if n < FEW_IN_CLASS]
    if small:
        what = f"classes with under {FEW_IN_CLASS} examples: {', '.join(small[:10])}{', …' if len(small) > 10 else ''}"
        checked.add("small_class", "warning", 0, what, "Add examples of them, or read their metrics with care.")
    (most, many), (least, few) = classes.most_common()[0], classes.most_common()[-1]
    if many > IMBALANCE * few:
        what = f"{most} has {many} examples, {least} has {few}"
        checked.add("imbalance", "warning", 0, what, "Add examples of the small ones, or watch macro F1.")
    if many >= 0.9 * len(checked.rows):
        checked.add("one_sided", "warning", 0, f"{many} of {len(checked.rows)} answers are the same", "Vary them.")
    spelt: dict[str, str] = {}
    for name in classes:
        if (common := spelt.setdefault(normal(name), name)) != name:
            line = int(checked.rows["line"][np.argmax(checked.rows["answer"] == np.uint64(digest(name)))])
            what = f"the answer {name!r} is {common!r} in another spelling"
            checked.add("class_spelling", "warning", line, what, "Spell a class in one way.")
