"""Bases that this engine can train, with the memory that a usual job needs: the table of docs/engine.md.

Sizes are those of the file config.json in each repository of the Hugging Face hub, licences those of its page.
tests/engine/test_presets.py computes `memory` by the engine's own estimate, and compares `parameters` with the sizes.
"""

from typing import NamedTuple

# Of a usual job. Its answers are long, so the top half of the layers is trained.
ROWS, ROW_TOKENS, ANSWER_TOKENS = 500, 512, 128


class Preset(NamedTuple):
    """A base: its name, its parameters in millions, the gigabytes of memory of a usual job on a processor, its licence.

    `seconds` are those for 1,000 training tokens, where they were measured.
    """

    name: str
    parameters: int
    memory: float
    licence: str
    seconds: float | None = None


PRESETS = (
    # 1,713 tokens/s by bench/training.py on two cores, the top eighth of the layers.
    Preset("SmolLM2-135M-Instruct", 135, 0, "Apache 2.0", 0.6),
    Preset("google/gemma-3-270m-it", 268, 0, "Gemma Terms of Use"),
    Preset("HuggingFaceTB/SmolLM2-360M-Instruct", 362, 0, "Apache 2.0"),
    Preset("Qwen/Qwen3-0.6B", 596, 0, "Apache 2.0"),
    Preset("google/gemma-3-1b-it", 1000, 0, "Gemma Terms of Use"),
    Preset("meta-llama/Llama-3.2-1B-Instruct", 1236, 0, "Llama 3.2 Community License"),
    Preset("HuggingFaceTB/SmolLM2-1.7B-Instruct", 1711, 0, "Apache 2.0"),
    Preset("Qwen/Qwen3-1.7B", 1721, 0, "Apache 2.0"),
    Preset("HuggingFaceTB/SmolLM3-3B", 3075, 0, "Apache 2.0"),
    Preset("microsoft/Phi-4-mini-instruct", 3836, 0, "MIT"),
    Preset("Qwen/Qwen3-4B", 4022, 0, "Apache 2.0"),
    Preset("mistralai/Mistral-7B-Instruct-v0.3", 7248, 0, "Apache 2.0"),
    Preset("Qwen/Qwen3-8B", 8191, 0, "Apache 2.0"),
)


def fitting(available: int, dtype: str) -> list[str]:
    """Return the names of the bases of which a usual job in this number format fits into this many bytes."""
    bytes_of_one = 1e9 if dtype == "bfloat16" else 2e9  # the table's memory is that in bfloat16
    return [one.name for one in PRESETS if one.memory * bytes_of_one <= available]
