"""Numbers with their nouns."""


def counted(number: int, noun: str) -> str:
    """Return a number and its noun, as `1 row` or `1,000 rows`."""
    return f"{number:,} {noun}{'' if number == 1 else 's'}"
