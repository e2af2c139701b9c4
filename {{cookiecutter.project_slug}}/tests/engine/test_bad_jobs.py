"""Test that no job and no batch keeps others waiting: each fails with its reason, and the next one trains."""

import json
import os
import shutil
import sqlite3
import sys
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import openai
import pytest
from conftest import PATIENCE, start_job, training_lines, wait
from test_batches import line_of, start_batch
from test_batches import wait as wait_for_batch
from tiny import make_tiny_base

from finetune.engine import batch_queue, training_run, worker, worker_launcher
from finetune.engine.api_errors import ApiError
from finetune.engine.batch_input import check_input
from finetune.engine.client_text import encodable, reason, without_paths
from finetune.engine.jsonl import MAX_LINE, numbered_lines, parse_object
from finetune.engine.store import Store
from finetune.engine.training.checkpoints import mark_complete, newest_complete_checkpoint

USER: Any = {"role": "user", "content": "a"}
LINES = training_lines(12).splitlines(keepends=True)
# What a line may hold besides JSON that can be encoded again.
NOT_JSON = {
    "half a surrogate pair in UTF-8": b'{"messages": "\xed\xa0\x80"}',
    "half a surrogate pair as an escape": b'{"messages": "\\ud800"}',
    "key with half a surrogate pair": b'{"\\udfff": 1}',
    "Latin-1": '{"messages": "é"}'.encode("latin-1"),
    "NUL": b'{"messages": "\x00"}',
    "deep": b'{"messages": ' + b"[" * 100_000 + b"]" * 100_000 + b"}",
    "number of 5,000 digits": b'{"messages": ' + b"9" * 5000 + b"}",
    "NaN": b'{"messages": NaN}',
    "UTF-16": '{"messages": 1}'.encode("utf-16"),
    "two objects": b'{"messages": 1}\r{"messages": 2}',
}


def slow_after_the_first(cases: dict[str, bytes]) -> list[Any]:
    """Return the cases as parameters, all but the first marked as slow."""
    first = next(iter(cases))
    marks = {name: [] if name == first else [pytest.mark.slow] for name in cases}
    return [pytest.param(value, id=name, marks=marks[name]) for name, value in cases.items()]


@pytest.fixture
def hurried(monkeypatch: pytest.MonkeyPatch) -> None:
    """Start a new worker soon after one died."""
    monkeypatch.setattr(worker_launcher, "STARTUP_SECONDS", 0.5)


def upload(client: openai.OpenAI, content: bytes, purpose: Any = "fine-tune") -> str:
    return client.files.create(file=("train.jsonl", content), purpose=purpose).id


def trains(client: openai.OpenAI) -> None:
    """Check that a good job trains."""
    job = wait(client, start_job(client, epochs=1, examples=12).id)
    assert job.status == "succeeded", job.error


def failed(client: openai.OpenAI, job: Any) -> Any:
    """Return the error of a job that fails, and check that its answers name no path."""
    ended = wait(client, job.id)
    assert ended.status == "failed", ended.error
    events = client.fine_tuning.jobs.list_events(job.id, limit=100)
    for text in (ended.to_json(), events.to_json()):
        assert "/tmp" not in text
        assert os.environ["FINETUNE_HOME"] not in text
    return ended.error


@pytest.mark.parametrize("line", NOT_JSON.values(), ids=list(NOT_JSON))
def test_a_line_that_jobs_cannot_read_is_refused_at_upload_with_its_number(client: openai.OpenAI, line: bytes) -> None:
    content = b"".join([*LINES[:5], line + b"\n", *LINES[5:]])
    with pytest.raises(openai.BadRequestError, match="Line 6 is not a dictionary"):
        upload(client, content)


@pytest.mark.usefixtures("forked_workers")
@pytest.mark.parametrize("line", slow_after_the_first(NOT_JSON))
def test_such_a_line_on_the_disk_fails_the_job_and_the_next_one_trains(
    client: openai.OpenAI, home: Path, monkeypatch: pytest.MonkeyPatch, line: bytes
) -> None:
    """An earlier version accepted the file, so it has no digest."""
    file = upload(client, b"".join(LINES))
    (home / "files" / file).write_bytes(b"".join([*LINES[:5], line + b"\n", *LINES[5:]]))
    Store(home).execute("DELETE FROM digests")
    bad = start_job(client, training_file=file, validation_file=None)
    good = start_job(client, epochs=1, examples=12)
    error = failed(client, bad)
    assert (error.code, error.param) == ("invalid_training_file", "training_file")
    assert "(line 6)" in error.message
    assert wait(client, good.id).status == "succeeded"


def break_row(store: Store, job_id: str, file: str) -> None:
    store.execute("DELETE FROM files WHERE id = ?", file)


def break_content(store: Store, job_id: str, file: str) -> None:
    store.file_path(file).unlink()


def cut_content(store: Store, job_id: str, file: str) -> None:
    """Cut the last two examples. What remains could be trained on."""
    store.file_path(file).write_bytes(b"".join(LINES[:-2]))


def make_folder(store: Store, job_id: str, file: str) -> None:
    store.file_path(file).unlink()
    store.file_path(file).mkdir()


def break_hyperparameters(store: Store, job_id: str, file: str) -> None:
    store.execute("UPDATE jobs SET asked = '{', resolved = '[]' WHERE id = ?", job_id)


def unknown_base(store: Store, job_id: str, file: str) -> None:
    store.execute("UPDATE jobs SET model = '\U0001f600/../..' WHERE id = ?", job_id)


FAULTS: dict[str, tuple[Callable[[Store, str, str], None], str]] = {
    "row deleted": (break_row, "was deleted"),
    "content deleted": (break_content, "was deleted"),
    "content cut": (cut_content, "is damaged"),
    "content a folder": (make_folder, "was deleted"),
    "hyperparameters": (break_hyperparameters, "Error"),
    "base": (unknown_base, "no base model"),
}


@pytest.mark.slow
@pytest.mark.usefixtures("forked_workers")
@pytest.mark.parametrize("status", ["queued", "validating_files"])
@pytest.mark.parametrize("fault", FAULTS)
def test_a_job_whose_things_are_gone_fails_and_the_next_one_trains(
    client: openai.OpenAI, home: Path, monkeypatch: pytest.MonkeyPatch, status: str, fault: str
) -> None:
    store = Store(home)
    damage, message = FAULTS[fault]
    with monkeypatch.context() as patch:
        patch.setattr("finetune.engine.job_queue.start_worker", lambda _: None)
        bad = start_job(client, training_file=upload(client, b"".join(LINES)), validation_file=None)
        columns = {"status": status, "resolved": '{"batch_size": 1, "learning_rate_multiplier": 1, "n_epochs": 1}'}
        store.set_job_status(bad.id, **columns)
        damage(store, bad.id, bad.training_file)
    good = start_job(client, epochs=1, examples=12)
    assert message in failed_row(store, client, bad.id)["message"]
    assert wait(client, good.id).status == "succeeded"


def failed_row(store: Store, client: openai.OpenAI, job_id: str) -> Any:
    """Wait until a job has failed and return its error; the job itself may be too broken to be shown."""
    end = time.monotonic() + PATIENCE
    while time.monotonic() < end:
        worker_launcher.ensure_worker(store)
        row = store.row("SELECT status, error FROM jobs WHERE id = ?", job_id)
        if row["status"] == "failed":
            return json.loads(row["error"])
        time.sleep(0.05)
    raise AssertionError(row)


def garbage_config(base: Path) -> None:
    (base / "config.json").write_text("{", encoding="utf-8")


def another_config(base: Path) -> None:
    (base / "config.json").write_text('{"model_type": "nothing"}', encoding="utf-8")


def no_tokenizer(base: Path) -> None:
    (base / "tokenizer.json").write_text('{"model": 7}', encoding="utf-8")


def cut_weights(base: Path) -> None:
    path = base / "model.safetensors"
    path.write_bytes(path.read_bytes()[:-100])


@pytest.mark.slow
@pytest.mark.usefixtures("forked_workers")
@pytest.mark.parametrize("damage", [shutil.rmtree, cut_weights, garbage_config, another_config, no_tokenizer])
def test_a_job_of_a_damaged_base_fails_and_the_next_one_trains(
    client: openai.OpenAI, home: Path, monkeypatch: pytest.MonkeyPatch, damage: Any
) -> None:
    base = home / "bases" / "fragile"
    shutil.rmtree(base, ignore_errors=True)
    make_tiny_base(base)
    with monkeypatch.context() as patch:
        patch.setattr("finetune.engine.job_queue.start_worker", lambda _: None)  # the damage comes first
        bad = start_job(client, model="fragile")
    damage(base)
    good = start_job(client, epochs=1, examples=12)
    assert failed(client, bad).message
    assert wait(client, good.id).status == "succeeded"
    with pytest.raises(openai.APIStatusError) as caught:
        client.chat.completions.create(model="fragile", messages=[USER], max_tokens=2)
    assert str(home) not in caught.value.response.text
    assert client.chat.completions.create(model="tiny", messages=[USER], max_tokens=2).choices


@pytest.mark.usefixtures("forked_workers")
def test_a_training_that_diverges_fails_and_its_events_can_be_read(client: openai.OpenAI, home: Path) -> None:
    """NaN is no JSON: such a metric made the list of events fail, and such a model answers nothing."""
    import torch
    from safetensors.torch import load_file, save_file

    base = home / "bases" / "diverging"
    make_tiny_base(base)
    weights = load_file(base / "model.safetensors")
    weights["model.norm.weight"] = torch.full_like(weights["model.norm.weight"], float("nan"))
    save_file(weights, base / "model.safetensors", {"format": "pt"})
    bad = start_job(client, model="diverging")
    good = start_job(client, epochs=1, examples=12)
    error = failed(client, bad)
    assert error.code == "training_diverged"
    assert "train_loss at step 1 is not a number. Use a lower learning_rate_multiplier" in error.message
    assert wait(client, good.id).status == "succeeded"


# A trainer that dies of each job with this seed, before it has imported torch.
CRASH = """
import os, signal, sys
from pathlib import Path
from finetune.engine.training import job_folder
from finetune.engine.training.__main__ import main
folder = Path(sys.argv[-1])
if job_folder.read_job(folder)["seed"] == 666:
    job_folder.register_process(folder)
    os.kill(os.getpid(), signal.{signal})
sys.exit(main(folder))
"""


@pytest.mark.slow
@pytest.mark.parametrize("how", ["SIGSEGV", "SIGKILL"])
def test_a_job_that_kills_its_trainer_lets_the_next_one_train_and_fails(
    client: openai.OpenAI, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, hurried: None, how: str
) -> None:
    program = tmp_path / "crash.py"
    program.write_text(CRASH.replace("{signal}", how), encoding="utf-8")
    monkeypatch.setenv("FINETUNE_ENGINE_LAUNCHER", f"{sys.executable} {program}")
    bad = start_job(client, seed=666)
    good = start_job(client, epochs=1, examples=12)
    ended = wait(client, good.id)
    assert ended.status == "succeeded", ended.error
    assert f"died {training_run.MAX_STARTS} times" in failed(client, bad).message


@pytest.mark.slow
@pytest.mark.usefixtures("forked_workers")
@pytest.mark.parametrize(
    ("launcher", "message"),
    [
        ("no-such-launcher", "no-such-launcher"),
        ("false", "exit code 1"),
        ("'", "quotation"),
        ("/dev/null", "denied"),
    ],
)
def test_a_launcher_that_starts_nothing_fails_the_job_and_the_next_one_trains(
    client: openai.OpenAI, monkeypatch: pytest.MonkeyPatch, hurried: None, launcher: str, message: str
) -> None:
    with monkeypatch.context() as patch:
        patch.setenv("FINETUNE_ENGINE_LAUNCHER", launcher)
        error = failed(client, start_job(client))
    assert error.code == "server_error"
    assert message in error.message
    assert "FINETUNE_ENGINE_LAUNCHER" in error.message
    trains(client)


def test_a_job_that_breaks_the_queue_fails_and_the_next_one_is_validated(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = Store(tmp_path)
    for name in ("bad", "good"):
        add_job(store, name)

    def resolve(asked: Any, examples: int, method: str) -> dict[str, int]:
        if store.row("SELECT status FROM jobs WHERE id = 'good'")["status"] == "validating_files" and not seen:
            seen.append("bad")
            raise ZeroDivisionError("/home/somebody/secret: a bug \ud800")
        return {"n_epochs": 1}

    seen: list[str] = []
    monkeypatch.setattr(worker, "resolve", resolve)
    worker.validate_new_jobs(store)
    rows = {row["id"]: row for row in store.rows("SELECT * FROM jobs")}
    assert rows["good"]["status"] == "queued"
    assert rows["bad"]["status"] == "failed"
    assert "ZeroDivisionError: (a path of the server): a bug \\ud800" in json.loads(rows["bad"]["error"])["message"]


def test_a_job_whose_file_kills_each_validation_comes_last_and_fails(tmp_path: Path) -> None:
    store = Store(tmp_path)
    for name in ("bad", "good"):
        add_job(store, name)
    store.execute("UPDATE jobs SET starts = ? WHERE id = 'bad'", training_run.MAX_STARTS)
    assert [job["id"] for job in store.unfinished()] == ["good", "bad"]
    worker.validate_new_jobs(store)
    assert [row["status"] for row in store.rows("SELECT status FROM jobs ORDER BY n")] == ["failed", "queued"]
    assert store.row("SELECT starts FROM jobs WHERE id = 'good'")["starts"] == 0


def add_job(store: Store, name: str) -> None:
    file = store.add_file("train.jsonl", "fine-tune", LINES)
    store.execute(
        "INSERT INTO jobs (id, created_at, status, model, seed, training_file, asked)"
        " VALUES (?, 1, 'validating_files', 'tiny', 1, ?, '{\"n_epochs\": 1}')",
        name,
        file,
    )


def test_a_clock_that_was_set_back_does_not_keep_jobs_waiting(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = Store(tmp_path)
    started: list[Store] = []
    add_job(store, "one")
    store.execute("INSERT INTO notes VALUES ('spawned', ?)", time.time() + 1e6)
    monkeypatch.setattr(worker_launcher, "start_worker", started.append)
    worker_launcher.ensure_worker(store)
    assert started == [store]


def test_files_of_azure_and_with_blank_lines_are_read_at_upload_and_by_the_job(
    client: openai.OpenAI, forked_workers: None
) -> None:
    """Azure demands a byte order mark. Lines are counted as an editor counts them."""
    whole = b"\xef\xbb\xbf" + b"\n".join(LINES) + b"\r\n\n"
    assert wait(client, start_job(client, epochs=1, training_file=upload(client, whole)).id).status == "succeeded"
    wrong = b"\n".join([*LINES, b'{"prompt": 1}'])
    error = wait(client, start_job(client, epochs=1, training_file=upload(client, wrong)).id).error
    assert "Example 13 is missing key 'messages'. (line 25)" in error.message


def test_a_line_without_end_is_not_read_whole(tmp_path: Path) -> None:
    path = tmp_path / "long.jsonl"
    with open(path, "wb") as out:
        out.truncate(10 * MAX_LINE)
    _, line = next(numbered_lines(path))
    assert len(line) == MAX_LINE + 1
    with pytest.raises(ValueError, match="longer than 32 MiB"):
        parse_object(line)


def test_a_damaged_checkpoint_is_left_for_the_one_before_it(tmp_path: Path) -> None:
    for step in (2, 4, 10):
        folder = tmp_path / f"checkpoint-{step}"
        folder.mkdir()
        (folder / "adapter_model.safetensors").write_bytes(b"weights")
        mark_complete(folder)
    (tmp_path / "checkpoint-10" / "adapter_model.safetensors").write_bytes(b"weighty")
    (tmp_path / "checkpoint-2" / "complete").write_bytes(b"")  # of an earlier version
    assert newest_complete_checkpoint(tmp_path) == tmp_path / "checkpoint-4"
    (tmp_path / "checkpoint-4" / "adapter_model.safetensors").unlink()
    assert newest_complete_checkpoint(tmp_path) == tmp_path / "checkpoint-2"


@pytest.mark.parametrize(
    "path",
    ["/srv/data/x.bin", "'/srv/my data/x.bin'", r"C:\Users\me\x", "~/models/x", "/home/somebody/.cache/x.json:12"],
)
def test_an_unforeseen_error_names_no_path(path: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    shown = without_paths(f"No such file: {path}, see line 3/4 of a/b at https://example.com/a")
    assert shown.startswith("No such file: (a path of the server)")
    assert shown.endswith("see line 3/4 of a/b at https://example.com/a")
    home = tmp_path / "a home of me"
    monkeypatch.setenv("FINETUNE_HOME", str(home))
    assert "of me" not in without_paths(f"Cannot read {home}/files/x")
    assert encodable("a\ud800\0") == "a\\ud800\\u0000"
    assert reason(OSError(2, "gone", str(home))) == "FileNotFoundError: [Errno 2] gone: (a path of the server)"


# Batches


def break_batch(home: Path, batch: Any, how: str) -> None:
    path = home / "files" / batch.input_file_id
    results = home / "batches" / f"{batch.id}.jsonl"
    if how == "row":
        Store(home).execute("DELETE FROM files WHERE id = ?", batch.input_file_id)
    elif how == "content":
        path.unlink()
    elif how == "cut":
        path.write_bytes(path.read_bytes().splitlines(keepends=True)[0])
    elif how == "input is a folder":
        path.unlink()
        path.mkdir()
    elif how == "results are a folder":
        results.mkdir()
    elif how == "results are garbage":
        results.write_bytes(b"\xff\n")


@pytest.mark.parametrize(
    "how", ["row", "content", "cut", "input is a folder", "results are a folder", "results are garbage"]
)
def test_a_batch_whose_things_are_gone_fails_and_the_next_one_is_answered(
    client: openai.OpenAI, home: Path, how: str
) -> None:
    with closing(sqlite3.connect(home / "engine.db")) as db:
        # The runner sees the batches only when the first one is broken.
        db.execute(
            "CREATE TRIGGER held AFTER INSERT ON batches BEGIN"
            " UPDATE batches SET status = 'held' WHERE id = NEW.id; END"
        )
        try:
            store = Store(home)
            file = upload(client, b"".join(json.dumps(line_of(str(n))).encode() + b"\n" for n in range(3)), "batch")
            bad = batch_queue.create(store, file, None)
        finally:
            db.execute("DROP TRIGGER held")
    broken: Any = type("Batch", (), {"id": bad["id"], "input_file_id": file})
    break_batch(home, broken, how)
    store.execute("UPDATE batches SET status = 'validating' WHERE id = ?", bad["id"])
    good = start_batch(client, [line_of("1")])
    assert wait_for_batch(client, good.id).status == "completed"
    ended = wait_for_batch(client, bad["id"])
    assert ended.status == "failed"
    assert ended.errors.data[0].message
    assert str(home) not in ended.to_json()


@pytest.mark.parametrize("line", NOT_JSON.values(), ids=list(NOT_JSON))
def test_a_batch_with_a_line_that_is_no_json_fails_with_its_number(client: openai.OpenAI, line: bytes) -> None:
    content = json.dumps(line_of("1")).encode() + b"\n" + line + b"\n"
    settings: dict[str, Any] = {"endpoint": "/v1/chat/completions", "completion_window": "24h"}
    bad = client.batches.create(input_file_id=upload(client, content, "batch"), **settings)
    good = start_batch(client, [line_of("1")])
    error = wait_for_batch(client, bad.id).errors.data[0]
    assert (error.code, error.line) == ("invalid_json_line", 2)
    assert wait_for_batch(client, good.id).status == "completed"


@pytest.mark.parametrize("error", [OSError(28, "No space left on device"), sqlite3.OperationalError("disk is full")])
def test_a_full_disk_leaves_a_batch_waiting_and_the_next_one_is_answered(
    client: openai.OpenAI, home: Path, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    refused: list[Path] = []

    def check(store: Store, path: Path, endpoint: str) -> Any:
        if not refused or (refused == [path] and full):
            refused[:] = [path]
            raise error
        return check_input(store, path, endpoint)

    full = [True]
    monkeypatch.setattr("finetune.engine.batch_runner.check_input", check)
    bad, good = start_batch(client, [line_of("1")]), start_batch(client, [line_of("2")])
    assert wait_for_batch(client, good.id).status == "completed"
    assert client.batches.retrieve(bad.id).status == "validating"
    full.clear()
    assert wait_for_batch(client, bad.id).status == "completed"


def test_a_client_that_leaves_does_not_stop_the_generator(client: openai.OpenAI, home: Path) -> None:
    from finetune.engine.inference.generation_types import GenerationRequest
    from finetune.engine.inference.generator import Generator

    generator = Generator(Store(home))
    try:
        request = GenerationRequest("nobody", [{"role": "user", "content": "a"}], 2, 0, 1, 0, (), None)
        gone = generator.submit(request)
        gone.cancel()
        with pytest.raises(ApiError):
            generator.submit(request).result(timeout=60)
    finally:
        generator.close()
