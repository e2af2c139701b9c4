"""Send the record of a fine-tune to a tracker by the tracker's library. The record in Git stays the reference."""

import hashlib
import json
import os
import re
import time
from pathlib import Path
from typing import Any, NamedTuple

from finetune.core.disk import read_csv, read_json
from finetune.core.env_file import env_file_values
from finetune.core.errors import FinetuneError
from finetune.core.flatten import flatten

PARAMETERS = ("base", "method", "hyperparameters", "seed", "suffix", "provider")
TAGS = ("job", "model", "fingerprint")
FIGURES = ("trained_tokens", "usd")
REMEDIES = {
    "wandb": "Correct it. WANDB_API_KEY is read from the environment or .env; WANDB_MODE=offline needs no key.",
    "mlflow": "Correct it. MLFLOW_TRACKING_URI is read from the environment or .env; the default is sqlite:///mlflow.db.",
    "dvclive": "Correct it, then run the same command again. DVCLive needs a Git repository with a commit.",
}
MLFLOW_BATCH = 1000  # metrics in one call; more are refused


class Finetune(NamedTuple):
    """What a tracker gets: no text of an example, and so not the pages, which quote examples."""

    key: str
    parameters: dict[str, Any]
    tags: dict[str, str]
    steps: list[tuple[int, dict[str, float]]]
    scores: dict[str, float]
    files: list[Path]


def send(tracker: str, project: str | None, model: Path, curves: Path, evaluation: Path) -> str:
    """Send the fine-tune of these records, and return where it is. Sent again, it stays one run.

    Raises FinetuneError for any error of the tracker or its library, with keys removed.
    """
    tuned = read(model, curves, evaluation)
    for name, value in env_file_values().items():
        if value:
            os.environ.setdefault(name, value)
    try:
        place = {"wandb": to_wandb, "mlflow": to_mlflow, "dvclive": to_dvclive}[tracker](tuned, project)
    except ModuleNotFoundError as error:
        raise FinetuneError(
            f"{tracker} cannot be used: the package {error.name} is not installed here.",
            f"Install it with: pip install -e '.[{tracker}]' -c constraints.txt",
        ) from error
    except Exception as error:  # the libraries share no base class, and pass through errors of others
        why = str(error).strip() or type(error).__name__
        raise FinetuneError(without_keys(f"{tracker} failed: {why}"), REMEDIES[tracker]) from error
    return without_keys(place)


def read(model: Path, curves: Path, evaluation: Path) -> Finetune:
    """Collect what a tracker gets; a fine-tune that is not evaluated yet has no scores."""
    record = read_json(model, "train")
    report = read_json(evaluation, "evaluate") if evaluation.exists() else {}
    figures = flatten(report) | {name: record.get(name) for name in FIGURES}
    tags = {name: str(record.get(name)) for name in TAGS}
    return Finetune(
        # Two jobs are two runs, even with one fingerprint: another provider's training has other curves.
        key=hashlib.sha256(f"{tags['fingerprint']} {tags['job']}".encode()).hexdigest()[:32],
        # Plain values: DVCLive writes no dictionary of another class.
        parameters=json.loads(json.dumps({name: record[name] for name in PARAMETERS if record.get(name) is not None})),
        tags=tags,
        steps=steps_of(curves),
        scores={name: value for name, value in figures.items() if isinstance(value, (int, float))},
        files=[file for file in (model, curves, evaluation) if file.exists()],
    )


def steps_of(curves: Path) -> list[tuple[int, dict[str, float]]]:
    """Return the metrics of each training step; an empty cell is no metric."""
    if not curves.exists():
        raise FinetuneError(f"{curves} is missing.", "Create it with: dvc repro train")
    rows = [(int(float(row.pop("step"))), row) for row in read_csv(curves)]
    return [(step, {name: float(cell) for name, cell in row.items() if cell}) for step, row in rows]


def without_keys(text: str) -> str:
    """Return a text without the keys of the environment, and without passwords in addresses."""
    for name, value in os.environ.items():
        if len(value) > 5 and re.search("KEY|TOKEN|PASSWORD|SECRET", name):
            text = text.replace(value, "***")
    return re.sub(r"://[^/@\s]+@", "://***@", text)


def to_wandb(tuned: Finetune, project: str | None) -> str:
    """Log a run to Weights & Biases; WANDB_MODE=offline keeps it in a folder, for `wandb sync`."""
    import wandb

    project = project or os.environ.get("WANDB_PROJECT") or Path.cwd().name
    settings = wandb.Settings(
        quiet=True,
        console="off",
        # These would describe this machine, not the one that trained.
        x_disable_stats=True,
        x_disable_machine_info=True,
        x_save_requirements=False,
    )
    config = tuned.parameters | tuned.tags
    name = tuned.tags["model"]
    with wandb.init(project=project, id=tuned.key, resume="allow", name=name, config=config, settings=settings) as run:
        for step, metrics in tuned.steps:
            if step >= run.starting_step:  # a run does not accept a step twice
                run.log(metrics, step=step)
        run.summary.update(tuned.scores)
        artifact = wandb.Artifact("record", type="record")
        for file in tuned.files:
            artifact.add_file(str(file))
        run.log_artifact(artifact)
        folder = os.path.relpath(Path(run.dir).parent)
        place = f"{folder}; upload it with: wandb sync {folder}" if run.offline else run.url
    return f"run {tuned.key} in {place}"


def to_mlflow(tuned: Finetune, project: str | None) -> str:
    """Log a run to MLflow, on the server or in the database of MLFLOW_TRACKING_URI."""
    from mlflow import MlflowClient
    from mlflow.entities import Metric, Param, RunTag

    os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "3")  # its default of 7 takes four minutes
    client = MlflowClient()
    project = project or os.environ.get("MLFLOW_EXPERIMENT_NAME") or Path.cwd().name
    experiment = client.get_experiment_by_name(project)
    place = experiment.experiment_id if experiment else client.create_experiment(project)
    mark = {"finetune.key": tuned.key}
    known = client.search_runs([place], f"tags.`finetune.key` = '{tuned.key}'", max_results=1)
    run = known[0] if known else client.create_run(place, tags=mark, run_name=tuned.tags["model"])
    metrics = []
    if run.info.status != "FINISHED":
        # One time for all: a database stores the same point once, so an interrupted run is completed.
        at = run.info.start_time
        metrics = [Metric(name, value, at, step) for step, row in tuned.steps for name, value in row.items()]
    now = time.time_ns() // 1_000_000
    last = max((step for step, _ in tuned.steps), default=0)
    metrics += [
        Metric(name, value, now, last) for name, value in tuned.scores.items() if run.data.metrics.get(name) != value
    ]
    parameters = [Param(name, str(value)) for name, value in flatten(tuned.parameters).items()]
    client.log_batch(run.info.run_id, params=parameters, tags=[RunTag(*tag) for tag in tuned.tags.items()])
    for start in range(0, len(metrics), MLFLOW_BATCH):
        client.log_batch(run.info.run_id, metrics=metrics[start : start + MLFLOW_BATCH])
    for file in tuned.files:
        client.log_artifact(run.info.run_id, str(file))
    client.set_terminated(run.info.run_id, "FINISHED")
    return f"run {run.info.run_id} in the experiment {project} of {client.tracking_uri}"


def to_dvclive(tuned: Finetune, project: str | None) -> str:
    """Write the folder dvclive/; with a token in DVC's configuration, DVC Studio shows it too."""
    from dvclive.live import Live

    # No experiment and no dvc.yaml: the pipeline has these metrics and plots already.
    with Live("dvclive", save_dvc_exp=False, dvcyaml=None, exp_name=tuned.key) as live:
        live.log_params(tuned.parameters | tuned.tags)
        for step, metrics in tuned.steps:
            live.step = step
            for name, value in metrics.items():
                live.log_metric(name, value)
        for name, value in tuned.scores.items():
            live.log_metric(name.replace(".", "/"), value, plot=False)
    return "dvclive/"
