"""Numbers as the report writes them, and numbers read from the cells of tables."""

import math

Figure = float | int | str | None


def parse_number(cell: str | None) -> float | None:
    """Return the number in a cell; None if it is empty, no number, or not finite."""
    try:
        value = float(cell or "")
    except ValueError:
        return None
    return value if math.isfinite(value) else None


def figure(value: Figure) -> str:
    """Return a number with three decimals, or as an integer from 100 on; a dash if there is none."""
    if isinstance(value, str):
        return value or "–"
    if value is None or not math.isfinite(value):
        return "–"
    return f"{value:,}" if isinstance(value, int) else f"{value:.3f}" if abs(value) < 100 else f"{value:,.0f}"


def signed(value: float) -> str:
    """Return a difference with its sign."""
    return f"{value:+.3f}".replace("-", "−")


def is_known(usd: Figure) -> bool:
    """Return whether a price is known: a record has the text "unknown" for one that is not."""
    return usd not in ("unknown", None, "")


def money(value: Figure) -> str:
    """Return dollars, rounded to the cent; below one dollar, to three significant digits."""
    if value is None or not is_known(value):
        return "unknown"
    usd = float(value)
    return f"${usd:,.2f}" if usd >= 1 or usd == round(usd, 2) else f"${usd:.3g}"


def percent(value: float) -> str:
    """Return a share in percent. Only 1 itself is written as 100 %."""
    return f"{100 * value:.{0 if value < 0.995 or value == 1 else 1}f} %"


def tokens(value: float | None) -> str:
    """Return a mean number of tokens, with a decimal where it has one; a dash if it is not known."""
    return "–" if value is None else f"{value:,.1f}".removesuffix(".0")
