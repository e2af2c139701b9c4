"""Say in words which keys and values do not fit their types."""

from typing import Any

from pydantic import ValidationError


def relevant(error: ValidationError) -> list[Any]:
    """Return the problems without those of a union's branch `auto`, if another branch says more."""
    problems = error.errors()
    return [p for p in problems if p["loc"][-1] != "literal['auto']" or len(problems) == 1]


def explain(problem: Any) -> str:
    """Describe one problem of pydantic's in a clause that begins with the key."""
    # pydantic adds the branch of a union to the path. That is not a key.
    path = [str(part) for part in problem["loc"] if not (isinstance(part, str) and "[" in part)]
    path = [part for part in path if part not in ("int", "float") and not part.startswith("constrained-")]
    key = ".".join(path) or "the file"
    if problem["type"] == "extra_forbidden":
        return f"unknown key {key!r} (check its spelling)"
    if problem["type"] == "missing":
        return f"the key {key!r} is missing"
    auto = (
        " (or 'auto')" if any("constrained" in str(part) or part in ("int", "float") for part in problem["loc"]) else ""
    )
    message = problem["msg"].removeprefix("Value error, ")
    if problem["type"] == "string_type" and isinstance(problem["input"], int | float):
        message += " (put it in quotes)"
    return f"{key!r}: {message[0].lower()}{message[1:]}{auto}, not {problem['input']!r}"
