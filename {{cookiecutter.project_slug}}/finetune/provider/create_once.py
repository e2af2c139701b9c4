"""Create something at the provider once: where the outcome of the request is unclear, look before creating again."""

import itertools
import time
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from finetune.core.callbacks import Say
from finetune.core.errors import FinetuneError
from finetune.core.records.requests import EarlierRequest, RequestNote
from finetune.provider.connect import Connection
from finetune.provider.error_messages import masked
from finetune.provider.rate_limits import retry_after
from finetune.provider.request_notes import forget, read_request_note, write_request_note
from finetune.provider.retries import is_final
from finetune.provider.type_checks import WrongAnswerError

if TYPE_CHECKING:
    from openai import APIError

PAUSES = (1, 2, 4, 8, 16)  # seconds before each look; the last one is repeated
LIST_LAG = 180  # seconds until a list certainly shows what was created; lags of 90 were seen
ATTEMPTS = 3  # of a request that is answered with 429
LONGEST_WAIT = 600  # seconds; a longer Retry-After is cut to this
# Refusals before any effect. A 400 or 429 may come from a gateway, after the effect.
REFUSED = (401, 403, 404, 405, 413, 415, 422)

Made = TypeVar("Made")
Reserve = Callable[[], AbstractContextManager[Mapping[str, Any]]]


@dataclass(frozen=True)
class Creation(Generic[Made]):
    """What is created once, how it is sent, and how it is found again."""

    connection: Connection
    key: str  # the same for the same content; it finds the note
    kind: str  # in messages: "job"
    type: str  # the field `object` of the API: "fine_tuning.job"
    send: Callable[[], Made]  # sends one request, without the SDK's retries
    find: Callable[[RequestNote], Made | None]  # what the request of a note has made
    say: Say
    takes: float = 0  # seconds that the transfer may take, after which the list has its time
    forgets: str = ""  # the command of a user who knows that an unclear request has made nothing
    is_ours: Callable[[Made], bool] = lambda made: True  # not the answer to another request, from a cache


def find_by_note(creation: Creation[Made], note: RequestNote | None) -> Made | None:
    """Return what the request of an earlier note has made; None where it has made nothing, or that is gone.

    Where the note is fresh, it is looked for until the provider has had its time to show it.
    """
    if note is None:
        return None
    found = creation.find(note)
    if found is None and not note.get("was_shown") and (seconds := seconds_left(creation, note)) > 0:
        why = f"An earlier request for this {creation.kind} had no clear outcome."
        forgets = f" (unless you know that there is none: {creation.forgets})" if creation.forgets else ""
        if "id" in note:
            why, forgets = f"The provider does not show the {creation.kind} {note['id']} yet.", ""
        creation.say(
            f"{why} Looking for up to {seconds:.0f} s whether the {creation.kind} exists; nothing is created until"
            f" then{forgets}."
        )
        found = wait_to_appear(creation, note, seconds)
    if found is not None:
        keep_id(creation, note, found)
    return found


def create_once(creation: Creation[Made], reserve: Reserve, known: list[str]) -> Made:
    """Return what the request creates, or what is found after a request with an unclear outcome.

    A note is written before, in the context of `reserve`, which may refuse by raising and gives the facts for the note;
    `known` are the IDs that the request cannot have made. Only a refusal that is certain removes the note. After
    anything else - no answer, an answer that is not the thing itself, a redirect, a 400, 408, 409, 429 or 5xx - the
    request may have had its effect, so nothing is sent again before the provider's list had its time. Then a 429 is
    sent again, unless its code is final.

    Raises the SDK's error where the provider refuses, and FinetuneError where the outcome stays unclear.
    """
    import openai

    connection, say = creation.connection, creation.say
    former = read_request_note(connection.identity, creation.key)
    note: RequestNote = {"asked_at": 0, "known": known, "facts": {}, "earlier": earlier_of(former)}
    with reserve() as facts:
        note |= {"asked_at": connection.clock.now(), "asked_here": time.time(), "facts": {**facts}}
        write_request_note(connection.identity, creation.key, note)
    for attempt in range(1, ATTEMPTS + 1):
        failure: openai.APIError | FinetuneError
        try:
            made = creation.send()
        except (openai.APIError, WrongAnswerError) as error:
            failure = error
        else:
            if is_made(made, creation.type) and creation.is_ours(made):
                keep_id(creation, note, made)
                return made
            what = f"is another {creation.kind}" if is_made(made, creation.type) else f"is no {creation.kind}"
            failure = FinetuneError(f"The provider's answer {what}: {str(made)[:200]}", "")
        status = failure.status_code if isinstance(failure, openai.APIStatusError) else None
        if status in REFUSED:
            put_back(creation, former)
            raise failure
        busy = failure if isinstance(failure, openai.RateLimitError) else None
        if status == 400 or (busy and is_final(busy)):
            raise failure
        wait = min((busy and retry_after(busy.response.headers)) or 0, LONGEST_WAIT)
        seconds = max(list_lag(connection), wait)
        say(
            f"The request for the {creation.kind} has no clear outcome: {words_of(creation, failure)}"
            f"\nLooking for up to {seconds:.0f} s whether the {creation.kind} exists; nothing is sent again until then."
        )
        found = wait_to_appear(creation, note, seconds)
        if found is not None:
            keep_id(creation, note, found)
            return found
        if not busy or attempt == ATTEMPTS:
            raise still_unclear(creation, failure) from failure
        note |= {"asked_at": connection.clock.now(), "asked_here": time.time()}
        write_request_note(connection.identity, creation.key, note)
    raise AssertionError("the last attempt returns or raises")


def is_made(answer: object, type_of_object: str) -> bool:
    """Return whether an answer is the thing itself: it has an ID, and says nothing else of what it is."""
    identifier, said = getattr(answer, "id", None), getattr(answer, "object", None)
    return isinstance(identifier, str) and identifier != "" and said in (None, type_of_object)


def list_lag(connection: Connection) -> float:
    """Return after how many seconds a list certainly shows what was created: the engine's own list does so at once."""
    return min(LIST_LAG, 2) if connection.identity == "local" else LIST_LAG


def seconds_left(creation: Creation[Made], note: RequestNote) -> float:
    """Return how long the provider may still not show what a request has made.

    By the provider's clock and by this machine's: the servers behind an address may have different clocks. One that was
    turned back makes nobody wait for longer.
    """
    longest = list_lag(creation.connection) + creation.takes
    ages = [creation.connection.clock.now() - note["asked_at"]]
    if "asked_here" in note:
        ages.append(time.time() - note["asked_here"])
    return min(longest, longest - min(ages))


def wait_to_appear(creation: Creation[Made], note: RequestNote, seconds: float) -> Made | None:
    """Return what the request of a note has made as soon as it is found; None if it is not there after the seconds.

    Raises the SDK's error where the last look gets no answer: then it is not known what is there.
    """
    import openai

    end = time.monotonic() + seconds
    for pause in itertools.chain(PAUSES, itertools.repeat(PAUSES[-1])):
        time.sleep(max(0, min(pause, end - time.monotonic())))
        is_last = time.monotonic() >= end
        try:
            found = creation.find(note)
        except (openai.APIConnectionError, openai.InternalServerError, openai.RateLimitError):
            if is_last:
                raise
            continue
        if found is not None or is_last:
            return found
    raise AssertionError("the pauses have no end")


def keep_id(creation: Creation[Made], note: RequestNote, made: Made) -> None:
    """Note the ID of what was made."""
    identifier: str = getattr(made, "id")  # noqa: B009 - any object of the API has one
    if note.get("id") != identifier:
        note["id"] = identifier
        write_request_note(creation.connection.identity, creation.key, note)


def keep_that_it_was_shown(creation: Creation[Made]) -> None:
    """Note that the provider shows what was made, so that it counts as deleted where it is missing later."""
    note = read_request_note(creation.connection.identity, creation.key)
    if note is not None:
        write_request_note(creation.connection.identity, creation.key, {**note, "was_shown": True})


def earlier_of(former: RequestNote | None) -> list[EarlierRequest]:
    """Return what earlier requests of this key have made: each may have cost something."""
    if former is None:
        return []
    made: list[EarlierRequest] = [{"id": former["id"], "facts": former["facts"]}] if "id" in former else []
    return [*former.get("earlier", []), *made]


def put_back(creation: Creation[Made], former: RequestNote | None) -> None:
    """Restore the note of before a request that was refused."""
    forget(creation.connection.identity, creation.key)
    if former is not None and ("id" in former or former.get("earlier")):
        write_request_note(creation.connection.identity, creation.key, former)


def words_of(creation: Creation[Made], failure: "APIError | FinetuneError") -> str:
    """Return what happened instead of a clear answer."""
    what = failure.what if isinstance(failure, FinetuneError) else f"{failure.__cause__ or failure.message}"
    kind = "" if isinstance(failure, FinetuneError) else f"{type(failure).__name__}: "
    return masked(creation.connection.client, f"{kind}{what}")


def still_unclear(creation: Creation[Made], failure: "APIError | FinetuneError") -> FinetuneError:
    """Return the error for a request of which nothing is known after the list had its time."""
    what = words_of(creation, failure)
    return FinetuneError(
        f"The request for the {creation.kind} had no clear outcome ({what}), and the provider's list does not show the"
        f" {creation.kind}.",
        f"Run the same command again: it looks again before it creates the {creation.kind}, so that nothing is paid"
        " twice.",
    )
