"""Convert a base from a GGUF file to the folder that Transformers loads fastest."""

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any

from filelock import FileLock

UNFINISHED = ".unfinished"  # ends the name of a folder that is being converted


def convert_gguf(weights: Path, target: Path) -> None:
    """Convert a GGUF file to the folder `target`, with its weights as safetensors, which load in a second.

    One process does so, and others wait. The folder is written beside `target`, and then renamed.
    """
    with FileLock(f"{target}.lock"):
        if not (target / "config.json").is_file():
            convert(weights, target)


def convert(weights: Path, target: Path) -> None:
    import torch
    import transformers
    from transformers import AutoModelForCausalLM, AutoTokenizer
    from transformers.utils import logging

    logging.disable_progress_bar()  # type: ignore[no-untyped-call]
    unfinished = target.with_name(target.name + UNFINISHED)
    shutil.rmtree(unfinished, ignore_errors=True)
    source: dict[str, Any] = {"pretrained_model_name_or_path": str(weights.parent), "gguf_file": weights.name}
    with fast_gguf_reads():
        AutoTokenizer.from_pretrained(**source).save_pretrained(unfinished)
        # Newer versions of Transformers keep the weights packed by default; older ones always unpack them.
        if hasattr(transformers, "GgufConfig"):
            source["quantization_config"] = transformers.GgufConfig(dequantize=True)
        model = AutoModelForCausalLM.from_pretrained(**source, dtype=torch.bfloat16)
        model.save_pretrained(unfinished)
    unfinished.rename(target)


@contextmanager
def fast_gguf_reads() -> Iterator[None]:
    """Make the package `gguf` faster while the block runs: a conversion takes a third of its time then.

    Transformers reads the file three times, and its table of names once per tensor: both are kept here. And `gguf`
    takes a slice of the file for each number of the vocabulary, which a memmap does ten times as slowly as an array.
    """
    import gguf
    import numpy as np

    class ArrayReader(gguf.GGUFReader):
        @property
        def data(self) -> Any:
            return self.array

        @data.setter
        def data(self, memmap: Any) -> None:
            self.array = np.asarray(memmap)

    faster = {"GGUFReader": cache(ArrayReader), "get_tensor_name_map": cache(gguf.get_tensor_name_map)}
    originals = {name: getattr(gguf, name) for name in faster}
    try:
        for name, one in faster.items():
            setattr(gguf, name, one)
        yield
    finally:
        for name, one in originals.items():
            setattr(gguf, name, one)
