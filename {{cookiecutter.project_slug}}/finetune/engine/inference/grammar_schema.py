"""A JSON Schema as a part of a grammar, as llguidance compiles it."""

import json
from typing import Any

from finetune.engine.inference.enforced_schema import MAX_MESSAGE

# A place between two parts of JSON has nothing, one space, or a line break with an indentation, so that a model writes
# JSON as it was trained to (compact, as json.dumps does, or on several lines) but cannot write white space without end.
WHITE_SPACE = r"( |\r?\n[ \t]{0,40})?"


def compile_error(schema: Any) -> str | None:
    """Return why llguidance does not compile a schema; None if it does."""
    from llguidance import LLMatcher

    failed, messages = LLMatcher.validate_grammar_with_warnings(f"start: %json {written(schema)}\n")
    if not failed and not messages:
        return None
    what = messages[0].partition("failed to compile JSON schema: ")[2] or messages[0]
    if what.startswith("oneOf "):
        what = "the options of a 'oneOf' do not clearly exclude each other; use 'anyOf'"
    return f"This server cannot enforce it: {first_line(what)}."


def first_line(text: str) -> str:
    return text.partition("\n")[0][:MAX_MESSAGE]


def written(schema: Any) -> str:
    """Return a schema as JSON, with the rules of how its answers are written."""
    if isinstance(schema, bool):
        schema = {"allOf": [schema]}
    guidance = {"whitespace_pattern": WHITE_SPACE}
    return json.dumps({"x-guidance": guidance, **schema})
