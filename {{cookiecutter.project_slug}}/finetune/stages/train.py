"""train: the one fine-tuning job of these data and parameters, and the record of its model."""

import datetime
import json
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any

from finetune.asking.checkpoint_choice import choose
from finetune.core.disk import read_json, write_bytes, write_csv, write_json, write_jsonl, write_text
from finetune.core.errors import FinetuneError
from finetune.core.params import Params
from finetune.core.paths import CURVES, FILES, MODEL, PREPARED_REPORT
from finetune.pricing.catalogue import look_up
from finetune.pricing.cost import UNKNOWN, dollars
from finetune.project import ledger
from finetune.project.budget import entry, refuse_over_budget, refuse_over_total
from finetune.project.history import git, project_id
from finetune.project.lineage import start_of
from finetune.provider.capabilities import refuse_after_shutdown, refuse_unsupported
from finetune.provider.connect import Connection, connect
from finetune.provider.follow_job import follow
from finetune.provider.remote_jobs import FINGERPRINT, PROJECT, ensure_job, job_fingerprint
from finetune.report.training_curves import COLUMNS, of_events, parse_result, points, verdict
from finetune.terminal.progress import progress_bar, say

if TYPE_CHECKING:
    from openai.types.fine_tuning import FineTuningJob

WEIGHTS = Path("models/weights")
EVENTS = Path("models/events.jsonl")


def run(params: Params, again: bool = False) -> dict[str, Any]:
    """Find or create the job, follow it to its end, fetch what it made, and write the record last.

    Raises FinetuneError when the job ends without a model; no record is written then.
    """
    refuse_unsupported(params)
    files = read_json(FILES, "upload")
    if "train" not in files:
        raise FinetuneError(f"{FILES} names no training file.", "Make it anew with: dvc repro -f upload")
    refuse_over_budget(params)
    start, lineage = start_of(params)
    ask = asked(params, start)
    mark = job_fingerprint(files["train"]["sha256"], files.get("valid", {}).get("sha256"), ask)

    def may_create() -> None:
        refuse_after_shutdown(params, datetime.date.today())
        refuse_over_total(params)

    try:
        with connect(params.provider) as connection:
            check_files_exist(connection, files)
            job = ensure_job(connection, mark, request_of(params, connection, ask, files, mark), again, say, may_create)
            try:
                with progress_bar("train") as progress:
                    job = follow(connection, job, progress, say)
            except KeyboardInterrupt:
                say(
                    f"\nThe job {job.id} goes on without us. Come back to it with: dvc repro"
                    f"\nStop it with: finetune jobs cancel {job.id}"
                )
                raise
            return keep(connection, job, params, mark, lineage)
    except FinetuneError as error:
        raise FinetuneError(error.what, error.remedy + former_record()) from error


def former_record() -> str:
    """How the record and weights of the last commit come back, if there are any: DVC cleared them away for this run."""
    if MODEL.exists() or not git("show", f"HEAD:./{MODEL.as_posix()}"):
        return ""
    return f"\n  → The former model comes back with: git checkout {MODEL} {CURVES} && dvc checkout train"


def asked(params: Params, start: str) -> dict[str, Any]:
    """What is asked of the provider, but for the data; part of the fingerprint."""
    names = ("n_epochs", "batch_size", "learning_rate_multiplier")
    return {
        "model": start,
        "method": params.train.method,
        "hyperparameters": {name: getattr(params.train, name) for name in names} | params.train.hyperparameters,
        "seed": params.train.seed,
        "suffix": params.train.suffix,
    }


def request_of(
    params: Params, connection: Connection, ask: dict[str, Any], files: dict[str, Any], mark: str
) -> dict[str, Any]:
    """The arguments of the create call; what is not set is left out, as older servers refuse null."""
    # `auto` is what a provider takes where nothing is said, and some know only numbers.
    hyperparameters = {name: value for name, value in ask["hyperparameters"].items() if value != "auto"}
    suffix = ask["suffix"]
    metadata = {FINGERPRINT: mark, PROJECT: project_id()}
    if not connection.profile.metadata:
        suffix, metadata = "-".join(filter(None, [suffix, mark[:12]])), {}
    training_type = {"trainingType": params.train.training_type} if params.train.training_type else {}
    request = {
        "model": ask["model"],
        "training_file": files["train"]["id"],
        "validation_file": files.get("valid", {}).get("id"),
        "method": {"type": ask["method"], ask["method"]: {"hyperparameters": hyperparameters}},
        "seed": ask["seed"],
        "suffix": suffix,
        "metadata": metadata,
        "integrations": params.train.integrations,
        "extra_body": training_type,
    }
    return {key: value for key, value in request.items() if value not in (None, [], {})}


def check_files_exist(connection: Connection, files: dict[str, Any]) -> None:
    """A record may name files of another machine's engine, or files since deleted: say so before a job fails."""
    import openai

    for split, file in files.items():
        try:
            connection.control.files.retrieve(file["id"])
        except openai.NotFoundError as error:
            raise FinetuneError(
                f"{FILES} names the {split} file {file['id']}, which {connection.profile.name!r} does not have.",
                "Upload it again with: dvc repro -f -s upload, then: dvc repro",
            ) from error


def keep(connection: Connection, job: "FineTuningJob", params: Params, mark: str, lineage: list[str]) -> dict[str, Any]:
    """Fetch events, curves, checkpoints and weights, enter the ledger, then write the record of the model."""
    client = connection.control
    events = list(client.fine_tuning.jobs.list_events(job.id, limit=100))[::-1]  # the oldest first
    write_jsonl(EVENTS, [event.model_dump(mode="json") for event in events])
    told_of = of_events(events)
    curves = [row for file in job.result_files for row in parse_result(client.files.content(file).content)] or told_of
    write_csv(CURVES, COLUMNS, curves)
    checkpoints = sorted(client.fine_tuning.jobs.checkpoints.list(job.id), key=lambda one: one.step_number)
    chosen = choose(connection, params, job, checkpoints)
    fetch_weights(connection, getattr(chosen["checkpoint"], "result_files", None) or [])
    hyperparameters = resolved(job, params)
    told = verdict(told_of or curves, hyperparameters.get("n_epochs"))  # events have the whole validation file's losses
    say(f"verdict: {told['verdict']}. {told['words']}")
    usd = price(job, params)
    record = {
        "provider": params.provider.name,
        "base": params.train.base,
        "lineage": lineage,
        "method": params.train.method,
        "model": chosen["model"],
        "model_of_last_step": job.fine_tuned_model,
        "chosen": {"by": params.train.choose, "step": chosen["step"], "why": chosen["why"]},
        "job": job.id,
        "fingerprint": mark,
        "seed": job.seed,
        "suffix": params.train.suffix,
        "prompt": read_json(PREPARED_REPORT, "prepare").get("prompt"),
        "hyperparameters": hyperparameters,
        "trained_tokens": job.trained_tokens,
        "usd": usd,
        "verdict": told["verdict"],
        "verdict_step": told["step"],
        "verdict_words": told["words"],
        "next_n_epochs": told["n_epochs"],
        "checkpoints": [
            {
                "model": c.fine_tuned_model_checkpoint,
                "step": c.step_number,
                **c.metrics.model_dump(mode="json", exclude_none=True),
            }
            for c in checkpoints
        ],
    } | {column: last_value(curves, column) for column in COLUMNS[1:]}
    ledger.enter(entry(params, job, usd))
    write_json(MODEL, record)
    return record


def resolved(job: "FineTuningJob", params: Params) -> dict[str, Any]:
    """The hyperparameters that were trained with, as the provider says: `auto` has become a number."""
    method = getattr(job.method, params.train.method, None) if job.method else None
    found = (method and method.hyperparameters) or job.hyperparameters
    return json.loads(found.model_dump_json(exclude_none=True)) if found else {}


def last_value(curves: list[dict[str, Any]], column: str) -> float | None:
    values = points(curves, column)
    return values[-1][1] if values else None


def price(job: "FineTuningJob", params: Params) -> float | str:
    """Dollars for the tokens that the provider says it trained on; "unknown" where price or tokens are."""
    rate = look_up(params.train.base, params.provider.name).training
    if job.trained_tokens is None:
        return 0.0 if rate == 0 else UNKNOWN
    return dollars(job.trained_tokens, rate)


def fetch_weights(connection: Connection, file_ids: list[str]) -> None:
    """Fill models/weights with the files of the chosen checkpoint, or with a line that says there are none."""
    files = [connection.control.files.retrieve(file_id) for file_id in file_ids]
    shutil.rmtree(WEIGHTS, ignore_errors=True)
    if not files:
        write_text(WEIGHTS / "README.txt", "This provider does not hand out the weights.\n")
    for file in files:
        content = connection.client.files.content(file.id).content
        if len(content) != file.bytes:
            raise FinetuneError(
                f"The weights file {file.filename} came with {len(content):,} bytes of {file.bytes:,}.",
                "Run the same command again: the job is found, nothing is paid again.",
            )
        write_bytes(WEIGHTS / Path(file.filename).name, content)
