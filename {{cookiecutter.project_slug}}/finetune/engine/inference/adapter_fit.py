"""Check that an adapter was made for its base. PEFT would load only a part of another one, without an error."""

import warnings
from copy import deepcopy
from pathlib import Path
from typing import Any

from finetune.engine.api_errors import DAMAGED, JobError
from finetune.engine.client_text import reason


def refuse_misfit(base: Any, adapter: Path) -> None:
    """Raise JobError unless an adapter has the tensors, by name and shape, that its configuration has for this base.

    PEFT makes them for the comparison, on the device `meta`, which needs no memory for their values.
    """
    import torch
    from peft import PeftConfig, PeftModel, get_peft_model_state_dict
    from safetensors import safe_open

    with warnings.catch_warnings(), torch.device("meta"):
        warnings.simplefilter("ignore")  # PEFT uses an old name in Transformers
        try:
            empty = type(base)(deepcopy(base.config))
            model = PeftModel(empty, PeftConfig.from_pretrained(str(adapter)))
        except Exception as error:  # no such layers in this base, or a setting that PEFT does not take
            raise misfit(reason(error)) from error
        own = get_peft_model_state_dict(model, save_embedding_layers=False)
    expected = {name: list(tensor.shape) for name, tensor in own.items()}
    with safe_open(adapter / "adapter_model.safetensors", "pt") as tensors:
        names = tensors.keys()
        found = {name: tensors.get_slice(name).get_shape() for name in names}
    for name in sorted({*expected, *found}):
        if expected.get(name) != found.get(name):
            has, needs = found.get(name, "no such tensor"), expected.get(name, "none")
            raise misfit(f"of {name}, the adapter has {has}, and the base needs {needs}.")


def misfit(what: str) -> JobError:
    return JobError(DAMAGED, f"The adapter of this model was not made for its base: {what}", "model")
