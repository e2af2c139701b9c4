"""Build the request that creates a fine-tuning job, from the parameters and the uploaded files."""

from typing import Any, TypedDict

from finetune.core.disk import sha256_of
from finetune.core.params import Params
from finetune.core.paths import PREPARED
from finetune.core.profiles import PROFILES
from finetune.core.records.costs import Usd
from finetune.core.records.training import FilesRecord
from finetune.project.history import project_id
from finetune.project.training_settings import hyperparameters
from finetune.project.training_start import start_of
from finetune.provider.connect import Connection
from finetune.provider.find_jobs import FINGERPRINT, PROJECT, USD
from finetune.provider.remote_jobs import job_fingerprint
from finetune.provider.training_file import uploaded_split


class JobSettings(TypedDict):
    """Everything but the data that the fingerprint covers."""

    model: str
    method: str
    hyperparameters: dict[str, Any]
    seed: int
    suffix: str | None


def job_settings(params: Params, start: str) -> JobSettings:
    """Return the settings of a job that trains from the model `start`."""
    return {
        "model": start,
        "method": params.train.method,
        "hyperparameters": hyperparameters(params),
        "seed": params.train.seed,
        "suffix": params.train.suffix,
    }


def fingerprint_now(params: Params) -> str | None:
    """Return the fingerprint of the job of the prepared data and the parameters; None if the data are not here."""
    hashes = []
    for split in ("train", "valid"):
        path = PREPARED / f"{split}.jsonl"
        if not path.is_file():
            return None
        with uploaded_split(split, PROFILES[params.provider.name]) as uploaded:
            hashes.append(sha256_of(uploaded) if path.stat().st_size else None)
    train, valid = hashes
    return train and job_fingerprint(train, valid, job_settings(params, start_of(params)[0]))


def job_request(
    params: Params, connection: Connection, settings: JobSettings, files: FilesRecord, fingerprint: str, usd: Usd
) -> dict[str, Any]:
    """Return the arguments of the create call; unset ones are left out, because older servers refuse null.

    `usd` is the estimate, by which the job counts for other machines until it has a bill.
    """
    # `auto` is the default of providers, and some accept only numbers.
    hyperparameters = {name: value for name, value in settings["hyperparameters"].items() if value != "auto"}
    suffix, metadata = settings["suffix"], {FINGERPRINT: fingerprint, PROJECT: project_id(), USD: str(usd)}
    if not connection.profile.metadata:
        suffix, metadata = "-".join(filter(None, [suffix, fingerprint[:12]])), {}
    training_type = {"trainingType": params.train.training_type} if params.train.training_type else {}
    method = settings["method"]
    request = {
        "model": settings["model"],
        "training_file": files["train"]["id"],
        "validation_file": files["valid"]["id"] if "valid" in files else None,
        "method": {"type": method, method: {"hyperparameters": hyperparameters}},
        "seed": settings["seed"],
        "suffix": suffix,
        "metadata": metadata,
        "integrations": params.train.integrations,
        "extra_body": training_type,
    }
    return {key: value for key, value in request.items() if value not in (None, [], {})}
