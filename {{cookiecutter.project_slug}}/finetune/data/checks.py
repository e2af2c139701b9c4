"""Training files, checked before anything is sent: line by line, then as a whole, then against other files.

Every finding is reported, not the first: with a stable code, its file and line, what is wrong, and how to mend it. It
never says what a text says, but for the names of classes.
"""

import json
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

import orjson

from finetune.data.near import nearest, normal
from finetune.data.rules import RULES, Example, Severity, Shape, messages_of, shape_of, text_of
from finetune.errors import FinetuneError

MIN_EXAMPLES = 10
FEW_IN_CLASS = 100
SHOWN = 20  # findings of one kind in the text report
IMBALANCE = 10  # how many times the smallest class the largest may be before it is said
LARGEST_DOCUMENT = 64 * 1024**2  # bytes; a larger file is not read whole to see whether it is one JSON document
SHAPES: dict[str, tuple[Shape, ...]] = {
    "supervised": ("chat", "completion"),
    "dpo": ("preference",),
    "reinforcement": ("chat",),
}
# Reinforcement keeps other keys for its grader, and its prompts wait for an answer.
LEFT_OUT = {"reinforcement": {"unknown_key", "no_assistant", "ends_unanswered"}}
Bom = Literal["refused", "required"]
Count = Callable[[Any], int]


@dataclass(frozen=True)
class Finding:
    """One mistake: `line` counts from 1, 0 stands for the whole file."""

    code: str
    severity: Severity
    file: str
    line: int
    message: str
    fix: str

    def __str__(self) -> str:
        where = f"{self.file}:{self.line}" if self.line else self.file
        return f"{where}: {self.severity} {self.code}: {self.message} → {self.fix}"


@dataclass
class Checked:
    """A file and what was found in it; `tokens` of its sound examples, empty where nobody counts."""

    file: str
    findings: list[Finding] = field(default_factory=list)
    lines: list[int] = field(default_factory=list)  # of the examples that are objects of a known shape
    questions: list[str] = field(default_factory=list)  # of each of them, normalised
    answers: list[str] = field(default_factory=list)
    systems: list[str | None] = field(default_factory=list)
    tokens: list[int] = field(default_factory=list)

    def add(self, code: str, severity: Severity, line: int, message: str, fix: str) -> None:
        self.findings.append(Finding(code, severity, self.file, line, message, fix))


def check_file(
    path: Path,
    method: str | None = None,
    count: Count | None = None,
    context: int | None = None,
    bom: Bom = "refused",
    training: bool = True,
) -> Checked:
    """All that is wrong with one JSONL file.

    `method` is what it shall train (None: what its first example speaks for), `count` gives an example's tokens,
    `context` is the training context in tokens. A file that is not for `training` needs but one example, and may have
    small classes. Raises FinetuneError when the file cannot
    be read.
    """
    checked = Checked(str(path))
    try:
        with open(path, "rb") as lines:
            check_lines(checked, lines, method, count, context, bom)
    except OSError as error:
        raise FinetuneError(f"Cannot read {path}: {error.strerror or error}.", "Check its name.") from error
    if not checked.lines and not checked.findings:
        checked.add("empty_file", "error", 0, "the file has no examples", "Put data in it.")
    elif training and len(checked.lines) < MIN_EXAMPLES and not any(f.code in WHOLE_FILE for f in checked.findings):
        what = f"{len(checked.lines)} examples; a job needs at least {MIN_EXAMPLES}"
        checked.add("too_few_examples", "error", 0, what, "Add examples; 50 to 100 are where gains begin.")
    check_repeats(checked)
    check_systems(checked)
    if training:
        check_classes(checked)
    return checked


WHOLE_FILE = {"not_utf8_file", "json_not_jsonl"}


def check_lines(
    checked: Checked,
    lines: Iterator[bytes] | Any,
    method: str | None,
    count: Count | None,
    context: int | None,
    bom: Bom,
) -> None:
    """Each line on its own. A file that is no JSONL at all is said once, not line by line."""
    for number, line in enumerate(lines, 1):
        if number == 1:
            if line.startswith((b"\xff\xfe", b"\xfe\xff")) or b"\x00" in line[:4]:
                checked.add("not_utf8_file", "error", 0, "the file is in UTF-16 or UTF-32", "Save it as UTF-8.")
                return
            line = check_bom(checked, line, bom)
            if is_json_document(line, checked.file):
                what = "the file is one JSON document, not one example a line"
                checked.add("json_not_jsonl", "error", 0, what, "Write each example on a line of its own (--fix does).")
                return
        example = read_line(checked, number, line)
        if example is None:
            continue
        shape = shape_of(example)
        method = method or ("dpo" if shape == "preference" else "supervised")
        if shape is None or shape not in SHAPES[method]:
            wanted = " or ".join(f"a {name} example" for name in SHAPES[method])
            what = (
                f"not {wanted}, which {method!r} trains on"
                if shape
                else f"its keys are those of no example: {keys_of(example)}"
            )
            checked.add("wrong_shape", "error", number, what, FORMS[SHAPES[method][0]])
            continue
        checked.lines.append(number)
        found = 0
        for rule in RULES:
            if shape in rule.shapes and rule.code not in LEFT_OUT.get(method, ()):
                for message, fix in rule.find(example):
                    found += rule.severity == "error"
                    checked.add(rule.code, rule.severity, number, message, fix)
        question, answer, system = parts_of(example)
        checked.questions.append(question)
        checked.answers.append(answer)
        checked.systems.append(system)
        if count and not found:
            checked.tokens.append(tokens := count(example))
            if context is not None and tokens > context:
                what = f"{tokens:,} tokens, over the {context:,} that are trained on; the server cuts the end off"
                checked.add("too_long", "error", number, what, "Shorten the example: its end is the answer.")


FORMS: dict[Shape, str] = {
    "chat": 'Write {"messages": [{"role": "user", "content": "…"}, {"role": "assistant", "content": "…"}]}.',
    "completion": 'Write {"prompt": "…", "completion": "…"}.',
    "preference": 'Write {"input": {"messages": […]}, "preferred_output": […], "non_preferred_output": […]}.',
}


def check_bom(checked: Checked, line: bytes, bom: Bom) -> bytes:
    """The first line without its byte-order mark, which some providers require and others refuse."""
    has = line.startswith(b"\xef\xbb\xbf")
    if has and bom == "refused":
        checked.add("bom", "error", 1, "the file begins with a byte-order mark", "Save it as UTF-8 without one.")
    elif not has and bom == "required":
        checked.add("bom", "error", 1, "the file lacks the byte-order mark that this provider requires", "Add it.")
    return line.removeprefix(b"\xef\xbb\xbf")


def is_json_document(line: bytes, file: str) -> bool:
    """Whether a file is one JSON value over several lines, or a list of examples."""
    start = line.strip()
    if not start or start[:1] not in b"[{":
        return False
    with suppress(orjson.JSONDecodeError):
        return isinstance(orjson.loads(start), list)
    if Path(file).stat().st_size < LARGEST_DOCUMENT:
        with suppress(orjson.JSONDecodeError):
            return isinstance(orjson.loads(Path(file).read_bytes().removeprefix(b"\xef\xbb\xbf")), (list, dict))
    return False


def read_line(checked: Checked, number: int, line: bytes) -> Example | None:
    """The object of a line, or None when the line has none, which is then said."""
    if not line.strip():
        checked.add("blank_line", "error", number, "the line is blank", "Remove it.")
        return None
    try:
        line.decode("utf-8")
    except UnicodeDecodeError as error:
        checked.add(
            "not_utf8", "error", number, f"not UTF-8 at byte {error.start + 1} of the line", "Save it as UTF-8."
        )
        return None
    try:
        example = orjson.loads(line)
    except orjson.JSONDecodeError as error:
        # orjson ends with the place in the whole text, which is a line here
        reason = str(error).split(": line ")[0]
        checked.add(
            "invalid_json", "error", number, f"not valid JSON: {reason} (column {error.colno})", "Mend the line."
        )
        return None
    if not isinstance(example, dict):
        checked.add("not_an_object", "error", number, "not a JSON object", FORMS["chat"])
        return None
    return example


def keys_of(example: Example) -> str:
    shown = [key[:30] for key in sorted(example)[:6]]
    return ", ".join(shown) + (", …" if len(example) > 6 else "") if shown else "none"


def parts_of(example: Example) -> tuple[str, str, str | None]:
    """What an example asks (all before its last answer, normalised), its answer, and its system prompt."""
    if "prompt" in example or "completion" in example:
        return normal(str(example.get("prompt", ""))), str(example.get("completion", "")).strip(), None
    messages = [message for path, message in messages_of(example) if not path.startswith("non_preferred")]
    systems = [text_of(m.get("content")) for m in messages if m.get("role") in ("system", "developer")]
    asked = [text_of(m.get("content")) for m in messages[:-1] if m.get("role") not in ("system", "developer")]
    answer = text_of(messages[-1].get("content")).strip() if messages else ""
    return normal("\n".join(asked)), answer, systems[0] if systems else None


def check_repeats(checked: Checked) -> None:
    """Examples that say the same again, and questions that are answered in two ways."""
    first: dict[tuple[str, str, str | None], int] = {}
    answers: dict[tuple[str, str | None], dict[str, int]] = defaultdict(dict)
    rows = zip(checked.lines, checked.questions, checked.answers, checked.systems, strict=True)
    for line, question, answer, system in rows:
        if (before := first.setdefault((question, answer, system), line)) != line:
            checked.add("duplicate", "warning", line, f"the same example as line {before}", "Keep one of them.")
            continue
        known = answers[question, system]
        if known and question:
            what = f"line {next(iter(known.values()))} answers the same question otherwise"
            checked.add("conflicting_answers", "warning", line, what, "Keep the right answer.")
        known[answer] = line


def check_systems(checked: Checked) -> None:
    """System prompts that differ by accident: in case, spaces or punctuation alone; or missing here and there."""
    given = Counter(system for system in checked.systems if system is not None)
    spelt: dict[str, str] = {}
    for common, _ in given.most_common():
        spelt.setdefault(letters(common), common)
    missing = sum(system is None for system in checked.systems)
    for line, system in zip(checked.lines, checked.systems, strict=True):
        if system is None and given and missing < len(checked.systems) / 2:
            checked.add("system_differs", "warning", line, "no system prompt, which most examples have", "Add it.")
        elif system is not None and spelt[letters(system)] != system:
            what = "its system prompt differs from the most common one in case, spaces or punctuation alone"
            checked.add("system_differs", "warning", line, what, "Use the same.")


def letters(text: str) -> str:
    return "".join(filter(str.isalnum, normal(text)))


def classes_of(answers: Sequence[str]) -> Counter[str]:
    """How many examples each class has; nothing where the answers are not classes.

    Answers are classes when few of them differ (less than a third, as OpenAI's old tool had it) and all are short.
    """
    classes = Counter(answers)
    few = len(classes) * 3 < len(answers) and len(classes) <= 500
    return classes if few and all(len(name) <= 50 and "\n" not in name for name in classes) else Counter()


def check_classes(checked: Checked) -> None:
    """The balance of the classes, where the answers are classes."""
    classes = classes_of(checked.answers)
    if not classes:
        return
    small = [f"{name} ({n})" for name, n in classes.most_common() if n < FEW_IN_CLASS]
    if small:
        what = f"classes with under {FEW_IN_CLASS} examples: {', '.join(small[:10])}{', …' if len(small) > 10 else ''}"
        checked.add("small_class", "warning", 0, what, "Add examples of them, or read their metrics with care.")
    (most, many), (least, few) = classes.most_common()[0], classes.most_common()[-1]
    if many > IMBALANCE * few:
        what = f"{most} has {many} examples, {least} has {few}"
        checked.add("imbalance", "warning", 0, what, "Add examples of the small ones, or watch macro F1.")
    if many >= 0.9 * len(checked.answers):
        checked.add("one_sided", "warning", 0, f"{many} of {len(checked.answers)} answers are the same", "Vary them.")
    spelt = defaultdict(list)
    for name, _ in classes.most_common():
        spelt[normal(name)].append(name)
    for names in spelt.values():
        for name in names[1:]:
            line = checked.lines[checked.answers.index(name)]
            what = f"the answer {name!r} is {names[0]!r} in another spelling"
            checked.add("class_spelling", "warning", line, what, "Spell a class in one way.")


def check_against(checked: Checked, other: Checked) -> None:
    """What the file shares with another split: the same question is a leak, and so is nearly the same."""
    place = dict(zip(reversed(other.questions), reversed(other.lines), strict=True))  # the first line of each
    rest = []
    for index, (line, question) in enumerate(zip(checked.lines, checked.questions, strict=True)):
        if question in place:
            what = f"the same question as {other.file}:{place[question]}"
            checked.add("leak", "error", line, what, "Keep it in one of the splits.")
        else:
            rest.append(index)
    texts = [checked.questions[index] for index in rest]
    for index, (twin, alike) in sorted(nearest(texts, other.questions).items()):
        what = f"nearly the same question as {other.file}:{other.lines[twin]} (similarity {alike:.2f})"
        checked.add("near_leak", "error", checked.lines[rest[index]], what, "Keep both in one split.")


def check(
    files: Sequence[Path], against: Sequence[Path] = (), training: bool = True, **settings: Any
) -> dict[str, Any]:
    """The report on some files: `examples`, `errors`, `warnings`, and `findings` in the order of files and lines."""
    others = [check_file(path, training=False, **settings) for path in against]
    report: list[Finding] = []
    examples = 0
    for path in files:
        checked = check_file(path, training=training, **settings)
        for other in others:
            check_against(checked, other)
        examples += len(checked.lines)
        report += sorted(checked.findings, key=lambda finding: finding.line)
    severities = Counter(finding.severity for finding in report)
    return {
        "examples": examples,
        "errors": severities["error"],
        "warnings": severities["warning"],
        "findings": [asdict(finding) for finding in report],
    }


def as_text(report: dict[str, Any]) -> str:
    """The report for people: each finding on a line, at most twenty of a kind, and the sums."""
    lines, told = [], Counter[str]()
    for values in report["findings"]:
        told[values["code"]] += 1
        if told[values["code"]] <= SHOWN:
            lines.append(str(Finding(**values)))
    for code, times in told.items():
        if times > SHOWN:
            lines.append(f"… and {times - SHOWN} more of {code} (--format json has them all)")
    counts = [counted(report["errors"], "error"), counted(report["warnings"], "warning")]
    return "\n".join([*lines, f"{counted(report['examples'], 'example')}: {', '.join(counts)}"])


def as_github(report: dict[str, Any]) -> str:
    """The report as workflow commands, which GitHub shows at the lines of a pull request."""

    def escaped(text: str) -> str:
        return text.replace("%", "%25").replace("\r", "%0D").replace("\n", "%0A")

    return "\n".join(
        f"::{f['severity']} file={escaped(f['file']).replace(',', '%2C').replace(':', '%3A')},line={max(1, f['line'])},"
        f"title={f['code']}::{escaped(f['message'])} → {escaped(f['fix'])}"
        for f in report["findings"]
    )


def as_json(report: dict[str, Any]) -> str:
    return json.dumps(report, indent=2, ensure_ascii=False)


def counted(number: int, noun: str) -> str:
    return f"{number:,} {noun}{'' if number == 1 else 's'}"
