"""Check that a grammar can enforce a JSON Schema completely, and write the schema for the grammar's compiler.

The dialect is JSON Schema 2020-12. In a strict schema, a keyword that the compiler would ignore, or enforce in part, is
refused by name. From another schema it is left out, because the API does not promise that answers fit such a schema.
OpenAI's strict mode also demands `additionalProperties: false`, all properties required, and an object at the root; a
grammar needs none of these, so this server does not demand them.
"""

import json
import math
from collections.abc import Callable, Iterable
from decimal import Decimal
from itertools import combinations
from typing import Any, NoReturn
from urllib.parse import unquote

from finetune.engine.inference.exclusive_schemas import exclude
from finetune.engine.inference.schema_dialect import (
    ANNOTATIONS,
    BOUNDS,
    COUNTS,
    FORMATS,
    ITEM_COUNTS,
    ONE_SCHEMA,
    SCHEMA_LISTS,
    SCHEMA_MAPS,
    VALUES,
    closed,
)
from finetune.engine.inference.schema_values import MAX_INTEGER, wrong_number, wrong_pattern

# OpenAI's limits of strict schemas (guide "Structured outputs"). Deep schemas cost a grammar nothing: more than its 10.
MAX_PROPERTIES = 5_000
MAX_ENUM_VALUES = 1_000
MAX_LETTERS = 120_000  # of the whole schema's names, values and patterns
MAX_LEVELS = 64
MAX_SIZE = 1_000_000
MAX_MESSAGE = 200  # letters of another library's message
# Limits for the time to compile a grammar.
MAX_COUNT = 10_000  # of characters; as minimum or maximum
MAX_ITEMS = 1_000
MAX_MULTIPLE = 10_000  # with the decimals as digits
MAX_COMPARED = 100  # options of oneOf, each with each

Place = tuple[str, ...]
Refuse = Callable[[str], NoReturn]


class Unenforceable(Exception):
    """What a grammar cannot enforce of a schema, and where."""


def enforced_schema(schema: Any, refuse: Refuse, root: str = "#", strict: bool = True) -> Any:
    """Return the schema as the compiler gets it: without annotations, and with bounds that the compiler lacks.

    `refuse` is called with what is wrong, in the words of OpenAI's API. `root` is the place of the schema within a
    larger one, for its references. Without `strict`, what cannot be enforced is left out.
    """
    check_by_metaschema(schema, refuse)
    reader = _Reader(schema, root, strict)
    try:
        found = reader.read(schema, ())
        reader.check_references()
        reader.check_multiples()
        reader.check_bounds()
    except Unenforceable as error:
        return refuse(str(error)) if strict else type_alone(schema)
    return found if reader.combines else closed(found)


def type_alone(schema: Any) -> dict[str, Any]:
    """Return a schema with the type of this one, and nothing else of it."""
    return {key: value for key, value in schema.items() if key == "type"} if isinstance(schema, dict) else {}


def check_by_metaschema(schema: Any, refuse: Refuse) -> None:
    """Refuse a schema that is too large, or whose keywords have values of other types than JSON Schema says."""
    import jsonschema

    try:
        if len(json.dumps(schema)) > MAX_SIZE:
            refuse(f"the schema has more than {MAX_SIZE} letters.")
        # Without a format checker: it would refuse patterns of other languages than Python.
        jsonschema.Draft202012Validator.check_schema(schema, format_checker=None)
    except jsonschema.SchemaError as error:
        refuse(f"In context={tuple(map(str, error.absolute_path))}, {error.message[:MAX_MESSAGE]}.")
    except RecursionError:
        refuse("the schema has too many levels of nesting.")


class _Reader:
    """Reads a schema, part by part; counts what the whole schema has."""

    def __init__(self, schema: Any, root: str, strict: bool) -> None:
        self.schema, self.root, self.strict = schema, root, strict
        self.properties = self.enum_values = self.letters = 0
        self.places: set[str] = set()  # of all its schemas, as JSON Pointers
        self.references: list[tuple[Place, str]] = []
        self.multiples: dict[Decimal, Place] = {}
        self.bounds: list[tuple[Place, dict[str, Any]]] = []
        self.combines = False  # whether values must fit several of its schemas

    def refuse_at(self, place: Place, what: str) -> NoReturn:
        raise Unenforceable(f"In context={place}, {what}")

    def read(self, schema: Any, place: Place) -> Any:
        """Return a schema as the compiler gets it."""
        if len(place) > 2 * MAX_LEVELS:
            self.refuse_at(place[:4], f"the schema has more than {MAX_LEVELS} levels of nesting.")
        self.places.add("".join(f"/{part.replace('~', '~0').replace('/', '~1')}" for part in place))
        if isinstance(schema, bool):
            return schema
        found: dict[str, Any] = {}
        for key, value in schema.items():
            if key in ANNOTATIONS or (key == "uniqueItems" and value is False):
                continue
            try:
                found[key] = self.read_keyword(key, value, schema, place)
            except Unenforceable:
                if self.strict:
                    raise
        if BOUNDS & schema.keys():
            self.bounds.append((place, {key: schema[key] for key in BOUNDS & schema.keys()}))
        others = schema.keys() - ANNOTATIONS - {"$defs", "definitions"}
        self.combines |= "allOf" in others or (len(others) > 1 and bool(others & {"$ref", "anyOf", "oneOf"}))
        return self.with_bounds(found)

    def read_keyword(self, key: str, value: Any, schema: dict[str, Any], place: Place) -> Any:
        """Return the value of a keyword as the compiler gets it."""
        if key in ONE_SCHEMA:
            return self.read(value, (*place, key))
        if key in SCHEMA_LISTS:
            return [self.read(part, (*place, key, str(index))) for index, part in enumerate(value)]
        if key in SCHEMA_MAPS:
            self.count(place, properties=len(value), letters=sum(map(len, value)))
            self.check_names(key, value, place)
            for pattern in value if key == "patternProperties" else ():
                self.check_pattern(key, pattern, place)
            return {name: self.read(part, (*place, key, name)) for name, part in value.items()}
        if key in VALUES:
            return self.read_value(key, value, schema, place)
        return self.refuse_at(place, f"'{key}' is not permitted: this server cannot enforce it.")

    def read_value(self, key: str, value: Any, schema: dict[str, Any], place: Place) -> Any:
        """Return the value of a keyword that holds no schemas."""
        if key == "$ref":
            if not value.startswith("#"):
                self.refuse_at(place, "'$ref' must begin with '#': this server loads no other documents.")
            self.references.append((place, unquote(value[1:])))
            return self.root + value[1:]
        if key in {"const", "enum"}:
            values = value if key == "enum" else [value]
            self.count(place, enum_values=len(values), letters=len(json.dumps(value)))
            self.check_numbers(key, values, place)
        elif key == "pattern":
            self.check_pattern(key, value, place)
        elif key == "required":
            self.check_names(key, value, place)
        elif key == "format" and value not in FORMATS:
            self.refuse_at(place, f"'format' {value!r} is not permitted; permitted are {', '.join(sorted(FORMATS))}.")
        elif key in COUNTS:
            self.check_count(key, value, schema, place)
        elif key in BOUNDS or key == "multipleOf":
            self.check_numbers(key, value, place)
            if key == "multipleOf":
                self.multiples[Decimal(str(value))] = place
        return value

    def count(self, place: Place, properties: int = 0, enum_values: int = 0, letters: int = 0) -> None:
        self.properties += properties
        self.enum_values += enum_values
        self.letters += letters
        for number, most, what in (
            (self.properties, MAX_PROPERTIES, "properties and definitions"),
            (self.enum_values, MAX_ENUM_VALUES, "values of enum and const"),
            (self.letters, MAX_LETTERS, "letters in names, values and patterns"),
        ):
            if number > most:
                self.refuse_at(place, f"the schema has more than {most} {what}.")

    def check_names(self, key: str, names: Iterable[str], place: Place) -> None:
        """Refuse names with control characters: written in another way, such a name would be an additional one too."""
        if any(letter < " " for name in names for letter in name):
            self.refuse_at(place, f"control characters in the names of '{key}' are not permitted.")

    def check_count(self, key: str, value: Any, schema: dict[str, Any], place: Place) -> None:
        most = MAX_ITEMS if key in ITEM_COUNTS else MAX_COUNT
        if value > most:
            self.refuse_at(place, f"'{key}' must not be above {most}.")
        # Names that no keyword lists may be written twice, which counts as one property.
        if key == "minProperties" and value > max(1, len(schema.get("required", ()))):
            self.refuse_at(place, "'minProperties' must not be above 1 and the number of required properties.")

    def check_numbers(self, key: str, value: Any, place: Place) -> None:
        if wrong := wrong_number(value):
            self.refuse_at(place, f"a number in '{key}' {wrong}.")

    def check_pattern(self, key: str, pattern: str, place: Place) -> None:
        self.count(place, letters=len(pattern))
        if wrong := wrong_pattern(pattern, key):
            self.refuse_at(place, wrong)

    def check_references(self) -> None:
        for place, pointer in self.references:
            if pointer not in self.places:
                self.refuse_at(place, f"'$ref' points to '#{pointer}', where the schema has no schema.")

    def check_multiples(self) -> None:
        """Refuse values of multipleOf with many digits, and those whose common multiple has more than 32 bits."""
        digits = max((max(0, -int(value.as_tuple().exponent)) for value in self.multiples), default=0)
        whole = [int(value.scaleb(digits)) for value in self.multiples]
        if math.prod(whole) >= 2**32 or max(whole, default=0) > MAX_MULTIPLE:
            place = next(iter(self.multiples.values()))
            self.refuse_at(place, "the values of 'multipleOf' have too many digits.")

    def check_bounds(self) -> None:
        """Refuse bounds that the compiler gets wrong: above 3 and at most 3.5, it allows "3"; so below 0, "-0"."""
        groups = [self.bounds] if self.combines else [[one] for one in self.bounds]
        for group in groups:
            bounds = [(place, key, bound) for place, found in group for key, bound in found.items()]
            fractions = {int(bound) for _, _, bound in bounds if bound != int(bound)}
            for place, key, bound in bounds:
                if key.startswith("exclusive") and bound == int(bound) and int(bound) in fractions:
                    self.refuse_at(place, f"'{key}' {bound} is not permitted beside a bound less than 1 away from it.")

    def with_bounds(self, found: dict[str, Any]) -> dict[str, Any]:
        """Return the schema with what the compiler lacks: exact integers, strict formats, alternatives that exclude."""
        types = found.get("type")
        types = [types] if isinstance(types, str) else types or []
        if "integer" in types and "number" not in types:
            if not {"minimum", "exclusiveMinimum"} & found.keys():
                found["minimum"] = -MAX_INTEGER
            if not {"maximum", "exclusiveMaximum"} & found.keys():
                found["maximum"] = MAX_INTEGER
        if found.get("format") in FORMATS:
            found["allOf"] = [*found.get("allOf", ()), *FORMATS[found["format"]]]
        if "oneOf" in found and "anyOf" not in found and self.exclude_each_other(found["oneOf"]):
            found["anyOf"] = found.pop("oneOf")
        return found

    def exclude_each_other(self, options: list[Any]) -> bool:
        """Say whether no value fits two of the options, as in a tagged union.

        The compiler finds this too, but not behind references.
        """
        pairs = combinations([self.resolved(option) for option in options], 2)
        return len(options) <= MAX_COMPARED and all(exclude(one, other) for one, other in pairs)

    def resolved(self, option: Any) -> Any:
        """Return the schema that an option refers to, if it is nothing but a reference."""
        if not isinstance(option, dict) or set(option) != {"$ref"}:
            return option
        found = self.schema
        for part in unquote(option["$ref"].removeprefix(self.root)).split("/")[1:]:
            name = part.replace("~1", "/").replace("~0", "~")
            found = found.get(name) if isinstance(found, dict) else None
        return found
