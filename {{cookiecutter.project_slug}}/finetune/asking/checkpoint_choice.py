"""Which checkpoint of a job is the model: the last, the one of the least validation loss, or the best in answers."""

from typing import TYPE_CHECKING, Any

from finetune.asking.test_rows import predict
from finetune.core.errors import FinetuneError
from finetune.core.params import Params
from finetune.provider.connect import Connection
from finetune.stages import evaluate
from finetune.terminal.progress import say

if TYPE_CHECKING:
    from openai.types.fine_tuning import FineTuningJob
    from openai.types.fine_tuning.jobs import FineTuningJobCheckpoint

OTHERWISE = "Set train.choose to last in params.yaml, then run `dvc repro`: the job is found, nothing is paid again."


def choose(
    connection: Connection, params: Params, job: "FineTuningJob", checkpoints: "list[FineTuningJobCheckpoint]"
) -> dict[str, Any]:
    """The chosen model, its step, its checkpoint and why it was chosen, as `train.choose` asks.

    `best_metric` asks every checkpoint the questions of the validation split. Among equals the earlier is chosen.
    Raises FinetuneError when the provider's checkpoints do not tell.
    """
    how = params.train.choose
    if how == "last":
        final = next((one for one in checkpoints if one.fine_tuned_model_checkpoint == job.fine_tuned_model), None)
        step = final.step_number if final else None
        return {"model": job.fine_tuned_model, "step": step, "checkpoint": final, "why": "the last"}
    if how == "best_valid_loss":
        scores = {one.fine_tuned_model_checkpoint: valid_loss(one) for one in checkpoints}
        if not scores or None in scores.values():
            raise FinetuneError(f"The checkpoints of job {job.id} have no validation loss.", OTHERWISE)
        best = min(checkpoints, key=lambda one: (valid_loss(one), one.step_number))
        why = f"the least validation loss, {valid_loss(best):.4f}, of {len(checkpoints)} checkpoints"
    else:
        if not checkpoints:
            raise FinetuneError(f"The provider lists no checkpoints of job {job.id}.", OTHERWISE)
        scores = {}
        for one in checkpoints:
            model = one.fine_tuned_model_checkpoint
            scored = evaluate.scores(params, predict(connection, params, model, "valid"))
            scores[model] = sum(scored.rows) / len(scored.rows)
            say(f"Checkpoint at step {one.step_number}: {scored.name} {scores[model]:.3f} on the validation split")
        best = max(checkpoints, key=lambda one: (scores[one.fine_tuned_model_checkpoint], -one.step_number))
        found = scores[best.fine_tuned_model_checkpoint]
        why = f"the best {scored.name} on the validation split, {found:.4f}, of {len(checkpoints)} checkpoints"
    return {"model": best.fine_tuned_model_checkpoint, "step": best.step_number, "checkpoint": best, "why": why}


def valid_loss(checkpoint: "FineTuningJobCheckpoint") -> float | None:
    """Of the whole validation file where the provider measured it, else of a batch."""
    metrics = checkpoint.metrics
    return metrics.full_valid_loss if metrics.full_valid_loss is not None else metrics.valid_loss
