"""The JSON Schema of `evaluate.schema`. References to other files and to the network are not followed."""

import json
from pathlib import Path
from typing import Any

from finetune.core.errors import FinetuneError


def load_schema(file: str) -> dict[str, Any]:
    """Load a JSON Schema. Raises FinetuneError if the file holds none, or has a reference that leads out of it."""
    from jsonschema.exceptions import SchemaError
    from jsonschema.validators import validator_for
    from referencing.exceptions import Unresolvable

    try:
        schema = json.loads(Path(file).read_text(encoding="utf-8"))
        if not isinstance(schema, dict):
            raise ValueError("it is not an object")
        validator_for(schema).check_schema(schema)
        check_references(schema)
    except (OSError, ValueError, SchemaError) as error:
        why = error.message if isinstance(error, SchemaError) else error
        raise FinetuneError(
            f"evaluate.schema: {file} is not a JSON Schema: {why}", "Correct it, or remove evaluate.schema."
        ) from error
    except Unresolvable as error:
        raise FinetuneError(
            f"evaluate.schema: {file} refers to {error.ref!r}, which it does not contain.",
            "Copy that definition into the file, under $defs.",
        ) from error
    return schema


def check_references(schema: dict[str, Any]) -> None:
    """Resolve every `$ref` within the schema. Raises Unresolvable for one that leads out of it."""
    from jsonschema_specifications import REGISTRY
    from referencing import Resource
    from referencing.jsonschema import DRAFT202012

    resource = Resource.from_contents(schema, default_specification=DRAFT202012)
    resolver = REGISTRY.with_resource(resource.id() or "", resource).crawl().resolver(resource.id() or "")
    waiting = [(resolver, resource)]
    while waiting:
        resolver, resource = waiting.pop()
        if isinstance(resource.contents, dict) and isinstance(resource.contents.get("$ref"), str):
            resolver.lookup(resource.contents["$ref"])
        waiting += [(resolver.in_subresource(one), one) for one in resource.subresources()]


def validator_of(schema: Any) -> Any:
    """Return a validator that never asks the network for a reference."""
    from jsonschema.validators import validator_for
    from jsonschema_specifications import REGISTRY

    return validator_for(schema)(schema, registry=REGISTRY)
