"""Find the job that has made a model, by the name or ID of the model, of a checkpoint, or of the job."""

import re
from typing import TYPE_CHECKING

from finetune.core.callbacks import Say
from finetune.provider.connect import Connection
from finetune.provider.extras import extra
from finetune.provider.paging import all_rows
from finetune.provider.ready_model import with_model

if TYPE_CHECKING:
    from openai.types.fine_tuning import FineTuningJob
    from openai.types.fine_tuning.jobs import FineTuningJobCheckpoint

# How names and IDs of checkpoints look. OpenAI: ft:base:org:suffix:96olL566:ckpt-step-2000 and ftckpt_zc4Q7MP6Xxulc….
# Azure: base.ft-0e208cf33a6a…:ckpt-step-90 and ftchkpt-e559c011ecc0…. Nebius deploys <job>:<checkpoint>, both IDs.
CHECKPOINT = re.compile(r".+:ckpt-step-\d+|(ftjob-[^:]+:)?ftch?kpt.+")
OTHER_NAMES = ("nebius", "compatible")  # the providers whose names of checkpoints may be any
MANY = 20  # jobs whose lists take some seconds


def find_model(connection: Connection, name: str, say: Say) -> "tuple[FineTuningJob, str] | None":
    """Return the job that has made a model, and the model's name; None where the provider lists none.

    `name` is the model's, a checkpoint's, the ID of a checkpoint, also after that of its job, or the ID of a job, which
    stands for its last model. A checkpoint is looked for in the lists of the jobs: at OpenAI, the name of a checkpoint
    and that of the job's last model have different last parts. Those with the most similar name are asked first.
    """
    jobs = all_rows(connection.control.fine_tuning.jobs.list(limit=100))
    for job in jobs:
        if job.fine_tuned_model == name:
            return job, name
        if job.id == name:
            job = with_model(connection, job)
            return (job, job.fine_tuned_model) if job.fine_tuned_model else None
    if not CHECKPOINT.fullmatch(name) and connection.profile.name not in OTHER_NAMES:
        return None
    if len(jobs) > MANY:
        say(f"Looking for {name} in the checkpoints of {len(jobs)} jobs.")
    for job in sorted(jobs, key=lambda job: -similarity(job, name)):
        for one in checkpoints_of(connection, job):
            if name in (one.fine_tuned_model_checkpoint, one.id, f"{job.id}:{one.id}"):
                return with_model(connection, job), one.fine_tuned_model_checkpoint
    return None


def similarity(job: "FineTuningJob", name: str) -> int:
    """Return the length of the beginning that a name shares with the name of a job's model, or with the job's ID."""
    own = job.fine_tuned_model or job.id
    both = zip(own, name, strict=False)
    return next((place for place, pair in enumerate(both) if pair[0] != pair[1]), min(len(own), len(name)))


def checkpoints_of(connection: Connection, job: "FineTuningJob") -> "list[FineTuningJobCheckpoint]":
    """Return the checkpoints of a job; [] where the provider has no list of them."""
    return extra("checkpoints", lambda: all_rows(connection.control.fine_tuning.jobs.checkpoints.list(job.id)), [])
