"""Nested metrics under dotted names, as `dvc metrics` shows them."""

from collections.abc import Mapping
from typing import Any

from finetune.core.errors import FinetuneError


def flatten(values: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Return nested values under dotted names, such as `base.accuracy`; lists are left out.

    Raises FinetuneError if two values get the same name, as with the tags `v1` and `v1.lift`.
    """
    found: dict[str, Any] = {}
    for name, value in values.items():
        if isinstance(value, Mapping):
            named = flatten(value, f"{prefix}{name}.")
        else:
            named = {} if isinstance(value, list) else {prefix + name: value}
        if both := found.keys() & named.keys():
            raise FinetuneError(
                f"Two figures have the name {min(both)!r}.",
                "Rename one of the tags, sets or graders in params.yaml whose names begin alike.",
            )
        found |= named
    return found
