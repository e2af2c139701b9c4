"""A rate limiter for concurrent requests. It follows the provider's rate-limit headers and its 429 answers."""

import math
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

SLOWDOWN = 0.8  # factor on the concurrency after a 429 from a provider whose headers name no limits
MAX_RETRY_AFTER = 120.0  # seconds; a longer Retry-After is cut to this
KINDS = ("requests", "tokens")


class Stopped(Exception):
    """The run has ended while this request waited for its slot."""


class TokenBucket:
    """An allowance that refills steadily at `limit` per minute; `available` of it is left."""

    def __init__(self, limit: float, available: float) -> None:
        self.limit, self.available, self.updated_at = limit, available, time.monotonic()

    def take(self, amount: float) -> float:
        """Take `amount` now, and return the seconds until it may be used. Later calls wait longer."""
        now = time.monotonic()
        self.available = min(self.limit, self.available + (now - self.updated_at) * self.limit / 60) - amount
        self.updated_at = now
        return max(0.0, -self.available * 60 / self.limit)


class RateLimiter:
    """Slots for concurrent requests, at most `max_concurrency` at once.

    Requests are spread evenly over what the `x-ratelimit-limit-*` headers allow per minute. After a 429, no request is
    sent until `Retry-After` has passed. Where no header names a limit, a 429 also lowers the concurrency by a fifth,
    and each round without one raises it by 1.
    """

    def __init__(self, max_concurrency: int) -> None:
        self.max_concurrency = max_concurrency
        self.concurrency = float(max_concurrency)
        self.in_flight = 0
        self.blocked_until = 0.0
        self.slowed_at = 0.0
        self.last_answer_at = time.monotonic()  # before the first answer: when the limiter was made
        self.answers = 0
        self.tokens = 0  # in these answers
        self.buckets: dict[str, TokenBucket] = {}
        self.condition = threading.Condition()
        self.stopped = threading.Event()

    def stop(self) -> None:
        """Wake waiting requests so that they stop."""
        self.stopped.set()
        with self.condition:
            self.condition.notify_all()

    @contextmanager
    def slot(self) -> Iterator[float]:
        """Wait for a slot, hold it for the block, and give the time at which the block starts. Raises Stopped."""
        with self.condition:
            self.condition.wait_for(lambda: self.in_flight < int(self.concurrency) or self.stopped.is_set())
            self.in_flight += 1
            amounts = {"requests": 1.0, "tokens": self.tokens / max(1, self.answers)}
            waits = [bucket.take(amounts[kind]) for kind, bucket in self.buckets.items()]
        try:
            ready_at = time.monotonic() + max([0.0, *waits])
            while not self.stopped.is_set() and (wait := max(ready_at, self.blocked_until) - time.monotonic()) > 0:
                self.stopped.wait(wait)
            if self.stopped.is_set():
                raise Stopped
            yield time.monotonic()
        finally:
            with self.condition:
                self.in_flight -= 1
                self.condition.notify()

    def record_answer(self, headers: Mapping[str, str], tokens: int) -> None:
        """Count an answer and its tokens, and adopt the limits that its headers name."""
        with self.condition:
            self.last_answer_at = time.monotonic()
            self.answers += 1
            self.tokens += tokens
            for kind in KINDS:
                limit = header_number(headers, f"x-ratelimit-limit-{kind}") or 0
                if limit > 0 and (kind not in self.buckets or self.buckets[kind].limit != limit):
                    remaining = header_number(headers, f"x-ratelimit-remaining-{kind}") or 0
                    # The provider has not counted the requests that are in flight.
                    amount = 1.0 if kind == "requests" else self.tokens / self.answers
                    self.buckets[kind] = TokenBucket(limit, remaining - amount * (self.in_flight - 1))
            self.concurrency = min(self.max_concurrency, self.concurrency + 1 / self.concurrency)

    def record_refusal(self, started: float, headers: Mapping[str, str]) -> None:
        """Block all requests for as long as a 429 says; `started` is when the refused request was sent."""
        now = time.monotonic()
        with self.condition:
            self.blocked_until = max(self.blocked_until, now + min(retry_after(headers) or 1.0, MAX_RETRY_AFTER))
            if started < self.slowed_at:  # sent before the last slowdown, so it says nothing new
                return
            self.slowed_at = now
            for bucket in self.buckets.values():
                bucket.available = min(bucket.available, 0.0)
            if not self.buckets:
                self.concurrency = max(1.0, self.concurrency * SLOWDOWN)


def retry_after(headers: Mapping[str, str]) -> float | None:
    """Return the seconds that a 429 says to wait; None where it names no number."""
    milliseconds = header_number(headers, "retry-after-ms")
    return milliseconds / 1000 if milliseconds else header_number(headers, "retry-after")


def header_number(headers: Mapping[str, str], name: str) -> float | None:
    """Return a header's number; None where it is missing, negative or something else, such as a date."""
    try:
        number = float(headers[name])
    except (KeyError, ValueError):
        return None
    return number if 0 <= number < math.inf else None
