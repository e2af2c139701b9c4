"""Send a finished fine-tune to each tracker by the tracker's library, without a network, and read it back."""

import csv
import json
from pathlib import Path

import pytest
from conftest import Bake, Project, install_extras

pytestmark = pytest.mark.slow  # it installs the trackers
# Records as the stages write them, shortened.
RECORD = {
    "base": "SmolLM2-135M-Instruct",
    "checkpoints": [{"model": "ft:SmolLM2-135M-Instruct:local::1", "step": 3.0, "train_loss": 1.25}],
    "fingerprint": "df032b39b959306dd348917fec1a161d75babb847c5d21b2b46a7398d6728667",
    "hyperparameters": {"batch_size": 8, "learning_rate_multiplier": 2.0, "n_epochs": 2},
    "job": "ftjob-1",
    "method": "supervised",
    "model": "ft:SmolLM2-135M-Instruct:local::1",
    "provider": "local",
    "seed": 42,
    "suffix": None,
    "trained_tokens": 82058,
    "usd": 0.0,
}
CURVES = "step,train_loss,train_accuracy,valid_loss,valid_accuracy\n1,3.5,0.1,,\n2,2.25,0.5,,\n3,1.25,0.75,1.5,0.625\n"
SCORES = {"accuracy": 0.5, "weighted_f1": 0.25, "classes": [{"class": "a", "f1": 0.5, "n": 4}]}
READ_MLFLOW = """
import json, mlflow
client = mlflow.MlflowClient()
place = client.get_experiment_by_name("desk").experiment_id
print(json.dumps([
    {"params": run.data.params, "tags": run.data.tags, "metrics": run.data.metrics, "status": run.info.status,
     "losses": [[m.step, m.value] for m in client.get_metric_history(run.info.run_id, "train_loss")],
     "files": sorted(file.path for file in client.list_artifacts(run.info.run_id))}
    for run in client.search_runs([place])
]))
"""
# The log of a run is in blocks of 32 KiB; a chunk has its length in bytes 4 and 5 and its kind in byte 6.
READ_WANDB = """
import json, sys
from wandb.proto.wandb_internal_pb2 import Record
data, at, whole = open(sys.argv[1], "rb").read(), 7, b""
while at + 7 <= len(data):
    if 32768 - at % 32768 < 7:
        at += 32768 - at % 32768
        continue
    size, kind = int.from_bytes(data[at + 4 : at + 6], "little"), data[at + 6]
    whole, at = whole + data[at + 7 : at + 7 + size], at + 7 + size
    if kind in (1, 4):
        record, whole = Record.FromString(whole), b""
        if record.WhichOneof("record_type") == "run":
            values = {item.key: json.loads(item.value_json) for item in record.run.config.update}
            print(json.dumps(["run", record.run.run_id, record.run.project, values]))
        elif record.WhichOneof("record_type") in ("history", "summary"):
            items = record.history.item or record.summary.update
            values = {item.key or ".".join(item.nested_key): json.loads(item.value_json) for item in items}
            print(json.dumps([record.WhichOneof("record_type"), values]))
"""


@pytest.fixture(scope="module")
def tracked(bake: Bake, binaries: Path, tmp_path_factory: pytest.TempPathFactory) -> Project:
    """Return a committed project with records. Its environment has the trackers' libraries and the shared packages."""
    path, overlay = bake(), tmp_path_factory.mktemp("overlay")
    install_extras("wandb,mlflow,dvclive", path, binaries, overlay)
    project = Project(path, overlay / "bin", tmp_path_factory.mktemp("home"))
    for folder in ("models", "reports"):
        (path / folder).mkdir(exist_ok=True)
    (path / "models" / "model.json").write_text(json.dumps(RECORD), encoding="utf-8")
    (path / "reports" / "training.csv").write_text(CURVES, encoding="utf-8")
    report = {"base": SCORES | {"accuracy": 0.125}, "tuned": SCORES, "n": 8}
    (path / "reports" / "evaluation.json").write_text(json.dumps(report), encoding="utf-8")
    if not (path / ".git").exists():
        project.run("git", "init", "-q")
    project.commit()
    return project


def changes_in_git(project: Project) -> str:
    """Return the changes that Git shows. DVC must not show files of a tracker as metrics."""
    shown = project.run("python", "-m", "dvc", "metrics", "show").stdout
    assert "dvclive" not in shown
    return project.run("git", "status", "--porcelain").stdout


def test_mlflow_has_one_run_after_two_sends(tracked: Project) -> None:
    for _ in range(2):
        sent = tracked.stage("track", "mlflow", "--project", "desk")
        assert "in the experiment desk of sqlite:" in sent.stdout
    (run,) = json.loads(tracked.run("python", "-c", READ_MLFLOW).stdout)
    assert run["losses"] == [[1, 3.5], [2, 2.25], [3, 1.25]]
    assert run["metrics"]["base.accuracy"] == 0.125
    assert run["metrics"]["tuned.accuracy"] == 0.5
    assert run["metrics"]["valid_loss"] == 1.5
    assert run["params"]["hyperparameters.n_epochs"] == "2"
    assert run["params"]["seed"] == "42"
    assert {name: run["tags"][name] for name in ("job", "model", "fingerprint")}.items() <= RECORD.items()
    assert run["files"] == ["evaluation.json", "model.json", "training.csv"]
    assert run["status"] == "FINISHED"
    assert changes_in_git(tracked) == ""


def test_mlflow_shows_the_newest_scores_and_keeps_the_curves(tracked: Project) -> None:
    report = tracked.path / "reports" / "evaluation.json"
    whole = report.read_text(encoding="utf-8")
    report.write_text(whole.replace('"accuracy": 0.5', '"accuracy": 0.375'), encoding="utf-8")
    tracked.stage("track", "mlflow", "--project", "desk")
    (run,) = json.loads(tracked.run("python", "-c", READ_MLFLOW).stdout)
    assert run["metrics"]["tuned.accuracy"] == 0.375
    assert len(run["losses"]) == 3
    report.write_text(whole, encoding="utf-8")


def test_wandb_offline_keeps_one_id_after_two_sends(tracked: Project) -> None:
    for _ in range(2):
        assert "wandb sync wandb/offline-run-" in tracked.stage("track", "wandb", WANDB_MODE="offline").stdout
    files = list((tracked.path / "wandb").glob("offline-run-*/run-*.wandb"))
    (identity,) = {file.stem.removeprefix("run-") for file in files}
    lines = tracked.run("python", "-c", READ_WANDB, str(files[0])).stdout.splitlines()
    records = [json.loads(line) for line in lines]
    ((_, run_id, project, config),) = [record for record in records if record[0] == "run"]
    assert (run_id, project) == (identity, tracked.path.name)
    assert {key: config[key] for key in ("base", "hyperparameters", "job", "fingerprint")}.items() <= RECORD.items()
    history = [record[1] for record in records if record[0] == "history"]
    assert [(row["_step"], row["train_loss"], row.get("valid_loss")) for row in history] == [
        (1, 3.5, None),
        (2, 2.25, None),
        (3, 1.25, 1.5),
    ]
    summary = {key: value for record in records if record[0] == "summary" for key, value in record[1].items()}
    assert (summary["base.accuracy"], summary["tuned.accuracy"], summary["n"]) == (0.125, 0.5, 8)
    assert changes_in_git(tracked) == ""


def test_dvclive_writes_the_same_folder_again_and_dvc_does_not_see_it(tracked: Project) -> None:
    folder = tracked.path / "dvclive"
    outcomes = []
    for _ in range(2):
        tracked.stage("track", "dvclive")
        outcomes.append({file.name: file.read_bytes() for file in folder.rglob("*") if file.is_file()})
    assert outcomes[0] == outcomes[1]
    metrics = json.loads((folder / "metrics.json").read_text(encoding="utf-8"))
    assert metrics["tuned"] == {"accuracy": 0.5, "weighted_f1": 0.25}
    assert (metrics["step"], metrics["train_loss"]) == (3, 1.25)
    with open(folder / "plots" / "metrics" / "valid_loss.tsv", encoding="utf-8") as plot:
        assert list(csv.reader(plot, delimiter="\t")) == [["step", "valid_loss"], ["3", "1.5"]]
    assert "n_epochs: 2" in (folder / "params.yaml").read_text(encoding="utf-8")
    assert changes_in_git(tracked) == ""
    assert "DVCLive has no projects" in tracked.stage("track", "dvclive", "--project", "x", code=2).stderr


def test_the_error_of_a_tracker_has_a_remedy_and_shows_no_key(tracked: Project) -> None:
    address = "http://someone:secret-word@127.0.0.1:9"
    once = {"MLFLOW_HTTP_REQUEST_MAX_RETRIES": "0"}
    (tracked.path / ".env").write_text(f"MLFLOW_TRACKING_URI={address}\nWANDB_API_KEY=secret-word\n", encoding="utf-8")
    for tracker, words, more in (("mlflow", "127.0.0.1:9", once), ("wandb", "WANDB_API_KEY", {})):
        failed = tracked.stage("track", tracker, code=1, **more)
        assert f"error: {tracker} failed: " in failed.stderr
        assert words in failed.stderr
        assert "→" in failed.stderr
        assert "Traceback" not in failed.stderr
        assert "secret-word" not in failed.stdout + failed.stderr
    (tracked.path / ".env").unlink()
