"""Train variants and ask their models the test questions, each once.

A variant goes the way of the stages: its file is uploaded once, its job is found or created once, and its model answers
the same test rows. Its record in models/variants says how far it is, so an interrupted run continues there. The
training of the pipeline is one of the variants, and is neither trained nor asked again.
"""

import datetime
from collections.abc import Callable, Sequence
from functools import partial
from typing import TYPE_CHECKING, NamedTuple

from finetune.asking.checkpoint_choice import choose
from finetune.asking.split_answers import ask_split
from finetune.asking.variants import Pipeline, Variant, pipeline_of, variants_of, with_seed
from finetune.core.disk import read_jsonl
from finetune.core.errors import FinetuneError
from finetune.core.params import Params
from finetune.core.paths import PREPARED, TUNED_ANSWERS
from finetune.core.profiles import PROFILES
from finetune.core.read_records import read_variants
from finetune.core.records.answers import Prediction
from finetune.core.records.costs import Usd
from finetune.core.records.training import FilesRecord
from finetune.core.records.variants import VariantRecord, VariantScores
from finetune.pricing.end_dates import refuse_after_shutdown
from finetune.project.budget import (
    enter_bill,
    estimated,
    price_to_ask,
    refuse_over_budget,
    refuse_over_total,
    reserved,
    total_usd,
)
from finetune.project.claims import claim_job
from finetune.project.job_request import job_request
from finetune.project.model_record import bill_of, hyperparameters_of
from finetune.project.spending import forget_unclear_requests
from finetune.project.uploads import upload_once
from finetune.project.variants import write_variant
from finetune.provider.capabilities import refuse_unsupported
from finetune.provider.connect import Connection, connect
from finetune.provider.find_jobs import ENDED, find
from finetune.provider.follow_job import follow
from finetune.provider.paging import all_rows
from finetune.provider.ready_model import lacks_model
from finetune.provider.remote_jobs import ensure_job, forget_request
from finetune.provider.twin_jobs import late_twins
from finetune.scoring.mean_interval import interval
from finetune.scoring.prediction_scores import score_predictions
from finetune.terminal.progress import progress_bar, say

if TYPE_CHECKING:
    from openai.types.fine_tuning import FineTuningJob


class Bill(NamedTuple):
    """What is still to be done, and what it costs."""

    trainings: int
    found: int  # trainings that exist already
    tokens: int
    train_usd: Usd
    seconds: float | str
    asked: int  # models that are asked the test questions
    ask_usd: Usd  # at most


Confirm = Callable[[Bill], None]  # may raise


class HowToTrain(NamedTuple):
    """What the user has asked for."""

    command: str  # such as `finetune repeat`
    again: bool = False  # create a new job where one failed for good
    forget: bool = False  # earlier requests without a clear outcome have made no job


def run_variants(
    params: Params, shares: Sequence[float], seeds: Sequence[int], how: HowToTrain, confirm: Confirm
) -> list[VariantRecord]:
    """Return the record of each variant, the smallest share first; those that are missing are trained and asked.

    `confirm` gets the bill before anything is sent.
    """
    refuse_unsupported(params)
    pipeline = pipeline_of(params)
    variants = variants_of(pipeline, shares, seeds)
    records = read_variants()
    done = {variant.fingerprint: records.get(variant.fingerprint) for variant in variants}
    for variant in variants:
        if variant.fingerprint == pipeline.model["fingerprint"]:  # always: its model may have been asked again
            done[variant.fingerprint] = record_of_pipeline(pipeline, variant)
    others = [variant for variant in variants if variant.fingerprint != pipeline.model["fingerprint"]]
    left = [variant for variant in others if not is_complete(done[variant.fingerprint], pipeline)]
    if left:
        refuse_deployments(params, len(left))
        with connect(params.provider) as connection:
            if how.forget:
                forget_unclear_requests()
                for variant in left:
                    forget_request(connection, variant.fingerprint)
            new = [one for one in left if not is_trained(connection, pipeline, one, done[one.fingerprint])]
            refuse_over_budgets(params, new, connection)
            confirm(bill_for(params, new, left))
            for number, variant in enumerate(left, 1):
                say(f"{number} of {len(left)}: {variant.words}")
                record = trained(connection, pipeline, variant, done[variant.fingerprint], how)
                done[variant.fingerprint] = asked(connection, pipeline, record)
    return [record for record in done.values() if record]


def is_complete(record: VariantRecord | None, pipeline: Pipeline) -> bool:
    """Return whether a variant has answered all test rows, with the settings of now."""
    scores = record.get("scores") if record else None
    return scores is not None and scores["settings"] == pipeline.settings and not scores["failed"]


def refuse_deployments(params: Params, count: int) -> None:
    """Raise FinetuneError if the models of variants answer only after each of them is deployed."""
    profile = PROFILES[params.provider.name]
    if profile.deploys:
        raise FinetuneError(
            f"At {profile.name!r}, each of {count} models would have to be deployed to be asked. Nothing was sent.",
            f"A deployment costs {profile.deploys}. Use a provider whose models answer at once, such as local.",
        )


def is_trained(connection: Connection, pipeline: Pipeline, variant: Variant, record: VariantRecord | None) -> bool:
    """Return whether a variant has a model, or a job that will make one."""
    if record and has_chosen(connection, pipeline, record):
        return True
    job = find(connection, variant.fingerprint)
    return job is not None and (job.status not in ENDED or is_usable(connection, job))


def is_usable(connection: Connection, job: "FineTuningJob | None") -> bool:
    """Return whether a job has succeeded, and its model is there."""
    return job is not None and job.status == "succeeded" and not lacks_model(connection, job.fine_tuned_model)


def has_chosen(connection: Connection, pipeline: Pipeline, record: VariantRecord) -> bool:
    """Return whether a record has a model that exists, and that is still the checkpoint to choose."""
    is_choice = record.get("choice", "last") == pipeline.choice
    return is_choice and "model" in record and not lacks_model(connection, record["model"])


def refuse_over_budgets(params: Params, new: Sequence[Variant], connection: Connection) -> None:
    """Raise FinetuneError if a new job exceeds a limit of train.budget, or all of them together."""
    for variant in new:
        refuse_over_budget(params, variant.part)
    if new:
        fingerprints = [variant.fingerprint for variant in new]
        refuse_over_total(params, [variant.part for variant in new], connection, fingerprints)


def bill_for(params: Params, new: Sequence[Variant], left: Sequence[Variant]) -> Bill:
    """Return what the new trainings cost, and the answers of all that are not complete."""
    costs = [estimated(params, variant.part) for variant in new]
    seconds = [cost["seconds"] for cost in costs if not isinstance(cost["seconds"], str)]
    return Bill(
        trainings=len(new),
        found=len(left) - len(new),
        tokens=sum(cost["billed_tokens"] for cost in costs),
        train_usd=total_usd([cost["train_usd"] for cost in costs]),
        seconds=sum(seconds) if len(seconds) == len(costs) else "unknown",
        asked=len(left),
        ask_usd=price_to_ask(len(left)),
    )


def trained(
    connection: Connection, pipeline: Pipeline, variant: Variant, record: VariantRecord | None, how: HowToTrain
) -> VariantRecord:
    """Return the record with the model of a variant: that of before, or of its one job, which is waited for."""
    if record and has_chosen(connection, pipeline, record):
        return record
    params = with_seed(pipeline.params, variant.seed)

    def may_create() -> None:
        refuse_after_shutdown(params, datetime.date.today())
        refuse_over_total(params, [variant.part], connection, [variant.fingerprint])

    files: FilesRecord = {}
    with progress_bar("upload") as progress:
        files["train"] = upload_once(connection, variant.file, variant.replay, may_create, progress, say)
        if "valid" in pipeline.files:
            files["valid"] = upload_once(connection, PREPARED / "valid.jsonl", None, may_create, progress, say)
    usd = estimated(params, variant.part)["train_usd"]
    request = job_request(params, connection, variant.settings, files, variant.fingerprint, usd)
    # `again` is for a job that failed: one that has a model is neither in the bill nor paid again.
    again = how.again and not is_usable(connection, find(connection, variant.fingerprint))
    reserve = partial(reserved, connection, params, variant.fingerprint, variant.part)
    try:
        job = ensure_job(connection, variant.fingerprint, request, reserve, say, again, how.command)
        claim_job(connection, job, say)
        started = record_of_job(pipeline, variant, files, job.id)
        write_variant(started)
        with progress_bar(f"train {variant.words}") as progress:
            job = follow(connection, job, progress, say, late_twins(connection, variant.fingerprint, say))
    except KeyboardInterrupt:
        say("\nA job that has started continues at the provider. The same command follows it again.")
        say("List and stop jobs with: finetune jobs list --mine, and finetune jobs cancel")
        raise
    except FinetuneError as error:
        raise FinetuneError(
            f"The training on {variant.words}, has no model. {error.what}",
            "Correct what the message names, then run the same command again: what has trained is kept, and not paid"
            " again. With --again, a job that failed is created again.",
        ) from error
    return with_model(connection, pipeline, variant, started, job)


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


def asked(connection: Connection, pipeline: Pipeline, record: VariantRecord) -> VariantRecord:
    """Ask a variant's model the test questions; answers of an interrupted run are kept. Return it with its scores."""
    return with_scores(pipeline, record, ask_split(connection, pipeline.params, pipeline.questions, record["model"]))


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
