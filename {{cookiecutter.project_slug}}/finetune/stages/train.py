"""train: the one fine-tuning job of these data and parameters, and the record of its model."""

import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any

from finetune.data.cost import UNKNOWN, dollars
from finetune.errors import FinetuneError
from finetune.params import Params
from finetune.paths import PREPARED_REPORT
from finetune.provider.catalogue import look_up
from finetune.provider.connect import Connection, connect
from finetune.provider.jobs import ensure_job, fingerprint, follow
from finetune.record import read_json, write_bytes, write_csv, write_json, write_text
from finetune.report.curves import COLUMNS, parse_result
from finetune.report.progress import progress_bar, say
from finetune.stages.budget import refuse_over_budget
from finetune.stages.upload import FILES

if TYPE_CHECKING:
    from openai.types.fine_tuning import FineTuningJob

MODEL = Path("models/model.json")
WEIGHTS = Path("models/weights")
CURVES = Path("reports/training.csv")


def run(params: Params, again: bool = False) -> dict[str, Any]:
    """Find or create the job, follow it to its end, fetch what it made, and write the record last.

    Raises FinetuneError when the job ends without a model; no record is written then.
    """
    files = read_json(FILES, "upload")
    if "train" not in files:
        raise FinetuneError(f"{FILES} names no training file.", "Make it anew with: dvc repro -f upload")
    refuse_over_budget(params)
    ask = asked(params)
    mark = fingerprint(files["train"]["sha256"], files.get("valid", {}).get("sha256"), ask)
    with connect(params.provider) as connection:
        check_files_exist(connection, files)
        job = ensure_job(connection, mark, request_of(ask, files), again, say)
        try:
            with progress_bar("train") as progress:
                job = follow(connection, job, progress, say)
        except KeyboardInterrupt:
            say(
                f"\nThe job {job.id} goes on without us. Come back to it with: dvc repro"
                f"\nStop it with: finetune jobs cancel {job.id}"
            )
            raise
        return keep(connection, job, params, mark)


def asked(params: Params) -> dict[str, Any]:
    """What is asked of the provider, but for the data; part of the fingerprint."""
    names = ("n_epochs", "batch_size", "learning_rate_multiplier")
    return {
        "model": params.train.base,
        "method": params.train.method,
        "hyperparameters": {name: getattr(params.train, name) for name in names},
        "seed": params.train.seed,
        "suffix": params.train.suffix,
    }


def request_of(ask: dict[str, Any], files: dict[str, Any]) -> dict[str, Any]:
    """The arguments of the create call; what is not set is left out, as older servers refuse null."""
    request = {
        "model": ask["model"],
        "training_file": files["train"]["id"],
        "validation_file": files.get("valid", {}).get("id"),
        "method": {"type": ask["method"], ask["method"]: {"hyperparameters": ask["hyperparameters"]}},
        "seed": ask["seed"],
        "suffix": ask["suffix"],
    }
    return {key: value for key, value in request.items() if value is not None}


def check_files_exist(connection: Connection, files: dict[str, Any]) -> None:
    """A record may name files of another machine's engine, or files since deleted: say so before a job fails."""
    import openai

    for split, file in files.items():
        try:
            connection.client.files.retrieve(file["id"])
        except openai.NotFoundError as error:
            raise FinetuneError(
                f"{FILES} names the {split} file {file['id']}, which {connection.profile.name!r} does not have.",
                "Upload it again with: dvc repro -f -s upload, then: dvc repro",
            ) from error


def keep(connection: Connection, job: "FineTuningJob", params: Params, mark: str) -> dict[str, Any]:
    """Fetch curves, checkpoints and weights, then write the record of the model."""
    client = connection.client
    curves = [row for file in job.result_files for row in parse_result(client.files.content(file).content)]
    write_csv(CURVES, COLUMNS, curves)
    checkpoints = list(client.fine_tuning.jobs.checkpoints.list(job.id))
    final = next((c for c in checkpoints if c.fine_tuned_model_checkpoint == job.fine_tuned_model), None)
    fetch_weights(connection, getattr(final, "result_files", None) or [])
    resolved = getattr(job.method, params.train.method) if job.method else None
    hyperparameters = (resolved and resolved.hyperparameters) or job.hyperparameters
    record = {
        "provider": params.provider.name,
        "base": params.train.base,
        "method": params.train.method,
        "model": job.fine_tuned_model,
        "job": job.id,
        "fingerprint": mark,
        "seed": job.seed,
        "suffix": params.train.suffix,
        "prompt": read_json(PREPARED_REPORT, "prepare").get("prompt"),
        "hyperparameters": hyperparameters.model_dump(mode="json", exclude_none=True) if hyperparameters else {},
        "trained_tokens": job.trained_tokens,
        "usd": price(job, params),
        "checkpoints": [
            {
                "model": c.fine_tuned_model_checkpoint,
                "step": c.step_number,
                **c.metrics.model_dump(mode="json", exclude_none=True),
            }
            for c in sorted(checkpoints, key=lambda c: c.step_number)
        ],
    } | ({key: last_value(curves, key) for key in COLUMNS[1:]})
    write_json(MODEL, record)
    return record


def last_value(curves: list[dict[str, Any]], column: str) -> float | None:
    values = [row[column] for row in curves if row.get(column)]
    return float(values[-1]) if values else None


def price(job: "FineTuningJob", params: Params) -> float | str:
    """Dollars for the tokens that the provider says it trained on; "unknown" where price or tokens are."""
    rate = look_up(params.train.base, params.provider.name).training
    if job.trained_tokens is None:
        return 0.0 if rate == 0 else UNKNOWN
    return dollars(job.trained_tokens, rate)


def fetch_weights(connection: Connection, file_ids: list[str]) -> None:
    """Fill models/weights with the files of the chosen checkpoint, or with a line that says there are none."""
    shutil.rmtree(WEIGHTS, ignore_errors=True)
    if not file_ids:
        write_text(WEIGHTS / "README.txt", "This provider does not hand out the weights.\n")
    for file_id in file_ids:
        name = Path(connection.client.files.retrieve(file_id).filename).name
        write_bytes(WEIGHTS / name, connection.client.files.content(file_id).content)
