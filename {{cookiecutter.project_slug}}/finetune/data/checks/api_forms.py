"""The forms of messages, parts, tools and calls that the API accepts, taken from the types of the package `openai`.

Those types are written for type checkers: they allow other keys, and have no limits on names, lists and texts. Here
each of them becomes a type that pydantic checks strictly, with the limits of OpenAI's API reference. The audio, files
and custom tools of requests are left out: OpenAI's specification says that training takes none of them.
"""

import re
from collections.abc import Iterable
from functools import cache
from types import NoneType
from typing import Annotated, Any, Literal, Optional, Union, get_args, get_origin

from pydantic import AfterValidator, ConfigDict, Discriminator, Field, Tag, TypeAdapter, ValidationError
from pydantic_core import ErrorDetails
from typing_extensions import Required, TypedDict, get_type_hints, is_typeddict

from finetune.data.checks.api_values import INVALID, check_arguments, check_image_url, check_parameters
from finetune.data.checks.rule import Found, describe

EXAMPLE = "example"  # the owner of the keys beside `messages`; the other owners are roles
NOT_TRAINED = {"input_audio", "file", "custom"}  # values of `type`
NOT_TRAINED_KEYS = {"audio", "prompt_cache_breakpoint"}
# By the key of a value and its type: what the API reference says in words only.
LIMITS: dict[tuple[str, Any], Any] = {
    ("name", str): Field(pattern=r"^[a-zA-Z0-9_-]{1,64}$"),
    ("url", str): AfterValidator(check_image_url),
    ("arguments", str): AfterValidator(check_arguments),
    ("parameters", dict): AfterValidator(check_parameters),
    ("content", list): Field(min_length=1),
    ("tool_calls", list): Field(min_length=1),
    ("functions", list): Field(min_length=1, max_length=128),
    ("tools", list): Field(max_length=128),
}
WANTED = {
    "string_type": "a string",
    "list_type": "a list",
    "dict_type": "an object",
    "bool_type": "true or false",
}
FIXES = {  # by the last key of the path
    "arguments": 'Write them as a string, such as "{\\"a\\": 1}".',
    "function": 'Write {"type": "function", "function": {"name": "…"}}.',
    "image_url": 'Write "image_url": {"url": "https://…"}.',
}
SHORT_WORD = re.compile(r"[\w./-]{1,30}")  # what a message may repeat


@cache
def forms() -> dict[str, dict[str, Any]]:
    """Return the type of each key of a message, by its role; and under EXAMPLE those of the keys of a request."""
    from openai.types.chat import ChatCompletionMessageParam
    from openai.types.chat.completion_create_params import CompletionCreateParamsBase

    messages = [get_type_hints(form, include_extras=True) for form in get_args(ChatCompletionMessageParam)]
    by_role = {literals(keys["role"])[0]: keys for keys in messages}
    by_role["assistant"]["weight"] = Literal[0, 1]
    by_role["tool"]["name"] = str  # OpenAI's older guides give it
    return {**by_role, EXAMPLE: get_type_hints(CompletionCreateParamsBase, include_extras=True)}


@cache
def roles() -> tuple[str, ...]:
    return tuple(owner for owner in forms() if owner != EXAMPLE)


@cache
def keys_of_role(role: str) -> frozenset[str]:
    return frozenset(forms()[role]) - NOT_TRAINED_KEYS


@cache
def adapter(owner: str, key: str) -> TypeAdapter[Any]:
    """Return what checks the value of a key of an owner: a role, or EXAMPLE."""
    return TypeAdapter(strict(forms()[owner][key], key))


def form_faults(owner: str, key: str, value: Any, path: str) -> Found:
    """Yield where the value of an owner's key, which is at `path`, differs from the API's form, and how to fix it."""
    try:
        adapter(owner, key).validate_python(value, strict=True)
    except ValidationError as error:
        problems = error.errors(include_url=False)
        # An object with a wrong `type` is another kind of object: its other faults say nothing.
        others = [problem["loc"][:-1] for problem in problems if problem["type"] == "literal_error"]
        for problem in problems:
            if problem["type"] == "literal_error" or not any(is_within(problem["loc"], other) for other in others):
                yield explain(problem, value, path)


def is_within(loc: tuple[int | str, ...], other: tuple[int | str, ...]) -> bool:
    return loc[: len(other)] == other


def strict(form: Any, key: str) -> Any:
    """Return a type of the package as one without other keys and without conversions, and with the limits of `key`."""
    origin, inner = get_origin(form), get_args(form)
    if is_typeddict(form):
        return strict_object(form)
    if is_required(form):
        return strict(inner[0], key)
    if origin is Union:
        return strict_union(inner, key)
    if origin is Iterable:  # pydantic would check its items only when they are used
        form, origin = list[strict(inner[0], key)], list  # type: ignore[misc]
    limit = LIMITS.get((key, origin or form))
    return Annotated[form, limit] if limit else form


def strict_object(form: Any) -> Any:
    make: Any = TypedDict
    keys = {
        key: Required[strict(kind, key)] if is_required(kind) else strict(kind, key)
        for key, kind in get_type_hints(form, include_extras=True).items()
        if key not in NOT_TRAINED_KEYS
    }
    made = make(form.__name__, keys, total=False)
    made.__pydantic_config__ = ConfigDict(extra="forbid", strict=True)
    return made


def strict_union(members: tuple[Any, ...], key: str) -> Any:
    """Return a union in which the value decides the member, so that its faults are those of one member."""
    taken = [member for member in members if member is not NoneType and tag_of_form(member) not in NOT_TRAINED]
    if len(taken) == 1:
        union = strict(taken[0], key)
    else:
        tagged = tuple(Annotated[strict(member, key), Tag(f"({tag_of_form(member)})")] for member in taken)
        union = Annotated[Union[tagged], Discriminator(tag_of_value)]  # noqa: UP007
    return Optional[union] if NoneType in members else union  # noqa: UP045


def tag_of_form(form: Any) -> str:
    """Return the value of `type` in an object's form, and "list" or "text" for another form."""
    if is_typeddict(form):
        return "".join(literals(get_type_hints(form, include_extras=True).get("type")))
    return "list" if get_origin(form) is Iterable else "text"


def tag_of_value(value: Any) -> str | None:
    """Return the tag of the union's member that a value is meant to be; None for an object without a `type`.

    The brackets tell tags from keys in pydantic's errors.
    """
    if isinstance(value, dict):
        return f"({value['type']})" if "type" in value else None
    return "(list)" if isinstance(value, list) else "(text)"


def literals(form: Any) -> tuple[Any, ...]:
    """Return the values of `Literal[…]` or `Required[Literal[…]]`."""
    return get_args(get_args(form)[0] if is_required(form) else form)


def is_required(form: Any) -> bool:
    origin: Any = get_origin(form)
    return origin is Required


def explain(problem: ErrorDetails, value: Any, path: str) -> tuple[str, str]:
    """Return what is wrong and how to fix it, from an error of pydantic about `value`, which is at `path`."""
    kind, context = problem["type"], problem.get("ctx", {})
    if kind in ("missing", "extra_forbidden"):
        holder, _ = locate(problem["loc"][:-1], value, path)
        key = str(problem["loc"][-1])
        if kind == "missing":
            return f"{holder}.{key} is missing", FIXES.get(key, "Add it.")
        given = locate(problem["loc"], value, path)[1]
        if given is None:
            return f"{holder}: the key {key!r} is null and not allowed", "Remove it (--fix does it)."
        return f"{holder}: the key {key!r} is not allowed", "Remove it."
    place, found = locate(problem["loc"], value, path)
    key = place.rpartition(".")[2]
    if kind == INVALID:
        return f"{place} {problem['msg']}", str(context["fix"])
    if found is None and not place.endswith("]"):
        wanted = WANTED.get(kind, "an allowed value")
        return f"{place} is null", f"Remove the key (--fix does it), or write {wanted}."
    if kind in ("union_tag_not_found", "union_tag_invalid"):
        return explain_type(place, found, str(context.get("expected_tags", "")))
    if kind == "literal_error":
        return none_of_allowed(place, found, str(context["expected"]))
    if kind == "too_short":
        return f"{place} is an empty list", "Remove it, or add what is missing."
    if kind == "too_long":
        return f"{place} has more than {context['max_length']} items", "Remove some."
    if kind == "string_pattern_mismatch":
        fault = "has other characters than letters of a-z, digits, _ and -" if found else "is empty"
        return f"{place} {fault if len(found) <= 64 else 'is too long'}", "Use 1 to 64 letters of a-z, digits, _ and -."
    wanted = WANTED.get(kind, "a valid value")
    return f"{place} is {describe(found)}, not {wanted}", FIXES.get(key, f"Write {wanted}.")


def explain_type(place: str, found: Any, allowed: str) -> tuple[str, str]:
    """Return what is wrong with a value that is no object, or whose `type` is missing or none of the allowed ones."""
    if not isinstance(found, dict):
        return f"{place} is {describe(found)}, not an object", "Write an object."
    if "type" not in found:
        return f"{place}.type is missing", "Add it."
    return none_of_allowed(f"{place}.type", found["type"], allowed.replace("(", "").replace(")", ""))


def none_of_allowed(place: str, found: Any, allowed: str) -> tuple[str, str]:
    given = f"'{found}'" if isinstance(found, str) and SHORT_WORD.fullmatch(found) else describe(found)
    why = ", which training does not take" if isinstance(found, str) and found in NOT_TRAINED else ""
    return f"{place} is {given}{why}", f"Use {allowed.replace(' or ', ', ')}."


def locate(loc: tuple[int | str, ...], value: Any, path: str) -> tuple[str, Any]:
    """Return the path of a place and the value there; pydantic's location also has the tags of unions."""
    for step in loc:
        if isinstance(step, int):
            path, value = f"{path}[{step}]", value[step]
        elif not step.startswith("("):
            path, value = f"{path}.{step}", value[step]
    return path, value
