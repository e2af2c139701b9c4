"""Test what clients may name and learn, whom the server answers, and that damaged weights are never used."""

import json
import os
import shutil
import stat
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import openai
import pytest
from conftest import PATIENCE, start_job, wait
from tiny import make_tiny_base

from finetune.engine import bases, embedded
from finetune.engine.home import shared_home_warning
from finetune.engine.store import Store

USER: Any = {"role": "user", "content": "1: paint it blue"}
ROOT = Path(__file__).parents[2]


@contextmanager
def server(**settings: Any) -> Iterator[openai.OpenAI]:
    """Serve the module's home with these settings of `server_of`, and connect to it."""
    import threading

    with embedded.server_of("key", **settings) as running, embedded.listen("127.0.0.1", 0) as sock:
        thread = threading.Thread(target=running.run, kwargs={"sockets": [sock]}, daemon=True)
        thread.start()
        while not running.started:
            time.sleep(0.01)
        with openai.OpenAI(
            base_url=f"http://127.0.0.1:{sock.getsockname()[1]}/v1", api_key="key", max_retries=0
        ) as found:
            yield found
        running.should_exit = True
        thread.join()


# Bases


@pytest.fixture(scope="module")
def outside(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the folder of a base that the server's owner has not installed."""
    folder = tmp_path_factory.mktemp("outside") / "base"
    make_tiny_base(folder)
    return folder


@pytest.fixture(scope="module")
def strict(home: Path) -> Iterator[openai.OpenAI]:
    """Connect to a server that allows only installed bases."""
    with server(any_base=False) as found:
        yield found


def calls(client: openai.OpenAI, model: str) -> dict[str, Callable[[], Any]]:
    """Return a call for each route that takes the name of a base."""
    address = str(client.base_url).removesuffix("/v1/") + "/tokenize"
    return {
        "chat": lambda: client.chat.completions.create(model=model, messages=[USER], max_tokens=1),
        "job": lambda: start_job(client, model=model),
        "retrieve": lambda: client.models.retrieve(model),
        "delete": lambda: client.models.delete(model),
        "tokenize": lambda: client.post(address, cast_to=object, body={"model": model, "prompt": "a"}),
    }


def refusals(client: openai.OpenAI, model: str) -> dict[str, str]:
    """Return what each route says to a name that it refuses, with NAME in place of the name."""
    said = {}
    for route, call in calls(client, model).items():
        with pytest.raises((openai.NotFoundError, openai.BadRequestError)) as caught:
            call()
        assert caught.value.code == "model_not_found"
        said[route] = caught.value.response.json()["error"]["message"].replace(model, "NAME")
    return said


@pytest.mark.slow
def test_only_installed_bases_are_served_unless_the_owner_allows_more(
    strict: openai.OpenAI, home: Path, outside: Path
) -> None:
    (home / "bases" / "link").symlink_to(outside)
    linked = home / "bases" / "linked-file"
    shutil.copytree(outside, linked)
    (linked / "tokenizer.json").unlink()
    (linked / "tokenizer.json").symlink_to(outside / "tokenizer.json")
    expected = refusals(strict, "none")
    names = [
        str(outside),
        str(outside.parent),
        "/nowhere",
        "/root",
        str(home / "bases" / "tiny"),
        f"../../{outside.parent.name}/base",
        "tiny/../tiny",
        "link",
        "linked-file",
        "someone/some-base@0123abc",
        "x" * 5000,
    ]
    try:
        for name in names:
            assert refusals(strict, name) == expected, name
        assert {model.id for model in strict.models.list()} & {"link", "linked-file"} == set()
        assert calls(strict, "tiny")["chat"]().choices
        with server(any_base=True) as open_server:
            assert {model.id for model in open_server.models.list()} >= {"link", "linked-file", "tiny"}
    finally:
        (home / "bases" / "link").unlink()
        shutil.rmtree(linked)


@pytest.mark.slow
def test_the_owner_may_name_any_folder_and_its_models_stay_usable(
    client: openai.OpenAI, strict: openai.OpenAI, outside: Path
) -> None:
    """`client` is connected to the embedded engine, as the stages are."""
    assert calls(client, str(outside))["chat"]().choices
    job = wait(client, start_job(client, epochs=1, model=str(outside)).id)
    assert job.status == "succeeded", job.error
    for route in ("chat", "retrieve", "tokenize"):
        assert calls(strict, job.fine_tuned_model)[route]()
    for name in ("/nowhere", "/root", f"{outside}/../base", str(outside.parent)):
        assert refusals(client, name) == refusals(client, "none")
    with pytest.raises(openai.BadRequestError, match="An absolute folder"):
        start_job(client, model="none")
    with pytest.raises(openai.BadRequestError, match="start it with --allow-any-base"):
        start_job(strict, model="none")


@pytest.mark.parametrize(
    ("name", "is_one"),
    [
        *(("org/model@0123abc", True), ("org/model@v1.0", True), ("org/model", False), ("../..@main", False)),
        *(("a/..@b", False), ("a/b@..", False), ("/a/b@c", False), ("a/b@c/d", False), ("ö/model@main", False)),
        *(("-a/b@c", False), ("..", False), (".", False), ("", False), ("a\0", False), ("\ud800", False)),
    ],
)
def test_a_hub_name_has_no_path(tmp_path: Path, name: str, is_one: bool) -> None:
    assert bases.known(name, Store(tmp_path, any_base=True)) is is_one
    assert not bases.known(name, Store(tmp_path))


@pytest.mark.parametrize(
    ("arguments", "is_allowed"),
    [
        (["--host", "127.0.0.1"], True),
        (["--host", "0.0.0.0"], False),
        (["--host", "127.0.0.1", "--no-allow-any-base"], False),
        (["--host", "0.0.0.0", "--allow-any-base"], True),
    ],
)
def test_serve_allows_any_base_by_default_on_loopback_only(
    home: Path, outside: Path, arguments: list[str], is_allowed: bool
) -> None:
    with embedded.listen("127.0.0.1", 0) as free:
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "finetune", "serve", "--port", str(port), *arguments]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "FINETUNE_ENGINE_KEY": "key"}
    with subprocess.Popen(command, env=environment, stderr=subprocess.PIPE) as running:
        try:
            address = f"http://127.0.0.1:{port}/v1/models/{outside}"
            status, body = get(address, {"Authorization": "Bearer key"})
            assert status == (200 if is_allowed else 404), body
            named = {"Authorization": "Bearer key", "Host": "a-name-that-was-pointed-here.example"}
            assert get(address, named)[0] == (421 if "127.0.0.1" in arguments else status)
        finally:
            running.terminate()


def get(address: str, headers: dict[str, str]) -> tuple[int, Any]:
    """Return the status and the JSON body of an address, as soon as its server listens."""
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    end = time.monotonic() + PATIENCE
    while time.monotonic() < end:
        try:
            with opener.open(urllib.request.Request(address, headers=headers), timeout=60) as answer:
                return answer.status, json.load(answer)
        except urllib.error.HTTPError as refusal:
            with refusal:
                return refusal.code, json.load(refusal)
        except urllib.error.URLError:
            time.sleep(0.1)
    raise AssertionError("no server")


# The Host header


@pytest.mark.parametrize(
    ("host", "is_allowed"),
    [
        ("localhost", True),
        ("LOCALHOST:1", True),
        ("127.0.0.1:65535", True),
        ("[::1]:8000", True),
        ("[::1]", True),
        ("evil.example", False),
        ("evil.example:8000", False),
        ("localhost.evil.example", False),
        ("127.0.0.1.evil.example", False),
        ("evil@localhost", False),
        ("127.0.0.2", False),
        ("0.0.0.0", False),
        ("", False),
    ],
)
def test_a_loopback_server_answers_only_to_its_own_names(client: openai.OpenAI, host: str, is_allowed: bool) -> None:
    headers = {"Host": host, "Authorization": f"Bearer {client.api_key}"}
    status, body = get(f"{client.base_url}models", headers)
    assert status == (200 if is_allowed else 421)
    if not is_allowed:
        assert set(body["error"]) == {"message", "type", "param", "code"}
        assert body["error"]["code"] == "misdirected_request"
        assert "localhost" in body["error"]["message"]


def test_the_host_is_checked_before_the_key(client: openai.OpenAI) -> None:
    assert get(f"{client.base_url}models", {"Host": "evil.example"})[0] == 421


def test_a_server_beyond_loopback_answers_to_every_name(home: Path) -> None:
    with embedded.listen("0.0.0.0", 0) as sock:
        assert embedded.local_hosts(sock) is None
    with embedded.listen("127.0.0.1", 0) as sock:
        assert embedded.local_hosts(sock) == embedded.LOCAL_HOSTS
    with server(hosts=None) as found:
        assert get(f"{found.base_url}models", {"Host": "gpu.example", "Authorization": "Bearer key"})[0] == 200


# Weights


def flip(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-2])


def raise_alpha(path: Path) -> None:
    """Change the adapter's strength: its answers change, and nothing fails."""
    config = json.loads(path.read_text(encoding="utf-8"))
    path.write_text(json.dumps({**config, "lora_alpha": 8 * config["lora_alpha"]}), encoding="utf-8")


WEIGHTS, CONFIG = "adapter_model.safetensors", "adapter_config.json"


@pytest.mark.usefixtures("forked_workers")
@pytest.mark.parametrize(
    ("damage", "name"),
    [
        (flip, WEIGHTS),
        *(pytest.param(one, WEIGHTS, marks=pytest.mark.slow) for one in (cut, Path.unlink)),
        pytest.param(raise_alpha, CONFIG, marks=pytest.mark.slow),
    ],
)
def test_damaged_weights_are_never_used(client: openai.OpenAI, home: Path, damage: Any, name: str) -> None:
    job = wait(client, start_job(client, epochs=1).id)
    model = job.fine_tuned_model
    assert calls(client, model)["chat"]().choices
    folder = home / "models" / Store(home).row("SELECT folder FROM models WHERE id = ?", model)["folder"]
    whole = (folder / name).read_bytes()
    damage(folder / name)
    for route in ("chat", "retrieve"):
        with pytest.raises(openai.UnprocessableEntityError, match=r"missing, cut or changed.*Restore it") as caught:
            calls(client, model)[route]()
        assert caught.value.code == "damaged_file"
        assert str(home) not in caught.value.response.text
    child = wait(client, start_job(client, epochs=1, model=model).id)
    assert child.status == "failed"
    assert (child.error.code, child.error.param) == ("damaged_file", "model")
    (folder / name).write_bytes(whole)
    assert calls(client, model)["chat"]().choices
    assert client.models.delete(model).deleted
    assert not Store(home).rows("SELECT * FROM digests WHERE path LIKE ?", f"models/{folder.name}/%")


@pytest.mark.usefixtures("forked_workers")
@pytest.mark.parametrize("damage", [flip, *(pytest.param(one, marks=pytest.mark.slow) for one in (cut, Path.unlink))])
def test_damaged_files_are_not_sent(client: openai.OpenAI, home: Path, damage: Any) -> None:
    job = wait(client, start_job(client, epochs=1).id)
    final = client.fine_tuning.jobs.checkpoints.list(job.id).data[0]
    for file in (*final.result_files, *job.result_files, job.training_file):  # type: ignore[attr-defined]
        assert client.files.content(file).content
        damage(home / "files" / file)
        with pytest.raises(openai.UnprocessableEntityError, match="missing, cut or changed") as caught:
            client.files.content(file)
        assert str(home) not in caught.value.response.text


def test_a_home_of_an_earlier_version_has_no_digests_and_its_models_are_used(
    client: openai.OpenAI, home: Path, forked_workers: None
) -> None:
    job = wait(client, start_job(client, epochs=1).id)
    Store(home).execute("DELETE FROM digests")
    assert calls(client, job.fine_tuned_model)["chat"]().choices
    assert client.files.content(job.result_files[0]).content


# The modes of files


def modes(home: Path) -> dict[str, str]:
    """Return the mode of each file and folder below a home, and of the home itself."""
    paths = [home, *home.rglob("*")]
    return {str(path.relative_to(home)): oct(stat.S_IMODE(path.stat().st_mode)) for path in paths}


@pytest.mark.parametrize("mode", [0o755, 0o770, 0o2775, 0o777, 0o711])
def test_a_shared_home_keeps_its_modes_and_its_owner_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str], mode: int
) -> None:
    home = tmp_path / "shared home"
    Store(home).add_file("a", "batch", [b"a"])
    with server_at(monkeypatch, home):
        pass
    for path in (home, *home.rglob("*")):
        path.chmod(mode if path.is_dir() else mode & 0o666)
    before = modes(home)
    capfd.readouterr()
    with server_at(monkeypatch, home):
        pass
    after = modes(home)
    assert {name: after[name] for name in before if name in after} == {k: v for k, v in before.items() if k in after}
    said = capfd.readouterr().err
    assert f"mode {mode & 0o7777:03o}" in said
    assert f"chmod 700 '{home}'" in said
    new = Store(home).add_file("b", "batch", [b"b"])
    assert stat.S_IMODE((home / "files" / new).stat().st_mode) == 0o600


@contextmanager
def server_at(monkeypatch: pytest.MonkeyPatch, home: Path) -> Iterator[None]:
    monkeypatch.setenv("FINETUNE_HOME", str(home))
    with server():
        yield


def test_a_new_home_is_private_and_nothing_is_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    home = tmp_path / "new"
    with server_at(monkeypatch, home):
        pass
    found = modes(home)
    assert {found[name] for name in (".", "files", "uploads", "jobs", "models", "bases", "batches")} == {"0o700"}
    assert found["engine.db"] == "0o600"
    assert shared_home_warning(home) is None
    assert capfd.readouterr().err == ""
