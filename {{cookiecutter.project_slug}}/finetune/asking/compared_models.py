"""The models that `evaluate.compare` asks the same questions, beside base and tuned: checkpoints, earlier commits'."""

import re
from typing import Any

from finetune.core.errors import FinetuneError
from finetune.core.params import Params
from finetune.project.history import record_at

CHECKPOINTS = "checkpoints"


def others(params: Params, record: dict[str, Any]) -> dict[str, str]:
    """Name and model of each: `checkpoints` stands for those of this job but the chosen one, all else for a revision.

    Raises FinetuneError for a revision that holds no fine-tune, or one of another provider.
    """
    found: dict[str, str] = {}
    for name in params.evaluate.compare:
        if name == CHECKPOINTS:
            steps = {f"checkpoint_{one['step']}": one["model"] for one in record["checkpoints"]}
            found |= {key: model for key, model in steps.items() if model != record["model"]}
            continue
        theirs = record_at(name)
        if theirs["provider"] != params.provider.name:
            raise FinetuneError(
                f"evaluate.compare names {name!r}, whose model answers at {theirs['provider']!r} alone.",
                f"Compare what both answered, without asking anew: finetune compare {name}",
            )
        # A dot would be a level of its own in DVC's names of metrics.
        found[re.sub(r"\W+", "_", name)] = theirs["model"]
    return found
