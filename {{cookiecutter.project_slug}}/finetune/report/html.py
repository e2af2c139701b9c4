"""What the HTML pages have in common: they stand alone, in light and in dark, on a wide screen and on a narrow one."""

from collections.abc import Sequence
from html import escape
from typing import Any

STYLE = """
:root { color-scheme: light dark; }
:root { --ink: #1c2430; --soft: #667085; --line: #d9dee7; --good: #1f7a4d; --mark: 31 122 77; }
@media (prefers-color-scheme: dark) {
  :root { --ink: #e7eaf0; --soft: #98a2b3; --line: #39424f; --good: #5fc892; --mark: 95 200 146; }
  body { background: #14181f; }
}
body { font: 16px/1.5 system-ui, sans-serif; color: var(--ink); max-width: 60rem; margin: 2rem auto; padding: 0 1rem; }
h1 { font-size: 1.5rem; } h2 { font-size: 1.1rem; margin-top: 2.5rem; }
.verdict { font-size: 1.2rem; } .soft { color: var(--soft); }
.wide { overflow-x: auto; }
table { border-collapse: collapse; }
th, td { padding: .3rem .7rem; border-bottom: 1px solid var(--line); text-align: left; }
th { font-weight: 600; color: var(--soft); } .n { text-align: right; font-variant-numeric: tabular-nums; }
td { white-space: pre-wrap; overflow-wrap: anywhere; }
.bars { width: 100%; max-width: 44rem; } .bars td { width: 28%; } .bars th { white-space: nowrap; }
.bar { height: .5rem; background: rgb(var(--mark) / .6); border-radius: 2px; }
.bars span { color: var(--soft); font-size: .8rem; }
svg { width: 100%; max-width: 44rem; height: auto; }
@media (max-width: 40rem) { table { font-size: .85rem; } th, td { padding: .25rem .35rem; } }
"""


def head(title: str) -> str:
    """The page up to its first section."""
    return "\n".join(
        [
            '<!doctype html><html lang="en"><meta charset="utf-8">',
            f'<meta name="viewport" content="width=device-width, initial-scale=1"><title>{escape(title)}</title>',
            f"<style>{STYLE}</style>",
            f"<h1>{escape(title)}</h1>",
        ]
    )


def table(head: Sequence[str], rows: Sequence[Sequence[Any]]) -> str:
    """An HTML table; numbers stand to the right."""

    def cell(tag: str, shown: Any, value: Any) -> str:
        numeric = isinstance(value, (int, float)) or str(value).replace(".", "", 1).isdigit()
        return f"<{tag}{' class=n' if numeric else ''}>{escape(str(shown))}</{tag}>"

    first = rows[0] if rows else head  # a column's head stands where its cells stand
    header = "".join(cell("th", name, value) for name, value in zip(head, first, strict=True))
    body = "".join("<tr>" + "".join(cell("td", value, value) for value in row) + "</tr>" for row in rows)
    return f'<div class="wide"><table><tr>{header}</tr>{body}</table></div>'
