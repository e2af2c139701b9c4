"""Merge an adapter into its base by PEFT: computed in float32, saved in the base's number format."""

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from finetune.core.errors import FinetuneError
from finetune.export.adapter import with_adapter
from finetune.export.base_folder import weights_of
from finetune.export.chat_template import fix_date

if TYPE_CHECKING:
    import torch

SHARD = "5GB"
AGAIN = "Export again with: dvc repro -f -s export"
WEIGHTS = ("*.safetensors", "*.safetensors.index.json", "*.bin", "*.gguf")


def export_merged(base: Path, adapter: Path, target: Path) -> None:
    """Write a folder that `AutoModelForCausalLM.from_pretrained` loads, with the base's tokenizer and chat template.

    All files but the weights and config.json are the base's own, byte for byte, if its template writes no date.
    """
    model, _ = merged(base, adapter)
    model.save_pretrained(target, max_shard_size=SHARD)
    for path in base.iterdir():
        if path.is_file() and path.name != "config.json" and not any(path.match(one) for one in WEIGHTS):
            shutil.copy(path, target)
    fix_date(target)


def merged(base: Path, adapter: Path) -> "tuple[Any, set[str]]":
    """Return the merged model in the base's number format, and the names of the modules that the adapter changes."""
    import torch
    from peft.tuners.tuners_utils import BaseTunerLayer
    from transformers import AutoModelForCausalLM
    from transformers.utils import logging

    logging.disable_progress_bar()
    dtype = dtype_of(base)
    model = AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32)
    try:
        tuned = with_adapter(model, adapter, in_float32=True)
    except (RuntimeError, ValueError) as error:  # tensors of other sizes, or modules that the base lacks
        raise FinetuneError(
            f"The adapter does not fit the base in {base}: {str(error).splitlines()[0]}",
            "Set export.base in params.yaml to the base and revision that the model was tuned from.",
        ) from error
    prefix = "base_model.model."
    changed = {
        name.removeprefix(prefix) for name, module in tuned.named_modules() if isinstance(module, BaseTunerLayer)
    }
    return tuned.merge_and_unload(safe_merge=True).to(dtype), changed


def dtype_of(folder: Path) -> "torch.dtype":
    """Return the number format that a model's configuration names."""
    import torch
    from transformers import AutoConfig

    found = AutoConfig.from_pretrained(folder).dtype
    return found if isinstance(found, torch.dtype) else torch.float32


def check_merged(folder: Path, base: Path, adapter: Path) -> None:
    """Compare the weights of a merged folder, tensor by tensor, with the merge in float32.

    Raises FinetuneError if they have another number format, are of another base, or were merged in another format.
    """
    import torch

    wanted = dtype_of(base)
    model, changed = merged(base, adapter)
    expected = model.state_dict()
    seen = set()
    for name, tensor in tensors_of(folder):
        seen.add(name)
        if name not in expected or expected[name].shape != tensor.shape:
            raise FinetuneError(f"{folder}: the base has no weights {name} {tuple(tensor.shape)}.", AGAIN)
        if tensor.dtype != wanted:
            raise FinetuneError(
                f"{folder}: {name} is saved in {name_of(tensor.dtype)}, and the base is in {name_of(wanted)}.",
                AGAIN,
            )
        if torch.equal(tensor, expected[name]):
            continue
        apart = float((tensor.float() - expected[name].float()).abs().max())
        if name.rpartition(".")[0] in changed:
            raise FinetuneError(
                f"{folder}: {name} differs by up to {apart:.2g} from the merge in float32: it was merged in another"
                " number format, or another adapter was merged.",
                AGAIN,
            )
        raise FinetuneError(
            f"{folder}: {name} differs by up to {apart:.2g} from the base's, which the adapter does not change: it is"
            " of another base or another revision of it.",
            f"Set export.base in params.yaml to the base that the model was tuned from. {AGAIN}",
        )
    if missing := without_tied(model, set(expected) - seen):
        raise FinetuneError(f"{folder} lacks the weights {min(missing)}.", AGAIN)


def without_tied(model: Any, missing: set[str]) -> set[str]:
    """Return those of the missing weights that are not another name of weights that are there."""
    places = {name: tensor.data_ptr() for name, tensor in model.state_dict().items()}
    there = {place for name, place in places.items() if name not in missing}
    return {name for name in missing if places[name] not in there}


def tensors_of(folder: Path) -> "Iterator[tuple[str, torch.Tensor]]":
    """Yield the weights of a folder. Raises FinetuneError for a file that is cut off or damaged."""
    from safetensors import SafetensorError, safe_open

    for path in weights_of(folder):
        try:
            with safe_open(path, framework="pt") as file:
                names = file.keys()
                for name in names:
                    yield name, file.get_tensor(name)
        except (SafetensorError, OSError) as error:
            raise FinetuneError(f"{path} is cut off or damaged: {error}", AGAIN) from error


def name_of(dtype: object) -> str:
    return str(dtype).removeprefix("torch.")
