"""Find numbers and regular expressions of a schema that the grammar's compiler reads in another way than written."""

import math
import re
from decimal import Decimal
from typing import Any

# The integers that every reader of JSON has exactly. Source: RFC 8259, section 6.
MAX_INTEGER = 2**53 - 1
# Fractions that the compiler reads exactly: its parser of JSON (Rust's serde_json) may change the last bit of others.
MAX_DIGITS = 15
MAX_DECIMALS = 20
MAX_PATTERN = 500  # for the time to compile a grammar


def wrong_number(value: Any) -> str | None:
    """Return what is wrong with a number in a JSON value that the compiler would round; None if it has none."""
    if isinstance(value, (list, dict)):
        parts = value.values() if isinstance(value, dict) else value
        return next(filter(None, map(wrong_number, parts)), None)
    if not isinstance(value, (int, float)) or isinstance(value, bool):
        return None
    if not math.isfinite(value) or abs(value) > MAX_INTEGER:
        return "is beyond ±(2^53 - 1)"
    if isinstance(value, int):
        return None
    _, digits, exponent = Decimal(str(value)).as_tuple()
    if len(digits) > MAX_DIGITS or int(exponent) < -MAX_DECIMALS:
        return f"has more than {MAX_DIGITS} digits or {MAX_DECIMALS} decimals"
    return None


def wrong_pattern(pattern: str, key: str) -> str | None:
    """Return what the compiler's regular expressions read in another way than ECMAScript's, the standard's; or None."""
    if len(pattern) > MAX_PATTERN:
        return f"a regular expression in '{key}' has more than {MAX_PATTERN} letters."
    plain = re.sub(r"\\.", "", pattern, flags=re.DOTALL)
    classes = re.findall(r"\[\^?\]?([^\]]*)\]", plain)
    if any("[" in inside or "&&" in inside or "--" in inside or "~~" in inside for inside in classes):
        return f"'[', '&&', '--' and '~~' within brackets are not permitted in '{key}': use '\\[' …"
    if re.search(r"\(\?(?!:)", plain) or re.search(r"\\[AzZbB<>]", pattern.replace("\\\\", "")):
        return f"'(?…', '\\b', '\\A' and '\\z' are not permitted in '{key}'."
    return None
