"""Take what a pass computed: the next token of each answer, and the scores of prompts; and end what has ended."""

import time
from collections.abc import Sequence
from concurrent.futures import Future
from typing import TYPE_CHECKING

from finetune.engine.api_errors import as_refusal
from finetune.engine.inference.generation_types import GeneratedAnswer, RequestState
from finetune.engine.inference.loaded_model import LoadedModel, Part
from finetune.engine.inference.prompt_scores import scored_tokens
from finetune.engine.inference.sampling import add_token, next_delta
from finetune.engine.inference.scheduling import Plan, remember_block
from finetune.engine.inference.token_texts import token_bytes, token_text
from finetune.engine.tool_calls import parse_tool_calls

if TYPE_CHECKING:
    import torch


def use(loaded: LoadedModel, plan: Plan, results: "Sequence[torch.Tensor]") -> None:
    """Take what a pass computed: the logits (places, vocabulary) of each part."""
    for (state, part), logits in zip(plan, results, strict=True):
        if not state.prompt_done:
            state.computed += len(part.token_ids)
            remember_block(loaded, state, part)
            score_prompt(loaded, state, part, logits)
        if part.wants_logits and not state.future.done():
            try:
                go_on(loaded, state, logits[-1])
            except Exception as error:
                set_exception(state.future, error)


def go_on(loaded: LoadedModel, state: RequestState, logits: "torch.Tensor") -> None:
    """Add a token to an answer, send it where the answer is streamed, and resolve the future of one that has ended."""
    if state.max_new_tokens == 0:
        state.finish_reason = "length"
    else:
        add_token(loaded, state, logits)
    if state.finish_reason == "stop":
        find_calls(state)
    if state.listener:
        state.listener(next_delta(state))
    if state.finish_reason:
        finish(state)


def find_calls(state: RequestState) -> None:
    """Take the calls of tools out of the text of an answer that has ended."""
    if state.tool_format and state.request.answer_form:
        names = {str(tool["function"]["name"]) for tool in state.request.answer_form.tools}
        before, state.tool_calls = parse_tool_calls(state.tool_format, state.text, names)
        if state.tool_calls:
            state.text, state.finish_reason = before or "", "tool_calls"


def score_prompt(loaded: LoadedModel, state: RequestState, part: Part, logits: "torch.Tensor") -> None:
    """Add the log-probabilities of the tokens that follow those of a part, if they are asked for."""
    if state.prompt_tokens is None:
        return
    count = state.request.prompt_logprobs or 0
    following = list(state.prompt_ids[part.position + 1 : part.position + len(part.token_ids) + 1])
    state.prompt_tokens += scored_tokens(loaded.tokenizer, logits[: len(following)], following, count)


def finish(state: RequestState) -> None:
    """Resolve the future of a request that has ended."""
    answer = GeneratedAnswer(
        text=state.text,
        finish_reason=state.finish_reason or "stop",
        tool_calls=state.tool_calls,
        prompt_tokens=len(state.prompt_ids),
        completion_tokens=len(state.generated_ids),
        tokens=state.reported_tokens,
        seconds=time.monotonic() - state.started_at,
        prompt=state.prompt_tokens,
        prompt_text=state.prompt_text,
        echoed=echoed_tokens(state) if state.request.echo else [],
    )
    if state.future.set_running_or_notify_cancel():
        state.future.set_result(answer)


def echoed_tokens(state: RequestState) -> list[tuple[str, bytes]]:
    """Return text and bytes of a prompt's tokens. One that was added, for the beginning of a text, has no bytes."""
    tokenizer, prompt, ids = state.loaded.tokenizer, state.request.prompt, state.prompt_ids
    added = int(isinstance(prompt, str) and (not prompt or ids[0] == tokenizer.bos_token_id))
    pieces = [(tokenizer.decode([token]), b"") for token in ids[:added]]
    for place, token in enumerate(ids[added:]):
        text = token_text(tokenizer, token, is_first=place == 0)
        pieces.append((text, token_bytes(tokenizer, token, text)))
    return pieces


def set_exception(future: "Future[GeneratedAnswer]", error: Exception) -> None:
    """End a request with an exception, unless it was cancelled or has ended."""
    if not future.done() and future.set_running_or_notify_cancel():
        future.set_exception(as_refusal(error))
