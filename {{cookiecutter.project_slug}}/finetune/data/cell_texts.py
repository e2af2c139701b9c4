"""The text of numbers, dates and other values, as a spreadsheet shows them."""

import re
from datetime import date, datetime, time, timedelta
from decimal import ROUND_HALF_UP, Decimal

GENERAL = ("", "General", "@", "GENERAL")
ZEROS = re.compile(r"0+")
DECIMALS = re.compile(r"(?P<thousands>#,##)?0(?:\.(?P<decimals>0+))?(?P<percent>%)?")


def time_text(value: date | datetime | time | timedelta) -> str:
    """Return a date or a time as ISO has it; midnight is left out, a duration is written as hours:minutes:seconds."""
    if isinstance(value, datetime):
        return value.date().isoformat() if value.time() == time() else value.isoformat(" ")
    if isinstance(value, timedelta):
        sign, value = ("-", -value) if value < timedelta() else ("", value)
        seconds, part = value.days * 86400 + value.seconds, value.microseconds
        return f"{sign}{seconds // 3600}:{seconds // 60 % 60:02}:{seconds % 60:02}" + (f".{part:06}" if part else "")
    return value.isoformat()


def number_text(value: float, form: str) -> str | None:
    """Return a number in the format of its cell: 7 as 007 in 000, 19.9 as 19.90 in 0.00. None for other formats."""
    if form in GENERAL:
        return plain_number(value)
    if ZEROS.fullmatch(form):
        return f"{rounded(value, 0):0{len(form) + (value < 0)}}"
    if found := DECIMALS.fullmatch(form):
        sign = "%" if found["percent"] else ""
        number = rounded(value, len(found["decimals"] or ""), 100 if sign else 1)
        return f"{number:{',' if found['thousands'] else ''}f}{sign}"
    return None


def rounded(value: float, decimals: int, times: int = 1) -> Decimal:
    """Return a number as a spreadsheet rounds it: of its 15 digits, a half goes up."""
    return (Decimal(f"{value:.15g}") * times).quantize(Decimal(1).scaleb(-decimals), ROUND_HALF_UP)


def plain_number(value: float) -> str:
    """Return a number with the 15 digits that a spreadsheet keeps: 7.0 as 7."""
    return str(int(value)) if float(value).is_integer() else f"{value:.15g}"
