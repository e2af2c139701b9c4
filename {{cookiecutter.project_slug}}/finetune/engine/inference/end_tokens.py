"""The tokens that end an answer."""

from pathlib import Path
from typing import Any


def end_token_ids_of(folder: Path, tokenizer: Any) -> set[int]:
    """Return the tokens that end an answer of a base."""
    from transformers import AutoConfig, GenerationConfig

    if (folder / "generation_config.json").is_file():
        found = GenerationConfig.from_pretrained(folder).eos_token_id
    else:
        found = AutoConfig.from_pretrained(folder).get_text_config().eos_token_id
    ends = found if isinstance(found, list) else [found]
    return {end for end in (tokenizer.eos_token_id, *ends) if end is not None}
