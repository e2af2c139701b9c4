"""Find the marks that prompts and completions have already.

OpenAI's guide to completions, and the tool that came with it, set them: a separator at the end of each prompt such as
` ->`, a space before each completion, and a stop after it such as ` END`. They are not content.
"""

import re
from collections import Counter, defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field
from itertools import takewhile

from finetune.core.errors import FinetuneError
from finetune.core.records.prepared import FoundMarks

# At the end of a text, without the white space around it.
SEPARATOR = re.compile(r"(?:-+>|=+>|[→⇒➔]|={3,}|-{3,}|#{3,}(?:\s*=>)?)$")
STOP = re.compile(
    r"(?:(?<![A-Za-z0-9_/$`'(-])END|\[END\]|<END>|#{3,}|\*{3,}|\+{3,}|&{3,}|\${3,}|@{3,}|%{3,}|<\|[^<>|\s]{1,30}\|>|</s>|\[EOS\])$"
)
LAST_LETTERS = tuple(">→⇒➔=-#D]*+&$@%")  # of all marks: most texts end otherwise, and need no search
LEAD = "space"  # stands for the space before a completion
LONGEST = 40  # characters of a mark
LONGEST_ENDING = 20  # characters; a longer common ending is part of the question
CUES = ":：→⇒"  # at the end of each prompt, as in "Sentiment:"
FEW = 0.05  # of all texts: an ending that fewer have belongs to their content
MOST = 0.9  # of all completions: the space before them is a mark, also in a file without other marks
ROWS_NAMED = 10  # in an error
NO_MARKS: FoundMarks = {"separator": None, "lead": None, "stop": None}

Pair = tuple[str, str, str]  # the place of a row, its prompt and its completion; "" is not looked at


@dataclass
class Endings:
    """The marks at the end of some texts: each as it is written, and the rows by the mark without white space."""

    written: Counter[str] = field(default_factory=Counter)
    texts: Counter[str] = field(default_factory=Counter)
    places: dict[str, list[str]] = field(default_factory=lambda: defaultdict(list))

    def add(self, place: str, mark: str) -> None:
        self.written[mark] += 1
        self.texts[mark.strip()] += 1
        if len(self.places[mark.strip()]) < ROWS_NAMED:
            self.places[mark.strip()].append(place)

    def shared(self, name: str, refuse: bool) -> str | None:
        """Return the mark of all texts, with the white space that it has most often; None if they share none.

        With `refuse`, raises FinetuneError where more than a few texts have a mark, and not all the same.
        """
        marks = {text: times for text, times in self.texts.items() if text}
        if not marks or (len(self.texts) > 1 and not refuse) or sum(marks.values()) < FEW * self.texts.total():
            return None
        text = max(marks, key=lambda text: marks[text])
        mark = max((mark for mark in self.written if mark.strip() == text), key=lambda mark: self.written[mark])
        if len(self.texts) > 1:
            raise self.mixed(f"end with {mark!r}", name, text)
        return mark

    def mixed(self, have_it: str, name: str, text: str) -> FinetuneError:
        """Return the error that names the rows without a mark, or those with it where they are fewer."""
        with_it = self.texts[text]
        without = self.texts.total() - with_it
        others = [place for one, places in self.places.items() if one != text for place in places]
        who, places, count = ("These do not", others, without)
        if with_it < without:
            who, places, count = ("These do", self.places[text], with_it)
        listed = "; ".join(places[:ROWS_NAMED]) + (f" and {count - ROWS_NAMED} more" if count > ROWS_NAMED else "")
        return FinetuneError(
            f"{with_it} of {with_it + without} {name} {have_it}. {who}: {listed}.",
            f"Write all {name} in one way. If that text is content, write a template under data.prompt, with user"
            " '{prompt}' and assistant '{completion}': it keeps texts as they are.",
        )


@dataclass
class Newlines:
    """How many line breaks end all completions, and how many follow each other inside one."""

    at_end: int | None = None
    inside: int = 0

    def add(self, text: str) -> None:
        body = text.rstrip("\n")
        ends = len(text) - len(body)
        self.at_end = ends if self.at_end is None else min(self.at_end, ends)
        if self.at_end:
            self.inside = max([self.inside, *(len(found) for found in re.findall(r"\n+", body))])

    def stop(self) -> str | None:
        """Return the line breaks that end every completion and are inside none; None where there are none."""
        return "\n" * self.at_end if self.at_end and self.inside < self.at_end else None


def find_marks(pairs: Iterable[Pair], refuse: bool = True) -> FoundMarks:
    """Return the marks that all prompts and completions have; None for a mark that they do not have.

    Where only some have a mark, raises FinetuneError naming the rows; without `refuse`, that mark is content.
    """
    separators, stops, leads, newlines = Endings(), Endings(), Endings(), Newlines()
    single_space = False
    for place, prompt, completion in pairs:
        if prompt.strip():
            separators.add(place, mark_of(prompt, SEPARATOR))
        if completion.strip():
            stops.add(place, mark_of(completion, STOP))
            newlines.add(completion)
            leads.add(place, LEAD if completion.startswith(" ") else "")
            single_space = single_space or (completion[0] == " " and completion[1] != " ")
    separator, stop = separators.shared("prompts", refuse), stops.shared("completions", refuse)
    lead = shared_lead(leads, refuse, FEW if separator or stop else MOST) if single_space else None
    return {"separator": separator, "lead": lead, "stop": stop or newlines.stop()}


def shared_lead(leads: Endings, refuse: bool, least: float) -> str | None:
    """Return " " where all completions begin with it; None where fewer than the share `least` do."""
    have_it, every = leads.texts[LEAD], leads.texts.total()
    if have_it == every:
        return " "
    if refuse and have_it >= least * every:
        raise leads.mixed("begin with a space", "completions", LEAD)
    return None


def mark_of(text: str, mark: re.Pattern[str]) -> str:
    """Return the mark at the end of a text, with the white space around it; "" where the text has none, or no more."""
    stripped = text.rstrip()
    found = mark.search(stripped[-LONGEST:]) if stripped.endswith(LAST_LETTERS) else None
    body = stripped[: len(stripped) - len(found[0])].rstrip() if found else ""
    return text[len(body) :] if body else ""


def without_ending(text: str, mark: str | None) -> str:
    """Return a text without a mark at its end. White space after the mark does not matter."""
    if not mark or not mark.strip():
        return text.removesuffix(mark or "")
    stripped, core = text.rstrip(), mark.strip()
    if not stripped.endswith(core):
        return text
    body, space = stripped.removesuffix(core), mark[: mark.index(core)]
    return body.rstrip() if space and not body.endswith(space) else body.removesuffix(space)


def without_marks(prompt: str, completion: str, marks: FoundMarks) -> tuple[str, str]:
    """Return a prompt and a completion without their marks."""
    return (
        without_ending(prompt, marks["separator"]),
        without_ending(completion, marks["stop"]).removeprefix(marks["lead"] or ""),
    )


def shared_cue(prompts: Iterable[str]) -> str | None:
    """Return the last line or word of all prompts if it is the same and asks for an answer, such as `\\nSentiment:`."""
    ending = common_ending(prompts)
    text = ending.rstrip()
    if text[-1:] not in CUES or not text:
        return None
    line = text.rfind("\n")
    start = line if line >= 0 else max(text.rfind(" "), 0)
    while start and ending[start - 1].isspace():
        start -= 1
    return ending[start:]


def common_ending(texts: Iterable[str]) -> str:
    """Return the longest ending of all texts, without letters and digits at its beginning."""
    common: str | None = None  # in reverse
    for text in texts:
        back = text[: -LONGEST_ENDING - 1 : -1]
        pairs = zip(back if common is None else common, back, strict=False)
        common = "".join(one for one, _ in takewhile(lambda pair: pair[0] == pair[1], pairs))
        if not common:
            return ""
    ending = (common or "")[::-1]
    return ending[next((n for n, letter in enumerate(ending) if not letter.isalnum()), len(ending)) :]
