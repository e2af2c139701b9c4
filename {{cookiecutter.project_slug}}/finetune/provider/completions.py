"""Many answers from one model: asked side by side as fast as the provider bears, kept on disk, given back in order."""

import json
import random
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from typing import TYPE_CHECKING, Any

from finetune.core.callbacks import Progress, Say
from finetune.core.errors import FinetuneError
from finetune.core.params import Evaluate
from finetune.provider.answer_cache import Answer, Kept, answer_of, kept_answers, key_of
from finetune.provider.batch_api import answer_batch
from finetune.provider.connect import FINAL, Connection
from finetune.provider.rate_limits import Pace

if TYPE_CHECKING:
    from openai import APIStatusError

Messages = Sequence[dict[str, Any]]

ATTEMPTS = 6  # for a request that the provider stumbles over
PATIENCE = 600  # seconds without a single answer, while the provider says to wait
UNANSWERED = 20  # requests that come to nothing before anything was answered: the request itself is wrong
OF_THIS_REQUEST = (400, 413, 422)  # refusals of what one request holds, as too long a prompt: others may do
PASSING = (408, 409)  # refusals that a second try may not meet


def answer_all(
    connection: Connection,
    model: str,
    prompts: Sequence[Messages | str],
    settings: Evaluate,
    seed: int,
    progress: Progress,
    say: Say,
    stop: str | None = None,
    top_logprobs: int = 0,
) -> list[Answer]:
    """The model's answer to each prompt, in their order: chat for messages, up to `stop` for texts to complete.

    What was answered before is not asked again, so a killed run goes on where it was. A request that the provider
    refuses for what it holds comes back as an answer with an `error`; where it refuses all, or for what would fail any,
    as a wrong key, the run ends with its error: what was answered until then is kept.
    """
    requests = [request_of(connection, model, prompt, settings, seed, stop, top_logprobs) for prompt in prompts]
    return ask_all(connection, requests, settings, progress, say)


def request_of(
    connection: Connection,
    model: str,
    prompt: Messages | str,
    settings: Evaluate,
    seed: int,
    stop: str | None = None,
    top_logprobs: int = 0,
) -> dict[str, Any]:
    """The body that asks for one answer: chat for messages, up to `stop` for a text to complete."""
    request: dict[str, Any] = {
        "model": model,
        "temperature": settings.temperature,
        "seed": seed,
        "max_tokens" if stop is not None else connection.profile.max_tokens_name: settings.max_tokens,
    }
    if stop is not None:
        request |= {"stop": stop} | ({"logprobs": min(5, top_logprobs)} if top_logprobs else {})
    elif top_logprobs:
        request |= {"logprobs": True, "top_logprobs": top_logprobs}
    return request | ({"prompt": prompt} if isinstance(prompt, str) else {"messages": list(prompt)})


def ask_all(
    connection: Connection, requests: Sequence[dict[str, Any]], settings: Evaluate, progress: Progress, say: Say
) -> list[Answer]:
    """The answer to each request body, in their order; one that is there twice is sent once."""
    keys = [key_of(connection.identity, request) for request in requests]
    found: dict[str, Answer] = {}
    with kept_answers() as kept:
        wanted = {}
        for key, request in zip(keys, requests, strict=True):
            answer = kept.get(key)
            if answer is None:
                wanted[key] = request
            else:
                found[key] = answer
        if wanted and settings.batch:
            found |= ask_in_a_batch(connection, wanted, kept, progress, say)
        elif wanted:
            found |= ask_side_by_side(connection, wanted, kept, settings.concurrency, progress, known=len(found))
        refuse_if_none(list(found.values()))
    return [found[key] for key in keys]


def ask_in_a_batch(
    connection: Connection, wanted: Mapping[str, dict[str, Any]], kept: Kept, progress: Progress, say: Say
) -> dict[str, Answer]:
    """The answers by their keys, from the provider's batches at half the price.

    Raises FinetuneError for texts to complete, which no batch here is of.
    """
    if any("prompt" in request for request in wanted.values()):
        raise FinetuneError("evaluate.batch is for chat examples.", "Set it to false.")
    found = {}
    for key, body in answer_batch(connection, wanted, say, progress).items():
        answer = failed(body["error"]) if "error" in body else answer_of(body, None)
        if not answer.error:
            kept.put(key, answer)
        found[key] = answer
    return found


def failed(error: Any) -> Answer:
    """An answer that there is none, for the reason that the API's error object gives."""
    said = error if isinstance(error, Mapping) else {"message": str(error)}
    return Answer("", error=": ".join(str(said[key]) for key in ("code", "message") if said.get(key)) or "refused")


def ask_side_by_side(
    connection: Connection,
    wanted: Mapping[str, dict[str, Any]],
    kept: Kept,
    concurrency: int,
    progress: Progress,
    known: int,
) -> dict[str, Answer]:
    """The answers by their keys; each is kept as soon as it is there. `known` are answered already."""
    pace = Pace(concurrency)
    found: dict[str, Answer] = {}
    lost = 0
    with ThreadPoolExecutor(min(concurrency, len(wanted))) as pool:
        futures = {pool.submit(ask, connection, request, pace): key for key, request in wanted.items()}
        try:
            for done, future in enumerate(as_completed(futures), 1):
                key, answer = futures[future], future.result()
                found[key] = answer
                if not answer.error:
                    kept.put(key, answer)
                elif done == UNANSWERED and not known:
                    refuse_if_none(list(found.values()))
                lost += bool(answer.error)
                progress(done, len(wanted), f"answers, {lost} refused" if lost else "answers")
        finally:
            pace.stop()
            pool.shutdown(cancel_futures=True)
    return found


def refuse_if_none(answers: Sequence[Answer]) -> None:
    """Raises FinetuneError where there are answers and each is an error."""
    if answers and all(answer.error for answer in answers):
        raise FinetuneError(
            f"The provider refused all {len(answers)} questions asked so far: {answers[0].error}",
            "Mend what it names; a server without log-probabilities wants evaluate.top_logprobs: 0.",
        )


def ask(connection: Connection, request: dict[str, Any], pace: Pace) -> Answer:
    """The answer to one request, asked again where the provider stumbles or says to wait.

    Raises the SDK's error for what any request would meet.
    """
    import openai

    client = connection.client.with_options(max_retries=0)  # the pace is ours
    api = client.completions if "prompt" in request else client.chat.completions
    first, stumbles = time.monotonic(), 0
    while True:
        with pace.turn() as began:
            try:
                answer = api.with_raw_response.create(**request)
                seconds = float(answer.headers.get("openai-processing-ms") or 0) / 1000 or time.monotonic() - began
                found = answer_of(json.loads(answer.content), round(seconds, 3))
                pace.went_well(answer.headers, (found.prompt_tokens or 0) + (found.completion_tokens or 0))
                return found
            except openai.RateLimitError as error:
                if error.code in FINAL or time.monotonic() - pace.answered_at > PATIENCE:
                    raise
                pace.was_refused(began, error.response.headers)
                continue
            except openai.APIStatusError as error:
                if error.status_code in OF_THIS_REQUEST:
                    return refusal(error)
                if error.status_code < 500 and error.status_code not in PASSING:
                    raise
                stumbles += 1
                if stumbles == ATTEMPTS:
                    if pace.answered_at > first:  # others were answered meanwhile: it is this one
                        return refusal(error)
                    raise
            except openai.APIConnectionError:
                stumbles += 1
                if stumbles == ATTEMPTS:
                    raise
        pace.stopped.wait(min(8.0, 0.5 * 2**stumbles) * random.uniform(0.75, 1))


def refusal(error: "APIStatusError") -> Answer:
    said = error.body.get("message") if isinstance(error.body, dict) else None
    return Answer("", error=f"{error.status_code} {error.code or ''}: {said or type(error).__name__}")
