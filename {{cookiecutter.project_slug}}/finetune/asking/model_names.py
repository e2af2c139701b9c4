"""The names by which models are asked."""

from finetune.core.params import Params
from finetune.core.read_records import read_model_record
from finetune.pricing.catalogue import inference_name
from finetune.project.deployment import answering_name


def name_of_base(params: Params) -> str:
    """Return the name to ask the base model by: its deployment, else the provider's name for inference."""
    return params.provider.base_deployment or inference_name(params.train.base, params.provider.name)


def name_of_tuned(params: Params) -> str:
    """Return the name to ask the tuned model by. Raises FinetuneError if it must be deployed first."""
    record = read_model_record()
    return answering_name(params, record["model"])


def name_of(params: Params, choice: str) -> str:
    """Return the name to ask a model by: `tuned` is the model of the record, `base` its base, all else a model's ID."""
    if choice == "tuned":
        return name_of_tuned(params)
    return name_of_base(params) if choice == "base" else choice
