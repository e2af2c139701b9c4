"""What a job leaves behind: checkpoints to resume from, and models, files and a result table to use."""

import csv
import io
import json
import shutil
import time
from pathlib import Path

from finetune.engine import bases
from finetune.engine.api_errors import ApiError
from finetune.engine.store import UNFINISHED, Row, Store, new_id

KEPT_CHECKPOINTS = 3  # as at OpenAI
RESULT_COLUMNS = ["step", "train_loss", "train_accuracy", "valid_loss", "valid_mean_token_accuracy"]
COMPLETE = "complete"  # a file in a checkpoint's folder, written after all the others


def newest_complete(work: Path) -> Path | None:
    """The newest checkpoint that was written to its end; the remains of others are cleared away."""
    found = sorted(work.glob("checkpoint-*"), key=step_of)
    for folder in found:
        if not (folder / COMPLETE).exists():
            shutil.rmtree(folder)
    return next((folder for folder in reversed(found) if folder.exists()), None)


def step_of(checkpoint: Path | None) -> int:
    return int(checkpoint.name.rsplit("-", 1)[1]) if checkpoint else 0


def forget_after(store: Store, job_id: str, step: int) -> None:
    """Drop what a killed worker reported beyond its last checkpoint: those steps are taken again."""
    with store.transaction() as db:
        db.execute("DELETE FROM steps WHERE job = ? AND step > ?", (job_id, step))
        db.execute("DELETE FROM events WHERE job = ? AND step > ?", (job_id, step))


def publish(store: Store, job: Row, checkpoint: Path, step: int, last: bool) -> None:
    """Make a checkpoint's adapter a model and a pair of files; the last one is the fine-tuned model itself.

    Publishing the same step twice, as a resumed job may, changes nothing.
    """
    if store.row("SELECT id FROM checkpoints WHERE job = ? AND step = ?", job["id"], step):
        return
    name = f"ft:{bases.short_name(job['base'])}:local:{job['suffix'] or ''}:{new_id('')[:8]}"
    name += "" if last else f":ckpt-step-{step}"
    folder = store.home / "models" / new_id("")
    folder.mkdir()
    shutil.copy(checkpoint / "adapter_model.safetensors", folder)
    config = json.loads((checkpoint / "adapter_config.json").read_text(encoding="utf-8"))
    # Neither the order of a set nor a path of this machine belongs in a file that is versioned.
    config.update(
        target_modules=sorted(config["target_modules"]), base_model_name_or_path=bases.short_name(job["base"])
    )
    (folder / "adapter_config.json").write_text(json.dumps(config, indent=2, sort_keys=True) + "\n", encoding="utf-8")
    files = [store.add_file(path.name, "fine-tune-results", [path.read_bytes()]) for path in sorted(folder.iterdir())]
    row = store.row("SELECT data FROM steps WHERE job = ? AND step = ?", job["id"], step)
    metrics = json.loads(row["data"]) if row else {"step": step}
    metrics.pop("total_steps", None)
    now = int(time.time())
    with store.transaction() as db:
        db.execute(
            "INSERT INTO checkpoints (id, job, created_at, step, model, metrics, files) VALUES (?, ?, ?, ?, ?, ?, ?)",
            (new_id("ftckpt_"), job["id"], now, step, name, json.dumps(metrics), json.dumps(files)),
        )
        db.execute(
            "INSERT INTO models (id, created_at, job, base, dtype, folder) VALUES (?, ?, ?, ?, ?, ?)",
            (name, now, job["id"], job["base"], job["dtype"], folder.name),
        )
    store.add_event(job["id"], f"Checkpoint created at step {step} with snapshot ID: {name}", step=step)
    for old in store.rows("SELECT * FROM checkpoints WHERE job = ? ORDER BY step DESC", job["id"])[KEPT_CHECKPOINTS:]:
        withdraw(store, old)


def withdraw(store: Store, checkpoint: Row) -> None:
    """Remove a checkpoint, its model and its files."""
    model = store.row("SELECT folder FROM models WHERE id = ?", checkpoint["model"])
    files = json.loads(checkpoint["files"])
    with store.transaction() as db:
        db.execute("DELETE FROM checkpoints WHERE id = ?", (checkpoint["id"],))
        db.execute("DELETE FROM models WHERE id = ?", (checkpoint["model"],))
        db.executemany("DELETE FROM files WHERE id = ?", [(file,) for file in files])
    for file in files:
        store.file_path(file).unlink(missing_ok=True)
    if model:
        shutil.rmtree(store.home / "models" / model["folder"], ignore_errors=True)


def delete_model(store: Store, name: str) -> bool:
    """Remove a fine-tuned model with its checkpoint; whether there was one. Raises ApiError while its job goes on."""
    model = store.row("SELECT * FROM models WHERE id = ?", name)
    if model is None:
        return False
    job = store.job(model["job"])
    if job and job["status"] in (*UNFINISHED, "paused"):
        # The job ends with the model of its last checkpoint, so it needs that one.
        raise ApiError(400, f"Job {job['id']} of this checkpoint has not ended: cancel it first.", "invalid_state")
    for checkpoint in store.rows("SELECT * FROM checkpoints WHERE model = ?", name):
        withdraw(store, checkpoint)
    return True


def finish(store: Store, job_id: str, trained_tokens: int) -> None:
    """Write the result file and end the job with its model, unless it was cancelled or paused meanwhile."""
    final = store.row("SELECT * FROM checkpoints WHERE job = ? ORDER BY step DESC LIMIT 1", job_id)
    job = store.job(job_id)
    if job is None or job["status"] not in UNFINISHED or final is None:
        return
    table = io.StringIO()
    writer = csv.DictWriter(table, RESULT_COLUMNS, extrasaction="ignore", lineterminator="\n")
    writer.writeheader()
    for row in store.rows("SELECT data FROM steps WHERE job = ? ORDER BY step", job_id):
        data = json.loads(row["data"])
        # As at OpenAI: the loss of the whole validation file where there is one, else that of a batch.
        data["train_accuracy"] = data["train_mean_token_accuracy"]
        for name in ("valid_loss", "valid_mean_token_accuracy"):
            data[name] = data.get(f"full_{name}", data.get(name, ""))
        writer.writerow(data)
    result = store.add_file("step_metrics.csv", "fine-tune-results", [table.getvalue().encode()])
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
        store.delete_file(result)
