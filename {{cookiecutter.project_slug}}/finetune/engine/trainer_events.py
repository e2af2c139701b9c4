"""Bring the events of a trainer into the database: each of them once, whatever dies in between."""

import json
from pathlib import Path
from typing import Any

from finetune.engine.publishing import publish_checkpoint
from finetune.engine.schema import JobRow
from finetune.engine.store import Store
from finetune.engine.training.checkpoints import delete_old_checkpoints
from finetune.engine.training.job_folder import CHECKPOINTS, EVENTS


def read_events(store: Store, job: JobRow, attempt: Path) -> None:
    """Report the new events in the folder of an attempt, and publish its new checkpoints."""
    path = attempt / EVENTS
    row = store.row("SELECT events_read FROM jobs WHERE id = ?", job["id"])
    if row is None or not path.exists():
        return
    name, _, offset = (row["events_read"] or "").partition(" ")
    place = int(offset) if name == attempt.name else 0
    with open(path, "rb") as log:
        log.seek(place)
        for line in log:
            if not line.endswith(b"\n"):
                return  # it is being written
            event = json.loads(line)
            if event["kind"] == "checkpoint":
                publish(store, job, attempt, event)
            place += len(line)
            with store.transaction():
                report(store, job, event)
                store.execute("UPDATE jobs SET events_read = ? WHERE id = ?", f"{attempt.name} {place}", job["id"])


def publish(store: Store, job: JobRow, attempt: Path, event: dict[str, Any]) -> None:
    """Publish a checkpoint that ends an epoch. It is in the database before its event counts as read."""
    checkpoint = attempt / CHECKPOINTS / f"checkpoint-{event['step']}"
    if event["ends_epoch"]:
        publish_checkpoint(store, job, checkpoint, event["step"], event["is_last"])
    delete_old_checkpoints(attempt, event["step"])


def report(store: Store, job: JobRow, event: dict[str, Any]) -> None:
    """Report one event. Events of a kind that a later version of the trainer may have are left out."""
    when = event["created_at"]
    if event["kind"] == "started":
        resolved = json.dumps(event["hyperparameters"], sort_keys=True)
        columns = {"threads": event["threads"], "dtype": event["dtype"], "resolved": resolved}
        if store.set_job_status(job["id"], "running", **columns):
            store.add_event(job["id"], start_message(event), created_at=when)
    elif event["kind"] == "step":
        metrics = event["metrics"]
        step = metrics["step"]
        store.execute("INSERT OR REPLACE INTO steps VALUES (?, ?, ?)", job["id"], step, json.dumps(metrics))
        store.add_event(job["id"], step_message(metrics), data=metrics, step=step, created_at=when)
    elif event["kind"] == "checkpoint":
        store.execute("UPDATE jobs SET starts = 0 WHERE id = ?", job["id"])
    elif event["kind"] == "warning":
        store.add_event(job["id"], event["message"], level="warn", created_at=when)
    elif event["kind"] == "integrations":
        asked = json.dumps(event["value"], sort_keys=True)
        store.execute("UPDATE jobs SET integrations = ? WHERE id = ?", asked, job["id"])


def start_message(event: dict[str, Any]) -> str:
    """Return how training starts: from which step, on what, in how many processes."""
    what = f"resumed from step {event['step']}" if event["step"] else "started"
    processes, threads = counted(event["processes"], "process"), counted(event["threads"], "thread")
    parts = ", with a part of the base in each" if event.get("sharded") else ""
    return f"Fine-tuning job {what} on {event['device']} in {event['dtype']} with {processes} of {threads}{parts}"


def counted(number: int, noun: str) -> str:
    plural = noun + ("es" if noun.endswith("s") else "s")
    return f"{number} {noun if number == 1 else plural}"


def step_message(metrics: dict[str, Any]) -> str:
    message = f"Step {metrics['step']}/{metrics['total_steps']}: training loss={metrics['train_loss']:.2f}"
    if "valid_loss" in metrics:
        message += f", validation loss={metrics['valid_loss']:.2f}"
    if "full_valid_loss" in metrics:
        message += f", full validation loss={metrics['full_valid_loss']:.2f}"
    return message


def delete_reports_after(store: Store, job_id: str, step: int) -> None:
    """Delete the steps and events after `step`, which a killed trainer reported: the job repeats those steps."""
    with store.transaction() as db:
        db.execute("DELETE FROM steps WHERE job = ? AND step > ?", (job_id, step))
        db.execute("DELETE FROM events WHERE job = ? AND step > ?", (job_id, step))
