"""The completion object of `POST /v1/completions` and its chunks, in the form of OpenAI's API."""

import time
from collections.abc import Sequence
from typing import NamedTuple

from typing_extensions import TypedDict

from finetune.engine.ids import new_id
from finetune.engine.inference.chunks import Chunks, Json, Usage, usage_of
from finetune.engine.inference.generation_types import Delta, GeneratedAnswer, GeneratedToken


class TextCompletion(TypedDict):
    """OpenAI's completion object."""

    id: str
    object: str
    created: int
    model: str
    system_fingerprint: str | None
    choices: list[Json]
    usage: Usage


class ReportedToken(NamedTuple):
    """A token of a prompt or an answer. The first token of a prompt has no log-probability."""

    text: str
    raw: bytes
    logprob: float | None
    top: list[GeneratedToken]


def text_completion(
    model: str,
    answers: Sequence[Sequence[GeneratedAnswer]],
    n: int,
    logprobs: int | None,
    echo: bool,
    fingerprint: str | None,
) -> TextCompletion:
    """Return the completion object for the answers to each prompt: of these, the best `n` by their log-probability."""
    chosen = [answer for one in answers for answer in best(one, n)]
    return {
        "id": new_id("cmpl-"),
        "object": "text_completion",
        "created": int(time.time()),
        "model": model,
        "system_fingerprint": fingerprint,
        "choices": [
            {
                "index": index,
                "text": (answer.prompt_text if echo else "") + answer.text,
                "logprobs": logprobs_of(answer, logprobs, echo) if logprobs is not None else None,
                "finish_reason": answer.finish_reason,
            }
            for index, answer in enumerate(chosen)
        ],
        "usage": usage_of([one[0] for one in answers], [answer for one in answers for answer in one]),
    }


def best(answers: Sequence[GeneratedAnswer], n: int) -> list[GeneratedAnswer]:
    """Return the `n` answers with the highest mean log-probability of a token; all of them in their order if `n` is.

    Source: OpenAI's reference of completions, `best_of` ("highest log probability per token").
    """
    if n >= len(answers):
        return list(answers)

    def mean(answer: GeneratedAnswer) -> float:
        return sum(token.logprob for token in answer.tokens) / max(1, len(answer.tokens))

    return sorted(answers, key=mean, reverse=True)[:n]


def logprobs_of(answer: GeneratedAnswer, alternatives: int, echo: bool) -> Json:
    """Return tokens and log-probabilities of an answer, with `echo` those of its prompt before them."""
    tokens = [ReportedToken(one.text, one.raw, one.logprob, one.top) for one in answer.tokens]
    if not echo:
        return token_columns(tokens, alternatives, len(answer.prompt_text))
    return token_columns(prompt_tokens(answer, alternatives) + tokens, alternatives, 0)


def prompt_tokens(answer: GeneratedAnswer, alternatives: int) -> list[ReportedToken]:
    """Return the tokens of a prompt whose log-probabilities were computed."""
    found = [ReportedToken(text, raw, None, []) for text, raw in answer.echoed[:1]]
    for (text, raw), place in zip(answer.echoed[1:], (answer.prompt or [])[1:], strict=False):
        own, *_ = place
        likeliest = sorted(place, key=lambda token: token.rank)[:alternatives]
        top = [
            GeneratedToken(text, raw, one.logprob) if one is own else GeneratedToken(one.text, one.raw, one.logprob)
            for one in likeliest
        ]
        found.append(ReportedToken(text, raw, own.logprob, top))
    return found


def token_columns(tokens: Sequence[ReportedToken], alternatives: int, offset: int) -> Json:
    """Return the columns of `logprobs`. Offsets count the characters from the beginning of the prompt."""
    return {
        "tokens": [name(token.text, token.raw) for token in tokens],
        "token_logprobs": [token.logprob for token in tokens],
        "top_logprobs": [top_of(token, alternatives) for token in tokens] if alternatives else None,
        "text_offset": text_offsets(tokens, offset),
    }


def top_of(token: ReportedToken, alternatives: int) -> dict[str, float] | None:
    """Return the likeliest tokens at a place by their names, and always the token itself, as OpenAI does."""
    if token.logprob is None:
        return None
    top = {name(one.text, one.raw): one.logprob for one in token.top[:alternatives]}
    return top | {name(token.text, token.raw): token.logprob}


def name(text: str, raw: bytes) -> str:
    """Return how a token is named: a part of a character by its bytes, as OpenAI does."""
    return "bytes:" + "".join(f"\\x{byte:02x}" for byte in raw) if "\ufffd" in text else text


def text_offsets(tokens: Sequence[ReportedToken], offset: int) -> list[int]:
    """Return where each token begins, in characters; one that continues a character is where that character begins."""
    found = []
    for token in tokens:
        continues = bool(token.raw) and token.raw[0] & 0xC0 == 0x80
        found.append(max(0, offset - 1) if continues else offset)
        offset += characters_begun(token)
    return found


def characters_begun(token: ReportedToken) -> int:
    """Return how many characters begin in a token: its bytes that continue none, in UTF-8."""
    return sum(1 for byte in token.raw if byte & 0xC0 != 0x80)


class TextChunks(Chunks):
    """The chunks of one streamed completion. Offsets of tokens go on from chunk to chunk."""

    kind = "text_completion"
    prefix = "cmpl-"

    def __init__(
        self, model: str, logprobs: int | None, includes_usage: bool, fingerprint: str | None, echo: bool
    ) -> None:
        super().__init__(model, includes_usage, fingerprint)
        self.logprobs, self.echo = logprobs, echo
        self.begun: set[int] = set()
        self.offsets: dict[int, int] = {}

    def first(self, index: int) -> None:
        """Completions have no chunk that begins a choice."""

    def piece(self, index: int, delta: Delta) -> Json:
        """Return the chunk with the next piece of a choice."""
        logprobs = None
        if self.logprobs is not None:
            tokens = [ReportedToken(one.text, one.raw, one.logprob, one.top) for one in delta.tokens]
            offset = self.offsets.get(index, len(delta.prompt_text))
            logprobs = token_columns(tokens, self.logprobs, offset)
            self.offsets[index] = offset + sum(map(characters_begun, tokens))
        text = delta.prompt_text + delta.text if self.echo and index not in self.begun else delta.text
        self.begun.add(index)
        return self.chunk([{"index": index, "text": text, "logprobs": logprobs, "finish_reason": None}])

    def last(self, index: int, answer: GeneratedAnswer) -> list[Json]:
        """Return the chunk that ends a choice."""
        return [self.chunk([{"index": index, "text": "", "logprobs": None, "finish_reason": answer.finish_reason}])]
