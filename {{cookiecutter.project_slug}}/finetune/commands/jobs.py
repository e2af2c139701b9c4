"""`finetune jobs`: list and control fine-tuning jobs at the provider."""

from typing import Annotated, Any

import typer

from finetune.commands.options import AsJson
from finetune.terminal.tables import print_json, print_table, when

app = typer.Typer(help="List and control fine-tuning jobs at the provider.", no_args_is_help=True)

JobId = Annotated[str, typer.Argument(metavar="JOB", help="The job's ID, such as ftjob-abc123.")]


def listed(job: Any, project: str) -> dict[str, Any]:
    """Return a job as the commands show it; `this_project` says whether it is of this project."""
    from finetune.provider.find_jobs import FINGERPRINT, PROJECT

    metadata = job.metadata or {}
    return {
        "job": job.id,
        "status": job.status,
        "created_at": job.created_at,
        "base": job.model,
        "model": job.fine_tuned_model,
        "trained_tokens": job.trained_tokens,
        "fingerprint": metadata.get(FINGERPRINT),
        "this_project": metadata.get(PROJECT) == project,
    }


@app.command("list")
def list_jobs(
    as_json: AsJson = False,
    limit: Annotated[int, typer.Option(help="The number of jobs, newest first.", min=1, max=100)] = 20,
    mine: Annotated[bool, typer.Option("--mine", help="Only the jobs of this project.")] = False,
) -> None:
    """List the newest jobs.

    Examples: finetune jobs list --mine · finetune jobs list --json --limit 100
    """
    from itertools import islice

    from finetune.core.params import load_params
    from finetune.project.history import project_id
    from finetune.provider.connect import connect
    from finetune.provider.paging import each_row

    with connect(load_params().provider) as connection:
        project = project_id()
        found = (listed(job, project) for job in each_row(connection.control.fine_tuning.jobs.list(limit=limit)))
        jobs = list(islice((job for job in found if job["this_project"] or not mine), limit))
    if as_json:
        print_json(jobs)
        return
    head = ["job", "status", "created", "base", "model", "this project"]
    print_table(
        head,
        [
            [
                job["job"],
                job["status"],
                when(job["created_at"]),
                job["base"],
                job["model"],
                "yes" if job["this_project"] else None,
            ]
            for job in jobs
        ],
    )


@app.command("show")
def show_job(job: JobId, as_json: AsJson = False) -> None:
    """Show a job with its hyperparameters, checkpoints and latest events.

    Example: finetune jobs show ftjob-abc123
    """
    from finetune.core.params import load_params
    from finetune.project.history import project_id
    from finetune.provider.connect import connect
    from finetune.provider.paging import all_rows

    with connect(load_params().provider) as connection:
        jobs = connection.control.fine_tuning.jobs
        found = jobs.retrieve(job)
        checkpoints = all_rows(jobs.checkpoints.list(job))
        events = jobs.list_events(job, limit=10).data
    if as_json:
        more: dict[str, list[Any]] = {"checkpoints": checkpoints, "events": events}
        lists = {name: [one.model_dump(mode="json") for one in many] for name, many in more.items()}
        print_json(found.model_dump(mode="json") | lists)
        return
    facts = listed(found, project_id()) | {
        "created_at": when(found.created_at),
        "finished_at": when(found.finished_at),
        "hyperparameters": found.hyperparameters and found.hyperparameters.model_dump_json(exclude_none=True),
        "seed": found.seed,
        "training_file": found.training_file,
        "validation_file": found.validation_file,
        "error": found.error.message if found.error else None,
    }
    print_table(["", ""], [[key.replace("_", " "), value] for key, value in facts.items()])
    if checkpoints:
        print()
        losses = [
            [one.step_number, one.metrics and one.metrics.full_valid_loss, one.fine_tuned_model_checkpoint]
            for one in checkpoints
        ]
        print_table(["step", "validation loss", "checkpoint"], losses)
    print()
    print_table(["when", "event"], [[when(event.created_at), event.message] for event in events])


@app.command("follow")
def follow_job(job: JobId) -> None:
    """Follow a job until it ends. Ctrl-C leaves it running.

    The exit status is 1 if it ends without a model.
    """
    from finetune.core.params import load_params
    from finetune.project.notifications import telling
    from finetune.provider.connect import connect
    from finetune.provider.follow_job import follow
    from finetune.terminal.progress import progress_bar, say

    params = load_params()
    with connect(params.provider) as connection, progress_bar("train") as progress:
        found = connection.control.fine_tuning.jobs.retrieve(job)
        with telling(params.notify, "train", say) as tell_success:
            found = follow(connection, found, progress, say)
            tell_success(f"Job {job} has the model {found.fine_tuned_model}.")
    print(found.fine_tuned_model)


@app.command("cancel")
def cancel_job(job: JobId) -> None:
    """Cancel a job. Its progress is lost, and may be billed."""
    print_status(job, "cancel")


@app.command("pause")
def pause_job(job: JobId) -> None:
    """Pause a job, if the provider supports it. Its progress is kept."""
    print_status(job, "pause")


@app.command("resume")
def resume_job(job: JobId) -> None:
    """Resume a paused job."""
    print_status(job, "resume")


def print_status(job: str, action: str) -> None:
    """Call an action on a job, and print the job's status after it."""
    from finetune.core.params import load_params
    from finetune.provider.connect import connect

    with connect(load_params().provider) as connection:
        print(f"{job}: {getattr(connection.control.fine_tuning.jobs, action)(job).status}")
