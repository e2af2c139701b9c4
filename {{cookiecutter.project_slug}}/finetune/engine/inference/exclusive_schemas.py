"""See whether no value fits two schemas, as in a tagged union."""

from typing import Any


def exclude(one: Any, other: Any) -> bool:
    """Say whether two schemas share no type, or one requires a property that has another value in the other."""
    if not isinstance(one, dict) or not isinstance(other, dict):
        return False
    if (types := types_of(one)) and (others := types_of(other)) and not types & others:
        return True
    names = {*one.get("required", ()), *other.get("required", ())}
    tags = [(tag_of(one, name), tag_of(other, name)) for name in names]
    return types_of(one) == types_of(other) == {"object"} and any(a and b and a != b for a, b in tags)


def types_of(schema: dict[str, Any]) -> set[str]:
    types = schema.get("type", ())
    found = {types} if isinstance(types, str) else set(types)
    return found | {"integer"} if "number" in found else found


def tag_of(schema: dict[str, Any], name: str) -> str | None:
    """Return the only string that a property may have, if it is one."""
    found = schema.get("properties", {}).get(name)
    if not isinstance(found, dict):
        return None
    values = [found["const"]] if "const" in found else found.get("enum", ())
    return values[0] if len(values) == 1 and isinstance(values[0], str) else None
