"""Jobs: what is asked becomes a row, `auto` becomes numbers, and a worker process is found to do the work."""

import json
import os
import shlex
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from finetune.engine import bases
from finetune.engine.api_errors import ApiError
from finetune.engine.store import UNFINISHED, Row, Store, new_id

# A worker that was just started may not hold the lock yet; until then nobody starts another. Seconds.
GRACE = 10
LIMITS = {"n_epochs": (int, 1, 50), "batch_size": (int, 1, 256), "learning_rate_multiplier": (float, 0, 1000)}


def lock_of(home: Path) -> FileLock:
    """Held by the one process that trains on this machine; the system lets go of it when that process dies."""
    return FileLock(home / "train.lock", mode=0o600)


def create(store: Store, body: dict[str, Any]) -> Row:
    """A new job in `validating_files`, with a worker under way. Raises ApiError for what can be refused at once."""
    known = {
        "model",
        "training_file",
        "validation_file",
        "hyperparameters",
        "method",
        "seed",
        "suffix",
        "metadata",
        "integrations",
    }
    for key in sorted(set(body) - known):
        raise ApiError(400, f"Unrecognized request argument supplied: {key}", "unknown_parameter", key)
    model = body.get("model")
    tuned = store.row("SELECT base FROM models WHERE id = ?", model) if isinstance(model, str) else None
    if not tuned and not (isinstance(model, str) and bases.known(model, store.home)):
        raise ApiError(
            400,
            f"The model {model!r} cannot be fine-tuned here. Bases that are: {', '.join(bases.installed(store.home))}."
            " Others are named by an absolute folder, or organisation/model@revision of the Hugging Face hub; a"
            " fine-tuned model of this server goes on from where it is.",
            "model_not_found",
            "model",
        )
    check_files(store, body)
    suffix, seed, metadata = body.get("suffix"), body.get("seed"), body.get("metadata")
    if suffix is not None and not (isinstance(suffix, str) and 1 <= len(suffix) <= 64):
        raise ApiError(400, "'suffix' must be a string of 1 to 64 characters.", "invalid_value", "suffix")
    if seed is None:
        seed = int.from_bytes(os.urandom(4), "big") >> 1
    if not isinstance(seed, int) or not 0 <= seed <= 2**31 - 1:
        raise ApiError(400, "'seed' must be an integer from 0 to 2147483647.", "invalid_value", "seed")
    check_metadata(metadata)
    if body.get("integrations"):
        raise ApiError(400, "This server has no integrations.", "unsupported_parameter", "integrations")
    job_id = new_id("ftjob-")
    if tuned:  # kept with the job: it can be resumed from a checkpoint of its own when that model is gone
        store.execute("INSERT INTO parents VALUES (?, ?)", job_id, tuned["base"])
    store.execute(
        "INSERT INTO jobs"
        " (id, created_at, status, model, suffix, seed, training_file, validation_file, asked, metadata)"
        " VALUES (?, ?, 'validating_files', ?, ?, ?, ?, ?, ?, ?)",
        job_id,
        int(time.time()),
        model,
        suffix,
        seed,
        body["training_file"],
        body.get("validation_file"),
        json.dumps(asked_hyperparameters(body), sort_keys=True),
        json.dumps(metadata, sort_keys=True) if metadata else None,
    )
    store.add_event(job_id, f"Created fine-tuning job: {job_id}")
    spawn_worker(store)
    row = store.job(job_id)
    assert row is not None
    return row


def check_files(store: Store, body: dict[str, Any]) -> None:
    for param in ("training_file", "validation_file"):
        name = body.get(param)
        if name is None and param == "validation_file":
            continue
        row = store.row("SELECT purpose FROM files WHERE id = ?", name)
        if row is None:
            raise ApiError(400, f"{param} {name!r} does not exist.", "invalid_file", param)
        if row["purpose"] != "fine-tune":
            raise ApiError(
                400, f"{param} {name!r} has purpose {row['purpose']!r}, not 'fine-tune'.", "invalid_file", param
            )


def check_metadata(metadata: Any) -> None:
    if metadata is None:
        return
    right = isinstance(metadata, dict) and len(metadata) <= 16
    if not right or not all(isinstance(v, str) and len(k) <= 64 and len(v) <= 512 for k, v in metadata.items()):
        raise ApiError(
            400, "'metadata' holds at most 16 strings, of 512 characters at most.", "invalid_value", "metadata"
        )


def asked_hyperparameters(body: dict[str, Any]) -> dict[str, Any]:
    """The three hyperparameters of the supervised method, each a number or `auto`."""
    method = body.get("method") or {"type": "supervised"}
    if method.get("type") != "supervised":
        raise ApiError(400, "This server trains with method 'supervised' only.", "unsupported_value", "method")
    asked = (method.get("supervised") or {}).get("hyperparameters") or body.get("hyperparameters") or {}
    for key in sorted(set(asked) - set(LIMITS)):
        raise ApiError(400, f"Unknown hyperparameter: {key}", "unknown_parameter", f"hyperparameters.{key}")
    for key, (kind, low, high) in LIMITS.items():
        value = asked.get(key, "auto")
        number = isinstance(value, int if kind is int else (int, float)) and not isinstance(value, bool)
        if value != "auto" and not (number and low <= value <= high and value > 0):
            raise ApiError(
                400, f"'{key}' must be \"auto\" or a number up to {high}.", "invalid_value", f"hyperparameters.{key}"
            )
    return {key: asked.get(key, "auto") for key in LIMITS}


def resolve(asked: dict[str, Any], examples: int) -> dict[str, Any]:
    """The numbers that `auto` stands for.

    n_epochs: 3, but at least 100 examples seen in all (25 epochs at most) and at most 25,000: OpenAI's own rule, as its
    cookbook states it. batch_size: 8, less for files under 80 examples, so that an epoch has ten steps.
    learning_rate_multiplier: 1, which stands for the rate in `train.py`.
    """
    epochs = 3
    if examples * epochs < 100:
        epochs = min(25, 100 // examples)
    elif examples * epochs > 25_000:
        epochs = max(1, 25_000 // examples)
    auto = {"n_epochs": epochs, "batch_size": max(1, min(8, examples // 10)), "learning_rate_multiplier": 1.0}
    return {key: auto[key] if value == "auto" else value for key, value in asked.items()}


def cancel(store: Store, job_id: str) -> None:
    """Mark a job cancelled; its worker sees this after the step that it is at. A job that has ended is left alone."""
    if store.move_job(job_id, "cancelled", (*UNFINISHED, "paused"), finished_at=int(time.time())):
        store.add_event(job_id, "Fine-tuning job cancelled", level="warn")
    else:
        raise ApiError(400, f"Job {job_id} has already ended.", "invalid_state")


def pause(store: Store, job_id: str) -> None:
    """Mark a queued or running job paused; its worker sees this after the step that it is at, and saves that."""
    if not store.move_job(job_id, "paused", ("queued", "running")):
        raise ApiError(400, f"Job {job_id} is neither queued nor running, so it cannot be paused.", "invalid_state")
    store.add_event(job_id, "Fine-tuning job paused")


def resume(store: Store, job_id: str) -> None:
    """Queue a paused job again, with a worker under way; it goes on after the last step that it took."""
    if not store.move_job(job_id, "queued", ("paused",), starts=0):
        raise ApiError(400, f"Job {job_id} is not paused, so it cannot be resumed.", "invalid_state")
    store.add_event(job_id, "Fine-tuning job resumed, moving job to queued state")
    spawn_worker(store)


def advance(store: Store) -> None:
    """Start a worker if a job waits and no worker lives: after a kill, a crash or a restart of the machine."""
    if not store.unfinished():
        return
    try:
        with lock_of(store.home).acquire(timeout=0):
            pass
    except Timeout:
        return
    started = store.row("SELECT value FROM notes WHERE key = 'spawned'")
    if started is None or time.time() - started["value"] > GRACE:
        spawn_worker(store)


def spawn_worker(store: Store) -> None:
    """Start a worker in a session of its own, so that neither Ctrl-C nor the end of this process reaches it.

    FINETUNE_ENGINE_LAUNCHER replaces the interpreter as what starts it: `accelerate launch --num_processes 4`, say.
    """
    launcher = shlex.split(os.environ.get("FINETUNE_ENGINE_LAUNCHER", "")) or [sys.executable]
    # A worker needs no key, so it gets none; hash order decides the order of sets, so it is fixed.
    environment = {name: value for name, value in os.environ.items() if not name.endswith("_KEY")}
    package_root = str(Path(__file__).resolve().parents[2])
    environment["PYTHONPATH"] = os.pathsep.join(filter(None, [package_root, os.environ.get("PYTHONPATH")]))
    environment["PYTHONHASHSEED"] = "0"
    store.execute("INSERT OR REPLACE INTO notes VALUES ('spawned', ?)", time.time())
    with open(store.home / "worker.log", "ab") as log:
        subprocess.Popen(
            [*launcher, "-m", "finetune.engine.training.worker", str(store.home)],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            cwd=store.home,
            env=environment,
            start_new_session=True,
        )
