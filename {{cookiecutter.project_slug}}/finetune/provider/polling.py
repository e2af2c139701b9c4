"""Wait until work at the provider has ended: jobs, batches and deployments."""

import time
from collections.abc import Callable
from typing import TypeVar

from finetune.core.callbacks import Say
from finetune.core.errors import FinetuneError
from finetune.provider.retries import is_final

GROWTH = 1.2  # of the pause after each look
STALLED = 1800  # seconds without a change, after which a message says so

State = TypeVar("State")


class TemporaryError(FinetuneError):
    """A server did not answer, or answered 429 or 5xx: the same request may succeed later."""


def poll(
    state: State,
    look: Callable[[], State],
    has_ended: Callable[[State], bool],
    describe: Callable[[State], str],
    report: Callable[[State], None],
    say: Say,
    pauses: tuple[float, float],
    sleep: Callable[[float], None] = time.sleep,
    clock: Callable[[], float] = time.monotonic,
) -> State:
    """Call `look` until the state that it returns has ended; return that state.

    `state` is the one to begin with. `report` gets it, unless it has ended, and then each one that differs from the one
    before. `describe` names the work and its status in messages. `pauses` are the first and the longest pause between
    two looks, in seconds. After a connection error, a 5xx or a 429, it continues to look, with one message. Raises the
    SDK's error for any other refusal, and for a 429 whose code is final.
    """
    import openai

    pause, longest = pauses
    changed_at, is_silent, is_stalled = clock(), False, False
    if not has_ended(state):
        report(state)
    while not has_ended(state):
        sleep(pause)
        pause = min(longest, pause * GROWTH)
        try:
            new = look()
        except (openai.APIConnectionError, openai.InternalServerError, openai.RateLimitError, TemporaryError) as error:
            if isinstance(error, openai.APIError) and is_final(error):
                raise
            if not is_silent:
                say(f"The provider does not answer ({type(error).__name__}). {describe(state)}: still waiting.")
            is_silent = True
            continue
        is_silent = False
        if new != state:
            state, changed_at, is_stalled = new, clock(), False
            report(state)
        elif not is_stalled and clock() - changed_at > STALLED:
            say(f"{describe(state)} has not changed for half an hour and may be stuck; still waiting.")
            is_stalled = True
    return state
