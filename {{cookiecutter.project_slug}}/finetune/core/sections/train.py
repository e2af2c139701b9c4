"""The section `train` of params.yaml: the base, the method, the hyperparameters and the limits on the cost."""

from typing import Annotated, Any, Literal

from pydantic import ConfigDict, Field

from finetune.core.sections.data import Prompt
from finetune.core.sections.section import Auto, Section

Method = Literal["supervised", "dpo"]  # what `finetune check --method` offers too


class Budget(Section):
    """Upper limits on a job's estimated cost. `total_usd` is for all jobs of the project together."""

    usd: Annotated[float, Field(ge=0)] | None = None
    minutes: Annotated[float, Field(gt=0)] | None = None
    total_usd: Annotated[float, Field(ge=0)] | None = None


class Replay(Section):
    """Rows of general chat that are mixed into the training rows, against forgetting.

    `share` is their share of the uploaded rows. `prompt` makes examples of a table. Another `seed` takes other rows.
    """

    file: str
    share: Annotated[float, Field(ge=0, le=0.9)]
    prompt: Prompt | None = None
    seed: Annotated[int, Field(ge=0, lt=2**63)] = 0


class Train(Section):
    model_config = ConfigDict(validate_by_name=True)

    base: str
    continue_from: Annotated[str | None, Field(alias="from")] = None
    method: Method
    n_epochs: Annotated[int, Field(ge=1, le=50)] | Auto
    batch_size: Annotated[int, Field(ge=1, le=256)] | Auto
    learning_rate_multiplier: Annotated[float, Field(gt=0)] | Auto
    beta: Annotated[float, Field(gt=0, le=2)] | Auto = "auto"  # for dpo: a higher one stays closer to the start
    seed: Annotated[int, Field(ge=0, le=2**31 - 1)]
    suffix: Annotated[str, Field(min_length=1, max_length=64)] | None = None
    hyperparameters: dict[str, bool | int | float | str] = {}
    training_type: str | None = None
    integrations: list[dict[str, Any]] = []
    choose: Literal["last", "best_valid_loss", "best_metric"] = "last"
    replay: Replay | None = None
    budget: Budget = Budget()
