"""What the two kinds of completions have in common: their usage, and the frame of the chunks of a stream."""

import time
from collections.abc import Sequence
from typing import ClassVar

from typing_extensions import TypedDict

from finetune.engine.ids import new_id
from finetune.engine.inference.generation_types import GeneratedAnswer

Json = dict[str, object]


class PromptDetails(TypedDict):
    cached_tokens: int
    audio_tokens: int


class CompletionDetails(TypedDict):
    reasoning_tokens: int
    audio_tokens: int
    accepted_prediction_tokens: int
    rejected_prediction_tokens: int


class Usage(TypedDict):
    """Numbers of tokens. `cached_tokens` is 0: what is copied from other prompts depends on who else asks, and costs
    the same."""

    prompt_tokens: int
    completion_tokens: int
    total_tokens: int
    prompt_tokens_details: PromptDetails
    completion_tokens_details: CompletionDetails


def usage_of(prompts: Sequence[GeneratedAnswer], answers: Sequence[GeneratedAnswer]) -> Usage:
    """Return the usage of answers; `prompts` has one answer to each prompt."""
    prompt_tokens = sum(one.prompt_tokens for one in prompts)
    completion_tokens = sum(one.completion_tokens for one in answers)
    return {
        "prompt_tokens": prompt_tokens,
        "completion_tokens": completion_tokens,
        "total_tokens": prompt_tokens + completion_tokens,
        "prompt_tokens_details": {"cached_tokens": 0, "audio_tokens": 0},
        "completion_tokens_details": {
            "reasoning_tokens": 0,
            "audio_tokens": 0,
            "accepted_prediction_tokens": 0,
            "rejected_prediction_tokens": 0,
        },
    }


class Chunks:
    """The chunks of one stream: what is the same in all of them, and the last one."""

    kind: ClassVar[str]
    prefix: ClassVar[str]

    def __init__(self, model: str, includes_usage: bool, fingerprint: str | None) -> None:
        self.includes_usage = includes_usage
        self.same: Json = {
            "id": new_id(self.prefix),
            "object": self.kind,
            "created": int(time.time()),
            "model": model,
            "system_fingerprint": fingerprint,
        }

    def chunk(self, choices: list[Json], usage: Usage | None = None) -> Json:
        return {**self.same, "choices": choices, **({"usage": usage} if self.includes_usage else {})}

    def usage(self, prompts: Sequence[GeneratedAnswer], answers: Sequence[GeneratedAnswer]) -> Json:
        """Return the chunk that follows all choices."""
        return self.chunk([], usage_of(prompts, answers))
