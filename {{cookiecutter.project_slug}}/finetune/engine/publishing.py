"""Publish what a job makes: a model and its files at each checkpoint, and the result file at the end."""

import csv
import io
import json
import shutil
import time
from pathlib import Path

from finetune.engine import bases
from finetune.engine.adapters import add_model, copy_adapter, digests_of, remove_model
from finetune.engine.api_errors import ApiError
from finetune.engine.ids import new_id
from finetune.engine.schema import CheckpointRow, JobRow, ModelRow
from finetune.engine.store import UNFINISHED, Store

PUBLISHED_CHECKPOINTS = 3  # the newest ones stay, as at OpenAI
# Columns of the result file. Those of OpenAI's former API stand after its present ones.
FORMER_COLUMNS = ["elapsed_tokens", "elapsed_examples", "train_sequence_accuracy", "valid_sequence_accuracy"]
DPO_COLUMNS = ["step", "train_loss", "train_rewards_accuracy", "train_rewards_margin"]
DPO_COLUMNS += ["valid_loss", "valid_rewards_accuracy", "valid_rewards_margin", "elapsed_tokens", "elapsed_examples"]
RESULT_COLUMNS = ["step", "train_loss", "train_accuracy", "valid_loss", "valid_mean_token_accuracy", *FORMER_COLUMNS]


def publish_checkpoint(store: Store, job: JobRow, checkpoint: Path, step: int, is_last: bool) -> None:
    """Make a model and a pair of files of a checkpoint's adapter; the last one is the job's fine-tuned model.

    Publishing a step again, as a resumed job may, changes nothing.
    """
    if store.row("SELECT id FROM checkpoints WHERE job = ? AND step = ?", job["id"], step):
        return
    name = f"ft:{bases.short_name(job['base'])}:local:{job['suffix'] or ''}:{new_id('')[:8]}"
    name += "" if is_last else f":ckpt-step-{step}"
    folder = copy_adapter(store, checkpoint, job["base"])
    files = [store.add_file(path.name, "fine-tune-results", [path.read_bytes()]) for path in sorted(folder.iterdir())]
    digests = digests_of(folder)
    row = store.row("SELECT data FROM steps WHERE job = ? AND step = ?", job["id"], step)
    measured = json.loads(row["data"]) if row else {"step": step}
    left_out = ("total_steps", "full_valid_sequence_accuracy", *FORMER_COLUMNS)
    metrics = {key: value for key, value in measured.items() if key not in left_out}
    with store.transaction() as db:
        db.execute(
            "INSERT INTO checkpoints (id, job, created_at, step, model, metrics, files) VALUES (?, ?, ?, ?, ?, ?, ?)",
            (new_id("ftckpt_"), job["id"], int(time.time()), step, name, json.dumps(metrics), json.dumps(files)),
        )
        add_model(db, name, job["base"], folder, digests, job["id"], job["dtype"])
    store.add_event(job["id"], f"Checkpoint created at step {step} with snapshot ID: {name}", step=step)
    newest_first = store.rows("SELECT * FROM checkpoints WHERE job = ? ORDER BY step DESC", job["id"])
    for old in newest_first[PUBLISHED_CHECKPOINTS:]:
        delete_checkpoint(store, old)


def delete_checkpoint(store: Store, checkpoint: CheckpointRow) -> None:
    """Delete a published checkpoint with its model and its files."""
    files = json.loads(checkpoint["files"])
    with store.transaction() as db:
        db.execute("DELETE FROM checkpoints WHERE id = ?", (checkpoint["id"],))
        folder = remove_model(db, checkpoint["model"])
        for file in files:
            store.forget_file(db, file)
    for file in files:
        store.file_path(file).unlink(missing_ok=True)
    if folder:
        shutil.rmtree(store.home / folder, ignore_errors=True)


def delete_model(store: Store, name: str) -> bool:
    """Delete a fine-tuned model with its checkpoint; return False if there is none of this name.

    Raises ApiError if the model's job has not ended.
    """
    model: ModelRow | None = store.row("SELECT * FROM models WHERE id = ?", name)
    if model is None:
        return False
    job = store.job(model["job"]) if model["job"] else None
    if job and job["status"] in (*UNFINISHED, "paused"):
        # The job ends with the model of its last checkpoint, so it needs that one.
        what = f"Job {job['id']}, which made this checkpoint, has not ended: cancel the job first."
        raise ApiError(400, what, "invalid_state")
    for checkpoint in store.rows("SELECT * FROM checkpoints WHERE model = ?", name):
        delete_checkpoint(store, checkpoint)
    with store.transaction() as db:  # one of an adapter from elsewhere has no checkpoint
        folder = remove_model(db, name)
    if folder:
        shutil.rmtree(store.home / folder, ignore_errors=True)
    return True


def finish_job(store: Store, job_id: str, trained_tokens: int) -> None:
    """Write the result file and end the job with its model, unless the job was cancelled or paused meanwhile."""
    final = store.row("SELECT * FROM checkpoints WHERE job = ? ORDER BY step DESC LIMIT 1", job_id)
    job = store.job(job_id)
    if job is None or job["status"] not in UNFINISHED or final is None:
        return
    result = store.add_file("step_metrics.csv", "fine-tune-results", [result_table(store, job).encode()])
    values = {
        "fine_tuned_model": final["model"],
        "trained_tokens": trained_tokens,
        "result_file": result,
        "finished_at": int(time.time()),
    }
    store.add_event(job_id, f"New fine-tuned model created: {final['model']}")
    if store.set_job_status(job_id, "succeeded", **values):
        store.add_event(job_id, "The job has successfully completed")
    else:
        store.take_back_file(result)


def result_table(store: Store, job: JobRow) -> str:
    """Return the metrics of a job's steps as CSV, with OpenAI's columns, or with those of the method dpo."""
    columns = DPO_COLUMNS if job["method"] == "dpo" else RESULT_COLUMNS
    table = io.StringIO()
    writer = csv.DictWriter(table, columns, extrasaction="ignore", lineterminator="\n")
    writer.writeheader()
    for row in store.rows("SELECT data FROM steps WHERE job = ? ORDER BY step", job["id"]):
        data = json.loads(row["data"])
        # As at OpenAI: the loss of the whole validation file where it was measured, else that of one batch.
        data["train_accuracy"] = data.get("train_mean_token_accuracy")
        for name in columns:
            if name.startswith("valid_"):
                data[name] = data.get(f"full_{name}", data.get(name, ""))
        writer.writerow(data)
    return table.getvalue()
