"""Change values in the text of a YAML file. All other lines stay as they are, comments included."""

import io
import re
from collections.abc import Mapping
from typing import Any

from finetune.core.errors import FinetuneError

WIDTH = 118
PLAIN = re.compile(r"[^\W\d_]([\w ./-]*\w)?")  # a text that needs no quotes
MEANT_OTHERWISE = ("true", "false", "yes", "no", "on", "off", "null", "y", "n")  # by readers of YAML 1.1 or 1.2
Lines = list[str]


def edit_yaml(text: str, values: Mapping[str, Any], comments: Mapping[str, str] | None = None) -> str:
    """Return a YAML text whose values are replaced by `values`; its comments stay.

    A key that is removed takes the comment above it along. A new key is put after the one before it in `values`, with
    the comment that `comments` has for its path, such as `data.group`. Raises FinetuneError if the result would be
    read as other values.
    """
    from ruamel.yaml import YAML
    from ruamel.yaml.error import YAMLError

    lines = text.split("\n")
    try:
        edited = "\n".join(edit_mapping(YAML().load(text), values, lines, 0, len(lines), "", comments or {}))
        same = YAML(typ="safe").load(edited) == values
    except (YAMLError, KeyError):  # KeyError: keys of a merge (<<) have no line
        same = False
    if not same:
        raise FinetuneError(
            "params.yaml is written in a way that cannot be changed without losing something.",
            "Write it in the plain style: one key a line. Restore the former file with: git checkout params.yaml",
        )
    return edited


def edit_mapping(
    node: Any, values: Mapping[str, Any], lines: Lines, start: int, end: int, path: str, comments: Mapping[str, str]
) -> Lines:
    """Return the lines from `start` to `end`, which hold a mapping with a key a line, with other values."""
    keys = list(node)
    rows = [node.lc.key(key)[0] for key in keys]
    indent = node.lc.key(keys[0])[1]
    begins = [comment_start(lines, row, start) for row in rows]  # where each key's comment begins
    ends = [*begins[1:], comment_start(lines, end, rows[-1] + 1)]
    added = new_keys(node, values)

    def render_new(after: str | None) -> Lines:
        return [
            line
            for key in added.get(after, ())
            for line in render(key, values[key], indent, False, comments.get(f"{path}{key}"))
        ]

    result = [*lines[start : begins[0]], *render_new(None)]
    for key, begin, row, stop in zip(keys, begins, rows, ends, strict=True):
        if key not in values:
            blank = [place for place in range(begin, row) if not lines[place].strip()]
            result += lines[begin : blank[-1] + 1] if blank else []
            continue
        result += lines[begin:row]
        old, new = node[key], values[key]
        if old == new:
            result += lines[row:stop]
        elif is_block(old) and isinstance(new, Mapping) and new:
            result.append(lines[row])
            result += edit_mapping(old, new, lines, row + 1, stop, f"{path}{key}.", comments)
        else:
            flow = isinstance(old, Mapping) and not is_block(old)
            rendered = render(key, new, indent, flow, None)
            result += [*rendered[:-1], rendered[-1] + comment_beside(node, key)]
        result += render_new(key)
    return result + lines[ends[-1] : end]


def is_block(value: Any) -> bool:
    """Return whether a value is a mapping with a key a line."""
    return isinstance(value, Mapping) and bool(value) and not value.fa.flow_style()  # type: ignore[attr-defined]


def comment_start(lines: Lines, row: int, first: int) -> int:
    """Return where the comments and blank lines directly above a row begin."""
    while row > first and (not lines[row - 1].strip() or lines[row - 1].lstrip().startswith("#")):
        row -= 1
    return row


def comment_beside(node: Any, key: str) -> str:
    """Return the comment on the line of a key's value, with the spaces before it; "" for none."""
    tokens = node.ca.items.get(key)
    text = tokens[2].value.split("\n")[0] if tokens and tokens[2] else ""
    return f"  {text}" if text.startswith("#") else ""


def new_keys(node: Any, values: Mapping[str, Any]) -> dict[str | None, list[str]]:
    """Return the keys that a mapping lacks, by the key of the mapping that they follow; None: at its start."""
    found: dict[str | None, list[str]] = {}
    after = None
    for key in values:
        if key in node:
            after = key
        else:
            found.setdefault(after, []).append(key)
    return found


def render(key: str, value: Any, indent: int, flow: bool, comment: str | None) -> Lines:
    """Return the lines of a key and its value. A list is on one line if it fits, else it has a line for each item."""
    lines = dumped({key: styled(value, flow)}, WIDTH - indent)
    if isinstance(value, list) and len(lines) > 1:
        lines = dumped({key: [styled(item, True) for item in value]}, WIDTH - indent)
    lines = [f"# {comment}", *lines] if comment else lines
    return [" " * indent + line if line else line for line in lines]


def dumped(value: Mapping[str, Any], width: int) -> Lines:
    """Return the lines of a mapping as YAML."""
    from ruamel.yaml import YAML

    yaml = YAML()
    yaml.width = width
    yaml.representer.add_representer(
        type(None), lambda dumper, _: dumper.represent_scalar("tag:yaml.org,2002:null", "null")
    )
    out = io.StringIO()
    yaml.dump(value, out)
    return out.getvalue().rstrip("\n").split("\n")


def styled(value: Any, flow: bool) -> Any:
    """Return a value as ruamel's types, which have a style: lists on one line, texts of several lines as they are."""
    from ruamel.yaml.comments import CommentedMap, CommentedSeq
    from ruamel.yaml.scalarstring import DoubleQuotedScalarString, LiteralScalarString

    if isinstance(value, Mapping):
        mapping = CommentedMap({key: styled(item, flow) for key, item in value.items()})
        if flow or not value:
            mapping.fa.set_flow_style()
        return mapping
    if isinstance(value, list):
        items = CommentedSeq([styled(item, True) for item in value])
        items.fa.set_flow_style()
        return items
    if not isinstance(value, str) or (PLAIN.fullmatch(value) and value.lower() not in MEANT_OTHERWISE):
        return value
    return LiteralScalarString(value) if "\n" in value and not flow else DoubleQuotedScalarString(value)
