"""Batches: a file of chat requests, answered in the background, and a file of answers and one of errors.

Answers are added to batches/<batch>.jsonl as they come, in the form that the files will have. Whoever takes an
unfinished batch up again, after a kill or an end of the server, asks for what is not in there.
"""

import json
import queue
import sqlite3
import threading
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import Future
from contextlib import suppress
from itertools import islice
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from finetune.engine import bases
from finetune.engine.api_errors import ApiError
from finetune.engine.inference.chat_completions import check_chat, choices_of, completion
from finetune.engine.inference.generation_types import GeneratedAnswer
from finetune.engine.inference.generator import Generator
from finetune.engine.job_queue import check_metadata
from finetune.engine.store import Row, Store, new_id

ENDPOINT = "/v1/chat/completions"
MAX_REQUESTS = 50_000
MAX_ERRORS = 100  # told of one file
# Enough to fill the generator's batches whatever the lengths of the prompts; a chat meanwhile waits for no more.
IN_FLIGHT = 256
UNFINISHED = ("validating", "in_progress", "finalizing", "cancelling")

Problem = tuple[str, str, str | None]  # code, message and param


def create(store: Store, body: dict[str, Any]) -> Row:
    """A new batch in `validating`. Raises ApiError for what can be refused at once."""
    for key in sorted(set(body) - {"input_file_id", "endpoint", "completion_window", "metadata"}):
        raise ApiError(400, f"This server does not support '{key}'.", "unsupported_parameter", key)
    if body.get("endpoint") != ENDPOINT:
        why = f"Batches of this server are for {ENDPOINT}, not {body.get('endpoint')!r}."
        raise ApiError(400, why, "invalid_value", "endpoint")
    if body.get("completion_window") != "24h":
        raise ApiError(400, "'completion_window' must be \"24h\".", "invalid_value", "completion_window")
    name, metadata = body.get("input_file_id"), body.get("metadata")
    file = store.row("SELECT purpose FROM files WHERE id = ?", name) if isinstance(name, str) else None
    if file is None:
        raise ApiError(400, f"input_file_id {name!r} does not exist.", "invalid_file", "input_file_id")
    if file["purpose"] != "batch":
        why = f"input_file_id {name!r} has purpose {file['purpose']!r}, not 'batch'."
        raise ApiError(400, why, "invalid_file", "input_file_id")
    check_metadata(metadata)
    batch_id = new_id("batch_")
    store.execute(
        "INSERT INTO batches (id, created_at, status, input_file, metadata) VALUES (?, ?, 'validating', ?, ?)",
        batch_id,
        int(time.time()),
        name,
        json.dumps(metadata, sort_keys=True) if metadata else None,
    )
    return get(store, batch_id)


def get(store: Store, batch_id: str) -> Row:
    row = store.row("SELECT * FROM batches WHERE id = ?", batch_id)
    if row is None:
        raise ApiError(404, f"No such Batch object: {batch_id}", None, "batch_id")
    return row


def cancel(store: Store, batch_id: str) -> Row:
    """The batch, which asks for nothing more; what is answered by then will be in its files."""
    if not move(store, get(store, batch_id)["id"], "cancelling", ("validating", "in_progress")):
        status = get(store, batch_id)["status"]
        raise ApiError(400, f"Batch {batch_id} is {status}: it cannot be cancelled.", "invalid_state", "batch_id")
    return get(store, batch_id)


def move(store: Store, batch_id: str, status: str, of: Sequence[str], **values: object) -> bool:
    """Set a status, its time and other columns if the batch's status is one `of` these; whether it was set."""
    columns = "".join(f", {name} = ?" for name in values)
    changed = store.execute(
        f"UPDATE batches SET status = ?, {status}_at = ?{columns} WHERE id = ? AND status IN"
        f" ({', '.join('?' * len(of))})",
        status,
        int(time.time()),
        *values.values(),
        batch_id,
        *of,
    )
    return changed == 1


class Batches:
    """A thread that answers a home's batches, one after the other, unless another server of that home is at it."""

    def __init__(self, store: Store, generator: Generator) -> None:
        self.store, self.generator = store, generator
        self.answered: queue.SimpleQueue[str | None] = queue.SimpleQueue()
        self.wanted = threading.Event()
        self.closing = False
        self.thread = threading.Thread(target=self._run, daemon=True, name="batches")
        self.thread.start()

    def advance(self) -> None:
        """Take up what is unfinished."""
        self.wanted.set()

    def close(self) -> None:
        """Keep what is answered by now, and stop; a closed generator answers no more."""
        self.closing = True
        self.wanted.set()
        self.answered.put(None)
        self.thread.join()

    def _run(self) -> None:
        query = f"SELECT id FROM batches WHERE status IN {UNFINISHED} ORDER BY n"
        while True:
            self.wanted.wait()
            self.wanted.clear()
            # A full disk, say, leaves the batch as it is: the next look at it tries again.
            with suppress(Timeout, sqlite3.Error, OSError):
                while not self.closing and (batch := self.store.row(query)):
                    with FileLock(self.store.home / "batches.lock", mode=0o600).acquire(timeout=0):
                        self._work_on(batch["id"])
            if self.closing:
                return

    def _work_on(self, batch_id: str) -> None:
        """Bring a batch to its end, from wherever it is; or to where it is when the server closes."""
        try:
            if get(self.store, batch_id)["status"] == "validating":
                validate(self.store, batch_id)
            if get(self.store, batch_id)["status"] == "in_progress" and not self._answer(batch_id):
                return
            move(self.store, batch_id, "finalizing", ("in_progress",))
            if get(self.store, batch_id)["status"] in UNFINISHED:
                finish(self.store, batch_id)
        except FileNotFoundError:
            fail(self.store, batch_id, [(("invalid_file", "The input file was deleted.", "input_file_id"), None)])
        except (sqlite3.Error, OSError):
            raise
        except Exception as error:
            fail(self.store, batch_id, [(("server_error", f"{type(error).__name__}: {error}", None), None)])

    def _answer(self, batch_id: str) -> bool:
        """Ask for what is not answered yet, many at a time; False where the server closes before the end."""
        self.answered = queue.SimpleQueue()
        part = part_of(self.store, batch_id)
        known, completed, failed = set(), 0, 0
        for _, result in results_in(part):
            known.add(result["custom_id"])
            completed += is_answer(result)
            failed += not is_answer(result)
        asked = requests_in(self.store.file_path(get(self.store, batch_id)["input_file"]))
        left = (request for request in asked if request["custom_id"] not in known)
        waiting: dict[str, tuple[dict[str, Any], list[Future[GeneratedAnswer]]]] = {}
        with open(part, "ab") as out:
            while not self.closing:
                if get(self.store, batch_id)["status"] == "in_progress":
                    for request in islice(left, IN_FLIGHT - len(waiting)):
                        waiting[request["custom_id"]] = request["body"], self._ask(request)
                if not waiting:
                    return True
                ready = [self.answered.get()]
                while not self.answered.empty():
                    ready.append(self.answered.get())
                for custom_id in ready:
                    # One of several choices says so before the last, and after it.
                    if custom_id in waiting and all(future.done() for future in waiting[custom_id][1]):
                        result = result_of(custom_id, *waiting.pop(custom_id))
                        out.write(json.dumps(result).encode() + b"\n")
                        completed += is_answer(result)
                        failed += not is_answer(result)
                out.flush()
                counts = "UPDATE batches SET completed = ?, failed = ? WHERE id = ?"
                self.store.execute(counts, completed, failed, batch_id)
        return False

    def _ask(self, request: dict[str, Any]) -> "list[Future[GeneratedAnswer]]":
        """The choices to come; `answered` hears of each."""
        futures: list[Future[GeneratedAnswer]] = []
        try:
            check_chat(request["body"])
            futures = [self.generator.submit(choice) for choice in choices_of(request["body"])]
        except ApiError as error:
            futures = [Future()]
            futures[0].set_exception(error)
        answered = self.answered
        for future in futures:
            future.add_done_callback(lambda _: answered.put(request["custom_id"]))
        return futures


def result_of(custom_id: str, body: dict[str, Any], futures: "list[Future[GeneratedAnswer]]") -> dict[str, Any]:
    """The line of the output or the error file for a request whose choices are there."""
    status = 200
    try:
        answer = completion(body["model"], [future.result() for future in futures], bool(body.get("logprobs")))
    except Exception as error:
        told = (
            error if isinstance(error, ApiError) else ApiError(500, f"{type(error).__name__}: {error}", "server_error")
        )
        status, answer = told.status, told.envelope()
    response = {"status_code": status, "request_id": new_id("req_"), "body": answer}
    return {"id": new_id("batch_req_"), "custom_id": custom_id, "response": response, "error": None}


def is_answer(result: dict[str, Any]) -> bool:
    return bool(result["response"]["status_code"] == 200)


def part_of(store: Store, batch_id: str) -> Path:
    return store.home / "batches" / f"{batch_id}.jsonl"


def results_in(part: Path) -> Iterator[tuple[bytes, dict[str, Any]]]:
    """Each line and what it says; a last line that a kill cut off is taken away."""
    whole = 0
    part.touch()
    with open(part, "r+b") as lines:
        for line in lines:
            if not line.endswith(b"\n"):
                break
            whole += len(line)
            yield line, json.loads(line)
        lines.truncate(whole)


def requests_in(path: Path) -> Iterator[dict[str, Any]]:
    with open(path, "rb") as lines:
        for line in lines:
            if line.strip():
                yield json.loads(line)


def validate(store: Store, batch_id: str) -> None:
    """Read the batch's file: it is in progress with the number of its requests, or failed with the lines to mend."""
    problems: list[tuple[Problem, int | None]] = []
    seen: set[str] = set()
    model: str | None = None
    total = 0
    with open(store.file_path(get(store, batch_id)["input_file"]), "rb") as lines:
        for number, line in enumerate(lines, 1):
            if not line.strip():
                continue
            total += 1
            try:
                request = json.loads(line)
            except ValueError:
                request = None
            problem = problem_of(request, seen, model)
            if problem:
                problems.append((problem, number))
            else:
                seen.add(request["custom_id"])
                model = request["body"]["model"]
            if len(problems) == MAX_ERRORS:
                break
    if not total and not problems:
        problems.append((("empty_file", "The input file has no requests.", "input_file_id"), None))
    if total > MAX_REQUESTS:
        what = f"The input file has {total:,} requests; {MAX_REQUESTS:,} are allowed."
        problems.append((("too_many_tasks", what, "input_file_id"), None))
    tuned = store.row("SELECT id FROM models WHERE id = ?", model)
    if not problems and model and not tuned and not bases.known(model, store.home):
        problems.append((("model_not_found", f"The model `{model}` does not exist.", "body.model"), None))
    if problems:
        fail(store, batch_id, problems)
    else:
        move(store, batch_id, "in_progress", ("validating",), total=total, model=model)


def problem_of(request: Any, seen: set[str], model: str | None) -> Problem | None:
    """What is wrong with a line, after lines of these IDs and this model."""
    if not isinstance(request, dict):
        return "invalid_json_line", "This line is not parseable as a JSON object.", None
    for key, kind, name in (
        ("custom_id", str, "a string"),
        ("method", str, "a string"),
        ("url", str, "a string"),
        ("body", dict, "an object"),
    ):
        if not isinstance(request.get(key), kind):
            return "missing_required_parameter", f"'{key}' must be there, and be {name}.", key
    if request["custom_id"] in seen:
        return "duplicate_custom_id", f"The custom_id {request['custom_id']!r} is that of an earlier line.", "custom_id"
    if request["method"] != "POST":
        return "invalid_method", f"The method is POST, not {request['method']!r}.", "method"
    if request["url"] != ENDPOINT:
        return "invalid_url", f"The url is the batch's endpoint {ENDPOINT}, not {request['url']!r}.", "url"
    asked = request["body"].get("model")
    if not isinstance(asked, str):
        return "missing_required_parameter", "'body.model' must be there, and be a string.", "body.model"
    if model not in (None, asked):
        return "mismatched_model", f"All requests of a batch have one model: {model!r}, not {asked!r}.", "body.model"
    return None


def fail(store: Store, batch_id: str, problems: Sequence[tuple[Problem, int | None]]) -> None:
    """End a batch without files, with what is wrong in OpenAI's `errors` object."""
    errors = [
        {"code": code, "message": message, "param": param, "line": line} for (code, message, param), line in problems
    ]
    move(store, batch_id, "failed", UNFINISHED, errors=json.dumps(errors))
    part_of(store, batch_id).unlink(missing_ok=True)


def finish(store: Store, batch_id: str) -> None:
    """Make the files of the results, and end the batch."""
    part = part_of(store, batch_id)
    usage = {"prompt_tokens": 0, "completion_tokens": 0, "total_tokens": 0}
    numbers = {True: 0, False: 0}
    for _, result in results_in(part):
        numbers[is_answer(result)] += 1
        for name in usage:
            usage[name] += result["response"]["body"].get("usage", {}).get(name, 0)

    def kept(name: str, answers: bool) -> str | None:
        if not numbers[answers]:
            return None
        filename = f"{batch_id}_{name}.jsonl"
        # There already where a kill came after the files and before the end.
        made = store.row("SELECT id FROM files WHERE filename = ? AND purpose = 'batch_output'", filename)
        lines = (line for line, result in results_in(part) if is_answer(result) == answers)
        return made["id"] if made else store.add_file(filename, "batch_output", lines)

    ended = {
        "output_file": kept("output", True),
        "error_file": kept("error", False),
        "usage": json.dumps(usage),
        "completed": numbers[True],
        "failed": numbers[False],
    }
    if not move(store, batch_id, "completed", ("finalizing",), **ended):
        move(store, batch_id, "cancelled", ("cancelling",), **ended)
    part.unlink()
