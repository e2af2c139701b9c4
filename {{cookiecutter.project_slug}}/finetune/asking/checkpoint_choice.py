"""Choose which checkpoint of a job is the model: the last, the one of least validation loss, or the best in answers."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

from finetune.asking.split_answers import ask_split
from finetune.core.errors import FinetuneError
from finetune.core.params import Params
from finetune.core.read_records import read_prepare_report
from finetune.data.questions import questions_of
from finetune.provider.connect import Connection
from finetune.scoring.prediction_scores import score_predictions
from finetune.terminal.progress import say

if TYPE_CHECKING:
    from openai.types.fine_tuning import FineTuningJob
    from openai.types.fine_tuning.jobs import FineTuningJobCheckpoint

REMEDY = "Set train.choose to last in params.yaml, then run `dvc repro`: the job is found, nothing is paid again."


@dataclass(frozen=True)
class Choice:
    """The chosen model, its step and its checkpoint if they are known, and the reason."""

    model: str
    step: int | None
    checkpoint: "FineTuningJobCheckpoint | None"
    why: str
    score: float | None = None  # of its answers to the validation split, with best_metric


def choose(
    connection: Connection, params: Params, job: "FineTuningJob", checkpoints: "list[FineTuningJobCheckpoint]"
) -> Choice:
    """Choose a checkpoint by `train.choose`; of equally good ones, the earlier.

    `best_metric` asks every checkpoint the questions of the validation split. Raises FinetuneError if the provider's
    checkpoints lack what the choice needs.
    """
    if params.train.choose == "last":
        final = next((one for one in checkpoints if one.fine_tuned_model_checkpoint == job.fine_tuned_model), None)
        return Choice(job.fine_tuned_model or "", final.step_number if final else None, final, "the last")
    if params.train.choose == "best_valid_loss":
        return least_loss(job, checkpoints)
    if not checkpoints:
        raise FinetuneError(f"The provider lists no checkpoints of job {job.id}.", REMEDY)
    return best_metric(connection, params, checkpoints)


def least_loss(job: "FineTuningJob", checkpoints: "list[FineTuningJobCheckpoint]") -> Choice:
    """Choose the checkpoint of least validation loss. A whole file's loss is never compared with a batch's."""
    losses = [(loss, one.step_number, one) for one in checkpoints if (loss := valid_loss(one)) is not None]
    if not losses or len(losses) < len(checkpoints):
        raise FinetuneError(f"The checkpoints of job {job.id} have no validation loss.", REMEDY)
    if len({one.metrics.full_valid_loss is None for one in checkpoints}) > 1:
        what = f"Some checkpoints of job {job.id} have the loss of the whole validation file, others that of one batch."
        raise FinetuneError(what, REMEDY)
    loss, step, best = min(losses, key=lambda one: one[:2])
    of_batch = " of one batch" if best.metrics.full_valid_loss is None else ""
    why = f"the least validation loss{of_batch}, {loss:.4f}, of {len(checkpoints)} checkpoints"
    return Choice(best.fine_tuned_model_checkpoint, step, best, why)


def best_metric(connection: Connection, params: Params, checkpoints: "list[FineTuningJobCheckpoint]") -> Choice:
    """Choose the checkpoint whose answers to the validation split have the best evaluate.metric."""
    questions = questions_of(params)
    prepared = read_prepare_report()
    scores: dict[int, float] = {}
    for one in checkpoints:
        rows = ask_split(connection, params, questions, one.fine_tuned_model_checkpoint, "valid")
        scored = score_predictions(params, prepared, rows)
        mean = sum(scored.compared) / len(scored.compared)
        scores[one.step_number] = mean
        say(f"Checkpoint at step {one.step_number}: {scored.metric} {mean:.3f} on the validation split")
    best = max(checkpoints, key=lambda one: (scores[one.step_number], -one.step_number))
    found = scores[best.step_number]
    why = f"the best {scored.metric} on the validation split, {found:.4f}, of {len(checkpoints)} checkpoints"
    return Choice(best.fine_tuned_model_checkpoint, best.step_number, best, why, round(found, 4))


def valid_loss(checkpoint: "FineTuningJobCheckpoint") -> float | None:
    """Return the loss of the whole validation file if the provider measured it, else that of a batch."""
    metrics = checkpoint.metrics
    if metrics is None:  # some servers measure nothing
        return None
    return metrics.full_valid_loss if metrics.full_valid_loss is not None else metrics.valid_loss
