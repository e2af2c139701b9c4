"""The choice of the checkpoint of least validation loss, for providers that measure different losses."""

from types import SimpleNamespace
from typing import Any

import pytest

from finetune.asking.checkpoint_choice import least_loss
from finetune.core.errors import FinetuneError

JOB: Any = SimpleNamespace(id="ftjob-1")


def checkpoint(step: int, whole_file: float | None, batch: float | None) -> Any:
    losses = SimpleNamespace(full_valid_loss=whole_file, valid_loss=batch)
    return SimpleNamespace(step_number=step, fine_tuned_model_checkpoint=f"ft:{step}", metrics=losses)


def test_losses_of_the_whole_file_decide_where_all_checkpoints_have_them() -> None:
    found = least_loss(JOB, [checkpoint(10, 0.5, 0.1), checkpoint(20, 0.4, 0.9)])
    assert (found.step, found.why) == (20, "the least validation loss, 0.4000, of 2 checkpoints")


def test_losses_of_batches_are_called_so() -> None:
    found = least_loss(JOB, [checkpoint(10, None, 0.1), checkpoint(20, None, 0.9)])
    assert (found.step, found.why) == (10, "the least validation loss of one batch, 0.1000, of 2 checkpoints")


def test_a_batch_is_not_compared_with_the_whole_file() -> None:
    with pytest.raises(FinetuneError, match="the loss of the whole validation file, others that of one batch"):
        least_loss(JOB, [checkpoint(10, 0.5, 0.5), checkpoint(20, None, 0.1)])
    with pytest.raises(FinetuneError, match="have no validation loss"):
        least_loss(JOB, [checkpoint(10, 0.5, 0.5), checkpoint(20, None, None)])
