"""Every file that upload, train, baseline and tuned read, damaged in every way. They use the real provider.

What is damaged in a record is named, with the command that restores it. What is damaged in a note or a cache is asked
again: the outputs are the same as before, and nothing is paid twice.
"""

import json
import os
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from conftest import COLOURS
from faulty import Plan, Server, address
from faulty_engine import faulty_engine

from finetune.cli import app
from finetune.core.damage import warn_once
from finetune.core.errors import FinetuneError
from finetune.core.params import load_params
from finetune.stages import baseline, prepare, train, tuned, upload, validate

PARAMS = """
data: {file: data/raw/raw.jsonl, labels: [red, blue, green], split: {train: 0.6, valid: 0.2, test: 0.2}}
provider: {name: local, base_url: URL}
train: {base: tiny, method: supervised, n_epochs: 1, batch_size: auto, learning_rate_multiplier: auto, seed: 7,
  budget: {usd: 100, total_usd: 1000}, replay: {file: data/replay/talk.jsonl, share: 0.1}}
evaluate: {task: classify, max_tokens: 3, temperature: 0.0, concurrency: 8, few_shot: 1}
"""
CREATE = "POST /v1/fine_tuning/jobs"

pytestmark = pytest.mark.slow  # the whole pipeline runs first


@pytest.fixture(scope="module")
def provider(home: Path, forked_workers: None) -> Iterator[Server]:
    with faulty_engine() as server:
        yield server


@pytest.fixture(scope="module")
def finished(provider: Server, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A project whose paid stages have run, with a commit; its user's folder is beside it."""
    folder = tmp_path_factory.mktemp("finished") / "project"
    folder.mkdir()
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.setenv("FINETUNE_HOME", str(folder.parent / "user"))
        Path("params.yaml").write_text(PARAMS.replace("URL", address(provider)), encoding="utf-8")
        Path("models.toml").write_text('["tiny".local]\ntraining = 1.0\nseconds = 10\n', encoding="utf-8")
        for path, rows in (("data/raw/raw.jsonl", 60), ("data/replay/talk.jsonl", 30)):
            write_chats(Path(path), rows)
        for stage in (prepare, validate):
            stage.run(load_params())
        git("init", "-q")
        commit("Start")
        for paid in (upload, train, baseline, tuned):
            paid.run(load_params())
        commit("A fine-tune")
    return folder


def write_chats(path: Path, rows: int) -> None:
    lines = []
    for n in range(rows):
        asked = {"role": "user", "content": f"{n * 7919:x} {path.stem} {n**3:x}: paint it {COLOURS[n % 3]}"}
        lines.append(json.dumps({"messages": [asked, {"role": "assistant", "content": COLOURS[n % 3]}]}) + "\n")
    path.parent.mkdir(parents=True)
    path.write_text("".join(lines), encoding="utf-8")


def git(*arguments: str) -> None:
    who = ["-c", "user.name=t", "-c", "user.email=t@example.com"]
    subprocess.run(["git", *who, *arguments], check=True, capture_output=True)


def commit(message: str) -> None:
    git("add", ".")
    git("commit", "-qm", message)


@pytest.fixture
def project(finished: Path, provider: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of the finished project and of its user's folder."""
    shutil.copytree(finished.parent, tmp_path, dirs_exist_ok=True)
    monkeypatch.chdir(tmp_path / "project")
    monkeypatch.setenv("FINETUNE_HOME", str(tmp_path / "user"))
    provider.plan = Plan()
    warn_once.cache_clear()
    return tmp_path / "project"


def other_types(content: bytes) -> bytes:
    """Replace each value of the first object by one of another type."""
    first = content if content[:2] == b"{\n" else content.split(b"\n")[0]
    return json.dumps({key: [[1]] for key in json.loads(first)}).encode() + b"\n"


DAMAGE: dict[str, Callable[[bytes], bytes]] = {
    "empty": lambda content: b"",
    "garbage": lambda content: b"\x00\xff\xfe\x80garbage\n" * 3,
    "cut": lambda content: content[: len(content) * 2 // 3],
    "fewer lines": lambda content: b"".join(content.splitlines(keepends=True)[:-1]),
    "list": lambda content: b"[]\n",
    "other version": lambda content: b'{"version": 99}\n',
    "other types": other_types,
}
RECORDS = {
    "upload": [
        "data/prepared/train.jsonl",
        "data/prepared/valid.jsonl",
        "data/prepared/replay.jsonl",
        "data/prepared/checked.json",
        "reports/validation.json",
        "reports/ledger.csv",
    ],
    "train": ["models/files.json", "reports/validation.json", "reports/prepare.json", "reports/ledger.csv"],
    "baseline": ["data/prepared/test.jsonl", "data/prepared/questions.json", "reports/prepare.json"],
    "tuned": [
        "data/prepared/test.jsonl",
        "data/prepared/questions.json",
        "models/model.json",
        "predictions/base.jsonl",
        "predictions/few_shot.jsonl",
    ],
}
LINES_LOST = ("empty", "fewer lines", "other version")
# What these stages do not need, or cannot know.
MAY_PASS = {
    ("reports/ledger.csv", "fewer lines"),  # fewer jobs
    # `evaluate` refuses answers to fewer rows. Without a judge and graders, `tuned` needs none of the base.
    ("data/prepared/test.jsonl", "fewer lines"),
    *((f"predictions/{name}.jsonl", kind) for name in ("base", "few_shot") for kind in LINES_LOST),
}


def run(stage: str) -> FinetuneError | None:
    """Run a command; return the error that it would print. Any other exception is a traceback."""
    try:
        app([stage], standalone_mode=False)
    except FinetuneError as error:
        return error
    return None


def assert_named(error: FinetuneError | None, file: str, kind: str) -> None:
    assert error is not None, f"{file} ({kind}) is taken as it is"
    message = str(error)
    assert file in message, f"{kind}: {message}"
    assert "→" in message, f"{kind}: {message}"
    assert any(command in message for command in ("git checkout", "dvc checkout", "dvc repro", "mv ")), message


@pytest.mark.parametrize(("stage", "file"), [(stage, file) for stage, files in RECORDS.items() for file in files])
def test_a_damaged_record_is_named_before_anything_is_paid(
    stage: str, file: str, project: Path, provider: Server
) -> None:
    path = Path(file)
    content = path.read_bytes()
    former = {one: one.read_bytes() for one in Path("models").glob("*.json")}
    for kind, damage in DAMAGE.items():
        if file.endswith(".csv") and kind == "other types":
            continue
        path.write_bytes(damage(content))
        damaged = path.read_bytes()
        error = run(stage)
        if (file, kind) not in MAY_PASS:
            assert_named(error, file, kind)
            assert path.read_bytes() == damaged
        for one, before in former.items():
            if one != path:
                assert one.read_bytes() == before, (one, kind)
    path.unlink()
    for make in (Path.mkdir, os.mkfifo):
        make(path)
        assert_named(run(stage), file, make.__name__)
        path.rmdir() if path.is_dir() else path.unlink()
    assert CREATE not in provider.plan.seen


def outputs(stage: str) -> dict[str, bytes]:
    """Return the content of the files that a stage writes."""
    names = {
        "upload": ["models/files.json"],
        "train": ["models/model.json", "reports/training.csv"],
        "baseline": ["predictions/base.jsonl", "predictions/few_shot.jsonl"],
        "tuned": ["predictions/tuned.jsonl", "predictions/answered_by.json"],
    }
    return {name: Path(name).read_bytes() for name in names[stage]}


@pytest.mark.parametrize("kind", [*DAMAGE, "folder"])
@pytest.mark.parametrize("stage", RECORDS)
def test_damaged_notes_and_caches_are_asked_again(stage: str, kind: str, project: Path, provider: Server) -> None:
    """All of them at once. Of what other stages alone depend on, nothing is read."""
    before, user = outputs(stage), Path(os.environ["FINETUNE_HOME"])
    notes = [*user.glob("requests/*.json"), *Path(".finetune").glob("*.json")]
    caches = [user / "answers.db"] if kind in ("garbage", "cut", "empty", "fewer lines") else []
    assert len(notes) > 2
    for path in [*notes, *caches, Path("data/prepared/training.json")]:
        content = path.read_bytes()
        path.unlink()
        if kind == "folder":
            path.mkdir()
        else:
            path.write_bytes(DAMAGE[kind](content))
    for name in before:
        Path(name).unlink()
    error = run(stage)
    if kind == "folder" and error:
        assert "is a folder" in str(error)
        assert "mv " in str(error)
        return
    assert error is None
    assert outputs(stage) == before
    assert CREATE not in provider.plan.seen
    assert "POST /v1/files" not in provider.plan.seen


@pytest.mark.parametrize("name", ["locks", "requests", ".finetune"])
@pytest.mark.parametrize("stage", ["upload", "train"])
def test_a_file_in_the_place_of_a_folder_is_named(stage: str, name: str, project: Path, provider: Server) -> None:
    folder = Path(name) if name == ".finetune" else Path(os.environ["FINETUNE_HOME"]) / name
    shutil.rmtree(folder)
    folder.write_text("", encoding="utf-8")
    error = run(stage)
    assert error is None or (name in str(error) and "→" in str(error)), error
    assert CREATE not in provider.plan.seen


@pytest.mark.parametrize("kind", DAMAGE)
def test_a_damaged_record_in_an_old_commit_stops_nothing(kind: str, project: Path, provider: Server) -> None:
    """A project without any notes, so that the marks of other projects are looked for, too."""
    for name in ("models/files.json", "models/model.json", "reports/ledger.csv"):
        path = Path(name)
        content = path.read_bytes()
        if not (kind == "other types" and name.endswith(".csv")):
            path.write_bytes(DAMAGE[kind](content))
    commit("Damage")
    git("checkout", "-q", "HEAD~1", "--", "models", "reports")
    shutil.rmtree(".finetune")
    assert [run(stage) for stage in ("upload", "train")] == [None, None]
    assert CREATE not in provider.plan.seen
