"""Many answers from one model: cached on disk, and requested concurrently or by the Batch API."""

import hashlib
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from typing import Any

from finetune.core.callbacks import Progress, Say
from finetune.core.errors import FinetuneError
from finetune.core.sections.evaluate import Evaluate
from finetune.provider.answer_cache import AnswerCache, cache_key, open_answer_cache
from finetune.provider.answer_parser import Answer, parse_answer
from finetune.provider.answering_model import find_deployed, keep, still_valid
from finetune.provider.batch_api import answer_batch
from finetune.provider.completion_request import CompletionRequest, Messages, completion_request
from finetune.provider.connect import Connection
from finetune.provider.error_messages import error_message
from finetune.provider.rate_limits import RateLimiter
from finetune.provider.refused_parameters import learn_from, without_refused
from finetune.provider.retries import concerns_only_this_request, request_answer

REFUSALS_BEFORE_STOP = 20  # where nothing else came until then, the cause is in all requests


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
    declared: Sequence[Mapping[str, Any]] = (),
) -> list[Answer]:
    """Return the model's answer to each prompt, in their order: chat for messages, up to `stop` for texts to complete.

    `declared` has, for each prompt, the tools that the model may call; nothing for all is no tools.

    Answers of earlier runs are not requested again, so a run that was killed continues where it was. A request that the
    provider refuses for what it contains gets an answer with an `error`. Raises FinetuneError where all are refused,
    and the SDK's error for what any request would meet, such as a wrong key; answers until then are kept.
    """
    requests = [
        completion_request(connection, model, prompt, settings, seed, stop, top_logprobs, tools)
        for prompt, tools in zip(prompts, declared or [{}] * len(prompts), strict=True)
    ]
    return ask_all(connection, requests, settings, progress, say)


def kept_answers(connection: Connection, requests: Sequence[CompletionRequest]) -> list[Answer | None]:
    """Return the kept answer to each request, in their order; None where there is none. Nothing is asked."""
    with open_answer_cache() as cache:
        return [cache.get(cache_key(connection.identity, request)) for request in requests]


def ask_all(
    connection: Connection,
    requests: Sequence[CompletionRequest],
    settings: Evaluate,
    progress: Progress,
    say: Say,
    probe: bool = True,
) -> list[Answer]:
    """Return the answer to each request, in their order; equal requests are sent once.

    Where all answers are kept, `probe` sends one request to find out whether the same model answers now.
    """
    keys = [cache_key(connection.identity, request) for request in requests]
    by_key = dict(zip(keys, requests, strict=True))
    with open_answer_cache() as cache:
        find_deployed(connection, {str(request["model"]) for request in requests}, say)
        if connection.fresh:
            cache.forget(by_key.keys() - connection.renewed)
            connection.renewed.update(by_key)
        kept = {key: answer for key in by_key if (answer := cache.get(key)) is not None}

        def ask_without(answered: Mapping[str, Answer]) -> dict[str, Answer]:
            rest = {key: request for key, request in by_key.items() if key not in answered}
            if not rest:
                return {}
            if settings.batch:
                return ask_by_batch(connection, rest, cache, progress, say)
            return ask_concurrently(connection, rest, cache, settings.concurrency, progress, say, bool(answered))

        asked = ask_without(kept)  # first: these answers say which models answer now
        if settings.batch:  # its batch may be old, and of another model
            batch = {key: answer for key, answer in asked.items() if not answer.error}
            refused = {key: answer for key, answer in asked.items() if answer.error}
            answers = refused | still_valid(connection, kept | batch, {}, by_key, cache, say, probe)
        else:
            answers = asked | still_valid(connection, kept, asked, by_key, cache, say, probe)
        answers |= ask_without(answers)
        raise_if_all_refused(list(answers.values()))
    return [answers[key] for key in keys]


def ask_by_batch(
    connection: Connection,
    requests: Mapping[str, CompletionRequest],
    cache: AnswerCache,
    progress: Progress,
    say: Say,
) -> dict[str, Answer]:
    """Return the answers by their keys, from the provider's batches at half the price."""
    answers: dict[str, Answer] = {}
    while rest := {key: request for key, request in requests.items() if key not in answers}:
        sent = {key: without_refused(connection.client, request) for key, request in rest.items()}
        keys = {batch_id(connection, cache, key, rest[key], sent[key]): key for key in rest}
        by_id = {one: sent[key] for one, key in keys.items()}
        for one, body in answer_batch(connection, by_id, say, progress).items():
            key = keys[one]
            if "error" not in body:
                answers[key] = keep(connection, cache, key, requests[key], parse_answer(body, None))
            elif not learn_from(connection.client, sent[key], error := error_of(body)):
                answers[key] = error_answer(error)
        if len(answers) < len(requests):
            say("The server refuses a parameter; a new batch asks the rest without it.")
    return answers


def batch_id(
    connection: Connection, cache: AnswerCache, key: str, request: CompletionRequest, sent: CompletionRequest
) -> str:
    """Return the custom_id of a request: its key, or another one if it is not what the key stands for.

    That is where it is asked again, of a deployment's model, or sent without parameters that the server refuses. A
    batch is found again by these IDs, so that one of another model is not taken for the answers of this one.
    """
    times, deployed = cache.times_renewed(key), connection.deployed.get(str(request["model"]), "")
    left_out = " ".join(sorted(request.keys() - sent.keys()))
    differs = times or deployed or left_out
    return hashlib.sha256(f"{key} {times} {deployed}{left_out}".encode()).hexdigest() if differs else key


def error_of(body: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return the API's error object of a request in a batch."""
    error = body["error"]
    return error if isinstance(error, Mapping) else {"message": str(error)}


def error_answer(fields: Mapping[str, Any]) -> Answer:
    """Return an answer whose `error` has the code and the message of the API's error object."""
    return Answer("", error=": ".join(str(fields[key]) for key in ("code", "message") if fields.get(key)) or "refused")


def ask_concurrently(
    connection: Connection,
    requests: Mapping[str, CompletionRequest],
    cache: AnswerCache,
    concurrency: int,
    progress: Progress,
    say: Say,
    some_answered: bool,
) -> dict[str, Answer]:
    """Return the answers by their keys; each is kept as soon as it arrives.

    Raises FinetuneError where the first requests are all refused, unless others were answered before (`some_answered`).
    """
    limiter = RateLimiter(concurrency)
    answers: dict[str, Answer] = {}
    refused = 0
    with ThreadPoolExecutor(min(concurrency, len(requests))) as pool:
        futures = {pool.submit(ask, connection, request, limiter): key for key, request in requests.items()}
        try:
            for done, future in enumerate(as_completed(futures), 1):
                key, answer = futures[future], future.result()
                answers[key] = answer
                if not answer.error:
                    answers[key] = keep(connection, cache, key, requests[key], answer)
                elif done == REFUSALS_BEFORE_STOP and not some_answered:
                    raise_if_all_refused(list(answers.values()))
                refused += bool(answer.error)
                progress(done, len(requests), f"answers, {refused} refused" if refused else "answers")
        except KeyboardInterrupt:
            if on_their_way := sum(future.running() for future in futures):
                say(f"\nWaiting for up to {on_their_way} answers on their way, which are paid for.")
            raise
        finally:
            limiter.stop()
            pool.shutdown(cancel_futures=True)
            for future, key in futures.items():  # what was on its way when this ended is paid for
                is_lost = key not in answers and not future.cancelled() and not future.exception()
                if is_lost and not future.result().error:
                    keep(connection, cache, key, requests[key], future.result())
    return answers


def raise_if_all_refused(answers: Sequence[Answer]) -> None:
    """Raise FinetuneError where there are answers and each is an error."""
    if answers and all(answer.error for answer in answers):
        which = "the request" if len(answers) == 1 else f"all of the first {len(answers)} requests"
        raise FinetuneError(
            f"The provider refused {which}: {answers[0].error}",
            "Correct what the message names. Where a server gives no log-probabilities, set evaluate.top_logprobs: 0.",
        )


def ask(connection: Connection, request: CompletionRequest, limiter: RateLimiter) -> Answer:
    """Return the answer to one request, or an answer with an `error` where the provider refuses this request alone."""
    import openai

    started = time.monotonic()
    try:
        return request_answer(connection.client, request, limiter)
    except openai.APIStatusError as error:
        if concerns_only_this_request(error, others_answered=limiter.last_answer_at > started):
            return Answer("", error=f"{error.status_code} {error.code or ''}: {error_message(error)}")
        raise
