"""The texts of graders with `{{ names }}`: which names there are, and their values for a row."""

import json
import re
from collections.abc import Mapping
from typing import Any

from finetune.core.errors import FinetuneError
from finetune.scoring.answer_json import json_in

# What a template can name. The value may be followed by a path into its JSON: `item.expected.city`, `[0]`.
NAMES = (
    "sample.output_text",
    "sample.output_json",
    "sample.output_tools",
    "item.asked",
    "item.expected",
    "item.reference",
)
CALL = {"name", "arguments"}  # the keys of a call in the text of an answer: see core/tool_calls.py
STEP = re.compile(r"\.([^.\[\]]+)|\[(\d+)\]")
VARIABLE = re.compile(r"\{\{([^{}]*)\}\}")


def variables(item: Mapping[str, str], answer: str) -> dict[str, str]:
    """Return the values of the names for one row; an item has `asked` and `expected`."""
    read = json_in(answer)
    texts = (answer, "" if read is None else as_text(read), as_text(tools_in(read)))
    return dict(zip(NAMES, (*texts, item["asked"], item["expected"], item["expected"]), strict=True))


def tools_in(read: Any) -> list[Any]:
    """Return the calls of tools in the JSON of an answer, in the form of the API; [] if it has none."""
    if isinstance(read, Mapping):
        return read.get("tool_calls") or []
    if not isinstance(read, list) or not all(isinstance(one, Mapping) and one.keys() == CALL for one in read):
        return []
    return [{"type": "function", "function": {**one, "arguments": as_text(one["arguments"])}} for one in read]


def as_text(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def split_path(name: str) -> tuple[str, str]:
    """Return the value that a name begins with, and the path after it; "" for an unknown one."""
    for known in NAMES:
        path = name.removeprefix(known)
        if path != name and not STEP.sub("", path):
            return known, path
    return "", ""


def check_names(template: str) -> None:
    """Raise FinetuneError for an unknown name in a template, and for braces that are not closed."""
    wrong = sorted({one for found in VARIABLE.findall(template) if not split_path(one := found.strip())[0]})
    if wrong or "{{" in VARIABLE.sub("", template):
        raise FinetuneError(
            f"a template cannot name {', '.join(wrong)}." if wrong else "a template has {{ without its }}.",
            f"It can name {', '.join(f'{{{{ {name} }}}}' for name in NAMES)}.",
        )


def render(template: str, known: Mapping[str, str]) -> str:
    """Replace the `{{ names }}` of a template, once: inserted text is not searched for names.

    Raises LookupError for a path that a row's JSON does not have.
    """
    return VARIABLE.sub(lambda found: value_of(found[1].strip(), known), template)


def value_of(name: str, known: Mapping[str, str]) -> str:
    """Return the value of a name with its path. Raises LookupError where there is none."""
    root, path = split_path(name)
    if not path and (known[root] or root != "sample.output_json"):
        return known[root]
    value = json_in(known[root])
    for key, index in STEP.findall(path) or [("", "")]:
        place = index or (key if isinstance(value, list) and key.isdecimal() else "")
        if isinstance(value, list) and place and int(place) < len(value):
            value = value[int(place)]
        elif isinstance(value, Mapping) and not index and key in value:
            value = value[key]
        else:
            raise LookupError(f"this row has no {name}")
    return as_text(value)
