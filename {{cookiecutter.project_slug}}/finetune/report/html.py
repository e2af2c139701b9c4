"""What the HTML pages have in common: they stand alone, in light and in dark, on a wide screen and on a narrow one."""

import re
from collections.abc import Sequence
from html import escape
from pathlib import Path
from typing import Any

STYLE = Path(__file__).with_name("style.css")
NUMBER = re.compile(r"[-+−$]{0,2}\d[\d.,]*(e[-+]\d+)?( %| ms| – [-+−]?[\d.]+)?|–|unknown|")


class Html(str):
    """A text that is HTML already; any other is escaped before it comes into a page."""


def head(title: str) -> str:
    """The page up to its body."""
    return "\n".join(
        [
            '<!doctype html><html lang="en"><meta charset="utf-8">',
            f'<meta name="viewport" content="width=device-width, initial-scale=1"><title>{escape(title)}</title>',
            f"<style>{STYLE.read_text(encoding='utf-8')}</style>",
        ]
    )


def safe(value: Any) -> str:
    return value if isinstance(value, Html) else escape(str(value))


def table(head: Sequence[Any], rows: Sequence[Sequence[Any]]) -> Html:
    """A table that scrolls in itself where it is wider than the page; columns of numbers stand to the right."""
    classes = [kind(column) for column in zip(*rows, strict=True)] if rows else [""] * len(head)

    def line(tag: str, cells: Sequence[Any]) -> str:
        told = (
            f"<{tag}{f' class={name}' if name else ''}>{safe(cell)}</{tag}>"
            for cell, name in zip(cells, classes, strict=True)
        )
        return f"<tr>{''.join(told)}</tr>"

    drawn = ' class="drawn"' if "plot" in classes else ""
    body = "".join(line("td", row) for row in rows)
    return scrolled(f"<table{drawn}>{line('th', head) if any(head) else ''}{body}</table>")


def scrolled(inner: str) -> Html:
    """What may be wider than the page, in a box that scrolls; by the keyboard too."""
    return Html(f'<div class="wide" tabindex="0">{inner}</div>')


def kind(column: Sequence[Any]) -> str:
    """How the cells of a column are set: numbers, long texts, or what comes."""
    if any(isinstance(cell, Html) for cell in column):
        return "plot" if any("<svg" in cell for cell in column if isinstance(cell, Html)) else ""
    if all(NUMBER.fullmatch(str(cell)) for cell in column):
        return "n"
    return "text" if any(len(str(cell)) > 40 for cell in column) else ""
