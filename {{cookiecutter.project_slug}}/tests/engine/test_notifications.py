"""`notify` in params.yaml: e-mails to a local mail server when a job succeeds or fails, or is over the budget."""

import socketserver
import sys
import threading
from collections.abc import Iterator
from email import message_from_bytes, policy
from pathlib import Path
from typing import Any

import openai
import pytest
import quick
from conftest import COLOURS
from ruamel.yaml import YAML
from typer.testing import CliRunner

from finetune.cli import app
from finetune.core.disk import write_json, write_jsonl
from finetune.core.errors import FinetuneError
from finetune.core.paths import PREPARED, PREPARED_REPORT, VALIDATION_REPORT
from finetune.engine import worker_launcher
from finetune.project.notifications import telling, with_secrets

EXAMPLE = "zebra-crossing"  # a word of the data
PASSWORD = "p@ss/word"


class MailServer(socketserver.ThreadingTCPServer):
    """A mail server that keeps what it is given."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Conversation)
        self.received: list[bytes] = []
        self.address = f"mailto://127.0.0.1:{self.server_address[1]}?from=us@example.com&to=me@example.com"

    def mails(self) -> list[tuple[str, str]]:
        """Return subject and text of each e-mail. None has a text of the data, or a password."""
        found = []
        for content in self.received:
            message = message_from_bytes(content, policy=policy.default)
            body = message.get_body(("plain",))
            assert body is not None
            text = body.get_content().strip()
            assert not [word for word in (EXAMPLE, PASSWORD) if word in str(message) + text]
            found.append((message["Subject"], text))
        return found


class Conversation(socketserver.StreamRequestHandler):
    """The commands of RFC 5321 that a client needs to send a mail."""

    server: MailServer

    def handle(self) -> None:
        self.say("220 ready")
        while command := self.rfile.readline().split(maxsplit=1):
            if command[0].upper() == b"DATA":
                self.say("354 end with a dot")
                self.server.received.append(b"".join(iter(self.rfile.readline, b".\r\n")))
            self.say("250 ok")

    def say(self, text: str) -> None:
        self.wfile.write(f"{text}\r\n".encode())


@pytest.fixture
def mail() -> Iterator[MailServer]:
    with MailServer() as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield server
        server.shutdown()


@pytest.fixture(scope="module", autouse=True)
def _project(client: openai.OpenAI, forked_workers: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """A project with prepared data, on the module's engine."""
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(tmp_path_factory.mktemp("desk"))
        patch.setenv("FINETUNE_ENGINE_KEY", client.api_key)
        for module, name, value in quick.PAUSES:
            patch.setattr(module, name, value)
        quick.shorten_pauses()
        for split, numbers in (("train", range(12)), ("valid", range(12, 15))):
            write_jsonl(PREPARED / f"{split}.jsonl", [example(number) for number in numbers])
        write_json(VALIDATION_REPORT, {"train_tokens_per_epoch": 1000, "auto": {"n_epochs": 1}})
        write_json(PREPARED_REPORT, {"prompt": "x", "codes": {}, "completion": None})
        yield


def example(number: int) -> dict[str, Any]:
    asked = {"role": "user", "content": f"{EXAMPLE} {number}"}
    return {"messages": [asked, {"role": "assistant", "content": COLOURS[number % 3]}]}


@pytest.fixture
def notify(client: openai.OpenAI) -> Any:
    """Return the function that writes params.yaml with these addresses."""

    def write(*addresses: str, **train: Any) -> None:
        values = {
            "data": {"file": "raw.csv", "split": {"train": 0.7, "valid": 0.1, "test": 0.2}},
            "provider": {"name": "local", "base_url": str(client.base_url)},
            "train": {
                "base": "tiny",
                "method": "supervised",
                "n_epochs": 1,
                "batch_size": "auto",
                "learning_rate_multiplier": "auto",
                "seed": 7,
                **train,
            },
            "evaluate": {"max_tokens": 6, "temperature": 0.0, "concurrency": 8},
            "notify": list(addresses),
        }
        YAML().dump(values, Path("params.yaml"))

    return write


def run(*arguments: str, error: str = "") -> str:
    """Run a command. Return what it prints, or the error that has these words."""
    done = CliRunner().invoke(app, list(arguments))
    assert error in str(done.exception) if error else done.exit_code == 0, (done.output, done.exception)
    return str(done.exception) if error else done.output


def test_success_is_told_to_each_address(notify: Any, mail: MailServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ALL_OF_IT", mail.address)
    monkeypatch.setenv("PART_OF_IT", "A & B")
    notify("$ALL_OF_IT", f"{mail.address}&name=$PART_OF_IT")
    run("upload")
    assert mail.mails() == []
    model = run("train").split()[-1]
    (subject, text), second = mail.mails()
    assert (subject, text) == second
    assert subject == f"{Path.cwd().name}: train succeeded"
    job = text.split()[1]
    assert text.startswith(f"Job {job} has the model {model}.")
    assert "From: A & B <us@example.com>" in mail.received[1].decode()
    assert run("jobs", "follow", job).strip().endswith(model)
    assert mail.mails()[-1] == (subject, f"Job {job} has the model {model}.")


def test_a_failed_job_is_told_without_its_message(
    notify: Any, mail: MailServer, client: openai.OpenAI, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(worker_launcher, "STARTUP_SECONDS", 0.5)
    monkeypatch.setenv("FINETUNE_ENGINE_LAUNCHER", "false")
    notify(mail.address, seed=8)
    run("train", error="failed: ")
    job = client.fine_tuning.jobs.list(limit=1).data[0].id
    subject, text = mail.mails()[0]
    assert subject == f"{Path.cwd().name}: train failed"
    assert text == f"Job {job} has no model. Why: finetune jobs show {job}"


def test_a_job_over_the_budget_is_told_by_upload_and_train(notify: Any, mail: MailServer) -> None:
    notify(mail.address, budget={"minutes": 0.5})
    for command in ("upload", "train"):
        run(command, error="Nothing was sent")
        subject, text = mail.mails()[-1]
        assert subject == f"{Path.cwd().name}: {command} is over the budget"
        assert "train.budget.minutes is 0.5" in text


def test_a_workspace_of_an_experiment_has_the_name_of_its_project(
    tmp_path: Path, mail: MailServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    workspace = tmp_path / "desk" / ".dvc" / "tmp" / "exps" / "tmp_x0jaszc"
    workspace.mkdir(parents=True)
    monkeypatch.chdir(workspace)
    with telling([mail.address], "train", print) as tell_success:
        tell_success("x")
    assert mail.mails() == [("desk: train succeeded", "x")]


def test_a_job_that_does_not_exist_is_not_told(notify: Any, mail: MailServer) -> None:
    notify(mail.address)
    run("jobs", "follow", "nonsense", error="nonsense")
    assert mail.mails() == []


def test_a_success_and_a_failure_are_of_different_kinds(monkeypatch: pytest.MonkeyPatch) -> None:
    kinds: list[str] = []

    def notify(_: Any, text: str, title: str, *, notify_type: str, **__: Any) -> bool:
        kinds.append(notify_type)
        return True

    monkeypatch.setattr("apprise.Apprise.notify", notify)
    with telling(["json://localhost"], "train", print) as tell_success:
        tell_success("x")
    with pytest.raises(ValueError, match="y"), telling(["json://localhost"], "train", print):
        raise ValueError("y")
    assert kinds == ["success", "failure"]


def test_an_address_with_a_secret_is_named_by_its_number() -> None:
    secrets = [
        "mailtos://me:hunter2@mail.example.com",
        "slack://T1JJ3T3L2/A1BRTD4JD/TIiajkdnlazkcOXrIdevi7FQ",
        "gotify://host/token123456",
    ]
    others = ["ntfys://topic", "mailtos://me:$MAIL_PASSWORD@host", "$ALL_OF_IT", "mailto://host?to=me@example.com", "x"]
    assert with_secrets([*secrets, *others]) == [1, 2, 3]


def test_another_error_is_told_without_its_text(mail: MailServer) -> None:
    with pytest.raises(ValueError, match=EXAMPLE), telling([mail.address], "train", print):
        raise ValueError(f"Example 3 is invalid: {EXAMPLE} {PASSWORD}")
    assert mail.mails()[0][0] == f"{Path.cwd().name}: train stopped"


@pytest.mark.parametrize(
    ("address", "words"),
    [
        (f"nosuch://me:{PASSWORD}@host", "does not know the form of address 1"),
        ("mailto://me:$NO_SUCH_VARIABLE@host", "the variable NO_SUCH_VARIABLE, which is not set"),
        (f"mailto://me:{PASSWORD}$@host", "a $ without a name"),
    ],
)
def test_an_address_that_cannot_be_used_stops_before_the_job(notify: Any, address: str, words: str) -> None:
    notify(address, seed=9)
    assert PASSWORD not in run("train", error=words)


def test_a_server_that_is_down_fails_nothing(
    notify: Any, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MAIL_PASSWORD", PASSWORD)
    said: list[str] = []
    down = "mailto://me:$MAIL_PASSWORD@127.0.0.1:9?from=me@example.com&to=me@example.com"
    with telling([down], "train", said.append) as tell_success:
        tell_success("x")
    assert said == ["No message was sent to address 1 of notify in params.yaml. Nothing else depends on it."]
    assert capfd.readouterr() == ("", "")


def test_without_apprise_the_remedy_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "apprise", None)
    with pytest.raises(FinetuneError, match=r"pip install -e '.\[notify\]'"), telling(["ntfys://x"], "train", print):
        raise AssertionError
