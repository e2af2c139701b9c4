"""Print tables for people and JSON for programs, on standard output."""

import json
import os
import sys
import time
from collections.abc import Sequence
from typing import Any


def print_table(head: Sequence[str], rows: Sequence[Sequence[Any]]) -> None:
    """Print a table as wide as COLUMNS says, else as the terminal, else 200 characters; None is an empty cell.

    A table of a head without rows has the row "(none)".
    """
    from rich.console import Console
    from rich.table import Column, Table

    # The first column names the row, so the others are narrowed before it. What is too long goes on in the next line.
    columns = [Column(name, overflow="fold", no_wrap=number == 0) for number, name in enumerate(head)]
    table = Table(*columns, show_header=any(head), box=None, pad_edge=False, padding=(0, 3, 0, 0))
    for row in rows or ([["(none)"]] if any(head) else []):
        table.add_row(*map(text_of, row))
    width = None if sys.stdout.isatty() or os.environ.get("COLUMNS", "").isdigit() else 200
    Console(width=width, markup=False, highlight=False).print(table)


def text_of(cell: Any) -> str:
    """Return the text of a cell of a table."""
    if cell is None or cell == []:
        return ""
    return {True: "yes", False: "no"}[cell] if isinstance(cell, bool) else str(cell)


def print_json(value: Any) -> None:
    """Print a value as indented JSON."""
    print(json.dumps(value, indent=2, ensure_ascii=False))


def when(seconds: int | float | None) -> str:
    """Return a Unix time as local date and minute; "" for no time."""
    return time.strftime("%Y-%m-%d %H:%M", time.localtime(seconds)) if seconds else ""
