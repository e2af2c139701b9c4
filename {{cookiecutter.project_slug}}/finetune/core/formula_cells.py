"""Cells of CSV that a spreadsheet would run as a formula: mark them as text, and remove the mark again.

Source: OWASP, CSV Injection. A formula begins with =, +, - or @, also in full width, and also after blanks or quotes;
a tab or line break at the start can lead to one.
"""

import re

MARK = "'"  # spreadsheets take a cell that begins with it as text
NUMBER = r"[+-]?(?:\d+(?:[.,]\d+)*|[.,]\d+)(?:[eE][+-]?\d+)?\s*%?\s*$"
FORMULA = re.compile(rf"'*(?:[\t\r\n]|[\s\"'\ufeff\u200b`‘’“”]*(?!{NUMBER})[=+\-@＝＋－＠﹢﹣﹦﹫−])")


def begins_formula(text: str) -> bool:
    """Return whether a spreadsheet may run a cell as a formula. Numbers such as -1.5 and +3 are none."""
    return FORMULA.match(text) is not None


def marked(value: object) -> object:
    """Return a cell with the mark before it if it is a text that begins a formula."""
    return MARK + value if isinstance(value, str) and begins_formula(value) else value


def unmarked(text: str) -> str:
    """Return the text that `marked` was given."""
    return text[len(MARK) :] if text.startswith(MARK) and begins_formula(text[len(MARK) :]) else text
