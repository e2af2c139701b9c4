"""Tell DVC what a command has written outside of `dvc repro`, as if the stage had."""

import logging

from finetune.core.errors import FinetuneError


def record_outputs(stage: str) -> bool:
    """Put the outputs of a stage into DVC's cache and dvc.lock, so that they are kept, committed and restored.

    Returns False where DVC is not used: a folder without `dvc init`. Raises FinetuneError if DVC cannot record them:
    another command of it runs here, or the disk is full.
    """
    from dvc.exceptions import DvcException, NotDvcRepoError
    from dvc.logger import set_loggers_level
    from dvc.repo import Repo

    try:
        with Repo() as repo, set_loggers_level(logging.WARNING):  # "Updating lock file" says nothing to a user
            repo.commit(stage, force=True)
    except NotDvcRepoError:
        return False
    except (DvcException, OSError) as error:
        raise FinetuneError(
            f"DVC does not know the outputs of {stage} yet, so its next run deletes them: {error}",
            f"Correct this, then run: dvc commit -f {stage}",
        ) from error
    return True
