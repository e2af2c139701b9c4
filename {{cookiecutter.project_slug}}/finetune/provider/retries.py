"""The retry policy of one request to a model: the stages and `finetune chat` send their requests by it."""

import json
import random
import time
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from finetune.provider.answer_parser import Answer, parse_answer
from finetune.provider.rate_limits import RateLimiter, header_number
from finetune.provider.refused_parameters import learn_refused, without_refused

if TYPE_CHECKING:
    from openai import APIError, APIStatusError, OpenAI

ATTEMPTS = 6  # of a request that meets connection errors or server errors
LONGEST_PAUSE = 8.0  # seconds between two attempts
PATIENCE = 600  # seconds without an answer to any request, while the provider says to wait (429)
SERVER_ERRORS = (408, 409)  # besides 5xx: another attempt may succeed
REQUEST_ERRORS = (400, 413, 422)  # the request is wrong, such as too long a prompt; other requests may succeed
# Codes of a 429 that another attempt does not help.
FINAL_CODES = ("insufficient_quota", "daily_rate_limit_exceeded", "billing_hard_limit_reached", "exceeded_quota")


def request_answer(client: "OpenAI", request: Mapping[str, Any], limiter: RateLimiter) -> Answer:
    """Send a request for one completion, of chat or of text, until it is answered; return the answer.

    Raises what `request_completion` does.
    """
    return parse_answer(*request_completion(client, request, limiter))


def request_completion(
    client: "OpenAI", request: Mapping[str, Any], limiter: RateLimiter
) -> tuple[dict[str, Any], float]:
    """Send a request for one completion until it is answered; return the completion, and the seconds that it took.

    After a 429 the limiter decides when to send again. Raises the SDK's error where a 429 is final or lasts longer than
    PATIENCE, after ATTEMPTS connection or server errors, and at once for any other refusal, except of a sampling
    parameter that the model does not take: then the request is sent without it. Raises Stopped where the
    limiter is stopped.
    """
    import openai

    client = client.with_options(max_retries=0)  # the SDK's own retries would come on top, and ignore the limiter
    completions: Any = client.completions if "prompt" in request else client.chat.completions
    failures = 0
    while True:
        with limiter.slot() as started:
            try:
                sent = without_refused(client, request)
                response = completions.with_raw_response.create(**sent)
                milliseconds = header_number(response.headers, "openai-processing-ms") or 0
                seconds = milliseconds / 1000 or time.monotonic() - started
                completion: dict[str, Any] = json.loads(response.content)
                limiter.record_answer(response.headers, tokens_of(completion))
                return completion, round(seconds, 3)
            except openai.RateLimitError as error:
                if is_final(error) or time.monotonic() - limiter.last_answer_at > PATIENCE:
                    raise
                limiter.record_refusal(started, error.response.headers)
                continue
            except openai.APIStatusError as error:
                if learn_refused(client, sent, error):
                    continue
                failures += 1
                if not is_server_error(error) or failures == ATTEMPTS:
                    raise
            except openai.APIConnectionError:
                failures += 1
                if failures == ATTEMPTS:
                    raise
        limiter.stopped.wait(min(LONGEST_PAUSE, 0.5 * 2**failures) * random.uniform(0.75, 1))


def tokens_of(completion: Mapping[str, Any]) -> int:
    """Return how many tokens a completion took; what is no number counts nothing."""
    usage = completion.get("usage")
    counts = [usage.get(key) for key in ("prompt_tokens", "completion_tokens")] if isinstance(usage, dict) else []
    return sum(count for count in counts if isinstance(count, int))


def is_final(error: "APIError") -> bool:
    """Return whether the same request will be refused for the same reason until a person acts or a day ends."""
    return error.code in FINAL_CODES


def is_server_error(error: "APIStatusError") -> bool:
    """Return whether the server failed, so that another attempt may succeed."""
    return error.status_code >= 500 or error.status_code in SERVER_ERRORS


def concerns_only_this_request(error: "APIStatusError", others_answered: bool) -> bool:
    """Return whether other requests may succeed where all attempts of this one ended with an error.

    True for an error in the request, and for a server error while other requests were answered.
    """
    return error.status_code in REQUEST_ERRORS or (is_server_error(error) and others_answered)
