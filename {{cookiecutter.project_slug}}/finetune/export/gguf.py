"""GGUF for llama.cpp and Ollama: made by llama.cpp's own converter and its own quantizer."""

import re
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from finetune.core.errors import FinetuneError
from finetune.core.export_formats import QUANTIZED
from finetune.export.packages import converter, quantizer

FILE = "model.gguf"


def export_gguf(merged: Path, name: str, target: Path) -> Path:
    """Write a merged model as GGUF, of a format such as `gguf-q4_k_m`, and return the file.

    Quantized files are made of one in the base's number format, which is kept beside the merged folder for the next.
    Raises FinetuneError if the converter does not know this kind of model.
    """
    target.mkdir(parents=True)
    kind = name.removeprefix("gguf-")
    file = target / FILE
    if name not in QUANTIZED:
        convert(merged, file, kind)
        return file
    whole = merged.with_name("unquantized.gguf")
    if not whole.exists():
        convert(merged, whole, "auto")
    run([quantizer(), whole, file, kind.upper()], f"llama-quantize cannot make {kind}")
    return file


def convert(merged: Path, file: Path, kind: str) -> None:
    command: list[str | Path] = [sys.executable, converter(), merged, "--outfile", file, "--outtype", kind]
    run(command, f"llama.cpp's converter cannot convert {merged}")


def run(command: Sequence[str | Path], what: str) -> None:
    """Run a program. Raises FinetuneError with the last line that it has printed if it fails."""
    done = subprocess.run([*map(str, command)], capture_output=True, text=True, errors="replace", check=False)
    if done.returncode:
        lines = [line for line in re.split(r"[\r\n]+", done.stdout + "\n" + done.stderr) if line.strip()]
        raise FinetuneError(
            f"{what}: {lines[-1].strip() if lines else f'it ended with {done.returncode}'}",
            "Remove this format from export.formats in params.yaml, or update the packages of the extra export.",
        )
