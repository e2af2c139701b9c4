"""The keywords of JSON Schema 2020-12 that a grammar can enforce, and the formats with what the compiler lacks."""

from typing import Any

# They change no answer's validity. OpenAPI says so of `discriminator`.
ANNOTATIONS = {
    "$comment", "$id", "$schema", "default", "deprecated", "description", "discriminator", "examples", "readOnly",
    "title", "writeOnly",
}  # fmt: skip
ONE_SCHEMA = {"additionalProperties", "items"}
SCHEMA_LISTS = {"allOf", "anyOf", "oneOf", "prefixItems"}
SCHEMA_MAPS = {"$defs", "definitions", "patternProperties", "properties"}
ITEM_COUNTS = {"maxItems", "minItems", "maxProperties", "minProperties"}
COUNTS = {"maxLength", "minLength", *ITEM_COUNTS}
BOUNDS = {"exclusiveMaximum", "exclusiveMinimum", "maximum", "minimum"}
VALUES = {"$ref", "const", "enum", "format", "multipleOf", "pattern", "required", "type", *COUNTS, *BOUNDS}
LEAP_DAY = "([0-9]{2}(0[48]|[2468][048]|[13579][26])|(0[48]|[2468][048]|[13579][26])00)-02-29"
YEAR = "([0-9]{3}[1-9]|[0-9]{2}[1-9]0|[0-9][1-9]00|[1-9]000)"
DATE = {"pattern": f"^({LEAP_DAY}|{YEAR}-(02-([01][0-9]|2[0-8])|(0[13-9]|1[0-2])-[0-9]{{2}}))"}
SECOND = {"pattern": "^[^:]+:[^:]+:[0-5]"}
# The formats that the compiler knows, each with schemas that exclude what the compiler does not: 29 February of other
# years, the year 0, second 60, and long names. Sources: RFC 3339, RFC 1123.
FORMATS: dict[str, list[dict[str, Any]]] = {
    "date": [DATE], "date-time": [DATE, SECOND], "time": [SECOND], "hostname": [{"maxLength": 253}],
    "duration": [], "email": [], "ipv4": [], "ipv6": [], "uri": [], "uuid": [],
}  # fmt: skip


def closed(schema: Any) -> Any:
    """Return the schema without other properties where it does not say whether there may be others.

    An answer that fits it fits the schema, too. A small model would go on writing properties.
    """
    if not isinstance(schema, dict):
        return schema
    found = dict(schema)
    for key, value in schema.items():
        if key in ONE_SCHEMA:
            found[key] = closed(value)
        elif key in SCHEMA_LISTS:
            found[key] = [closed(part) for part in value]
        elif key in SCHEMA_MAPS:
            found[key] = {name: closed(part) for name, part in value.items()}
    names = schema.get("properties")
    says = {"additionalProperties", "patternProperties", "minProperties"} & schema.keys()
    if names and not says and set(schema.get("required", ())) <= names.keys():
        found["additionalProperties"] = False
    return found
