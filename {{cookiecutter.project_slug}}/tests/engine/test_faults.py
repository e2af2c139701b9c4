"""Never paid twice: every fault at every step of the protocol, and a kill at every step.

Each cell trains for real. It ends, after one more run at most, with one job, one file per content and the right record.
"""

import dataclasses
import json
import os
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from faulty import FAULTS, STEPS, Plan, Server, address, faulty

from finetune.engine.embedded import listen, server_of
from finetune.errors import FinetuneError
from finetune.params import load_params
from finetune.paths import FILES, MODEL, PREPARED, PREPARED_REPORT, VALIDATION_REPORT
from finetune.provider import connect, files, jobs
from finetune.provider.profiles import PROFILES
from finetune.record import write_json
from finetune.stages import train, upload

KEY = "sk-test-0123456789abcdef"
HERE = Path(__file__).parent
# Only a person can mend these, so the run ends with a sentence; the others it gets over by itself.
FOR_A_PERSON = ("400", "401", "403", "404", "429-quota", "429-daily")
PARAMS = """
data: {file: raw.csv, split: {train: 0.7, valid: 0.1, test: 0.2}}
provider: {name: local, base_url: URL}
train: {base: tiny, method: supervised, n_epochs: 1, batch_size: auto, learning_rate_multiplier: auto, seed: SEED}
evaluate: {max_tokens: 6, temperature: 0.0, concurrency: 8}
"""


@pytest.fixture(scope="module")
def provider(home: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """An engine whose workers start in no time, behind a server that spoils what it is told to."""
    path = tmp_path_factory.mktemp("s") / "s"
    forked = str(HERE / "forked.py")
    environment = {**os.environ, "PYTHONPATH": str(HERE.parents[1]), "PYTHONHASHSEED": "0"}
    workers = subprocess.Popen([sys.executable, forked, "serve", path], stdout=subprocess.PIPE, env=environment)
    assert workers.stdout
    assert workers.stdout.readline() == b"ready\n"
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("FINETUNE_ENGINE_KEY", KEY)
        patch.setenv("FINETUNE_ENGINE_LAUNCHER", f"{sys.executable} -S {forked} {path}")
        # The same protocol at a quicker pace.
        patch.setitem(PROFILES, "local", dataclasses.replace(PROFILES["local"], poll_seconds=(0.05, 0.2)))
        patch.setattr(connect, "PATIENCE", 1)
        patch.setattr(jobs, "LOOKS", (0.1, 0.2, 0.4))
        patch.setattr(jobs, "SETTLE", 0.01)
        patch.setattr(files, "LOOKS", (0, 0.1, 0.2))
        with server_of(KEY) as engine, listen("127.0.0.1", 0) as sock:
            thread = threading.Thread(target=engine.run, kwargs={"sockets": [sock]}, daemon=True)
            thread.start()
            while not engine.started:
                time.sleep(0.01)
            with faulty(f"http://127.0.0.1:{sock.getsockname()[1]}") as server:
                yield server
            engine.should_exit = True
            thread.join()
    workers.kill()
    workers.wait()
    for file in home.rglob("*"):
        assert not file.is_file() or KEY.encode() not in file.read_bytes(), file


@pytest.fixture
def project(provider: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A project whose data no other test has, so that its files and its job are its own."""
    monkeypatch.chdir(tmp_path)
    provider.plan = Plan()
    make_project(tmp_path, provider)
    return tmp_path


def make_project(folder: Path, provider: Server, seed: int = 7) -> None:
    text = PARAMS.replace("URL", address(provider)).replace("SEED", str(seed))
    (folder / "params.yaml").write_text(text, encoding="utf-8")
    (folder / PREPARED).mkdir(parents=True)
    for split, rows in (("train", 10), ("valid", 2)):
        lines = [
            {"messages": [{"role": "user", "content": f"{folder} {n}"}, {"role": "assistant", "content": "red"}]}
            for n in range(rows)
        ]
        text = "".join(json.dumps({**line, "messages": line["messages"]}) + "\n" for line in lines)
        (folder / PREPARED / f"{split}.jsonl").write_text(text.replace(" 0", f" {split}"), encoding="utf-8")
    write_json(folder / VALIDATION_REPORT, {"train_tokens_per_epoch": 100, "auto": {"n_epochs": 1}})
    write_json(folder / PREPARED_REPORT, {"prompt": "x"})


def run(stage: Any) -> FinetuneError | None:
    """The stage as its command runs it; what it would print and exit 1 with. Any other exception fails the test."""
    try:
        stage.run(load_params())
    except FinetuneError as error:
        return error
    return None


def assert_paid_once(home: Path, project: Path, printed: str) -> None:
    """One job, one file per content, the record of that job, and the key nowhere."""
    record = json.loads((project / MODEL).read_text(encoding="utf-8"))
    uploaded = json.loads((project / FILES).read_text(encoding="utf-8"))
    db = sqlite3.connect(home / "engine.db")
    try:
        for file in uploaded.values():
            name = f"{file['sha256']}.jsonl"
            assert db.execute("SELECT id FROM files WHERE filename = ?", (name,)).fetchall() == [(file["id"],)]
        made = db.execute(
            "SELECT id, status, fine_tuned_model FROM jobs WHERE training_file = ?", (uploaded["train"]["id"],)
        ).fetchall()
    finally:
        db.close()
    assert made == [(record["job"], "succeeded", record["model"])]
    assert (project / "models" / "weights" / "adapter_model.safetensors").stat().st_size > 0
    assert KEY not in printed
    for path in project.rglob("*"):
        assert not path.is_file() or KEY.encode() not in path.read_bytes(), path


@pytest.mark.parametrize("step", STEPS)
@pytest.mark.parametrize("fault", FAULTS)
def test_one_job_whatever_goes_wrong(
    fault: str, step: str, home: Path, provider: Server, project: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    stage_name, pattern, skip = STEPS[step]
    errors: list[str] = []
    for stage in (upload, train):
        if stage.__name__.endswith(stage_name):
            provider.plan = Plan(pattern, skip, FAULTS[fault])
        error = run(stage)
        if error is not None:
            errors.append(str(error))
            error = run(stage)
        assert error is None, error
    assert provider.plan.fault is None, "the call to spoil was never made"
    if fault in FOR_A_PERSON:
        assert len(errors) == 1
        assert "  → " in errors[0]
    if fault in FOR_A_PERSON and errors:
        # Not tried again by itself: before the person acted, the call was made just once.
        assert provider.plan.calls() <= 60
    assert_paid_once(home, project, capfd.readouterr().err + "".join(errors))
