"""The ledger: what each job was estimated to take, and what it took. It lies in Git, and betters the next estimate."""

import csv
from collections.abc import Mapping
from typing import Any

from finetune.core.disk import write_csv
from finetune.core.paths import LEDGER
from finetune.pricing.cost import START_SECONDS, UNKNOWN

COLUMNS = [
    "job",
    "provider",
    "base",
    "n_epochs",
    "counted_tokens",
    "billed_tokens",
    "estimated_usd",
    "billed_usd",
    "estimated_seconds",
    "seconds",
]


def rows() -> list[dict[str, str]]:
    """The jobs that this project has paid for, the oldest first."""
    if not LEDGER.exists():
        return []
    with open(LEDGER, encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def enter(row: Mapping[str, Any]) -> None:
    """Add a job; one that is there already, as when it is adopted again, is left as it is."""
    kept = rows()
    if row["job"] not in {entry["job"] for entry in kept}:
        write_csv(LEDGER, COLUMNS, [*kept, row])


def learned(provider: str, base: str) -> tuple[float, float | None]:
    """What former jobs on this base teach: billed tokens per counted token, and seconds per million billed tokens.

    1.0 and None where there were none.
    """
    same = [row for row in rows() if (row["provider"], row["base"]) == (provider, base)]
    counted, billed = total(same, "counted_tokens", "billed_tokens")
    tokens, seconds = total(same, "billed_tokens", "seconds")
    seconds = max(0, seconds - START_SECONDS * len(same))  # an estimate adds them
    return billed / counted if counted else 1.0, seconds / tokens * 1_000_000 if tokens else None


def total(entries: list[dict[str, str]], *names: str) -> list[float]:
    """The sums of columns over the rows in which each of them is a number."""
    known = [row for row in entries if all(row[name] not in ("", UNKNOWN) for name in names)]
    return [sum(float(row[name]) for row in known) for name in names]
