"""Create something at the provider once: where the outcome of the request is unclear, look before creating again."""

import time
from collections.abc import Callable
from typing import TypeVar

from finetune.core.callbacks import Say
from finetune.provider.rate_limits import retry_after
from finetune.provider.retries import is_final

PAUSES = (1, 2, 4, 8, 16)  # seconds before each look, and before each attempt after a 429 without Retry-After

Created = TypeVar("Created")


def do_nothing() -> None:
    """Do nothing."""


def create_once(
    create: Callable[[], Created],
    find: Callable[[], Created | None],
    kind: str,
    say: Say,
    on_refusal: Callable[[], None] = do_nothing,
) -> Created:
    """Return what `create` creates, or what `find` finds after a request with an unclear outcome.

    `create` sends one request, without the SDK's retries. After a connection error, a 5xx or a 409 it may have had its
    effect, so nothing is sent again: `find` is called until it returns something. A 429 had no effect, so the request
    is sent again after the time that Retry-After names, unless its code is final. `kind` names the object in messages.

    Raises the SDK's error where the provider refuses the request, after a call of `on_refusal`, and where `find` finds
    nothing.
    """
    import openai

    for pause in (*PAUSES, None):
        try:
            return create()
        except openai.RateLimitError as error:
            if is_final(error) or pause is None:
                on_refusal()
                raise
            wait = retry_after(error.response.headers)
            seconds = pause if wait is None else wait
            say(f"The provider's rate limit is reached; trying to create the {kind} again in {seconds:.0f} s.")
            time.sleep(seconds)
        except (openai.APIConnectionError, openai.InternalServerError, openai.ConflictError) as error:
            why = type(error).__name__
            say(f"The request to create the {kind} got no clear answer ({why}); checking whether the {kind} exists.")
            found = wait_to_appear(find)
            if found is None:
                raise
            return found
        except openai.APIStatusError:
            on_refusal()
            raise
    raise AssertionError("the last pause is None")


def wait_to_appear(find: Callable[[], Created | None]) -> Created | None:
    """Return what `find` returns as soon as it is not None; None after the last of the growing pauses."""
    import openai

    for pause in PAUSES:
        time.sleep(pause)
        try:
            found = find()
        except (openai.APIConnectionError, openai.InternalServerError):
            continue
        if found is not None:
            return found
    return None
