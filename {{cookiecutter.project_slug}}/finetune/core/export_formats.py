"""The formats that a fine-tuned model can be exported to."""

from difflib import get_close_matches

ADAPTER, MERGED = "adapter", "merged"
QUANTIZED = ("gguf-q8_0", "gguf-q4_k_m")
FORMATS = (ADAPTER, MERGED, "gguf-f16", "gguf-bf16", *QUANTIZED)
# Each GGUF has a Modelfile for Ollama beside it. Q8_0 is the smallest kind that rarely changes an answer.
SHORT = {"gguf": "gguf-q8_0", "ollama": "gguf-q8_0"}


def known_format(name: str) -> str:
    """Return a format by its name or short name. Raises ValueError if there is no such format."""
    found = SHORT.get(name, name)
    if found not in FORMATS:
        like = get_close_matches(name, FORMATS, 1)
        similar = f" (similar to {name!r}: {like[0]})" if like else f", and not {name!r}"
        raise ValueError(f"give some of {', '.join([*FORMATS, *SHORT])}{similar}")
    return found


def is_gguf(name: str) -> bool:
    """Return whether a format is a file for llama.cpp and Ollama."""
    return name.startswith("gguf-")


def artifact_name(name: str) -> str:
    """Return the name of an exported format in the registry, which takes no underscores."""
    return f"tuned-model-{name.replace('_', '-')}"
