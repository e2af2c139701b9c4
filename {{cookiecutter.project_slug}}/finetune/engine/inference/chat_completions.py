"""The chat completion object and its chunks: the answers of the generator in the form of OpenAI's API."""

import time
from collections.abc import Sequence

from typing_extensions import NotRequired, TypedDict

from finetune.engine.ids import new_id
from finetune.engine.inference.chunks import Chunks, Json, Usage, usage_of
from finetune.engine.inference.generation_types import Delta, GeneratedAnswer, GeneratedToken, PromptToken


class ChatCompletion(TypedDict):
    """OpenAI's chat completion object."""

    id: str
    object: str
    created: int
    model: str
    system_fingerprint: str | None
    choices: list[Json]
    usage: Usage
    prompt_logprobs: NotRequired[list[Json | None]]  # vLLM's addition, where it is requested


def completion(
    model: str, answers: Sequence[GeneratedAnswer], logprobs: bool, fingerprint: str | None
) -> ChatCompletion:
    """Return the chat completion object for one or more answers to the same prompt."""
    found: ChatCompletion = {
        "id": new_id("chatcmpl-"),
        "object": "chat.completion",
        "created": int(time.time()),
        "model": model,
        "system_fingerprint": fingerprint,
        "choices": [choice(index, answer, logprobs) for index, answer in enumerate(answers)],
        "usage": usage_of(answers[:1], answers),
    }
    prompt = answers[0].prompt
    if prompt is not None:
        found["prompt_logprobs"] = [prompt_logprobs(place) if place else None for place in prompt]
    return found


def choice(index: int, answer: GeneratedAnswer, logprobs: bool) -> Json:
    """Return one choice of a completion. `logprobs` says whether it reports its tokens."""
    message: Json = {"role": "assistant", "content": answer.text, "refusal": None}
    if answer.tool_calls:
        message |= {"content": answer.text or None, "tool_calls": answer.tool_calls}
    return {
        "index": index,
        "message": message,
        "finish_reason": answer.finish_reason,
        "logprobs": logprobs_of(answer.tokens) if logprobs else None,
    }


class ChatChunks(Chunks):
    """The chunks of one streamed chat completion."""

    kind = "chat.completion.chunk"
    prefix = "chatcmpl-"

    def __init__(self, model: str, logprobs: bool, includes_usage: bool, fingerprint: str | None) -> None:
        super().__init__(model, includes_usage, fingerprint)
        self.logprobs = logprobs

    def first(self, index: int) -> Json:
        """Return the chunk that begins a choice."""
        delta = {"role": "assistant", "content": "", "refusal": None}
        return self.chunk([{"index": index, "delta": delta, "logprobs": None, "finish_reason": None}])

    def piece(self, index: int, delta: Delta) -> Json:
        """Return the chunk with the next piece of a choice."""
        logprobs = logprobs_of(delta.tokens) if self.logprobs else None
        return self.chunk(
            [{"index": index, "delta": {"content": delta.text}, "logprobs": logprobs, "finish_reason": None}]
        )

    def last(self, index: int, answer: GeneratedAnswer) -> list[Json]:
        """Return the chunks that end a choice: all of its calls, and then, for clients that count on it, its end."""
        calls = [{"index": number, **call} for number, call in enumerate(answer.tool_calls)]
        deltas: list[tuple[Json, str | None]] = [({"tool_calls": calls}, None)] if calls else []
        return [
            self.chunk([{"index": index, "delta": delta, "logprobs": None, "finish_reason": reason}])
            for delta, reason in [*deltas, ({}, answer.finish_reason)]
        ]


def logprobs_of(tokens: Sequence[GeneratedToken]) -> Json:
    content = [{**logprob(token), "top_logprobs": [logprob(top) for top in token.top]} for token in tokens]
    return {"content": content, "refusal": None}


def prompt_logprobs(place: Sequence[PromptToken]) -> Json:
    """Return the tokens at a place of the prompt by their IDs; the prompt's own token comes first."""
    return {
        str(token.token_id): {"logprob": token.logprob, "rank": token.rank, "decoded_token": token.text}
        for token in place
    }


def logprob(token: GeneratedToken) -> Json:
    return {"token": token.text, "logprob": token.logprob, "bytes": list(token.raw)}
