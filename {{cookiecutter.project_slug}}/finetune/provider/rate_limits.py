"""How fast to ask: as many requests at once as the provider bears, and none sooner than it allows."""

import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

SLOWER = 0.8  # of the requests at once that remain when the provider has had enough of them
LONGEST = 120.0  # seconds that a provider's word to wait is believed
KINDS = ("requests", "tokens")


class Stopped(Exception):
    """The run has ended while this request waited for its turn."""


class Bucket:
    """An allowance that refills steadily: `limit` a minute, of which `level` is there now."""

    def __init__(self, limit: float, level: float) -> None:
        self.limit, self.level, self.seen = limit, level, time.monotonic()

    def take(self, amount: float) -> float:
        """The seconds until `amount` may be spent, which is taken already: who comes next stands behind it."""
        now = time.monotonic()
        self.level = min(self.limit, self.level + (now - self.seen) * self.limit / 60) - amount
        self.seen = now
        return max(0.0, -self.level * 60 / self.limit)


class Pace:
    """Turns for requests that are sent side by side.

    What a provider's `x-ratelimit-limit-*` headers allow a minute is spread over it evenly. After a 429 nobody asks
    until `Retry-After` is over; where no header says what is allowed, fewer are then sent at once (a fifth less for
    each such episode, one more for each round without). `most` is the highest number at once.
    """

    def __init__(self, most: int) -> None:
        self.most = most
        self.width = float(most)
        self.under_way = 0
        self.clear_at = 0.0  # nobody asks before
        self.slowed_at = 0.0
        self.answered_at = time.monotonic()  # the last time, or the beginning
        self.tokens = [0, 0]  # counted so far, in how many answers
        self.buckets: dict[str, Bucket] = {}
        self.room = threading.Condition()
        self.stopped = threading.Event()

    def stop(self) -> None:
        """Send those away who wait."""
        self.stopped.set()
        with self.room:
            self.room.notify_all()

    @contextmanager
    def turn(self) -> Iterator[float]:
        """Wait for one's turn, and have it until the block ends; the time when it began. Raises Stopped."""
        with self.room:
            self.room.wait_for(lambda: self.under_way < int(self.width) or self.stopped.is_set())
            self.under_way += 1
            amounts = {"requests": 1.0, "tokens": self.tokens[0] / max(1, self.tokens[1])}
            waits = [bucket.take(amounts[kind]) for kind, bucket in self.buckets.items()]
        try:
            free = time.monotonic() + max([0.0, *waits])
            while not self.stopped.is_set() and (wait := max(free, self.clear_at) - time.monotonic()) > 0:
                self.stopped.wait(wait)
            if self.stopped.is_set():
                raise Stopped
            yield time.monotonic()
        finally:
            with self.room:
                self.under_way -= 1
                self.room.notify()

    def went_well(self, headers: Mapping[str, str], tokens: int) -> None:
        """Learn from an answer: what it took, and what its headers say is allowed."""
        with self.room:
            self.answered_at = time.monotonic()
            self.tokens = [self.tokens[0] + tokens, self.tokens[1] + 1]
            for kind in KINDS:
                limit = number(headers.get(f"x-ratelimit-limit-{kind}"))
                if limit > 0 and (kind not in self.buckets or self.buckets[kind].limit != limit):
                    left = number(headers.get(f"x-ratelimit-remaining-{kind}"))
                    # Those that are under way have not been counted by the provider yet.
                    each = 1.0 if kind == "requests" else self.tokens[0] / self.tokens[1]
                    self.buckets[kind] = Bucket(limit, left - each * (self.under_way - 1))
            self.width = min(self.most, self.width + 1 / self.width)

    def was_refused(self, began: float, headers: Mapping[str, str]) -> None:
        """Learn from a 429 to a request that `began` then: nobody asks for as long as it says."""
        now = time.monotonic()
        wait = number(headers.get("retry-after-ms")) / 1000 or number(headers.get("retry-after")) or 1.0
        with self.room:
            self.clear_at = max(self.clear_at, now + min(wait, LONGEST))
            if began < self.slowed_at:  # sent before the last episode was known: the same one
                return
            self.slowed_at = now
            for bucket in self.buckets.values():
                bucket.level = min(bucket.level, 0.0)
            if not self.buckets:
                self.width = max(1.0, self.width * SLOWER)


def number(text: str | None) -> float:
    """A header's figure; 0 where it is missing or something else, as a date."""
    try:
        return float(text or 0)
    except ValueError:
        return 0.0
