"""Collect everything that decides the job and the choice of its checkpoint, beside the data.

`validate` writes it to data/prepared/training.json, and `train` depends on that file, not on parameters. So a change of
`train.budget` or `provider.warn_days` does not run `train`, which would train again where the job is not found.
"""

from typing import Any

from finetune.core.class_labels import labels_of
from finetune.core.params import Params
from finetune.core.read_records import read_prepare_report_if_there
from finetune.core.records.settings import Questions, ServerAddress, TrainingSettings
from finetune.core.sections.evaluate import ANSWERING
from finetune.scoring.answer_schema import load_schema

NUMBERS = ("n_epochs", "batch_size", "learning_rate_multiplier")


def training_settings(params: Params, questions: Questions) -> TrainingSettings:
    """Collect the settings of a project's job."""
    train = params.train
    return {
        "server": server_address(params),
        "base": train.base,
        "continue_from": train.continue_from,
        "method": train.method,
        "hyperparameters": hyperparameters(params),
        "seed": train.seed,
        "suffix": train.suffix,
        "training_type": train.training_type,
        "integrations": train.integrations,
        "choose": train.choose,
        "metric": metric_settings(params, questions) if train.choose == "best_metric" else None,
    }


def server_address(params: Params) -> ServerAddress:
    """Return what identifies the server."""
    return {"name": params.provider.name, "base_url": params.provider.base_url}


def hyperparameters(params: Params) -> dict[str, Any]:
    """Return the hyperparameters as asked, `auto` included."""
    beta = {"beta": params.train.beta} if params.train.method == "dpo" else {}
    return {name: getattr(params.train, name) for name in NUMBERS} | beta | params.train.hyperparameters


def metric_settings(params: Params, questions: Questions) -> dict[str, Any]:
    """Return what decides the metric by which `best_metric` chooses a checkpoint."""
    schema = params.evaluate.answer_schema
    return {
        "task": params.evaluate.task,
        **{key: questions[key] for key in ANSWERING},
        "completion": questions["completion"],
        "labels": sorted(labels_of(params.data, read_prepare_report_if_there())),
        "abstain": params.data.abstain.answer if params.data.abstain else None,
        "schema": load_schema(schema) if schema else None,
    }
