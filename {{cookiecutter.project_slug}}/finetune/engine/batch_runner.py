"""The thread that answers batches.

Each result is appended to the batch's results file when it is there. After a kill or the end of a server, the next
server reads that file and asks only for what is not in it.
"""

import json
import queue
import sqlite3
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future
from contextlib import suppress
from dataclasses import dataclass
from itertools import islice

from filelock import FileLock, Timeout

from finetune.engine import batch_queue
from finetune.engine.api_errors import ApiError, as_refusal
from finetune.engine.batch_input import BatchLine, check_input, read_requests
from finetune.engine.batch_queue import UNFINISHED, BatchError
from finetune.engine.batch_results import Answer, answer_of, finish, make_result, read_results
from finetune.engine.home import private
from finetune.engine.inference.endpoints import ENDPOINTS
from finetune.engine.inference.generation_types import GeneratedAnswer
from finetune.engine.inference.generator import Generator
from finetune.engine.os_errors import TEMPORARY
from finetune.engine.request_body import parse_body
from finetune.engine.store import Store

# Enough to fill every pass of the generator. Prompts of clients are computed before those of batches.
IN_FLIGHT = 256


@dataclass(frozen=True)
class Waiting:
    """A request that was submitted, and its choices to come; `answer` makes their object, with what answered."""

    model: str
    choices: "Sequence[Future[GeneratedAnswer]]"
    answer: Callable[[Sequence[GeneratedAnswer], str | None], Answer]

    def done(self) -> bool:
        return all(choice.done() for choice in self.choices)

    def cancel(self) -> bool:
        """Cancel the choices that are not done. Returns whether there were any."""
        return sum(choice.cancel() for choice in self.choices) > 0


class BatchRunner:
    """A thread that answers the batches of a home one after the other, unless another server of that home does so."""

    def __init__(self, store: Store, generator: Generator) -> None:
        self.store, self.generator = store, generator
        self.answered: queue.SimpleQueue[str | None] = queue.SimpleQueue()
        self.awake = threading.Event()
        self.closing = False
        self.thread = threading.Thread(target=self._run, daemon=True, name="batches")
        self.thread.start()

    def wake(self) -> None:
        """Have the thread work on the unfinished batches, and look whether the one in progress was cancelled."""
        self.awake.set()
        self.answered.put(None)

    def close(self) -> None:
        """Write the results that are there, and stop. Close the generator first, so that no more answers come."""
        self.closing = True
        self.awake.set()
        self.answered.put(None)
        self.thread.join()

    def _run(self) -> None:
        while True:
            self.awake.wait()
            self.awake.clear()
            with suppress(Timeout, sqlite3.Error, OSError):
                self._work_on_all()
            if self.closing:
                return

    def _work_on_all(self) -> None:
        """Work on each unfinished batch once, the oldest first, and on those that are created meanwhile.

        A batch that an error of the machine leaves unchanged, for example a full disk, is tried again at the next wake.
        It does not keep the others from being answered.
        """
        tried = 0  # the number `n` of the last batch
        query = f"SELECT n, id FROM batches WHERE status IN {UNFINISHED} AND n > ? ORDER BY n"
        while not self.closing and (batch := self.store.row(query, tried)):
            with FileLock(self.store.home / "batches.lock", mode=0o600).acquire(timeout=0):
                self._work_on(batch["id"])
            tried = batch["n"]

    def _work_on(self, batch_id: str) -> None:
        """Bring a batch from its present status to its end, or until the server closes. It fails with any error of it.

        An error of the machine leaves it unchanged.
        """
        try:
            if self._status(batch_id) == "validating":
                self._validate(batch_id)
            if self._status(batch_id) == "in_progress" and not self._answer(batch_id):
                return
            batch_queue.set_status(self.store, batch_id, "finalizing", ("in_progress",))
            if self._status(batch_id) in UNFINISHED:
                finish(self.store, batch_id)
        except Exception as error:
            if isinstance(error, sqlite3.OperationalError) or getattr(error, "errno", None) in TEMPORARY:
                return
            with suppress(Exception):  # the next wake tries again to end the batch
                self._fail(batch_id, error)

    def _status(self, batch_id: str) -> str:
        return batch_queue.get(self.store, batch_id)["status"]

    def _fail(self, batch_id: str, error: Exception) -> None:
        refusal = as_refusal(error)
        failed: BatchError = {
            "code": refusal.code or "server_error",
            "message": refusal.message,
            "param": refusal.param,
            "line": None,
        }
        batch_queue.fail(self.store, batch_id, [failed])

    def _validate(self, batch_id: str) -> None:
        """Check the batch's input file: the batch is then in progress, or failed with the wrong lines."""
        endpoint = batch_queue.get(self.store, batch_id)["endpoint"]
        checked = check_input(self.store, batch_queue.input_path(self.store, batch_id), endpoint)
        if checked.errors:
            batch_queue.fail(self.store, batch_id, checked.errors)
        else:
            columns = {"total": checked.total, "model": checked.model}
            batch_queue.set_status(self.store, batch_id, "in_progress", ("validating",), **columns)

    def _answer(self, batch_id: str) -> bool:
        """Send the requests that have no result yet, IN_FLIGHT at a time. Returns False if the server closes first."""
        self.answered = queue.SimpleQueue()
        path = batch_queue.results_path(self.store, batch_id)
        counts = {"completed": 0, "failed": 0}
        known = set()
        for _, result in read_results(path):
            known.add(result["custom_id"])
            counts["completed" if answer_of(result) else "failed"] += 1
        requests = read_requests(batch_queue.input_path(self.store, batch_id))
        unanswered = (request for request in requests if request.custom_id not in known)
        waiting: dict[str, Waiting] = {}
        with open(path, "ab", opener=private) as out:
            while not self.closing:
                if self._status(batch_id) == "in_progress":
                    for request in islice(unanswered, IN_FLIGHT - len(waiting)):
                        waiting[request.custom_id] = self._submit(request)
                else:  # cancelled: keep what is answered, and compute no more
                    waiting = {custom_id: one for custom_id, one in waiting.items() if not one.cancel()}
                if not waiting:
                    return True
                for custom_id in self._next_answered():
                    # A request with several choices is reported once for each of them.
                    if custom_id in waiting and waiting[custom_id].done():
                        done = waiting.pop(custom_id)
                        result = make_result(self.store, custom_id, done.model, done.choices, done.answer)
                        out.write(json.dumps(result).encode() + b"\n")
                        counts["completed" if answer_of(result) else "failed"] += 1
                out.flush()
                update = "UPDATE batches SET completed = ?, failed = ? WHERE id = ?"
                self.store.execute(update, *counts.values(), batch_id)
        return False

    def _next_answered(self) -> Iterator[str]:
        """Wait for an answer, and yield the IDs of all requests that were answered by then."""
        ready = [self.answered.get()]
        while not self.answered.empty():
            ready.append(self.answered.get())
        return (custom_id for custom_id in ready if custom_id is not None)

    def _submit(self, request: BatchLine) -> Waiting:
        """Send a request to the generator. `answered` gets its ID when a choice is done, or when it is refused."""
        endpoint, groups = ENDPOINTS[request.url], []
        try:
            body = parse_body(endpoint.body, request.body)
            if body.stream:
                raise ApiError(400, "Requests of a batch cannot be streamed.", "unsupported_value", "stream")
            groups = endpoint.requests(body)
            choices = [self.generator.submit(one, interactive=False) for group in groups for one in group]
        except Exception as error:  # whatever is wrong with a line, the others are answered
            choices = [Future()]
            choices[0].set_exception(error)

        def answer(answers: Sequence[GeneratedAnswer], fingerprint: str | None) -> Answer:
            rest = iter(answers)
            return endpoint.whole(body, [list(islice(rest, len(group))) for group in groups], fingerprint)

        waiting = Waiting(request.body["model"], choices, answer)
        answered = self.answered
        for choice in waiting.choices:
            choice.add_done_callback(lambda _: answered.put(request.custom_id))
        return waiting
