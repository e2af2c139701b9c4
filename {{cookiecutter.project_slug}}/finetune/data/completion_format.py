"""Prompt and completion instead of chat, for servers that take those: one text, so its joints must be marked.

What marks them is no matter of custom: whether a separator melts into the word before it, or a completion wants a space
before it, is the tokenizer's affair, and each has its own. So they are computed with the base's, from the data.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from itertools import islice

from finetune.core.errors import FinetuneError
from finetune.data.examples import Example, text_of

SEPARATORS = ("\n\n###\n\n", " ->", "\n\n===\n\n", "\n\n---\n\n", "\n\n===>\n\n", "\n\n### =>\n\n")
STOPS = ("\n", " END", "###", "***", " [END]")
LEADS = ("", " ")
SAMPLE = 50  # texts that the tokenizer is tried on

Encode = Callable[[str], list[int]]


@dataclass(frozen=True)
class Frame:
    """What stands behind each prompt, before each completion and behind it."""

    separator: str
    lead: str
    stop: str


def pair_of(example: Example) -> tuple[str, str]:
    """The question and the answer of a chat of one turn; its system prompt is left out, as it says the same in all.

    Raises ValueError where there are more turns, or tools.
    """
    turns = [message for message in example.get("messages", ()) if message.get("role") not in ("system", "developer")]
    if [turn.get("role") for turn in turns] != ["user", "assistant"] or len(example) > 1:
        raise ValueError("more than one question and one answer")
    return text_of(turns[0].get("content")), text_of(turns[1].get("content"))


def framed(example: Example, frame: Frame) -> Example:
    prompt, completion = pair_of(example)
    return {"prompt": prompt + frame.separator, "completion": frame.lead + completion + frame.stop}


def unframed(example: Example, frame: Frame) -> tuple[str, str]:
    """The question and the answer of a framed example."""
    prompt, completion = example["prompt"], example["completion"]
    return prompt.removesuffix(frame.separator), completion.removesuffix(frame.stop).removeprefix(frame.lead)


def frame_for(pairs: Callable[[], Iterable[tuple[str, str]]], encode: Encode) -> Frame:
    """The marks that stand in none of the texts, that the tokenizer keeps apart from them, of the fewest tokens.

    `pairs` gives all questions and answers, each time anew. Raises FinetuneError where none of the candidates will do.
    """
    some = list(islice(pairs(), SAMPLE))
    prompts, answers = [prompt for prompt, _ in some], [answer for _, answer in some]
    separator = best("separator", SEPARATORS, (prompt for prompt, _ in pairs()), prompts, encode)
    leads = [lead for lead in LEADS if keeps_apart([separator], [lead + answer for answer in answers], encode)]
    lead = min(leads or LEADS, key=lambda lead: sum(len(encode(lead + answer)) for answer in answers))
    stop = best("stop", STOPS, (answer for _, answer in pairs()), [lead + answer for answer in answers], encode)
    return Frame(separator, lead, stop)


def best(name: str, candidates: Sequence[str], texts: Iterable[str], sample: Sequence[str], encode: Encode) -> str:
    """The candidate of the fewest tokens that no text holds and that stays apart behind those of a sample."""
    left = list(candidates)
    for text in texts:
        left = [candidate for candidate in left if candidate.strip(" ") not in text]
    apart = [candidate for candidate in left if keeps_apart(sample, [candidate], encode)]
    if not (apart or left):
        raise FinetuneError(
            f"Every {name} that is known stands in the data: {', '.join(map(repr, candidates))}.",
            "Remove one of them from the raw data, or train on chat: data.target.",
        )
    return min(apart or left, key=lambda candidate: len(encode(candidate)))


def keeps_apart(firsts: Sequence[str], seconds: Sequence[str], encode: Encode) -> bool:
    """Whether the tokens of two texts are the same together and alone."""
    return all(encode(first + second) == encode(first) + encode(second) for first in firsts for second in seconds)
