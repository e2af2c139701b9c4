"""Test uploads of files of any length: in parts, also by the client's own helper, and never whole in memory."""

import hashlib
import json
import sqlite3
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import openai
import pytest
from conftest import start_job, training_lines, wait

from finetune.engine import uploads

CONTENT = training_lines(24)


def announce(client: openai.OpenAI, size: int = len(CONTENT), purpose: Any = "fine-tune", **more: Any) -> Any:
    return client.uploads.create(
        filename="train.jsonl", purpose=purpose, bytes=size, mime_type="text/jsonl", extra_body=more
    )


def send(client: openai.OpenAI, upload: Any, *parts: bytes) -> list[str]:
    """Send parts and return their IDs."""
    return [client.uploads.parts.create(upload.id, data=part).id for part in parts]


def left_behind(home: Path) -> tuple[int, int]:
    """Return the numbers of uploads with parts on the disk and of files."""
    return len(list((home / "uploads").iterdir())), len(list((home / "files").iterdir()))


@pytest.mark.slow
def test_the_clients_own_helper_uploads_a_file_that_trains(client: openai.OpenAI, tmp_path: Path) -> None:
    path = tmp_path / "train.jsonl"
    path.write_bytes(CONTENT)
    done = client.uploads.upload_file_chunked(
        file=path, mime_type="text/jsonl", purpose="fine-tune", part_size=1000, md5=hashlib.md5(CONTENT).hexdigest()
    )
    assert done.status == "completed"
    assert done.file is not None
    assert client.files.retrieve(done.file.id) == done.file
    assert (done.file.bytes, done.file.filename, done.file.purpose) == (len(CONTENT), "train.jsonl", "fine-tune")
    assert client.files.content(done.file.id).content == CONTENT
    assert wait(client, start_job(client, epochs=1, training_file=done.file.id).id).status == "succeeded"


def test_parts_are_joined_in_the_order_of_the_completion(client: openai.OpenAI, home: Path) -> None:
    before = left_behind(home)
    upload = announce(client, 6, "user_data")
    assert (upload.status, upload.file, upload.bytes) == ("pending", None, 6)
    assert upload.expires_at == upload.created_at + 3600
    first, _, last = send(client, upload, b"def", b"unused", b"abc")
    done = client.uploads.complete(upload.id, part_ids=[last, first])
    assert done.file is not None
    assert client.files.content(done.file.id).content == b"abcdef"
    assert left_behind(home) == (before[0], before[1] + 1)


@pytest.mark.parametrize(
    ("parts", "md5", "param", "message"),
    [
        ((CONTENT[:-1],), None, "part_ids", f"{len(CONTENT) - 1} bytes"),
        ((CONTENT, b"\n"), None, "part_ids", f"{len(CONTENT) + 1} bytes"),
        ((CONTENT,), "0" * 32, "md5", hashlib.md5(CONTENT).hexdigest()),
        ((b"[" + CONTENT[1:50], CONTENT[50:]), None, "file", "Line 1 "),
        ((CONTENT[:-2], b"]\n"), None, "file", "Line 24 "),
    ],
    ids=["too few bytes", "too many", "another MD5", "bad first line", "bad last line"],
)
def test_parts_of_another_file_are_refused_and_can_be_replaced(
    client: openai.OpenAI, home: Path, parts: tuple[bytes, ...], md5: str | None, param: str, message: str
) -> None:
    upload = announce(client)
    sent = send(client, upload, *parts)
    before = left_behind(home)
    with pytest.raises(openai.BadRequestError, match=message) as caught:
        client.uploads.complete(upload.id, part_ids=sent, md5=md5 or openai.omit)
    assert caught.value.param == param
    assert left_behind(home) == before
    right = client.uploads.complete(upload.id, part_ids=send(client, upload, CONTENT))
    assert right.status == "completed"


def ended(client: openai.OpenAI, how: str, home: Path) -> Any:
    upload = announce(client, 3, "user_data")
    part = send(client, upload, b"abc")
    if how == "completed":
        assert client.uploads.complete(upload.id, part_ids=part).status == how
    elif how == "cancelled":
        assert client.uploads.cancel(upload.id).status == how
    else:
        with sqlite3.connect(home / "engine.db") as db:
            db.execute("UPDATE uploads SET created_at = created_at - 3600 WHERE id = ?", (upload.id,))
        db.close()
    return upload, part


@pytest.mark.parametrize("how", ["completed", "cancelled", "expired"])
def test_an_upload_that_has_ended_accepts_no_request(client: openai.OpenAI, home: Path, how: str) -> None:
    upload, part = ended(client, how, home)
    calls: list[Callable[[], Any]] = [
        lambda: client.uploads.parts.create(upload.id, data=b"abc"),
        lambda: client.uploads.complete(upload.id, part_ids=part),
        lambda: client.uploads.cancel(upload.id),
    ]
    for call in calls:
        with pytest.raises(openai.BadRequestError, match=f"is {how}, not pending"):
            call()
    assert not (home / "uploads" / upload.id).exists()


@pytest.mark.parametrize(
    ("call", "error", "param"),
    [
        (lambda c: announce(c, 0), openai.BadRequestError, "bytes"),
        (lambda c: announce(c, 8 * 1024**3 + 1), openai.BadRequestError, "bytes"),
        (lambda c: announce(c, purpose="else"), openai.BadRequestError, "purpose"),
        (lambda c: announce(c, mime_type=None), openai.BadRequestError, "mime_type"),
        (lambda c: announce(c, expires_after={}), openai.BadRequestError, "expires_after"),
        (lambda c: c.uploads.cancel("upload_none"), openai.NotFoundError, "upload_id"),
        (lambda c: c.uploads.parts.create("upload_none", data=b"a"), openai.NotFoundError, "upload_id"),
        (lambda c: c.post(f"/uploads/{announce(c).id}/parts", cast_to=object), openai.BadRequestError, "data"),
        (lambda c: c.uploads.complete(announce(c).id, part_ids=["part_none"]), openai.BadRequestError, "part_ids"),
        (lambda c: c.uploads.complete(announce(c).id, part_ids=7), openai.BadRequestError, "part_ids"),
    ],
)
def test_a_refusal_names_the_parameter(client: openai.OpenAI, call: Any, error: Any, param: str) -> None:
    with pytest.raises(error) as caught:
        call(client)
    assert caught.value.param == param


def test_a_part_of_another_upload_and_one_too_large_are_refused(
    client: openai.OpenAI, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    one, other = announce(client), announce(client)
    with pytest.raises(openai.BadRequestError, match="has no part"):
        client.uploads.complete(one.id, part_ids=send(client, other, CONTENT))
    assert uploads.MAX_PART == 64 * 1024 * 1024
    monkeypatch.setattr(uploads, "MAX_PART", 10)
    with pytest.raises(openai.APIStatusError, match="at most 10 bytes; this one has 11") as caught:
        send(client, one, b"01234567890")
    assert (caught.value.status_code, caught.value.param) == (413, "data")
    assert not list((home / "uploads" / one.id).iterdir())


@pytest.mark.slow
def test_memory_stays_flat(client: openai.OpenAI, tmp_path: Path) -> None:
    """The measured memory is that of client and server together, which share this process."""
    line = json.dumps({"text": "x" * 2000}).encode() + b"\n"
    path = tmp_path / "large.jsonl"
    with open(path, "wb") as out:
        out.writelines(line for _ in range(16_000))
    size = path.stat().st_size
    upload = announce(client, size)
    parts = []
    with open(path, "rb") as content:
        while piece := content.read(8 * 1024**2):
            parts += send(client, upload, piece)
        del piece
        content.seek(0)
        tracemalloc.start()
        try:
            whole = client.files.create(file=content, purpose="fine-tune")
            done = client.uploads.complete(upload.id, part_ids=parts)
            with client.files.with_streaming_response.content(whole.id) as answer:
                received = sum(len(chunk) for chunk in answer.iter_bytes(65536))
            peak = tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()
    assert done.file is not None
    assert done.file.bytes == whole.bytes == received == size > 30_000_000
    assert peak < 10_000_000
