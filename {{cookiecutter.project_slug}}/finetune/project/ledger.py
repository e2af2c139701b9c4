"""The ledger of jobs, in Git: the estimate and the bill of each. It improves the next estimate."""

from finetune.core.break_even import UNKNOWN
from finetune.core.disk import write_csv
from finetune.core.paths import LEDGER
from finetune.core.read_records import parse_ledger, read_ledger
from finetune.core.records.costs import LedgerRow
from finetune.pricing.catalogue import dated_name
from finetune.pricing.cost import START_SECONDS
from finetune.project.history import committed_texts

COLUMNS = list(LedgerRow.__annotations__)


def rows() -> list[dict[str, str]]:
    """Return the jobs that this project has paid for, the oldest first."""
    return read_ledger()


def rows_of_all_commits() -> list[dict[str, str]]:
    """Return the jobs in the ledgers of this folder and of all commits: branches and experiments are paid for too."""
    found = {row["job"]: row for text in committed_texts(LEDGER) for row in parse_ledger(text)}
    return list((found | {row["job"]: row for row in rows()}).values())


def add_job(row: LedgerRow) -> None:
    """Add a job, unless it is in the ledger already."""
    kept = rows()
    if row["job"] not in {entry["job"] for entry in kept}:
        write_csv(LEDGER, COLUMNS, [*kept, row])


def rows_of(provider: str, base: str) -> list[dict[str, str]]:
    """Return the jobs on a base. An alias and its dated name are the same base."""
    name = dated_name(base)
    return [row for row in rows() if row["provider"] == provider and dated_name(row["base"]) == name]


def learned(provider: str, base: str) -> tuple[float, float | None]:
    """Return billed tokens per counted token, and seconds per million billed tokens, from earlier jobs on this base.

    1.0 and None if there were none.
    """
    same = rows_of(provider, base)
    counted, billed = total(same, "counted_tokens", "billed_tokens")
    tokens, seconds = total(same, "billed_tokens", "seconds")
    seconds = max(0, seconds - START_SECONDS * len(same))  # the estimate adds them again
    return billed / counted if counted else 1.0, seconds / tokens * 1_000_000 if tokens else None


def total(entries: list[dict[str, str]], *names: str) -> list[float]:
    """Return the sums of columns over the rows in which all of them are numbers."""
    known = [row for row in entries if all(row[name] not in ("", UNKNOWN) for name in names)]
    return [sum(float(row[name]) for row in known) for name in names]
