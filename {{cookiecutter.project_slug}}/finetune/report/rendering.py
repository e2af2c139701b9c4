"""Render the HTML pages from `templates/`. Every value is escaped, and an unknown name in a template is an error."""

from functools import cache
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined

TEMPLATES = Path(__file__).with_name("templates")
STYLE = Path(__file__).with_name("style.css")


def render(template: str, **values: object) -> str:
    """Return a page as text: one file that needs no other, with the style in it."""
    style = STYLE.read_text(encoding="utf-8")
    return environment().get_template(template).render(style=style, **values) + "\n"


@cache
def environment() -> Environment:
    """Return Jinja2 with escaping on for all templates."""
    return Environment(
        loader=FileSystemLoader(TEMPLATES),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
