"""Identifiers of what the engine makes."""

import secrets


def new_id(prefix: str) -> str:
    """Return a new identifier in OpenAI's form: `file-…`, `ftjob-…`."""
    return prefix + secrets.token_hex(12)
