"""Train variants and ask their models the test questions, each once.

A variant goes the way of the stages: its file is uploaded once, its job is found or created once, and its model answers
the same test rows. Its record in models/variants says how far it is, so an interrupted run continues there. The
training of the pipeline is one of the variants, and is neither trained nor asked again.
"""

import datetime
from collections.abc import Sequence
from functools import partial
from typing import TYPE_CHECKING, NamedTuple

from finetune.asking.split_answers import ask_split
from finetune.asking.variant_costs import Confirm, bill_for, refuse_deployments, refuse_over_budgets
from finetune.asking.variant_records import is_complete, record_of_job, record_of_pipeline, with_model, with_scores
from finetune.asking.variants import Pipeline, Variant, pipeline_of, variants_of, with_seed
from finetune.core.errors import FinetuneError
from finetune.core.params import Params
from finetune.core.paths import PREPARED
from finetune.core.read_records import read_variants
from finetune.core.records.training import FilesRecord
from finetune.core.records.variants import VariantRecord
from finetune.pricing.end_dates import refuse_after_shutdown
from finetune.project.budget import estimated, refuse_over_total, reserved
from finetune.project.claims import claim_job
from finetune.project.job_request import job_request
from finetune.project.spending import forget_unclear_requests
from finetune.project.uploads import upload_once
from finetune.project.variants import write_variant
from finetune.provider.capabilities import refuse_unsupported
from finetune.provider.connect import Connection, connect
from finetune.provider.find_jobs import ENDED, find
from finetune.provider.follow_job import follow
from finetune.provider.ready_model import lacks_model
from finetune.provider.remote_jobs import ensure_job, forget_request
from finetune.provider.twin_jobs import late_twins
from finetune.terminal.progress import progress_bar, say

if TYPE_CHECKING:
    from openai.types.fine_tuning import FineTuningJob


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


def asked(connection: Connection, pipeline: Pipeline, record: VariantRecord) -> VariantRecord:
    """Ask a variant's model the test questions; answers of an interrupted run are kept. Return it with its scores."""
    return with_scores(pipeline, record, ask_split(connection, pipeline.params, pipeline.questions, record["model"]))
