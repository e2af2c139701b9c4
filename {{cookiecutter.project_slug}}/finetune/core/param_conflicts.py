"""What the sections of params.yaml may not ask for together."""

from finetune.core.sections.data import Data
from finetune.core.sections.evaluate import Evaluate
from finetune.core.sections.train import Train

MOST_STOPS_OF_COMPLETIONS = 3  # beside the mark that ends a completion: requests take 4


def conflict_of(data: Data, train: Train, evaluate: Evaluate) -> tuple[str, str] | None:
    """Return the first settings that do not fit each other, and what to do; None if all do."""
    return conflict_of_method(data, train) or conflict_of_labels(data, evaluate) or conflict_of_stops(data, evaluate)


def conflict_of_method(data: Data, train: Train) -> tuple[str, str] | None:
    """Return what does not fit train.method."""
    if train.method != "dpo":
        if train.beta != "auto":
            return "train.beta is for train.method dpo", "Set train.beta to auto, or remove it."
        return None
    unusable = {
        "data.prompt": data.prompt,
        "data.labels": data.labels,
        "data.codes": data.codes,
        "data.abstain": data.abstain,
        "data.turns each": data.turns == "each",
        "data.target completion": data.target == "completion",
        "train.replay": train.replay,
    }
    found = [name for name, value in unusable.items() if value]
    if not found:
        return None
    return f"train.method dpo cannot be used with {', '.join(found)}", "Remove the one or the other in params.yaml."


def conflict_of_labels(data: Data, evaluate: Evaluate) -> tuple[str, str] | None:
    """Return that classes are read from the data, and the task has none."""
    if data.labels != "auto" or evaluate.task == "classify":
        return None
    return (
        f"data.labels is auto, but evaluate.task is {evaluate.task}, whose answers are not classes",
        "Set data.labels to [], or evaluate.task to classify.",
    )


def conflict_of_stops(data: Data, evaluate: Evaluate) -> tuple[str, str] | None:
    """Return that the mark of completions has no room beside the texts of evaluate.stop."""
    if data.target != "completion" or len(evaluate.stop) <= MOST_STOPS_OF_COMPLETIONS:
        return None
    return (
        f"evaluate.stop has {len(evaluate.stop)} texts. A request takes 4, and the mark that ends a completion is one",
        f"Leave at most {MOST_STOPS_OF_COMPLETIONS} in evaluate.stop.",
    )
