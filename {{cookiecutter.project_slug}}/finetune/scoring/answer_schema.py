"""The JSON Schema of `evaluate.schema`."""

import json
from pathlib import Path
from typing import Any

from finetune.core.errors import FinetuneError


def load_schema(file: str) -> dict[str, Any]:
    """Load a JSON Schema. Raises FinetuneError if the file holds none."""
    from jsonschema.exceptions import SchemaError
    from jsonschema.validators import validator_for

    try:
        schema = json.loads(Path(file).read_text(encoding="utf-8"))
        if not isinstance(schema, dict):
            raise ValueError("it is not an object")
        validator_for(schema).check_schema(schema)
    except (OSError, ValueError, SchemaError) as error:
        why = error.message if isinstance(error, SchemaError) else error
        raise FinetuneError(
            f"evaluate.schema: {file} is not a JSON Schema: {why}", "Correct it, or remove evaluate.schema."
        ) from error
    return schema
