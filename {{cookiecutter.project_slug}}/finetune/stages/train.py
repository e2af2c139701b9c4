"""train: find or create the one fine-tuning job of these data and parameters, and record its model."""

import datetime
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from finetune.asking.checkpoint_choice import choose, valid_loss
from finetune.core.disk import read_json, write_bytes, write_csv, write_json, write_jsonl, write_text
from finetune.core.errors import FinetuneError
from finetune.core.params import Params
from finetune.core.paths import CURVES, EVENTS, FILES, MODEL, NOTES, WEIGHTS
from finetune.core.read_records import read_prepare_report
from finetune.core.records import CurveFacts, FilesRecord, ModelRecord
from finetune.project import ledger
from finetune.project.budget import ledger_row, refuse_over_budget, refuse_over_total
from finetune.project.job_request import job_request, job_settings
from finetune.project.model_record import hyperparameters_of, model_record
from finetune.project.training_start import start_of
from finetune.provider.capabilities import refuse_after_shutdown, refuse_unsupported
from finetune.provider.connect import Connection, connect
from finetune.provider.follow_job import follow
from finetune.provider.remote_jobs import ensure_job, job_fingerprint
from finetune.report.curve_verdict import CurveVerdict, curve_verdict
from finetune.report.training_curves import (
    COLUMNS,
    CurveRow,
    curve_of,
    parse_events,
    parse_result_file,
    with_whole_file_losses,
)
from finetune.terminal.progress import progress_bar, say

if TYPE_CHECKING:
    from openai.types.fine_tuning import FineTuningJob


def run(params: Params, again: bool = False) -> ModelRecord:
    """Find or create the job, follow it to its end, fetch its results, and write the record last.

    Raises FinetuneError if the job ends without a model; then no record is written.
    """
    refuse_unsupported(params)
    files: FilesRecord = read_json(FILES, "upload")
    if "train" not in files:
        raise FinetuneError(f"{FILES} has no training file.", "Create it again with: dvc repro -f upload")
    refuse_over_budget(params)
    start, lineage = start_of(params)
    settings = job_settings(params, start)
    valid = files["valid"]["sha256"] if "valid" in files else None
    fingerprint = job_fingerprint(files["train"]["sha256"], valid, settings)

    def may_create() -> None:
        refuse_after_shutdown(params, datetime.date.today())
        refuse_over_total(params)

    with connect(params.provider) as connection:
        refuse_missing_files(connection, files)
        request = job_request(params, connection, settings, files, fingerprint)
        job = ensure_job(connection, fingerprint, request, again, say, may_create)
        try:
            with progress_bar("train") as progress:
                job = follow(connection, job, progress, say)
        except KeyboardInterrupt:
            say(
                f"\nJob {job.id} continues at the provider. Follow it again with: dvc repro"
                f"\nStop it with: finetune jobs cancel {job.id}"
            )
            raise
        return collect(connection, job, params, fingerprint, lineage)


def refuse_missing_files(connection: Connection, files: FilesRecord) -> None:
    """Raise FinetuneError if the provider lacks a file of the record.

    The record may name files of another machine's engine, or files that were deleted.
    """
    import openai

    for split, file in files.items():
        try:
            connection.control.files.retrieve(file["id"])
        except openai.NotFoundError as error:
            raise FinetuneError(
                f"{FILES} names the {split} file {file['id']}, which {connection.profile.name!r} does not have.",
                "Upload it again with: dvc repro -f -s upload, then: dvc repro",
            ) from error


def collect(
    connection: Connection, job: "FineTuningJob", params: Params, fingerprint: str, lineage: list[str]
) -> ModelRecord:
    """Fetch events, curves, checkpoints and weights, add the job to the ledger, then write the model's record."""
    client = connection.control
    events = list(client.fine_tuning.jobs.list_events(job.id, limit=100))[::-1]  # the oldest first
    write_jsonl(EVENTS, [event.model_dump(mode="json") for event in events])
    from_events = parse_events(events)
    results = [client.files.content(file).content for file in job.result_files]
    from_files = [row for content in results for row in parse_result_file(content)]
    curves = with_whole_file_losses(from_files, from_events) or from_events
    write_csv(CURVES, COLUMNS, curves)
    checkpoints = sorted(client.fine_tuning.jobs.checkpoints.list(job.id), key=lambda one: one.step_number)
    chosen = choose(connection, params, job, checkpoints)
    fetch_weights(connection, getattr(chosen.checkpoint, "result_files", None) or [])
    prepared, n_epochs = read_prepare_report(), hyperparameters_of(job, params).get("n_epochs")
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
        prompt=prepared.get("prompt"),
        checkpoints=checkpoints,
        curves=curve_facts(curves, found),
    )
    ledger.add_job(ledger_row(params, job, record["usd"], record["hyperparameters"].get("n_epochs")))
    write_json(MODEL, record)
    return record


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


def fetch_weights(connection: Connection, file_ids: Sequence[str]) -> None:
    """Download the files of the chosen checkpoint into models/weights, or write there that there are none.

    The folder is replaced when all files are complete.
    """
    files = [connection.control.files.retrieve(file_id) for file_id in file_ids]
    incomplete = NOTES / "weights"
    shutil.rmtree(incomplete, ignore_errors=True)
    if not files:
        write_text(incomplete / "README.txt", "This provider does not hand out the weights.\n")
    for file in files:
        content = connection.client.files.content(file.id).content
        if len(content) != file.bytes:
            raise FinetuneError(
                f"The weights file {file.filename} has {len(content):,} bytes; {file.bytes:,} were expected.",
                "Run the same command again: the job is found, nothing is paid again.",
            )
        write_bytes(incomplete / Path(file.filename).name, content)
    shutil.rmtree(WEIGHTS, ignore_errors=True)
    incomplete.rename(WEIGHTS)
