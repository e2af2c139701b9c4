"""Tell DVC what a command has written outside of `dvc repro`, as if the stage had."""

from finetune.core.errors import FinetuneError


def record_outputs(stage: str) -> None:
    """Put the outputs of a stage into DVC's cache and dvc.lock, so that they are kept, committed and restored.

    Raises FinetuneError if DVC cannot: another command of it runs here, or the disk is full.
    """
    from dvc.exceptions import DvcException
    from dvc.repo import Repo

    try:
        with Repo() as repo:
            repo.commit(stage, force=True)
    except (DvcException, OSError) as error:
        raise FinetuneError(
            f"DVC does not know the outputs of {stage} yet, so its next run deletes them: {error}",
            f"Correct this, then run: dvc commit -f {stage}",
        ) from error
