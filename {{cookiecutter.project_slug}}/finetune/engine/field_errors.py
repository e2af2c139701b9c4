"""Pydantic's errors of JSON values, in the words of JSON: where a value is wrong, and what is wrong with it."""

import re
from collections.abc import Sequence

from pydantic_core import ErrorDetails

ROLES = ("system", "developer", "user", "assistant", "tool", "function")

# Where pydantic's own words are those of Python.
WORDS = {
    "dict_type": "must be an object",
    "extra_forbidden": "is a key that this server does not know",
    "list_type": "must be an array",
    "missing": "is missing",
    "model_attributes_type": "must be an object",
    "model_type": "must be an object",
    "none_required": "must be null",
    "union_tag_invalid": f"has a role that is none of {', '.join(ROLES)}",
    "union_tag_not_found": f"has no role: one of {', '.join(ROLES)}",
}


def path_of(location: Sequence[int | str]) -> str:
    """Return the place of an error as a path, `messages[2].tool_calls[0].id`, without the role that pydantic adds."""
    of_messages = location[1:] if location[:1] == ("messages",) else location
    parts = list(location)
    if len(of_messages) > 1 and isinstance(of_messages[0], int) and of_messages[1] in ROLES:
        del parts[len(location) - len(of_messages) + 1]
    return "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in parts).removeprefix(".")


def words_of(error: ErrorDetails) -> str:
    """Return what an error says about its value, as the end of a sentence that begins with the value's place."""
    message = WORDS.get(error["type"], error["msg"])
    message = message.removeprefix("Value error, ").replace(" after validation", "")
    message = re.sub(r"^(Input|String|List|Dictionary) should ", "must ", message)
    return message[:1].lower() + message[1:]
