"""The text of numbers, dates and other values, as a spreadsheet shows them."""

import re
from datetime import date, datetime, time, timedelta

GENERAL = ("", "General", "@", "GENERAL")
ZEROS = re.compile(r"0+")
DECIMALS = re.compile(r"(?P<thousands>#,##)?0(?:\.(?P<decimals>0+))?(?P<percent>%)?")


def time_text(value: date | datetime | time | timedelta) -> str:
    """Return a date or a time as ISO has it; midnight is left out, a duration is written as hours:minutes:seconds."""
    if isinstance(value, datetime):
        return value.date().isoformat() if value.time() == time() else value.isoformat(" ")
    if isinstance(value, timedelta):
        seconds = round(value.total_seconds())
        sign, seconds = "-" if seconds < 0 else "", abs(seconds)
        return f"{sign}{seconds // 3600}:{seconds // 60 % 60:02}:{seconds % 60:02}"
    return value.isoformat()


def number_text(value: float, form: str) -> str | None:
    """Return a number in the format of its cell: 7 as 007 in 000, 19.9 as 19.90 in 0.00. None for other formats."""
    if form in GENERAL:
        return plain_number(value)
    if ZEROS.fullmatch(form):
        return f"{value:0{len(form) + (value < 0)}.0f}"
    if found := DECIMALS.fullmatch(form):
        comma = "," if found["thousands"] else ""
        return f"{value:{comma}.{len(found['decimals'] or '')}{'%' if found['percent'] else 'f'}}"
    return None


def plain_number(value: float) -> str:
    """Return a number with the 15 digits that a spreadsheet keeps: 7.0 as 7."""
    return str(int(value)) if float(value).is_integer() else f"{value:.15g}"
