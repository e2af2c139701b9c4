"""Send requests to the engine's application in this process, also such as no good client sends."""

import asyncio
import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import pytest
from starlette.types import ASGIApp, Message

from finetune.engine.api.app import make_app
from finetune.engine.store import Store

KEY = "key-of-the-test"


@dataclass
class Sent:
    """A request. `cut` says that the client goes away before the last chunk of the body."""

    method: str
    target: str  # the path and the query, percent-encoded
    chunks: Sequence[bytes] = (b"",)
    headers: dict[str, str] = field(default_factory=dict)
    cut: bool = False


@dataclass
class Received:
    status: int
    headers: dict[str, str]
    body: bytes
    chunks_read: int  # how many of the request's chunks the application has read

    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def error(self) -> dict[str, Any]:
        """Return the error, which must have OpenAI's envelope."""
        (error,) = self.json().values()
        assert set(error) == {"message", "type", "param", "code"}
        assert isinstance(error["message"], str)
        assert error["message"]
        assert isinstance(error["type"], str)
        assert all(error[key] is None or isinstance(error[key], str) for key in ("param", "code"))
        return dict(error)


class Client:
    """A client of one application, as uvicorn passes its requests on."""

    def __init__(self, app: ASGIApp) -> None:
        self.app, self.loop = app, asyncio.new_event_loop()

    def close(self) -> None:
        self.loop.run_until_complete(self.loop.shutdown_default_executor())
        self.loop.close()

    def send(self, sent: Sent) -> Received:
        return self.loop.run_until_complete(asyncio.wait_for(self._send(sent), 60))

    def send_together(self, sent: Sequence[Sent]) -> list[Received]:
        """Send requests at the same time."""

        async def gather() -> list[Received]:
            return await asyncio.gather(*map(self._send, sent))

        return self.loop.run_until_complete(asyncio.wait_for(gather(), 120))

    def get(self, target: str) -> Received:
        return self.send(Sent("GET", target))

    def post(self, target: str, body: object, **headers: str) -> Received:
        content = body if isinstance(body, bytes) else json.dumps(body).encode()
        return self.send(Sent("POST", target, (content,), {"content-type": "application/json", **headers}))

    async def _send(self, sent: Sent) -> Received:
        path, _, query = sent.target.partition("?")
        headers = {"host": "127.0.0.1", "authorization": f"Bearer {KEY}", **sent.headers}
        scope = {
            "type": "http",
            "http_version": "1.1",
            "method": sent.method,
            "scheme": "http",
            "path": unquote(path),
            "raw_path": path.encode("ascii"),
            "query_string": query.encode("ascii"),
            "root_path": "",
            "headers": [(name.encode(), value.encode("latin-1")) for name, value in headers.items()],
            "client": ("127.0.0.1", 1),
            "server": ("127.0.0.1", 80),
        }
        read, answers = 0, []

        async def receive() -> Message:
            nonlocal read
            if read == len(sent.chunks) or (sent.cut and read == len(sent.chunks) - 1):
                return {"type": "http.disconnect"}
            read += 1
            return {"type": "http.request", "body": sent.chunks[read - 1], "more_body": read < len(sent.chunks)}

        async def send(message: Message) -> None:
            answers.append(dict(message))

        await self.app(scope, receive, send)
        start, *rest = answers
        found = {name.decode().lower(): value.decode() for name, value in start["headers"]}
        return Received(start["status"], found, b"".join(part.get("body", b"") for part in rest), read)


def form(*parts: tuple[str, str | None, bytes], boundary: str = "b0undary", end: bool = True) -> bytes:
    """Return a form: the name of each part, the name of its file or None, and its content."""
    lines = []
    for name, filename, content in parts:
        disposition = f'form-data; name="{name}"' + ("" if filename is None else f'; filename="{filename}"')
        head = f"--{boundary}\r\nContent-Disposition: {disposition}\r\n\r\n"
        lines.append(head.encode("utf-8", "surrogatepass") + content + b"\r\n")
    return b"".join(lines) + (f"--{boundary}--\r\n".encode() if end else b"")


def empty_home(home: Path) -> None:
    """Make a home with a base that has a tokenizer and no weights: nothing is trained or answered in it."""
    from tokenizers import Tokenizer, models, pre_tokenizers

    folder = home / "bases" / "tiny"
    folder.mkdir(parents=True)
    letters = {letter: number for number, letter in enumerate(sorted(pre_tokenizers.ByteLevel.alphabet()))}
    tokenizer = Tokenizer(models.BPE(vocab=letters, merges=[]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.save(str(folder / "tokenizer.json"))
    (folder / "config.json").write_text("{}", encoding="utf-8")


@contextmanager
def idle_engine(home: Path, patch: pytest.MonkeyPatch, **settings: Any) -> Iterator[Client]:
    """Connect to an engine with a tokenizer and no weights, which neither trains nor answers batches."""
    if not (home / "bases").exists():
        empty_home(home)
    for module in ("job_queue", "worker_launcher"):
        patch.setattr(f"finetune.engine.{module}.start_worker", lambda _: None)
    patch.setattr("finetune.engine.batch_runner.BatchRunner._work_on_all", lambda _: None)
    patch.setattr("finetune.engine.bases.wheel_weights", lambda: None)
    app = make_app(Store(home), KEY, **settings)
    found = Client(app)
    yield found
    found.close()
    app.state.engine.close()


FORM = {"content-type": "multipart/form-data; boundary=b0undary"}


def add_file(client: Client, purpose: str = "fine-tune", content: bytes = b'{"a": 1}\n', **fields: str) -> Any:
    """Upload a file and return its object. Fields of the form are given with `__` in place of the brackets."""
    more = [(name.replace("__", "[") + "]" * ("__" in name), None, value.encode()) for name, value in fields.items()]
    body = form(("purpose", None, purpose.encode()), *more, ("file", "a.jsonl", content))
    answer = client.send(Sent("POST", "/v1/files", (body,), FORM))
    assert answer.status == 200, answer.body
    return answer.json()


def add_job(home: Path, number: int, status: str = "succeeded", **columns: object) -> str:
    """Add a job to the database, and return its ID."""
    values = {"id": f"ftjob-{number}", "created_at": number, "status": status, "model": "tiny", "seed": 1}
    values |= {"training_file": "file-none", "asked": "{}", "finished_at": number, **columns}
    names = ", ".join(values)
    Store(home).execute(f"INSERT INTO jobs ({names}) VALUES ({', '.join('?' * len(values))})", *values.values())
    return str(values["id"])


def add_model(home: Path, number: int, job: str = "ftjob-0") -> str:
    """Add a fine-tuned model without weights, and its checkpoint, to the database, and return its name."""
    name, store = f"ft:tiny:local::{number}", Store(home)
    (home / "models" / str(number)).mkdir()
    store.execute("INSERT INTO models VALUES (NULL, ?, ?, ?, 'tiny', 'float32', ?)", name, number, job, str(number))
    store.execute(
        "INSERT INTO checkpoints VALUES (NULL, ?, ?, ?, ?, ?, '{}', '[]')",
        f"ftckpt_{number}",
        job,
        number,
        number,
        name,
    )
    return name
