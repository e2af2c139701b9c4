"""Answers by the Batch API, at half the price and within a day; each batch is created once."""

import hashlib
import json
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import nullcontext, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from finetune.core.callbacks import Progress, Say
from finetune.core.errors import FinetuneError
from finetune.core.records.requests import RequestNote
from finetune.provider.answer_checks import whole_letters
from finetune.provider.connect import Connection
from finetune.provider.create_once import Creation, create_once, find_by_note
from finetune.provider.locks import exclusive_lock
from finetune.provider.paging import all_rows
from finetune.provider.polling import poll
from finetune.provider.remote_files import ensure_file
from finetune.provider.request_notes import read_request_note

if TYPE_CHECKING:
    from openai.types import Batch

FINGERPRINT = "finetune_batch"  # the key of a batch's metadata
ENDED = ("completed", "failed", "expired", "cancelled")
# OpenAI's limits of one batch.
MAX_REQUESTS = 50_000
MAX_BYTES = 200_000_000
ERRORS_SHOWN = 5  # of a batch that failed

Answers = dict[str, dict[str, Any]]  # by custom_id: a chat completion, or {"error": …}


def answer_batch(
    connection: Connection, requests: Mapping[str, dict[str, Any]], say: Say, progress: Progress
) -> Answers:
    """Return for each key the chat completion that answers its request, or `{"error": …}` where there is none.

    A batch of the same keys is found again, whichever machine created it: a running one is waited for, and one that has
    ended gives the answers that it has. Raises FinetuneError where the provider has no Batch API, and for a batch that
    fails or is cancelled during the wait.
    """
    if not connection.profile.batches:
        raise FinetuneError(
            f"{connection.profile.name!r} has no Batch API that this project supports.",
            "Set evaluate.batch to false in params.yaml.",
        )
    answers: Answers = {}

    def total_progress(done: int, total: int, message: str) -> None:
        progress(len(answers) + done, len(requests), message)

    for lines in parts(request_url(connection, requests), requests):
        answers |= answer_part(connection, lines, say, total_progress)
    return answers


def request_url(connection: Connection, requests: Mapping[str, dict[str, Any]]) -> str:
    """Return the URL of requests, which are all of one kind. Raises FinetuneError where batches do not take them."""
    if not any("prompt" in request for request in requests.values()):
        return connection.profile.batch_url
    if connection.profile.text_batch_url is None:
        raise FinetuneError(
            f"Batches of {connection.profile.name!r} take chat requests only, and data.target is 'completion'.",
            "Set evaluate.batch to false in params.yaml.",
        )
    return connection.profile.text_batch_url


def parts(url: str, requests: Mapping[str, dict[str, Any]]) -> Iterator[dict[str, bytes]]:
    """Yield the line of each request by its key, in parts that keep to the limits of a batch."""
    lines: dict[str, bytes] = {}
    size = 0
    for key in sorted(requests):
        request = {"custom_id": key, "method": "POST", "url": url, "body": requests[key]}
        line = json.dumps(request, sort_keys=True).encode() + b"\n"
        if len(lines) == MAX_REQUESTS or (lines and size + len(line) > MAX_BYTES):
            yield lines
            lines, size = {}, 0
        lines[key] = line
        size += len(line)
    if lines:
        yield lines


def answer_part(connection: Connection, lines: dict[str, bytes], say: Say, progress: Progress) -> Answers:
    """Return the answers of one batch: an existing one, or a new one."""
    fingerprint = hashlib.sha256("\n".join(sorted(lines)).encode()).hexdigest()
    with exclusive_lock(connection.identity, fingerprint):
        batch, answers = find(connection, fingerprint, say)
        if batch is None:
            batch = create(connection, fingerprint, lines, say, progress)
    if not answers:
        batch = wait_for(connection, batch, say, progress)
        if batch.status in ("failed", "cancelled"):
            raise batch_error(batch)
        answers = read_answers(connection, batch)
    elif batch.status != "completed":
        rest = {key: line for key, line in lines.items() if key not in answers}
        return answers | (answer_part(connection, rest, say, progress) if rest else {})
    message = f"Batch {batch.id} ({batch.status}) has no answer to this request."
    missing = {"error": {"code": "no_answer", "message": message}}
    return {key: answers.get(key, missing) for key in lines}


def find(connection: Connection, fingerprint: str, say: Say) -> "tuple[Batch | None, Answers]":
    """Return the best batch of these keys and, where it has ended, its answers; one without answers does not count."""
    for batch in sorted(list_batches(connection, fingerprint), key=rank, reverse=True):
        if batch.status not in ENDED:
            say(f"Batch {batch.id} is already {batch.status.replace('_', ' ')}; waiting for it.")
            return batch, {}
        answers = read_answers(connection, batch)
        if batch.status != "completed":
            answers = {key: answer for key, answer in answers.items() if not answer.get("error")}
        if answers:
            rest = "Nothing is paid." if batch.status == "completed" else "A new batch answers the rest."
            say(f"Batch {batch.id} ({batch.status}) already has {len(answers)} answers; using them. {rest}")
            return batch, answers
    return None, {}


def list_batches(connection: Connection, fingerprint: str) -> "list[Batch]":
    """Return all batches of these keys."""
    listed = all_rows(connection.control.batches.list(limit=100))
    return [batch for batch in listed if (batch.metadata or {}).get(FINGERPRINT) == fingerprint]


def rank(batch: "Batch") -> tuple[bool, bool, int]:
    """Order batches by use: one that completed, one that has not ended, one that ended with the most answers."""
    answered = batch.request_counts.completed if batch.request_counts else 0
    return batch.status == "completed", batch.status not in ENDED, answered or 0


def create(connection: Connection, fingerprint: str, lines: dict[str, bytes], say: Say, progress: Progress) -> "Batch":
    """Upload the requests and create the batch once; return that of an earlier request that had no clear outcome."""
    import openai

    input_file = upload(connection, lines, progress, say)

    def send() -> "Batch":
        return connection.once.batches.create(
            input_file_id=input_file,
            endpoint=json.loads(next(iter(lines.values())))["url"],
            completion_window="24h",
            metadata={FINGERPRINT: fingerprint},
        )

    def find_new(note: RequestNote) -> "Batch | None":
        batches = [batch for batch in list_batches(connection, fingerprint) if batch.id not in note["known"]]
        if "id" in note and not batches:
            with suppress(openai.NotFoundError):
                batches.append(connection.control.batches.retrieve(note["id"]))
        return next(iter(batches), None)

    def is_ours(batch: "Batch") -> bool:
        return (batch.metadata or {}).get(FINGERPRINT, fingerprint) == fingerprint

    creation = Creation(connection, f"batch {fingerprint}", "batch", "batch", send, find_new, say, is_ours=is_ours)
    known = [batch.id for batch in list_batches(connection, fingerprint)]
    note = read_request_note(connection.identity, creation.key)
    noted = find_by_note(creation, note)
    if noted is not None and noted.id not in known:
        return noted
    batch = create_once(creation, lambda: nullcontext({}), known)
    say(f"Batch {batch.id} created with {len(lines):,} requests.")
    return batch


def upload(connection: Connection, lines: dict[str, bytes], progress: Progress, say: Say) -> str:
    """Return the ID of a file with these lines. Its name is the hash of its content, so it is uploaded once."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "requests.jsonl")
        path.write_bytes(b"".join(lines.values()))
        return ensure_file(connection, path, do_nothing, progress, say, "batch")[0]


def do_nothing() -> None:
    """Allow the upload: the questions of a batch have been paid for when they are asked."""


def wait_for(connection: Connection, batch: "Batch", say: Say, progress: Progress) -> "Batch":
    """Return the batch when it has ended. An unknown status is waited for."""

    def report(state: "Batch") -> None:
        counts = state.request_counts
        if counts and counts.total:
            progress((counts.completed or 0) + (counts.failed or 0), counts.total, "answers in the batch")

    try:
        return poll(
            batch,
            lambda: connection.control.batches.retrieve(batch.id),
            lambda state: state.status in ENDED,
            lambda state: f"Batch {state.id} ({state.status})",
            report,
            say,
            connection.profile.poll_seconds,
        )
    except KeyboardInterrupt:
        say(f"\nBatch {batch.id} keeps running. Get its answers with: dvc repro")
        raise


def read_answers(connection: Connection, batch: "Batch") -> Answers:
    """Return what the batch's two files hold, by custom_id; nothing of a file that the provider no longer keeps.

    Raises FinetuneError for a line that is no result of a request.
    """
    import openai

    answers: Answers = {}
    for file in filter(None, (batch.error_file_id, batch.output_file_id)):
        with suppress(openai.NotFoundError):
            # Split by this byte alone: answers may contain other line separators.
            for number, line in enumerate(connection.downloads.files.content(file).content.split(b"\n"), 1):
                if line.strip():
                    try:
                        result = json.loads(whole_letters(line))
                        answers[result["custom_id"]] = completion_or_error(result)
                    except (ValueError, TypeError, KeyError, AttributeError) as error:
                        raise FinetuneError(
                            f"Line {number} of {file}, a file of answers of batch {batch.id}, is no result.",
                            "Run the same command again: the file is read again, and nothing is asked again.",
                        ) from error
    return answers


def completion_or_error(result: Mapping[str, Any]) -> dict[str, Any]:
    """Return the completion in one line of a batch's files, or its error."""
    response = result.get("response") or {}
    body = response.get("body") or {}
    if response.get("status_code") == 200:
        return dict(body)
    unknown = {"code": None, "message": f"refused with status {response.get('status_code')}"}
    return {"error": body.get("error") or result.get("error") or unknown}


def batch_error(batch: "Batch") -> FinetuneError:
    """Return the exception for a batch that failed or was cancelled."""
    if batch.status == "cancelled":
        return FinetuneError(
            f"Batch {batch.id} was cancelled.",
            "Run the same command again: its answers are kept, and a new batch answers the rest.",
        )
    errors = (batch.errors.data if batch.errors else None) or []
    shown = [f"{f'line {e.line}: ' if e.line else ''}{e.message or ''} [{e.code}]" for e in errors[:ERRORS_SHOWN]]
    more = f"; and {len(errors) - ERRORS_SHOWN} more" if len(errors) > ERRORS_SHOWN else ""
    return FinetuneError(
        f"Batch {batch.id} failed: {'; '.join(shown) or 'no reason given'}{more}.",
        "Correct what the message names, or set evaluate.batch to false; then run the same command again.",
    )
