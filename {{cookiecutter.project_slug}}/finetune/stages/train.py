"""train: find or create the one fine-tuning job of these data and parameters, and record its model."""

import shutil
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from finetune.asking.checkpoint_choice import choose, valid_loss
from finetune.core.disk import read_json, write_bytes, write_csv, write_json, write_jsonl, write_text
from finetune.core.errors import FinetuneError
from finetune.core.params import Params
from finetune.core.paths import CURVES, EVENTS, FILES, MODEL, NOTES, WEIGHTS
from finetune.core.read_records import read_prepare_report
from finetune.core.records.training import CurveFacts, FilesRecord, ModelRecord
from finetune.project.budget import enter_bill, estimated, refuse_over_budget, refuse_over_total, reserved
from finetune.project.claims import claim_job
from finetune.project.job_request import job_request, job_settings
from finetune.project.kept_models import connect_with
from finetune.project.model_record import epochs_of, model_record
from finetune.project.spending import forget_unclear_requests
from finetune.project.training_start import start_of
from finetune.project.uploads import missing_splits, refuse_other_account, upload_again
from finetune.provider.capabilities import refuse_unsupported
from finetune.provider.connect import Connection
from finetune.provider.extras import extra
from finetune.provider.find_jobs import find
from finetune.provider.follow_job import follow
from finetune.provider.paging import all_rows
from finetune.provider.remote_jobs import ensure_job, forget_request, job_fingerprint
from finetune.provider.twin_jobs import late_twins
from finetune.provider.type_checks import left_out
from finetune.report.curve_verdict import CurveVerdict, curve_verdict
from finetune.report.training_curves import (
    CurveRow,
    columns_of,
    curve_of,
    parse_events,
    parse_result_file,
    step_of,
    with_whole_file_losses,
)
from finetune.terminal.progress import progress_bar, say

if TYPE_CHECKING:
    from openai.types.fine_tuning import FineTuningJob
    from openai.types.fine_tuning.jobs import FineTuningJobCheckpoint


def run(params: Params, again: bool = False, forget: bool = False) -> ModelRecord:
    """Find or create the job, follow it to its end, fetch its results, and write the record last.

    `forget` says that an earlier request without a clear outcome has made no job.

    Raises FinetuneError if the job ends without a model; then no record is written.
    """
    refuse_unsupported(params)
    if forget:  # first: where they exceed the budget, there may be no uploaded file yet
        forget_unclear_requests()
    files: FilesRecord = read_json(FILES, "upload", FilesRecord)
    if "train" not in files:
        raise FinetuneError(f"{FILES} has no training file.", "Create it again with: dvc repro -f upload")
    refuse_over_budget(params)
    start, lineage = start_of(params)
    settings = job_settings(params, start)
    valid = files["valid"]["sha256"] if "valid" in files else None
    fingerprint = job_fingerprint(files["train"]["sha256"], valid, settings)

    with connect_with(params, start) as connection:
        if forget:
            forget_request(connection, fingerprint)
        files = present_files(connection, params, files, fingerprint, again)
        usd = estimated(params)["train_usd"]
        request = job_request(params, connection, settings, files, fingerprint, usd)
        reserve = partial(reserved, connection, params, fingerprint)
        job = ensure_job(connection, fingerprint, request, reserve, say, again)
        claim_job(connection, job, say)
        try:
            with progress_bar("train") as progress:
                job = follow(connection, job, progress, say, late_twins(connection, fingerprint, say))
        except KeyboardInterrupt:
            say(
                f"\nJob {job.id} continues at the provider. Follow it again with: dvc repro"
                f"\nStop it with: finetune jobs cancel {job.id}"
            )
            raise
        return collect(connection, job, params, fingerprint, lineage)


def present_files(
    connection: Connection, params: Params, files: FilesRecord, fingerprint: str, again: bool
) -> FilesRecord:
    """Return the record with files that the provider has. A file that it lacks is uploaded again, which is free.

    The record may name files of another machine's engine, or files that were deleted. A job that exists needs none.
    """
    missing = missing_splits(connection, files)
    job = find(connection, fingerprint) if missing else None
    if not missing or (job is not None and job.status not in ("failed", "cancelled") and not again):
        return files
    if not again:
        refuse_other_account(connection, fingerprint)
    may_create = partial(refuse_over_total, params, connection=connection, fingerprints=[fingerprint])
    with progress_bar("upload") as progress:
        return {**files, **upload_again(connection, files, missing, may_create, progress, say)}


def collect(
    connection: Connection, job: "FineTuningJob", params: Params, fingerprint: str, lineage: list[str]
) -> ModelRecord:
    """Fetch events, curves, checkpoints and weights, add the job to the ledger, then write the model's record."""
    jobs = connection.control.fine_tuning.jobs
    missing: list[str] = []
    events = extra("events", lambda: all_rows(jobs.list_events(job.id, limit=100)), missing)[::-1]  # the oldest first
    write_jsonl(EVENTS, [event.model_dump(mode="json") for event in events])
    from_events = parse_events(events)
    results = extra("result files", lambda: result_rows(connection, job), missing)
    curves = with_whole_file_losses(results, from_events) or from_events
    write_csv(CURVES, columns_of(curves), curves)
    listed = extra("checkpoints", lambda: checkpoints_of(connection, job), missing)
    if missing and not listed and params.train.choose != "last":
        raise FinetuneError(
            f"train.choose is {params.train.choose}, but the provider lacks: {', '.join(missing)}.",
            "Run the same command again later: the job is found, nothing is paid again.",
        )
    checkpoints = sorted(listed, key=lambda one: one.step_number)
    chosen = choose(connection, params, job, checkpoints)
    fetch_weights(connection, getattr(chosen.checkpoint, "result_files", None) or [], missing)
    prepared, n_epochs = read_prepare_report(), epochs_of(job, params)
    kept = [int(one.step_number) for one in checkpoints]  # some servers write 79.0
    found = curve_verdict(from_events or curves, n_epochs, kept, prepared.get("valid"))
    say(f"verdict: {found.verdict}. {found.words}")
    record = model_record(
        job,
        params,
        fingerprint=fingerprint,
        lineage=lineage,
        model=chosen.model,
        chosen={"by": params.train.choose, "step": chosen.step, "why": chosen.why},
        # Experiments are compared by these. The last value of the curve is that of the last step, and may be a batch's.
        valid_loss=valid_loss(chosen.checkpoint) if chosen.checkpoint else None,
        valid_score=chosen.score,
        prompt=prepared["prompt"],
        checkpoints=checkpoints,
        curves=curve_facts(curves, found),
    )
    missing += [f"{field} of the job (damaged)" for field in left_out.get(job.id, [])]
    if missing:
        record["missing"] = missing
    enter_bill(connection, params, job, fingerprint, record["usd"], record["hyperparameters"].get("n_epochs"))
    write_json(MODEL, record)
    if missing:
        say(f"The provider lacks: {', '.join(missing)}. Look again, for nothing, with: dvc repro -f -s train")
    return record


def checkpoints_of(connection: Connection, job: "FineTuningJob") -> "list[FineTuningJobCheckpoint]":
    """Return the job's checkpoints. Raises ValueError for a list of another job's, such as one from a cache."""
    found = all_rows(connection.control.fine_tuning.jobs.checkpoints.list(job.id))
    if any(one.fine_tuning_job_id not in (None, job.id) for one in found):
        raise ValueError("of another job")
    return found


def result_rows(connection: Connection, job: "FineTuningJob") -> list[CurveRow]:
    """Return the rows of the job's result files. Raises ValueError for one that is no table of steps."""
    rows = []
    for file in job.result_files or []:
        content = connection.control.files.content(file).content
        found = parse_result_file(content)
        if content.strip() and not found:
            raise ValueError("no table of steps")
        if not all(row.get("step") for row in found):
            raise ValueError("a step is no number")
        rows += sorted(found, key=step_of)
    return rows


def curve_facts(curves: Sequence[CurveRow], found: CurveVerdict) -> CurveFacts:
    """Return the verdict on the curves, and the last value of each."""
    return {
        "verdict": found.verdict,
        "verdict_step": found.step,
        "verdict_words": found.words,
        "next_n_epochs": found.n_epochs,
        "train_loss": last_value(curves, "train_loss"),
        "train_accuracy": last_value(curves, "train_accuracy"),
        "valid_loss": last_value(curves, "valid_loss"),
        "valid_accuracy": last_value(curves, "valid_accuracy"),
    }


def last_value(curves: Sequence[CurveRow], column: str) -> float | None:
    """Return the last value of a curve; None if it has none."""
    values = curve_of(curves, column)
    return values[-1][1] if values else None


def fetch_weights(connection: Connection, file_ids: Sequence[str], missing: list[str]) -> None:
    """Download the files of the chosen checkpoint into models/weights, or write there that there are none, and why.

    The folder is replaced when all files are complete.
    """
    incomplete = NOTES / "weights"
    shutil.rmtree(incomplete, ignore_errors=True)
    if not extra("weights", lambda: [download(connection, file_id, incomplete) for file_id in file_ids], missing):
        shutil.rmtree(incomplete, ignore_errors=True)
        lacks = [what for what in missing if what.startswith(("checkpoints", "weights"))]
        unknown = f"There are no weights here: the provider lacks {', '.join(lacks)}."
        text = unknown if lacks else "This provider does not hand out the weights."
        write_text(incomplete / "README.txt", text + "\n")
    shutil.rmtree(WEIGHTS, ignore_errors=True)
    incomplete.rename(WEIGHTS)


def download(connection: Connection, file_id: str, folder: Path) -> Path:
    """Download a file into a folder and return its path.

    Raises FinetuneError if it is not complete, and ValueError where the provider does not say its name or size.
    """
    file = connection.control.files.retrieve(file_id)
    if file.filename is None or file.bytes is None:
        raise ValueError(f"{file_id} has no name or size")
    content = connection.downloads.files.content(file_id).content
    if len(content) != file.bytes:
        raise FinetuneError(
            f"The weights file {file.filename} has {len(content):,} bytes; {file.bytes:,} were expected.",
            "Run the same command again: the job is found, nothing is paid again.",
        )
    path = folder / Path(file.filename).name
    write_bytes(path, content)
    return path
