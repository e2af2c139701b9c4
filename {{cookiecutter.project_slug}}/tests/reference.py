"""Write docs/params.md and docs/commands.md from the code: python tests/reference.py."""

import re
from pathlib import Path
from typing import Any

import typer
from typer.cli import get_docs_for_click

from finetune import cli
from finetune.commands import answers
from finetune.core.params import Params

DOCS = Path(__file__).parents[1] / "docs"
EXPLAINED = {
    "data": "data.md",
    "provider": "providers.md",
    "train": "training.md",
    "evaluate": "evaluation.md",
    "export": "shipping.md",
    "notify": "training.md",
}
RANGES = {"minimum": "≥ {}", "exclusiveMinimum": "> {}", "maximum": "≤ {}", "exclusiveMaximum": "< {}"}
LENGTHS = {"minLength": "length ≥ {}", "maxLength": "length ≤ {}", "maxItems": "up to {} of them"}
TYPES = {"string": "text", "integer": "whole number", "number": "number", "boolean": "`true` or `false`"}


def params_page() -> str:
    """Return the page of all keys of params.yaml: values and defaults, from the types that load it."""
    schema = Params.model_json_schema()
    lines = [
        "# params.yaml",
        "",
        "Each key, the values that it takes, and its default. Other keys are refused by their names.",
    ]
    for name, section in schema["properties"].items():
        shape = resolve(section, schema)
        lines += ["", f"## {name}", "", f"Explained in [{EXPLAINED[name]}]({EXPLAINED[name]}).", ""]
        lines += ["| key | values | default |", "|---|---|---|"]
        lines += (
            rows(shape, schema, f"{name}.") if "properties" in shape else [row(name, section, schema, required=False)]
        )
    return "\n".join(lines) + "\n"


def rows(shape: dict[str, Any], schema: dict[str, Any], prefix: str) -> list[str]:
    """Return the rows of a section's keys, and of the keys below them."""
    found = []
    for key, value in shape["properties"].items():
        found.append(row(prefix + key, value, schema, required=key in shape.get("required", [])))
        for one in value.get("anyOf", [value]):
            below = resolve(one, schema)
            extra = below.get("additionalProperties")
            if isinstance(extra, dict) and "$ref" in extra:
                found += rows(resolve(extra, schema), schema, f"{prefix}{key}.<name>.")
            elif "properties" in below:
                found += rows(below, schema, f"{prefix}{key}.")
    return found


def row(key: str, value: dict[str, Any], schema: dict[str, Any], *, required: bool) -> str:
    default = "required" if required else f"`{shown(value.get('default'))}`"
    return f"| `{key}` | {values_of(value, schema)} | {default} |"


def shown(default: object) -> str:
    """Return a default as YAML has it."""
    if default is None or isinstance(default, bool):
        return {None: "null", True: "true", False: "false"}[default]
    return "{}" if isinstance(default, dict) else str(default)


def values_of(value: dict[str, Any], schema: dict[str, Any]) -> str:
    """Return the values that a key takes, in words."""
    value = resolve(value, schema)
    if "anyOf" in value:
        return ", or ".join(
            dict.fromkeys(values_of(one, schema) for one in value["anyOf"] if one.get("type") != "null")
        )
    if "const" in value or "enum" in value:
        return ", ".join(f"`{one}`" for one in value.get("enum", [value.get("const")]))
    limits = ", ".join(text.format(value[key]) for key, text in (RANGES | LENGTHS).items() if key in value)
    if value.get("type") == "array":
        words = f"list of: {values_of(value.get('items', {}), schema)}"
    elif value.get("type") == "object":
        extra = value.get("additionalProperties")
        inner = values_of(extra, schema) if isinstance(extra, dict) else ""
        words = "the keys below" if "properties" in value else f"name: {inner}" if inner else "an object"
    else:
        words = TYPES.get(value.get("type", ""), "any value")
    return f"{words}, {limits}" if limits else words


def resolve(value: dict[str, Any], schema: dict[str, Any]) -> dict[str, Any]:
    """Return what a reference refers to."""
    return schema["$defs"][value["$ref"].rsplit("/", 1)[1]] if "$ref" in value else value


def commands_page() -> str:
    """Return the page of all commands, as `finetune --help` and `finetune COMMAND --help` describe them.

    `serve` is described without the engine too, because the page is the same for all projects.
    """
    app = typer.Typer(help=cli.app.info.help)
    for command in (command for commands in cli.PANELS.values() for command in commands):
        app.command()(command)
    for name, group in [("answers", answers.app), *cli.GROUPS.items()]:
        app.add_typer(group, name=name)
    click_app = typer.main.get_command(app)
    text = get_docs_for_click(obj=click_app, ctx=typer.Context(click_app), name="finetune")
    text = re.sub(r"^\* `--(help|install-completion|show-completion)`: .+\n", "", text, flags=re.M)
    text = re.sub(r"\*\*Commands\*\*:\n\n(?:\* .+\n)+\n", "", text)  # their first words only; each has a section
    text = re.sub(r"\*\*Options\*\*:\s+(?=\*\*|#|\Z)", "", text)
    for escaped, plain in {"&#x27;": "'", "&quot;": '"', "&amp;": "&"}.items():
        text = text.replace(escaped, plain)
    text = text.replace("# `finetune`\n", "# Commands\n", 1)
    return re.sub(r"\n{3,}", "\n\n", text).strip() + "\n"


if __name__ == "__main__":
    (DOCS / "params.md").write_text(params_page(), encoding="utf-8")
    (DOCS / "commands.md").write_text(commands_page(), encoding="utf-8")
