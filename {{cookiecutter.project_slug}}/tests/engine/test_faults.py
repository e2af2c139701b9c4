"""Nothing is paid twice: every fault at every step of the protocol, and a kill at every step.

Each case really trains. It ends, after at most one more run, with one job, one file per content and the right record.
"""

import dataclasses
import gc
import json
import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from faulty import FAULTS, HABITS, STEPS, Plan, Server, kill_after, kill_before, meet
from faulty_engine import KEY, faulty_engine
from small_projects import make_project, provider_jobs, rows, start

from finetune.core.errors import FinetuneError
from finetune.core.params import load_params
from finetune.core.paths import FILES, MODEL, PREPARED
from finetune.core.profiles import PROFILES
from finetune.provider import connect, create_once, follow_job, ready_model
from finetune.stages import train, upload
from finetune.terminal.progress import say

HERE = Path(__file__).parent
# Only a person can solve these, so the run ends with a message. It recovers from the others by itself.
FOR_A_PERSON = ("400", "401", "403", "404", "429-quota", "429-daily")
# What is unclear in another way each: with the habits of servers that concern no list, these stand for all.
UNCLEAR = ("cut-after", "hang", "200-error", "307", "400-after", "429-after")
# With lists that lag, what is not unclear in another way each: an error without effect, half an answer.
WITH_LAG = (*UNCLEAR, "500", "broken-json")
# One fault of each kind: the others differ from these by a code or a word. `make test` tries each kind at the call that
# costs money, and one fault at each call. `make test-all` tries each kind at each call, and all faults at the calls
# that create; `make test-further` tries all at all.
KINDS = (
    *("400", "401", "403", "404", "429", "429-quota", "500", "cut-after", "hang"),
    *("web-page", "200-null", "200-other", "307"),
)
CREATING = ("files.create", "jobs.create")
# Steps that come with a job that has succeeded, too: these cases share one job, and must not create another.
EXTRAS = ("jobs.events", "files.result", "jobs.checkpoints", "files.name", "files.weights")
SHARE_A_JOB = ("files.check", "jobs.list", "models.retrieve", *EXTRAS)


@pytest.fixture(scope="module")
def provider(home: Path, forked_workers: None) -> Iterator[Server]:
    """An engine behind a proxy that makes planned calls fail."""
    with faulty_engine() as server:
        yield server
    for file in home.rglob("*"):
        assert not file.is_file() or KEY.encode() not in file.read_bytes(), file


@pytest.fixture
def project(provider: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A project with data that no other test has, so that it shares no file and no job."""
    monkeypatch.chdir(tmp_path)
    provider.plan = Plan()
    make_project(tmp_path, provider)
    return tmp_path


@pytest.fixture(scope="module")
def trained(provider: Server, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A project whose job has succeeded."""
    folder = tmp_path_factory.mktemp("trained")
    make_project(folder, provider)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        assert run(upload) is None
        assert run(train) is None
    return folder


def take_over(trained: Path, project: Path) -> None:
    """Give a project the data of the trained one, and with it the uploaded files and the job, but not the record."""
    shutil.copytree(trained / PREPARED, project / PREPARED, dirs_exist_ok=True)


def run(stage: Any) -> FinetuneError | None:
    """Run the stage as its command does; return the error that it would print. Any other exception fails the test."""
    try:
        stage.run(load_params())
    except FinetuneError as error:
        return error
    return None


def assert_paid_once(home: Path, project: Path, printed: str) -> None:
    """Check that there is one file per content and, with a record, one job, which it names; and the key in no file."""
    uploaded = json.loads((project / FILES).read_text(encoding="utf-8"))
    for file in uploaded.values():
        assert rows(home, "SELECT id FROM files WHERE filename = ?", f"{file['sha256']}.jsonl") == [(file["id"],)]
    made = "SELECT id, status, fine_tuned_model FROM jobs WHERE training_file = ?"
    jobs_made = rows(home, made, uploaded["train"]["id"])
    if (project / MODEL).exists():
        record = json.loads((project / MODEL).read_text(encoding="utf-8"))
        assert jobs_made == [(record["job"], "succeeded", record["model"])]
        assert (project / "models" / "weights" / "adapter_model.safetensors").stat().st_size > 0
    else:
        assert jobs_made == []
    assert KEY not in printed
    for path in project.rglob("*"):
        assert not path.is_file() or KEY.encode() not in path.read_bytes(), path


def case(is_quick: bool, is_further: bool, *values: Any) -> Any:
    """Return a case of a test with the mark of its tier."""
    mark = pytest.mark.further if is_further else pytest.mark.slow
    return pytest.param(*values, marks=[] if is_quick else [mark])


@pytest.mark.parametrize(
    ("fault", "step"),
    [
        case(
            fault == "cut-after" or (step == "jobs.create" and fault in KINDS),
            fault not in KINDS and step not in CREATING,
            fault,
            step,
        )
        for step in STEPS
        for fault in FAULTS
    ],
)
def test_every_fault_at_every_step_leaves_one_job(
    fault: str,
    step: str,
    home: Path,
    provider: Server,
    trained: Path,
    project: Path,
    capfd: pytest.CaptureFixture[str],
) -> None:
    stage_name, pattern, skip = STEPS[step]
    if step in SHARE_A_JOB:
        take_over(trained, project)
    if stage_name == "train":
        assert run(upload) is None
    stage = {"upload": upload, "train": train}[stage_name]
    provider.plan = Plan(pattern, skip, FAULTS[fault])
    error = run(stage)
    assert provider.plan.times == 0, "the planned call was never made"
    message = "" if error is None else str(error)
    is_solved = step in EXTRAS and fault in ("400", "404")
    # The list of models has it; and a key that may train need not be allowed to read models.
    is_solved |= step == "models.retrieve" and fault in ("404", "403")
    is_solved |= step == "files.check" and fault == "404"  # the job is there, or the file is uploaded again
    is_solved |= step in ("files.wait", "jobs.retrieve") and fault == "404"  # what is new may not be shown yet
    if fault in FOR_A_PERSON and not is_solved:
        assert "  → " in message
        assert provider.plan.calls() == skip + 1  # there was no retry
    if message or is_incomplete():
        assert run(stage) is None
    assert (project / (MODEL if stage_name == "train" else FILES)).exists()
    assert not is_incomplete()
    assert_paid_once(home, project, capfd.readouterr().err + message)
    assert provider.followed == []


def is_incomplete() -> bool:
    """Return whether the record says that the provider lacked something."""
    return MODEL.exists() and "missing" in json.loads(MODEL.read_text(encoding="utf-8"))


@pytest.mark.parametrize(
    ("stage", "habit", "fault"),
    [
        case(stage is train and fault == "cut-after", fault is not None and fault not in WITH_LAG, stage, habit, fault)
        for stage in (upload, train)
        for habit in HABITS
        for fault in (None, *(FAULTS if "lag" in habit else UNCLEAR))
    ],
    ids=lambda value: value.__name__.rpartition(".")[2] if hasattr(value, "__name__") else None,
)
def test_every_fault_at_the_creation_leaves_one_job_whatever_the_server_is_like(
    stage: Any, habit: str, fault: str | None, home: Path, provider: Server, project: Path
) -> None:
    provider.plan = Plan(**HABITS[habit])
    if stage is train:
        assert run(upload) is None
    step = "jobs.create" if stage is train else "files.create"
    provider.plan = Plan(STEPS[step][1], 0, FAULTS[fault] if fault else None, **HABITS[habit])
    error = run(stage)
    assert fault is None or provider.plan.times == 0, "the planned call was never made"
    if error:
        assert run(stage) is None
    assert_paid_once(home, project, str(error))


# Result file and weights come by the same route.
LACKS = {
    "jobs.events": ["events"],
    "jobs.checkpoints": ["checkpoints"],
    "files.result": ["result files", "weights"],
    "files.name": ["weights"],
    "files.weights": ["weights"],
}


@pytest.mark.parametrize(
    ("step", "fault"),
    [
        case(fault == "404" and step != "files.name", fault in ("501", "500"), step, fault)
        for step in EXTRAS
        for fault in ("404", "501", "500", "web-page")
    ],
)
def test_without_extras_there_is_a_record_and_the_next_run_completes_it(
    step: str, fault: str, home: Path, provider: Server, trained: Path, project: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    take_over(trained, project)
    assert run(upload) is None
    provider.plan = Plan(*STEPS[step][1:], FAULTS[fault], times=1000)
    assert run(train) is None
    names = [one.split(" (")[0] for one in json.loads(MODEL.read_text(encoding="utf-8"))["missing"]]
    assert names == LACKS[step]
    assert "dvc repro -f -s train" in capfd.readouterr().err
    weights = Path("models/weights")
    assert (weights / "adapter_model.safetensors").exists() == (step == "jobs.events")
    text = "" if step == "jobs.events" else (weights / "README.txt").read_text(encoding="utf-8")
    assert "does not hand out" not in text
    provider.plan = Plan()
    assert run(train) is None
    assert not is_incomplete()
    assert_paid_once(home, project, "")


@pytest.mark.parametrize("fault", ["cut-after", pytest.param(None, marks=pytest.mark.slow)])
def test_a_server_that_says_no_times_and_sizes_is_paid_once(
    fault: str | None, home: Path, provider: Server, project: Path
) -> None:
    def without(keys: set[str], content: bytes) -> bytes:
        body = json.loads(content)
        rows = [body, *body.get("data", [])]
        for one in rows:
            for key in keys & one.keys():
                del one[key]
        return json.dumps(body).encode()

    def terse(call: str, content: bytes) -> bytes:
        return content if call.endswith("/content") else without({"created_at", "finished_at"}, content)

    def nameless(call: str, content: bytes) -> bytes:
        is_file = re.fullmatch(STEPS["files.name"][1], call)
        return without({"filename", "bytes"}, content) if is_file else content

    assert run(upload) is None
    creating = FAULTS[fault] if fault else None
    provider.plan = Plan(STEPS["jobs.create"][1], 0, creating, rewrite=terse, keeps_metadata=False)
    assert run(train) is None
    provider.plan = Plan(rewrite=nameless)
    assert run(train) is None
    assert is_incomplete()
    provider.plan = Plan()
    assert run(train) is None
    assert_paid_once(home, project, "")


def test_a_deleted_model_is_not_adopted_and_trained_again_only_when_asked(
    home: Path, provider: Server, project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert run(upload) is None
    assert run(train) is None
    record = json.loads(MODEL.read_text(encoding="utf-8"))
    with connect.connect(load_params().provider) as connection:
        connection.control.models.delete(record["model"])
    monkeypatch.setattr(ready_model, "PATIENCE", -2)  # the provider's clock shows whole seconds
    known = provider_jobs(home)
    message = str(run(train))
    assert record["model"] in message
    assert "finetune train --again" in message
    assert provider_jobs(home) == known
    monkeypatch.setattr(ready_model, "PATIENCE", 2)
    again = train.run(load_params(), again=True)
    assert again["job"] != record["job"]
    assert len(provider_jobs(home)) == len(known) + 1
    assert run(train) is None
    assert json.loads(MODEL.read_text(encoding="utf-8"))["job"] == again["job"]


@pytest.mark.slow
def test_a_succeeded_job_is_trained_again_when_asked(
    home: Path, provider: Server, project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert run(upload) is None
    first = train.run(load_params())
    second = train.run(load_params(), again=True)
    assert first["job"] != second["job"]
    assert first["fingerprint"] == second["fingerprint"]
    # Another machine takes the newer one: the first is no twin that was created at the same time.
    monkeypatch.setenv("FINETUNE_HOME", str(project / "another"))
    assert run(train) is None
    assert json.loads(MODEL.read_text(encoding="utf-8"))["job"] == second["job"]


@pytest.mark.parametrize("lacks", ["no name", pytest.param("not there yet", marks=pytest.mark.slow)])
def test_the_model_of_a_succeeded_job_is_waited_for(lacks: str, home: Path, provider: Server, project: Path) -> None:
    looks = 0

    def late(call: str, content: bytes) -> bytes:
        nonlocal looks
        if lacks == "no name" and re.fullmatch(STEPS["jobs.retrieve"][1], call) and b'"succeeded"' in content:
            looks += 1
            return re.sub(rb'"fine_tuned_model":"[^"]+"', b'"fine_tuned_model":null', content) if looks < 4 else content
        return content

    assert run(upload) is None
    provider.plan = Plan(rewrite=late)
    if lacks == "not there yet":
        provider.plan = Plan(r"GET /v1/models(/.*)?", 0, no_models, times=6)
    assert run(train) is None
    assert looks == 4 or provider.plan.times == 0
    assert json.loads(MODEL.read_text(encoding="utf-8"))["model"]
    assert_paid_once(home, project, "")


def no_models(handler: Any, forward: Any) -> None:
    """Answer as a server that does not know the model yet."""
    if handler.path.endswith("/models"):
        handler.reply(200, b'{"object":"list","data":[]}', {"content-type": "application/json"})
    else:
        FAULTS["404"](handler, forward)


@pytest.mark.slow
def test_a_job_that_never_names_its_model_gives_no_record(provider: Server, project: Path) -> None:
    def nameless(call: str, content: bytes) -> bytes:
        return re.sub(rb'"fine_tuned_model":"[^"]+"', b'"fine_tuned_model":null', content)

    assert run(upload) is None
    provider.plan = Plan(rewrite=nameless)
    assert "it has no model" in str(run(train))
    assert not MODEL.exists()
    provider.plan = Plan()
    assert run(train) is None


@pytest.mark.slow
def test_who_knows_that_there_is_no_job_need_not_wait(
    home: Path, provider: Server, project: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    assert run(upload) is None
    provider.plan = Plan(*STEPS["jobs.create"][1:], FAULTS["cut-before"])
    assert "no clear outcome" in str(run(train))
    monkeypatch.setattr(create_once, "LIST_LAG", 3600)
    capfd.readouterr()
    train.run(load_params(), forget=True)
    assert "Looking for" not in capfd.readouterr().err
    assert_paid_once(home, project, "")


@pytest.mark.parametrize(
    ("fault", "step"),
    [
        case(step in CREATING and fault is kill_after, False, fault, step)
        for fault in (kill_before, kill_after)
        for step in STEPS
    ],
)
def test_a_kill_at_every_step_leaves_one_job(
    fault: Any,
    step: str,
    home: Path,
    provider: Server,
    trained: Path,
    project: Path,
    capfd: pytest.CaptureFixture[str],
) -> None:
    stage_name, pattern, skip = STEPS[step]
    if step in SHARE_A_JOB:
        take_over(trained, project)
    if stage_name == "train":
        assert run(upload) is None
    provider.plan = Plan(pattern, skip, fault)
    provider.client = start(stage_name, project)
    printed = provider.client.communicate(timeout=60)[0]
    assert provider.client.returncode == -9, printed
    assert not (project / (MODEL if stage_name == "train" else FILES)).exists()
    assert run({"upload": upload, "train": train}[stage_name]) is None
    assert_paid_once(home, project, printed + capfd.readouterr().err)


def test_a_spent_quota_is_not_retried(provider: Server, project: Path) -> None:
    """The SDK alone would send three requests."""
    assert run(upload) is None
    provider.plan = Plan(*STEPS["jobs.list"][1:], FAULTS["429-quota"], times=100)
    error = run(train)
    assert "Add credit" in str(error)
    assert provider.plan.calls() == 1


@pytest.mark.slow
def test_nothing_is_created_while_a_person_must_act(home: Path, provider: Server, project: Path) -> None:
    assert run(upload) is None
    known = provider_jobs(home)
    for fault in FOR_A_PERSON:
        provider.plan = Plan(*STEPS["jobs.create"][1:], FAULTS[fault], times=100)
        for _ in range(2):
            assert run(train) is not None
        assert provider.plan.calls() == 2
    assert provider_jobs(home) == known


@pytest.mark.slow
def test_two_clones_at_once_make_one_job(home: Path, provider: Server, project: Path, tmp_path: Path) -> None:
    assert run(upload) is None
    shutil.copytree(project, tmp_path / "clone")
    known = provider_jobs(home)
    running = [start("train", folder) for folder in (project, tmp_path / "clone")]
    outputs = [process.communicate(timeout=90)[0] for process in running]
    assert [process.returncode for process in running] == [0, 0], outputs
    assert len(provider_jobs(home)) == len(known) + 1
    assert (project / MODEL).read_bytes() == (tmp_path / "clone" / MODEL).read_bytes()


@pytest.mark.slow
def test_two_machines_at_the_same_time_end_with_one_job(
    home: Path, provider: Server, project: Path, tmp_path: Path
) -> None:
    """They share no lock: both create a job, and the newer one is cancelled before it trains."""
    path = project / "params.yaml"
    path.write_text(path.read_text(encoding="utf-8").replace("n_epochs: 1", "n_epochs: 30"), encoding="utf-8")
    assert run(upload) is None
    shutil.copytree(project, tmp_path / "clone")
    known = provider_jobs(home)
    provider.plan = Plan(*STEPS["jobs.create"][1:], meet(2), times=2)
    folders = (project, tmp_path / "clone")
    running = [
        start("train", folder, "--meet", FINETUNE_HOME=str(tmp_path / f"home{n}")) for n, folder in enumerate(folders)
    ]
    outputs = [process.communicate(timeout=90)[0] for process in running]
    assert [process.returncode for process in running] == [0, 0], outputs
    made = provider_jobs(home)[len(known) :]
    assert sorted(status for _, status in made) == ["cancelled", "succeeded"]
    assert (project / MODEL).read_bytes() == (tmp_path / "clone" / MODEL).read_bytes()
    assert sum("Another machine created job" in output for output in outputs) == 1


MODERATION = "The job failed moderation safety checks. Flagged lines: 2, 5"


def test_a_failure_after_training_is_shown_with_its_lines_and_not_paid_again(
    home: Path, provider: Server, project: Path
) -> None:
    assert run(upload) is None

    def blocked(call: str, content: bytes) -> bytes:
        if not call.startswith("GET /v1/fine_tuning/jobs") or b'"succeeded"' not in content:
            return content
        error = {"code": "invalid_training_file", "message": MODERATION, "param": "training_file"}
        return content.replace(b'"succeeded"', b'"failed"').replace(
            b'"error":null', b'"error":' + json.dumps(error).encode()
        )

    provider.plan = Plan(rewrite=blocked)
    message = str(run(train))
    assert "data/prepared/train.jsonl:2, data/prepared/train.jsonl:5" in message
    assert "policies" in message
    assert not (project / MODEL).exists()
    made = provider_jobs(home)
    assert str(run(train)) == message
    assert provider_jobs(home) == made


@pytest.mark.slow
def test_training_is_tried_again_after_a_server_error(home: Path, provider: Server, project: Path) -> None:
    """The base's weights are broken, so the job fails in training; with whole weights, the same command trains."""
    weights = home / "bases" / "tiny" / "model.safetensors"
    whole = weights.read_bytes()
    assert run(upload) is None
    weights.write_bytes(b"broken")
    try:
        error = run(train)
    finally:
        weights.write_bytes(whole)
    assert "[server_error]" in str(error)
    assert "dvc repro" in str(error)
    assert not (project / MODEL).exists()
    assert run(train) is None
    assert [status for _, status in provider_jobs(home)[-2:]] == ["failed", "succeeded"]


def test_a_failure_in_validation_names_the_line(provider: Server, project: Path) -> None:
    path = project / PREPARED / "train.jsonl"
    lines = path.read_text(encoding="utf-8").splitlines()
    lines[3] = lines[3].replace('"assistant"', '"robot"')
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    assert run(upload) is None
    error = run(train)
    assert "data/prepared/train.jsonl:4" in str(error)
    assert "--again" in str(error)
    assert not (project / MODEL).exists()


@pytest.mark.parametrize(
    "status", ["paused", *(pytest.param(one, marks=pytest.mark.slow) for one in ("pre_flight", "pending"))]
)
def test_a_status_that_is_not_final_is_waited_for(
    status: str, home: Path, provider: Server, project: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """OpenAI's `paused` waits for a person, so a message says what to do; other servers have statuses of their own."""
    looks = 0

    def still(call: str, content: bytes) -> bytes:
        nonlocal looks
        if not re.fullmatch(STEPS["jobs.retrieve"][1], call) or looks == 5:
            return content
        looks += 1
        return re.sub(rb'"status":"\w+"', b'"status":"%s"' % status.encode(), content)

    assert run(upload) is None
    provider.plan = Plan(rewrite=still)
    assert run(train) is None
    assert looks == 5
    printed = capfd.readouterr().err
    assert printed.count("Resume it with: finetune jobs resume ftjob-") == (status == "paused")
    assert_paid_once(home, project, printed)


@pytest.mark.slow
def test_eight_hours_of_waiting_take_few_requests_and_no_memory(
    provider: Server, project: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """A job that never ends is polled with OpenAI's pauses, on a clock that the test moves."""
    assert run(upload) is None
    params = load_params()
    now = [0.0]
    objects: list[int] = []

    class Enough(Exception):
        pass

    def sleep(seconds: float) -> None:
        now[0] += seconds
        if int(now[0] // 3600) > len(objects):
            gc.collect()
            objects.append(len(gc.get_objects()))
        if now[0] > 8 * 3600:
            raise Enough

    def stuck(call: str, content: bytes) -> bytes:
        return content.replace(b'"succeeded"', b'"running"') if "/jobs/" in call else content

    assert run(train) is None
    job_id = json.loads((project / MODEL).read_text(encoding="utf-8"))["job"]
    with connect.connect(params.provider) as connection:
        hosted = dataclasses.replace(connection, profile=PROFILES["openai"])
        provider.plan = Plan(rewrite=stuck)
        job = connection.control.fine_tuning.jobs.retrieve(job_id)
        with pytest.raises(Enough):
            follow_job.follow(hosted, job, lambda *_: None, say, sleep=sleep, clock=lambda: now[0])
    # Two requests a look, a look a minute at most.
    assert len(provider.plan.seen) <= 2 * (8 * 60 + 20)
    # The plan itself keeps one string per call.
    assert objects[-1] - objects[1] < 1000, objects
    assert capfd.readouterr().err.count("has not changed for half an hour") == 1


@pytest.mark.slow
def test_two_machines_with_a_lagging_list_end_with_one_job(
    home: Path, provider: Server, project: Path, tmp_path: Path
) -> None:
    """Each sees only its own job at first; the newer one is cancelled as soon as the list shows the older one."""
    path = project / "params.yaml"
    path.write_text(path.read_text(encoding="utf-8").replace("n_epochs: 1", "n_epochs: 50"), encoding="utf-8")
    assert run(upload) is None
    shutil.copytree(project, tmp_path / "clone")
    known = provider_jobs(home)
    provider.plan = Plan(*STEPS["jobs.create"][1:], meet(2), times=2, lag=0.45)
    folders = (project, tmp_path / "clone")
    running = [start("train", folder, FINETUNE_HOME=str(tmp_path / f"home{n}")) for n, folder in enumerate(folders)]
    outputs = [process.communicate(timeout=90)[0] for process in running]
    assert [process.returncode for process in running] == [0, 0], outputs
    made = provider_jobs(home)[len(known) :]
    assert sorted(status for _, status in made) == ["cancelled", "succeeded"]
    assert (project / MODEL).read_bytes() == (tmp_path / "clone" / MODEL).read_bytes()
