"""Bases that this engine can train, with the memory that a usual job needs: the table of docs/engine.md.

Sizes are those of the file config.json in each repository of the Hugging Face hub, licences those of its page.
tests/engine/test_presets.py computes the memory by the engine's own estimate.
"""

from typing import NamedTuple

# Of a usual job. Its answers are long, so the top half of the layers is trained.
ROWS, ROW_TOKENS, ANSWER_TOKENS = 500, 512, 128


class Preset(NamedTuple):
    """A base: its name, its parameters in millions, and its licence.

    `memory` is that of a usual job on a processor in bfloat16, in gigabytes; `least` is the same with
    `gradient_checkpointing`. `seconds` are those for 1,000 tokens of such a job, by bench/larger_bases.py on two cores
    of an AMD EPYC with avx512_bf16; None where the job did not fit into their 23 GB.
    """

    name: str
    parameters: int
    memory: float
    least: float
    licence: str
    seconds: float | None = None


PRESETS = (
    Preset("SmolLM2-135M-Instruct", 135, 5.7, 2.0, "Apache 2.0", 2.8),
    Preset("google/gemma-3-270m-it", 268, 8.3, 6.4, "Gemma Terms of Use", 3.1),
    Preset("HuggingFaceTB/SmolLM2-360M-Instruct", 362, 9.5, 2.9, "Apache 2.0", 5.8),
    Preset("Qwen/Qwen3-0.6B", 596, 12.4, 5.5, "Apache 2.0", 8.3),
    Preset("google/gemma-3-1b-it", 1000, 14.1, 8.5, "Gemma Terms of Use", 10.3),
    Preset("meta-llama/Llama-3.2-1B-Instruct", 1236, 15.3, 7.4, "Llama 3.2 Community License", 13.4),
    Preset("HuggingFaceTB/SmolLM2-1.7B-Instruct", 1711, 18.7, 6.9, "Apache 2.0", 19.9),
    Preset("Qwen/Qwen3-1.7B", 1721, 17.9, 8.6, "Apache 2.0", 17.9),
    Preset("HuggingFaceTB/SmolLM3-3B", 3075, 26.6, 11.2, "Apache 2.0"),
    Preset("microsoft/Phi-4-mini-instruct", 3836, 30.1, 14.8, "MIT"),
    Preset("Qwen/Qwen3-4B", 4022, 35.0, 14.2, "Apache 2.0"),
    Preset("mistralai/Mistral-7B-Instruct-v0.3", 7248, 42.2, 19.6, "Apache 2.0"),
    Preset("Qwen/Qwen3-8B", 8191, 47.8, 23.8, "Apache 2.0"),
)


def fitting(available: int, dtype: str) -> list[str]:
    """Return the names of the bases of which a usual job in this number format fits into this many bytes.

    Those that fit only with gradient_checkpointing stand last, with that word.
    """
    gigabytes = available / (1e9 if dtype == "bfloat16" else 2e9)  # the table's memory is that in bfloat16
    fit = [one.name for one in PRESETS if one.memory <= gigabytes]
    others = [one.name for one in PRESETS if one.least <= gigabytes < one.memory]
    return fit + [f"{name} with gradient_checkpointing" for name in others]
