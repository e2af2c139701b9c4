"""Cells of CSV that a spreadsheet would run as a formula: mark them as text, and remove the mark again.

Source: OWASP, CSV Injection. A formula begins with =, +, - or @, also in full width, and also after blanks or quotes;
a tab or line break at the start can lead to one. Where the list separator of the system is a semicolon, a spreadsheet
divides our cells at semicolons and line breaks, so what follows one of these may begin a formula, too.
"""

import re

MARK = "'"  # spreadsheets take a cell that begins with it as text
NUMBER = r"[+-]?(?:\d+(?:[.,]\d+)*|[.,]\d+)(?:[eE][+-]?\d+)?\s*(?:%\s*)?$"
BLANK = r"[\s\"'\ufeff\u200b`‘’“”]"
FORMULA = re.compile(rf"'*[\t\r\n]|{BLANK}*(?!{NUMBER})[=+\-@＝＋－＠﹢﹣﹦﹫−]")
# Within a text: not the items of a list, nor a line of dashes.
PART = r"[;\t\r\n]"
PLAIN = rf"(?:{NUMBER.removesuffix('$')}|-+[^\S\r\n]*)(?:{PART}|$)"
INNER = rf"(?=(?:(?!{PART}){BLANK})*(?!{PLAIN})(?:[=@＝＠﹦﹫]|[+\-＋－﹢﹣−]\S))"


def begins_formula(text: str) -> bool:
    """Return whether a spreadsheet may run a cell as a formula. Numbers such as -1.5 and +3 are none."""
    return FORMULA.match(text) is not None


def marked(value: object) -> object:
    """Return a cell with the mark before each part of a text that begins a formula."""
    if not isinstance(value, str):
        return value
    return MARK * begins_formula(value) + re.sub(rf"(?<={PART}){INNER}", MARK, value)


def unmarked(text: str) -> str:
    """Return the text that `marked` was given."""
    begin = len(MARK) if text.startswith(MARK) and begins_formula(text[len(MARK) :]) else 0
    return re.sub(rf"(?<={PART}){MARK}{INNER}", "", text[begin:])
