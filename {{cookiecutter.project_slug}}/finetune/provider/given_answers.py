"""The log-probabilities of given answers, where the server gives those of a prompt's tokens.

OpenAI's API gives them for generated tokens only. vLLM's chat completions take `prompt_logprobs`, and so does the
engine: the answer is the last message, and `add_generation_prompt` false ends the prompt with it. The response lists
the places of the prompt: null for the first one, then an object from token IDs to `logprob`, `rank` and
`decoded_token`, in which the prompt's own token is the first. Source: vLLM, entrypoints/openai, ChatCompletionRequest.
"""

from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass
from typing import Any

from finetune.core.callbacks import Progress
from finetune.core.errors import FinetuneError
from finetune.core.records.prepared import Example
from finetune.provider.connect import Connection
from finetune.provider.error_messages import error_message
from finetune.provider.rate_limits import RateLimiter
from finetune.provider.retries import REQUEST_ERRORS, concerns_only_this_request, request_completion

Message = dict[str, Any]
Tokens = list[tuple[int, float]]  # the ID and the log-probability of each token of a prompt

NO_QUESTION: list[Message] = [{"role": "user", "content": "?"}]
FIRST_PLACE = (-1, 0.0)  # the first token has no log-probability


class NoScores(FinetuneError):
    """Says that a server gives no log-probabilities of given answers."""


@dataclass(frozen=True)
class Frame:
    """What the chat template puts around an answer to NO_QUESTION: the IDs before it, and their number after its end.

    The token that ends the answer is not counted: the model generates it, so it belongs to the answer.
    """

    before: list[int]
    after: int


@dataclass(frozen=True)
class GivenAnswer:
    """The log-probabilities of an answer's tokens after its question, and after NO_QUESTION."""

    asked: list[float]
    alone: list[float]


def score_answers(
    connection: Connection, model: str, examples: Sequence[Example], concurrency: int, progress: Progress
) -> list[GivenAnswer | str]:
    """Return the log-probabilities of each example's last message, or why there are none for this example.

    Raises NoScores after the first request where the server gives no log-probabilities of given answers.
    """
    frame = find_frame(connection, model)
    alone = [{"messages": [*NO_QUESTION, example["messages"][-1]]} for example in examples]
    scored = score_all(connection, model, [*examples, *alone], concurrency, progress)
    return [answer_in(frame, *pair) for pair in zip(scored[: len(examples)], scored[len(examples) :], strict=True)]


def score_pairs(
    connection: Connection,
    model: str,
    pairs: Sequence[tuple[Example, Example]],
    concurrency: int,
    progress: Progress,
) -> list[float | str]:
    """Return by how much the log-probability of each first answer is above the second's, or why that is not known.

    The two examples of a pair differ in their answers only, so that what is before these counts in neither.
    Raises NoScores as `score_answers` does.
    """
    frame = find_frame(connection, model)
    scored = score_all(connection, model, [example for pair in pairs for example in pair], concurrency, progress)
    return [margin_between(frame, *pair) for pair in zip(scored[::2], scored[1::2], strict=True)]


def margin_between(frame: Frame, one: Tokens | str, other: Tokens | str) -> float | str:
    """Return the difference of two answers' log-probabilities, without the tokens before and after both."""
    if isinstance(one, str) or isinstance(other, str):
        return one if isinstance(one, str) else str(other)
    start = common_start(*([token for token, _ in tokens] for tokens in (one, other)))
    sums = [sum(logprob for _, logprob in tokens[start : len(tokens) - frame.after]) for tokens in (one, other)]
    return round(sums[0] - sums[1], 4)


def find_frame(connection: Connection, model: str) -> Frame:
    """Return what is around an answer, from two short answers: what their prompts begin and end with alike.

    No tokenizer is needed for this, and it holds for templates that put more before an answer than its header, such as
    an empty thought.
    """
    import openai

    prompts = []
    for answer in ("a", "b"):
        example = {"messages": [*NO_QUESTION, {"role": "assistant", "content": answer}]}
        request = scoring_request(connection, model, example)
        try:
            completion, _ = request_completion(connection.client, request, RateLimiter(1))
        except openai.APIStatusError as error:
            if error.status_code not in REQUEST_ERRORS:
                raise
            raise no_scores(connection, f"{error.status_code}: {error_message(error)}") from error
        tokens = prompt_tokens(completion)
        if tokens is None:
            raise no_scores(connection, "the answer has no `prompt_logprobs`")
        prompts.append([token for token, _ in tokens])
    one, other = prompts
    after = common_start(one[::-1], other[::-1])
    return Frame(one[: common_start(one, other)], max(0, after - 1))


def no_scores(connection: Connection, why: str) -> NoScores:
    return NoScores(
        f"{connection.client.base_url} gives no log-probabilities of given answers ({why}).",
        "Ask a server that gives them, such as the engine (provider.name: local) or vLLM, or run it without --model.",
    )


def scoring_request(connection: Connection, model: str, example: Example) -> dict[str, Any]:
    """Return the request for the log-probabilities of an example's tokens; a server must generate one token more."""
    tools = {key: example[key] for key in ("tools", "functions") if example.get(key)}
    return {
        "model": model,
        "messages": [{key: value for key, value in turn.items() if key != "weight"} for turn in example["messages"]],
        "temperature": 0,
        connection.profile.max_tokens_name: 1,
        "extra_body": {"prompt_logprobs": 0, "add_generation_prompt": False},
        **tools,
    }


def score_all(
    connection: Connection, model: str, examples: Sequence[Example], concurrency: int, progress: Progress
) -> list[Tokens | str]:
    """Return the tokens of each example, or the error by which the server refuses it; equal ones are sent once."""
    requests = [scoring_request(connection, model, example) for example in examples]
    places: dict[str, int] = {}
    for place, request in enumerate(requests):
        places.setdefault(repr(request), place)
    limiter = RateLimiter(concurrency)
    found: dict[int, Tokens | str] = {}
    with ThreadPoolExecutor(min(concurrency, len(places))) as pool:
        futures = {pool.submit(score, connection, requests[place], limiter): place for place in places.values()}
        try:
            for done, future in enumerate(as_completed(futures), 1):
                found[futures[future]] = future.result()
                progress(done, len(places), "answers judged")
        finally:
            limiter.stop()
            pool.shutdown(cancel_futures=True)
    return [found[places[repr(request)]] for request in requests]


def score(connection: Connection, request: Mapping[str, Any], limiter: RateLimiter) -> Tokens | str:
    """Return the tokens of a request's prompt, or the error by which the server refuses this request alone."""
    import openai

    try:
        completion, _ = request_completion(connection.client, request, limiter)
    except openai.APIStatusError as error:
        if concerns_only_this_request(error, others_answered=True):
            return f"{error.status_code} {error_message(error)}"
        raise
    return prompt_tokens(completion) or "the answer has no `prompt_logprobs`"


def prompt_tokens(completion: Mapping[str, Any]) -> Tokens | None:
    """Return the tokens of the prompt of a completion; None if it does not have them, or in another form."""
    places = completion.get("prompt_logprobs")
    if not isinstance(places, list) or not places:
        return None
    try:
        return [own_token(place) if place else FIRST_PLACE for place in places]
    except (AttributeError, KeyError, TypeError, ValueError):
        return None


def own_token(place: Mapping[str, Any]) -> tuple[int, float]:
    """Return the first token at a place of a prompt: the prompt's own."""
    token, values = next(iter(place.items()))
    return int(token), float(values["logprob"])


def answer_in(frame: Frame, asked: Tokens | str, alone: Tokens | str) -> GivenAnswer | str:
    """Return the log-probabilities of an answer's tokens, which are at the same places from the end of both prompts."""
    if isinstance(asked, str) or isinstance(alone, str):
        return asked if isinstance(asked, str) else str(alone)
    start = common_start(frame.before, [token for token, _ in alone])
    own, same = (prompt[start - len(alone) : len(prompt) - frame.after] for prompt in (alone, asked))
    if [token for token, _ in own] != [token for token, _ in same] or not own:
        return "the chat template writes the answer differently after its question"
    return GivenAnswer([logprob for _, logprob in same], [logprob for _, logprob in own])


def common_start(one: Sequence[int], other: Sequence[int]) -> int:
    """Return how many numbers two lists begin with alike."""
    length = min(len(one), len(other))
    return next((place for place in range(length) if one[place] != other[place]), length)
