"""Read a model's answer from a completion, of chat or of text."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Annotated, Any

from pydantic import Field
from typing_extensions import Required, TypedDict  # pydantic asks for this one before Python 3.12

from finetune.core.records.answers import Alternatives
from finetune.core.tool_calls import calls_as_json
from finetune.provider.type_checks import Kind, WrongAnswerError, check_fields

Tokens = Annotated[int, Field(ge=0, lt=10**15)]
Byte = Annotated[int, Field(ge=0, lt=256)]


class TokenLogprob(TypedDict, total=False):
    token: Required[str]
    logprob: Required[float | None]
    bytes: list[Byte] | None


class ChosenLogprob(TokenLogprob, total=False):
    top_logprobs: list[TokenLogprob] | None


class Logprobs(TypedDict, total=False):
    content: list[ChosenLogprob] | None
    tokens: list[str] | None
    token_logprobs: list[float | None] | None
    top_logprobs: list[dict[str, float | None] | None] | None


class Message(TypedDict, total=False):
    content: str | list[Any] | None
    refusal: str | None
    tool_calls: list[dict[str, Any]] | None
    function_call: dict[str, Any] | None


class Choice(TypedDict, total=False):
    message: Message | None
    text: str | None
    finish_reason: str | None
    logprobs: Logprobs | None


class PromptTokens(TypedDict, total=False):
    cached_tokens: Tokens | None


class Usage(TypedDict, total=False):
    prompt_tokens: Tokens | None
    completion_tokens: Tokens | None
    prompt_tokens_details: PromptTokens | None


class Completion(TypedDict, total=False):
    choices: list[dict[str, Any]] | None
    usage: Usage | None
    model: str | None
    system_fingerprint: str | None


COMPLETION = Kind("a completion", Completion, ("choices",))
CHOICE = Kind("a completion", Choice, ("message", "text"))


@dataclass(frozen=True)
class Answer:
    """One answer, what it took, and its log-probabilities where they were requested.

    `error` says why there is no answer: the provider has refused this request.
    """

    text: str
    prompt_tokens: int | None = None
    completion_tokens: int | None = None
    seconds: float | None = None
    logprobs: list[Alternatives] = field(default_factory=list)  # by token of the answer
    error: str = ""
    cached_tokens: int | None = None  # of the prompt, in the provider's cache; None: it does not say
    model: str = ""  # what the provider says has answered; "": it does not say, or an earlier version kept the answer
    fingerprint: str = ""  # the provider's system_fingerprint
    deployed: str = ""  # the model that the deployment had then, by the provider's resource manager
    refused: bool = False  # by the model, or by the provider's filter: `text` is its refusal, or the answer until then
    cut: bool | None = None  # at the maximum length; None: the provider does not say, or an earlier version kept it


def was_cut(answer: Answer, max_tokens: int) -> bool:
    """Return whether an answer ended at its maximum length."""
    return answer.cut if answer.cut is not None else (answer.completion_tokens or 0) >= max_tokens


def parse_answer(completion: dict[str, Any], seconds: float | None) -> Answer:
    """Return the answer in a completion, of chat or of text, that took this long; its `error` says what it lacks.

    Of an answer that calls tools, the text is that of the calls.
    """
    try:
        check_fields(completion, completion, COMPLETION)
        choices = completion.get("choices") or []
        if not choices:
            return Answer("", seconds=seconds, error="an answer without choices")
        choice, usage = choices[0], completion.get("usage") or {}
        check_fields(choice, choice, CHOICE)
    except WrongAnswerError as error:
        return Answer("", seconds=seconds, error=error.what)
    message = choice.get("message") or {}
    said = joined(message.get("content")) or message.get("refusal") or choice.get("text") or ""
    logprobs = choice.get("logprobs") or {}
    return Answer(
        calls_as_json(message) or said,
        usage.get("prompt_tokens"),
        usage.get("completion_tokens"),
        seconds,
        chat_logprobs(logprobs) if "content" in logprobs else text_logprobs(logprobs),
        cached_tokens=(usage.get("prompt_tokens_details") or {}).get("cached_tokens"),
        model=completion.get("model") or "",
        fingerprint=completion.get("system_fingerprint") or "",
        refused=bool(message.get("refusal")) or choice.get("finish_reason") == "content_filter",
        cut=choice["finish_reason"] == "length" if choice.get("finish_reason") else None,
    )


def joined(content: Any) -> str:
    """Return a message's content as text: some servers give parts, of which those of thinking are no answer."""
    if not isinstance(content, list):
        return content or ""
    return "".join(
        str(part.get("text") or "") for part in content if isinstance(part, Mapping) and part.get("type") == "text"
    )


def chat_logprobs(logprobs: Mapping[str, Any]) -> list[Alternatives]:
    """Return the chosen token and its alternatives for each token, from the shape that chat uses."""
    return [
        [
            token_logprob(top["token"], top["logprob"], top.get("bytes"))
            for top in (one, *(one.get("top_logprobs") or ()))
        ]
        for one in logprobs["content"] or []
    ]


def text_logprobs(logprobs: Mapping[str, Any]) -> list[Alternatives]:
    """Return the same from the older shape, which completions of text use."""
    tokens, values, tops = (logprobs.get(key) or [] for key in ("tokens", "token_logprobs", "top_logprobs"))
    return [
        [token_logprob(token, value), *(token_logprob(*top) for top in (alternatives or {}).items())]
        for token, value, alternatives in zip(tokens, values, tops or [{}] * len(tokens), strict=False)
    ]


def token_logprob(token: str, logprob: float | None, raw: list[int] | None = None) -> tuple[str, float | None]:
    """Return a token as its bytes, one Latin-1 letter for each, and its log-probability; None where it is no number.

    Bytes keep tokens apart that are different parts of one letter.
    """
    value = float("nan") if logprob is None else float(logprob)
    content = bytes(raw) if raw else token.encode("utf-8", "replace")
    return content.decode("latin-1"), round(value, 4) if math.isfinite(value) else None
