"""Build the record of a fine-tuned model from its job."""

import json
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, cast

from finetune.core.break_even import UNKNOWN
from finetune.core.params import Params
from finetune.core.records.costs import Usd
from finetune.core.records.training import CheckpointRecord, ChosenCheckpoint, CurveFacts, ModelRecord
from finetune.pricing.catalogue import look_up
from finetune.pricing.cost import dollars

if TYPE_CHECKING:
    from openai.types.fine_tuning import FineTuningJob
    from openai.types.fine_tuning.jobs import FineTuningJobCheckpoint


def hyperparameters_of(job: "FineTuningJob", params: Params) -> dict[str, Any]:
    """Return the hyperparameters of the training as the provider reports them: `auto` has become a number."""
    method = getattr(job.method, params.train.method, None) if job.method else None
    found = (method and method.hyperparameters) or job.hyperparameters
    return json.loads(found.model_dump_json(exclude_none=True)) if found else {}


def epochs_of(job: "FineTuningJob", params: Params) -> int | None:
    """Return the epochs of the training; None where the provider reports no whole number."""
    n_epochs = hyperparameters_of(job, params).get("n_epochs")
    return n_epochs if isinstance(n_epochs, int) else None


def bill_of(job: "FineTuningJob", params: Params) -> Usd:
    """Return the dollars for the tokens that the provider reports; "unknown" if price or tokens are."""
    rate = look_up(params.train.base, params.provider.name).training
    if job.trained_tokens is None:
        return 0.0 if rate == 0 else UNKNOWN
    return dollars(job.trained_tokens, rate)


def checkpoint_records(checkpoints: "Sequence[FineTuningJobCheckpoint]") -> list[CheckpointRecord]:
    """Return the checkpoints with the metrics that the provider measured."""
    return [
        cast(
            "CheckpointRecord",
            {
                "model": one.fine_tuned_model_checkpoint,
                "step": one.step_number,
                **(one.metrics.model_dump(mode="json", exclude_none=True) if one.metrics else {}),
            },
        )
        for one in checkpoints
    ]


def model_record(
    job: "FineTuningJob",
    params: Params,
    *,
    fingerprint: str,
    lineage: list[str],
    model: str,
    chosen: ChosenCheckpoint,
    valid_loss: float | None,
    valid_score: float | None,
    prompt: str | None,
    checkpoints: "Sequence[FineTuningJobCheckpoint]",
    curves: CurveFacts,
) -> ModelRecord:
    """Return the record of a job's model."""
    return {
        "provider": params.provider.name,
        "base": params.train.base,
        "lineage": lineage,
        "method": params.train.method,
        "model": model,
        "model_of_last_step": job.fine_tuned_model,
        "chosen": chosen,
        "chosen_valid_loss": valid_loss,
        "chosen_valid_score": valid_score,
        "job": job.id,
        "fingerprint": fingerprint,
        "seed": job.seed,
        "suffix": params.train.suffix,
        "prompt": prompt,
        "hyperparameters": hyperparameters_of(job, params),
        "trained_tokens": job.trained_tokens,
        "usd": bill_of(job, params),
        "checkpoints": checkpoint_records(checkpoints),
        **curves,
    }
