"""Answers by the Batch API: at half the price, within a day, and from batches that are created once."""

import hashlib
import json
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from finetune.core.callbacks import Progress, Say
from finetune.core.errors import FinetuneError
from finetune.provider import remote_files
from finetune.provider.connect import FINAL, Connection
from finetune.provider.locks import alone

if TYPE_CHECKING:
    from openai.types import Batch

MARK = "finetune_batch"  # the key of a batch's metadata
ENDED = ("completed", "failed", "expired", "cancelled")
# OpenAI's limits of one batch.
MAX_REQUESTS = 50_000
MAX_BYTES = 200_000_000
LOOKS = (1, 2, 4, 8, 16)  # seconds before each look for a batch whose creation got no answer
SHOWN = 5  # of the errors of a batch that failed

Answers = dict[str, Any]


def answer_batch(
    connection: Connection, requests: Mapping[str, dict[str, Any]], say: Say, progress: Progress
) -> Answers:
    """For each key the chat completion that answers its request, or `{"error": …}` where there is none.

    A batch of the same keys is found again, whoever created it: one that is under way is waited for, and one that has
    ended gives the answers that it has. Raises FinetuneError where the provider has no Batch API, and for a batch that
    fails or is cancelled while we wait.
    """
    if not connection.profile.batches:
        raise FinetuneError(
            f"{connection.profile.name!r} has no Batch API that this project knows.",
            "Set evaluate.batch to false in params.yaml.",
        )
    answers: Answers = {}

    def shown(done: int, total: int, message: str) -> None:
        progress(len(answers) + done, len(requests), message)

    for lines in parts(connection.profile.batch_url, requests):
        answers |= answer_part(connection, lines, say, shown)
    return answers


def parts(url: str, requests: Mapping[str, dict[str, Any]]) -> Iterator[dict[str, bytes]]:
    """The line of each request by its key, in as many parts as the limits of a batch make."""
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
    """The answers of one batch: a former one, or one that is created now."""
    mark = hashlib.sha256("\n".join(sorted(lines)).encode()).hexdigest()
    with alone(connection.identity, mark):
        batch, answers = find(connection, mark, say)
        if batch is None:
            batch = create_once(connection, mark, lines, say, progress)
    if not answers:
        batch = wait_for(connection, batch, say, progress)
        if batch.status in ("failed", "cancelled"):
            raise failure(batch)
        answers = read(connection, batch)
    elif batch.status != "completed":
        rest = {key: line for key, line in lines.items() if key not in answers}
        return answers | (answer_part(connection, rest, say, progress) if rest else {})
    missing = {"error": {"code": "no_answer", "message": f"Batch {batch.id} ({batch.status}) has no answer to it."}}
    return {key: answers.get(key, missing) for key in lines}


def find(connection: Connection, mark: str, say: Say) -> "tuple[Batch | None, Answers]":
    """The best batch of these keys and, where it has ended, its answers; one without answers does not count."""
    for batch in sorted(of_mark(connection, mark), key=rank, reverse=True):
        if batch.status not in ENDED:
            say(f"Batch {batch.id} is at it already ({batch.status}): attached.")
            return batch, {}
        answers = read(connection, batch)
        if batch.status != "completed":
            answers = {key: answer for key, answer in answers.items() if not answer.get("error")}
        if answers:
            rest = "nothing is paid" if batch.status == "completed" else "another is for the rest"
            say(f"Batch {batch.id} ({batch.status}) has {len(answers)} answers: adopted, {rest}.")
            return batch, answers
    return None, {}


def of_mark(connection: Connection, mark: str) -> "list[Batch]":
    """Every batch of these keys."""
    return [b for b in connection.control.batches.list(limit=100) if (b.metadata or {}).get(MARK) == mark]


def rank(batch: "Batch") -> tuple[bool, bool, int]:
    """A batch that completed before one under way before one that ended with part of the answers."""
    answered = batch.request_counts.completed if batch.request_counts else 0
    return batch.status == "completed", batch.status not in ENDED, answered


def create_once(connection: Connection, mark: str, lines: dict[str, bytes], say: Say, progress: Progress) -> "Batch":
    """Upload the requests and create the batch; where the answer is lost, look for it before anybody asks again."""
    import openai

    input_file = upload(connection, lines, progress)
    before = {batch.id for batch in of_mark(connection, mark)}
    try:
        batch = connection.once.batches.create(
            input_file_id=input_file,
            endpoint=cast("Any", connection.profile.batch_url),
            completion_window="24h",
            metadata={MARK: mark},
        )
    except (openai.APIConnectionError, openai.InternalServerError, openai.ConflictError) as error:
        say(f"No clear answer to the creation ({type(error).__name__}): looking whether the batch is there.")
        found = look(connection, mark, before)
        if found is None:
            raise
        batch = found
    say(f"Batch {batch.id} created with {len(lines):,} requests.")
    return batch


def look(connection: Connection, mark: str, before: set[str]) -> "Batch | None":
    """A batch of these keys that is not among `before`, looked for with growing patience."""
    import openai

    for pause in LOOKS:
        time.sleep(pause)
        with suppress(openai.APIConnectionError, openai.InternalServerError):
            for batch in of_mark(connection, mark):
                if batch.id not in before:
                    return batch
    return None


def upload(connection: Connection, lines: dict[str, bytes], progress: Progress) -> str:
    """The ID of a file with these lines, which is named by its content and so uploaded once."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "requests.jsonl")
        path.write_bytes(b"".join(lines.values()))
        name, size = f"{remote_files.sha256_of(path)}.jsonl", path.stat().st_size
        file = remote_files.find(connection, name, size, "batch") or remote_files.send(
            connection, path, name, size, progress, "batch"
        )
    file = connection.control.files.wait_for_processing(file.id)
    if file.status == "error":
        raise FinetuneError(
            f"The provider could not read the requests of the batch: {file.status_details or 'no reason given'}",
            "Run the same command again, or set evaluate.batch to false in params.yaml.",
        )
    return file.id


def wait_for(connection: Connection, batch: "Batch", say: Say, progress: Progress) -> "Batch":
    """The batch when it has ended. Statuses that nobody knows are waited for."""
    import openai

    pause, longest = connection.profile.poll_seconds
    silent = False
    try:
        while batch.status not in ENDED:
            counts = batch.request_counts
            if counts and counts.total:
                progress(counts.completed + counts.failed, counts.total, "answers in the batch")
            time.sleep(pause)
            pause = min(longest, pause * 1.2)
            try:
                batch = connection.control.batches.retrieve(batch.id)
                silent = False
            except (openai.APIConnectionError, openai.InternalServerError, openai.RateLimitError) as error:
                if getattr(error, "code", None) in FINAL:
                    raise
                if not silent:
                    say(f"The provider does not answer just now ({type(error).__name__}); we go on asking.")
                silent = True
    except KeyboardInterrupt:
        say(f"\nThe batch {batch.id} goes on without us. Come back to it with: dvc repro")
        raise
    return batch


def read(connection: Connection, batch: "Batch") -> Answers:
    """What the batch's two files say, by custom_id; nothing of a file that the provider no longer keeps."""
    import openai

    answers: Answers = {}
    for file in filter(None, (batch.error_file_id, batch.output_file_id)):
        with suppress(openai.NotFoundError):
            # Split by this byte alone: other ends of lines may stand in the answers.
            for line in connection.client.files.content(file).content.split(b"\n"):
                if line.strip():
                    result = json.loads(line)
                    answers[result["custom_id"]] = answer_of(result)
    return answers


def answer_of(result: dict[str, Any]) -> dict[str, Any]:
    """The completion that a line of a batch's files holds, or its error."""
    response = result.get("response") or {}
    body = response.get("body") or {}
    if response.get("status_code") == 200:
        return dict(body)
    unknown = {"code": None, "message": f"refused with status {response.get('status_code')}"}
    return {"error": body.get("error") or result.get("error") or unknown}


def failure(batch: "Batch") -> FinetuneError:
    """The exception for a batch that failed or was cancelled."""
    if batch.status == "cancelled":
        return FinetuneError(
            f"Batch {batch.id} was cancelled.", "Its answers are kept; ask for the rest with the same command again."
        )
    errors = (batch.errors.data if batch.errors else None) or []
    said = [f"{f'line {e.line}: ' if e.line else ''}{e.message} [{e.code}]" for e in errors[:SHOWN]]
    more = f"; and {len(errors) - SHOWN} more" if len(errors) > SHOWN else ""
    return FinetuneError(
        f"Batch {batch.id} failed: {'; '.join(said) or 'no reason given'}{more}.",
        "Mend what it names, or set evaluate.batch to false in params.yaml; then run the same command again.",
    )
