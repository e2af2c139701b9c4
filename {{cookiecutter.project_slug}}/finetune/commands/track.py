"""`finetune track`: send the fine-tune to a tracker."""

from enum import Enum
from typing import Annotated

import typer


class Tracker(str, Enum):
    wandb = "wandb"
    mlflow = "mlflow"
    dvclive = "dvclive"


def track(
    tracker: Annotated[Tracker, typer.Argument(help="Weights & Biases, MLflow or DVCLive.")],
    project: Annotated[
        str | None,
        typer.Option(help="The project of W&B or the experiment of MLflow; by default, the name of this folder."),
    ] = None,
) -> None:
    """Send record, curves and scores to a tracker.

    If a fine-tune is sent again, its run is updated.

    Examples: finetune track wandb · finetune track mlflow --project support-desk
    """
    from finetune.core.paths import CURVES, EVALUATION, MODEL
    from finetune.project import trackers

    if project and tracker == Tracker.dvclive:
        raise typer.BadParameter("DVCLive has no projects", param_hint="--project")
    print(f"track: {trackers.send(tracker.value, project, MODEL, CURVES, EVALUATION)}")
