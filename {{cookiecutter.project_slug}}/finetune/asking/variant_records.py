"""Write the record of a variant as far as it is: with its job, its model, and the scores of its answers."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from finetune.asking.checkpoint_choice import choose
from finetune.asking.variants import Pipeline, Variant
from finetune.core.disk import read_jsonl
from finetune.core.paths import TUNED_ANSWERS
from finetune.core.records.answers import Prediction
from finetune.core.records.training import FilesRecord
from finetune.core.records.variants import VariantRecord, VariantScores
from finetune.project.budget import enter_bill
from finetune.project.model_record import bill_of, hyperparameters_of
from finetune.project.variants import write_variant
from finetune.provider.connect import Connection
from finetune.provider.paging import all_rows
from finetune.scoring.mean_interval import interval
from finetune.scoring.prediction_scores import score_predictions

if TYPE_CHECKING:
    from openai.types.fine_tuning import FineTuningJob


def record_of_job(pipeline: Pipeline, variant: Variant, files: FilesRecord, job: str) -> VariantRecord:
    """Return the record of a job that exists."""
    return {
        "provider": pipeline.params.provider.name,
        "base": pipeline.params.train.base,
        "recipe": pipeline.recipe,
        "seed": variant.seed,
        "share": variant.share,
        "rows": variant.rows,
        "fingerprint": variant.fingerprint,
        "files": files,
        "job": job,
    }


def record_of_pipeline(pipeline: Pipeline, variant: Variant) -> VariantRecord:
    """Write and return the record of the pipeline's own training, with the scores of its answers."""
    model = pipeline.model
    record: VariantRecord = {
        **record_of_job(pipeline, variant, pipeline.files, model["job"]),
        "model": model["model"],
        "checkpoints": list(dict.fromkeys([*(one["model"] for one in model["checkpoints"]), model["model"]])),
        "step": model["chosen"]["step"],
        "choice": pipeline.choice,
        "n_epochs": model["hyperparameters"].get("n_epochs"),
        "trained_tokens": model["trained_tokens"],
        "usd": model["usd"],
    }
    return with_scores(pipeline, record, read_jsonl(TUNED_ANSWERS, "tuned", Prediction))


def with_model(
    connection: Connection, pipeline: Pipeline, variant: Variant, record: VariantRecord, job: "FineTuningJob"
) -> VariantRecord:
    """Add the model of a job that has succeeded to its record, and the job to the ledger."""
    params = pipeline.params
    checkpoints = all_rows(connection.control.fine_tuning.jobs.checkpoints.list(job.id))
    checkpoints.sort(key=lambda one: one.step_number)
    chosen = choose(connection, params, job, checkpoints)
    usd = bill_of(job, params)
    n_epochs = hyperparameters_of(job, params).get("n_epochs")
    enter_bill(connection, params, job, variant.fingerprint, usd, n_epochs, variant.part)
    models = [one.fine_tuned_model_checkpoint for one in checkpoints]
    found: VariantRecord = {
        **record,
        "job": job.id,
        "model": chosen.model,
        "checkpoints": list(dict.fromkeys([*models, chosen.model])),
        "step": chosen.step,
        "choice": pipeline.choice,
        "n_epochs": n_epochs,
        "trained_tokens": job.trained_tokens,
        "usd": usd,
    }
    write_variant(found)
    return found


def with_scores(pipeline: Pipeline, record: VariantRecord, rows: Sequence[Prediction]) -> VariantRecord:
    """Score the answers as `evaluate` does, and write and return the record with the scores."""
    scored = score_predictions(pipeline.params, pipeline.prepared, rows, pipeline.groups)
    low, high = interval(scored.compared, pipeline.groups)
    scores: VariantScores = {
        "settings": pipeline.settings,
        "metric": scored.metric,
        "score": round(float(scored.metrics[scored.metric]), 4),
        "low": low,
        "high": high,
        "failed": sum("error" in row for row in rows),
        "rows": " ".join(f"{score:.4g}" for score in scored.compared),
    }
    found: VariantRecord = {**record, "scores": scores}
    write_variant(found)
    return found


def is_complete(record: VariantRecord | None, pipeline: Pipeline) -> bool:
    """Return whether a variant has answered all test rows, with the settings of now."""
    scores = record.get("scores") if record else None
    return scores is not None and scores["settings"] == pipeline.settings and not scores["failed"]
