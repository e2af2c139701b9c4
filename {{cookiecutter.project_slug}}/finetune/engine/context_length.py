"""How many tokens a base computes in one sequence."""

from typing import Any

DEFAULT_LENGTH = 2048  # tokens, for a base that names no length


def context_length_of(config: Any) -> int:
    """Return the most tokens of a request or of a training row, by a base's configuration for texts.

    With LongRoPE, Transformers turns all positions of a pass by other angles once one of them is beyond
    `original_max_position_embeddings`: other requests of the pass, other rows of the batch, and the keys of the same
    request that were computed before, would be wrong without a word. So such a base ends there.
    """
    # A base whose positions have no limit names the length that it was trained with, or none.
    lengths = [getattr(config, name, None) for name in ("max_position_embeddings", "seq_length")]
    longest = next((int(length) for length in lengths if length), DEFAULT_LENGTH)
    rotations = getattr(config, "rope_parameters", None) or {}
    # Some bases have one for each kind of layer.
    several = [one for one in rotations.values() if isinstance(one, dict)] or [rotations]
    originals = [one.get("original_max_position_embeddings") for one in several if one.get("rope_type") == "longrope"]
    return min([longest, *(int(one) for one in originals if one)])
