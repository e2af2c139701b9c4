"""Prompts and completions in place of chat: one text to the model, so marks show where each part ends.

Marks that the data have already are kept. The best others depend on the tokenizer: a separator may be merged with the
word before it, and a completion may need a space before it. So they are chosen with the base's own tokenizer, from the
data.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any

from finetune.core.errors import FinetuneError
from finetune.core.records.prepared import CompletionMarks, Example, FoundMarks
from finetune.data.examples import SYSTEM_ROLES, is_trained, text_of
from finetune.data.existing_marks import NO_MARKS, find_marks, shared_cue, without_ending, without_marks

SEPARATORS = ("\n\n###\n\n", " ->", "\n\n===\n\n", "\n\n---\n\n", "\n\n===>\n\n", "\n\n### =>\n\n")
STOPS = ("\n", " END", "###", "***", " [END]")
LEADS = ("", " ")
SAMPLE = 50  # texts that the tokenizer is tried on

Encode = Callable[[str], list[int]]
Pairs = Callable[[], Iterable[tuple[str, str]]]  # each call returns all questions and answers


@dataclass(frozen=True)
class CompletionFormat:
    """The marks of prompts and completions; `CompletionMarks` is the same in prepare.json."""

    separator: str  # at the end of each prompt
    lead: str  # before each completion
    stop: str  # at the end of each completion


def completion_format_of(marks: CompletionMarks | None) -> CompletionFormat | None:
    """Return the marks that a record has; None if the project trains on chat."""
    return CompletionFormat(**marks) if marks else None


def question_and_answer(example: Example) -> tuple[str, str]:
    """Return the question and the answer of a chat of one turn, without the system prompt: see `system_of`.

    Raises ValueError where there are more turns, or tools, and where a turn is not only text or is not trained.
    """
    turns = [message for message in example.get("messages", ()) if message.get("role") not in SYSTEM_ROLES]
    if [turn.get("role") for turn in turns] != ["user", "assistant"] or len(example) > 1:
        raise ValueError("more than one question and one answer")
    if not all(is_text(turn.get("content")) for turn in turns):
        raise ValueError("a message that is not only text, such as an image or a tool call")
    if not is_trained(turns[1]):
        raise ValueError("an answer with weight 0, which a completion cannot have")
    return text_of(turns[0].get("content")), text_of(turns[1].get("content"))


def is_text(content: object) -> bool:
    """Return whether a message's content is only text."""
    if isinstance(content, list):
        return all(isinstance(part, dict) and part.get("type") == "text" for part in content)
    return isinstance(content, str)


def system_of(example: Example) -> list[Any]:
    """Return the system prompts of a chat, which completions have no place for: it must be the same in all rows."""
    messages = example.get("messages", ())
    return [one.get("content") for one in messages if one.get("role") in SYSTEM_ROLES]


def to_completion(example: Example, marks: CompletionFormat, own: FoundMarks = NO_MARKS) -> Example:
    """Return a chat of one turn as a prompt and a completion. Raises ValueError like `question_and_answer`.

    `own` are marks that its question and its answer have already.
    """
    question, answer = without_marks(*question_and_answer(example), own)
    return {"prompt": question + marks.separator, "completion": marks.lead + answer + marks.stop}


def from_completion(example: Example, marks: CompletionFormat) -> tuple[str, str]:
    """Return the question and the answer of a prompt and a completion, without their marks."""
    prompt, completion = example["prompt"], example["completion"]
    return prompt.removesuffix(marks.separator), completion.removesuffix(marks.stop).removeprefix(marks.lead)


def prompt_of_question(question: str, marks: CompletionFormat) -> str:
    """Return a question with its separator, which it may have already."""
    return without_ending(question, marks.separator) + marks.separator


def marks_of_pairs(pairs: Pairs, found: FoundMarks) -> FoundMarks:
    """Return the marks that questions and answers have in their texts, where `found` names none.

    A template may end a question with a word such as "Sentiment:": that is a separator too.
    """
    own = find_marks((("", question, answer) for question, answer in pairs()), refuse=False)
    if own["separator"]:  # a template takes off the line breaks around a question
        own["separator"] = next((one for one in SEPARATORS if one.rstrip() == own["separator"]), own["separator"])
    elif not found["separator"]:
        own["separator"] = shared_cue(question for question, _ in pairs() if question)
    return {
        "separator": None if found["separator"] else own["separator"],
        "lead": None if found["lead"] else own["lead"],
        "stop": None if found["stop"] else own["stop"],
    }


def joined_marks(one: FoundMarks, other: FoundMarks) -> FoundMarks:
    """Return the marks of both; `one` counts where both have a mark."""
    return {
        "separator": one["separator"] or other["separator"],
        "lead": one["lead"] or other["lead"],
        "stop": one["stop"] or other["stop"],
    }


def choose_completion_format(pairs: Pairs, encode: Encode, kept: FoundMarks = NO_MARKS) -> CompletionFormat:
    """Return the marks in `kept`, and others that are in none of the texts, of the fewest tokens.

    The others are, if possible, such as the tokenizer does not merge with the texts. The texts of `pairs` are without
    marks. Raises FinetuneError where every candidate is in the data.
    """
    some = list(islice(pairs(), SAMPLE))
    questions, answers = [question for question, _ in some], [answer for _, answer in some]
    separator, lead, stop = kept["separator"], kept["lead"], kept["stop"]
    if separator is None:
        separator = best_mark("separator", SEPARATORS, (question for question, _ in pairs()), questions, encode)
    if lead is None:
        leads = [lead for lead in LEADS if are_not_merged([separator], [lead + answer for answer in answers], encode)]
        lead = min(leads or LEADS, key=lambda lead: sum(len(encode(lead + answer)) for answer in answers))
    if stop is None or "<|" in stop:  # servers refuse special tokens in a text
        led = [lead + answer for answer in answers]
        stop = best_mark("stop", STOPS, (answer for _, answer in pairs()), led, encode)
    return CompletionFormat(separator, lead, stop)


def best_mark(name: str, candidates: Sequence[str], texts: Iterable[str], sample: Sequence[str], encode: Encode) -> str:
    """Return the candidate of the fewest tokens that is in none of `texts`, if possible one that is not merged."""
    left = list(candidates)
    for text in texts:
        left = [candidate for candidate in left if candidate.strip(" ") not in text]
    unmerged = [candidate for candidate in left if are_not_merged(sample, [candidate], encode)]
    if not left:
        raise FinetuneError(
            f"Every candidate for the {name} is in the data: {', '.join(map(repr, candidates))}.",
            "Remove one of them from the raw data, or set data.target to 'chat'.",
        )
    return min(unmerged or left, key=lambda candidate: len(encode(candidate)))


def are_not_merged(firsts: Sequence[str], seconds: Sequence[str], encode: Encode) -> bool:
    """Return whether each first text followed by each second text has the tokens of the one and of the other."""
    return all(encode(first + second) == encode(first) + encode(second) for first in firsts for second in seconds)
