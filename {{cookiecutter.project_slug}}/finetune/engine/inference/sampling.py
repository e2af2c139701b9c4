"""Choose a request's next token from its logits, report it, and see whether it ends the answer."""

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from finetune.engine.api_errors import ApiError
from finetune.engine.inference.generation_types import Delta, GeneratedToken, GenerationRequest, RequestState
from finetune.engine.inference.loaded_model import LoadedModel
from finetune.engine.inference.token_texts import text_after, token_bytes, token_text
from finetune.engine.tool_calls import sure_length

if TYPE_CHECKING:
    import torch

MIN_TEMPERATURE = 1e-5  # below this, dividing by the temperature might overflow: the likeliest token is taken


def add_token(loaded: LoadedModel, state: RequestState, logits: "torch.Tensor") -> None:
    """Add the next token of a request, chosen from its logits (vocabulary,), and see whether it ends the answer.

    The log-probabilities that are reported are the model's own, without the request's penalties and biases.
    """
    import torch

    request, tokenizer = state.request, loaded.tokenizer
    adjusted = penalized(biased(logits, request), state)
    if state.constraint:
        adjusted = state.constraint.mask(adjusted)
    token = int(adjusted.argmax())
    if not adjusted[token].isfinite():
        raise ApiError(
            500, f"The model `{request.model}` is broken: its logits are not finite numbers.", "server_error"
        )
    if request.temperature >= MIN_TEMPERATURE:
        token = sample_token(adjusted, request.temperature, request.top_p, state.random)
    state.generated_ids.append(token)
    if state.constraint:
        state.constraint.accept(token)
    if token in loaded.end_token_ids:
        state.finish_reason = "stop"
        state.text = answer_text(tokenizer, state, state.generated_ids[:-1])
        return
    if request.top_logprobs is not None:
        log_probabilities = torch.log_softmax(logits, -1)
        is_first = state.is_chat and len(state.generated_ids) == 1
        reported = reported_token(tokenizer, token, log_probabilities, request.top_logprobs, is_first)
        state.reported_tokens.append(reported)
    end_at_stop_or_length(tokenizer, state)


def biased(logits: "torch.Tensor", request: GenerationRequest) -> "torch.Tensor":
    """Return logits with the request's biases added."""
    if not request.logit_bias:
        return logits
    biased = logits.clone()
    for token, bias in request.logit_bias:
        biased[token] += bias
    return biased


def penalized(logits: "torch.Tensor", state: RequestState) -> "torch.Tensor":
    """Return logits that are lower for the tokens of the answer so far: once, and for each time that they occur.

    Source: OpenAI's guide, "Frequency and presence penalties".
    """
    import torch

    request = state.request
    if not state.generated_ids or not (request.presence_penalty or request.frequency_penalty):
        return logits
    counts = torch.bincount(torch.tensor(state.generated_ids, device=logits.device), minlength=len(logits))
    return logits - (counts > 0) * request.presence_penalty - counts * request.frequency_penalty


def end_at_stop_or_length(tokenizer: Any, state: RequestState) -> None:
    """Set text and finish reason of a request whose text has a stop sequence or is complete, or has all its tokens."""
    stops, is_full = state.request.stop, len(state.generated_ids) >= state.max_new_tokens
    is_complete = state.constraint is not None and state.constraint.is_complete
    if not stops and not is_full and not is_complete and not state.listener:
        return
    state.text = answer_text(tokenizer, state, state.generated_ids)
    found = [state.text.index(stop) for stop in stops if stop in state.text]
    if found:
        state.text, state.finish_reason = state.text[: min(found)], "stop"
    elif is_complete or is_full:
        state.finish_reason = "stop" if is_complete else "length"


def answer_text(tokenizer: Any, state: RequestState, token_ids: Sequence[int]) -> str:
    """Return an answer's tokens as text. That of a chat is a text; that of a completion follows its prompt."""
    skip = not state.tool_format
    if state.is_chat:
        return str(tokenizer.decode(token_ids, skip_special_tokens=skip))
    return text_after(tokenizer, token_ids, skip_special_tokens=skip)


def next_delta(state: RequestState) -> Delta:
    """Return what a streamed answer has more than what was sent, without text that later tokens may change.

    Such text is a part of a character, and what may be the beginning of a stop sequence.
    """
    text = state.text
    if state.finish_reason is None:
        text = text.rstrip("\ufffd")
        longest = max((beginning_at_end(text, stop) for stop in state.request.stop), default=0)
        text = text[: len(text) - longest]
        if state.tool_format:  # calls are sent as a whole, at the end
            text = text[: sure_length(state.tool_format, text)]
    if not text.startswith(state.sent_text):  # the tokenizer writes earlier tokens differently now: wait
        text = state.sent_text + text[len(state.sent_text) :] if state.finish_reason else state.sent_text
    delta = Delta(text[len(state.sent_text) :], state.reported_tokens[state.sent_tokens :], state.prompt_text)
    state.sent_text, state.sent_tokens = text, len(state.reported_tokens)
    return delta


def beginning_at_end(text: str, stop: str) -> int:
    """Return how many of the last characters of a text are the first ones of a stop sequence."""
    return next((n for n in range(min(len(stop) - 1, len(text)), 0, -1) if text.endswith(stop[:n])), 0)


def sample_token(logits: "torch.Tensor", temperature: float, top_p: float, random: "torch.Generator") -> int:
    """Sample a token at a temperature from the nucleus: the likeliest tokens up to a mass of top_p, at least one."""
    import torch

    probabilities = torch.softmax(logits / temperature, -1)
    if top_p < 1:
        falling, order = probabilities.sort(descending=True, stable=True)
        probabilities[order[falling.cumsum(0) - falling > top_p]] = 0
    sums = probabilities.cumsum(0)
    # Above 0: a random number may be 0, and the first token may be one that must not follow.
    place = (sums[-1] * torch.rand(1, generator=random)).clamp(min=torch.finfo(sums.dtype).tiny)
    return int(torch.searchsorted(sums, place))


def reported_token(
    tokenizer: Any, token: int, log_probabilities: "torch.Tensor", alternatives: int, is_first: bool
) -> GeneratedToken:
    """Return a token as it is reported: with its log probability, and the likeliest `alternatives` with theirs.

    `is_first` says whether it is the first token of a text.
    """
    top = log_probabilities.topk(alternatives)
    pairs = zip(top.values.tolist(), top.indices.tolist(), strict=True)
    likeliest = [token_with_logprob(tokenizer, token_id, logprob, is_first) for logprob, token_id in pairs]
    return replace(token_with_logprob(tokenizer, token, float(log_probabilities[token]), is_first), top=likeliest)


def token_with_logprob(tokenizer: Any, token: int, logprob: float, is_first: bool) -> GeneratedToken:
    text = token_text(tokenizer, token, is_first)
    return GeneratedToken(text, token_bytes(tokenizer, token, text), round(logprob, 6))
