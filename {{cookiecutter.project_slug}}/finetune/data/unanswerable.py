"""Questions that their context cannot answer: those that a column marks, and those that another's context makes so."""

from collections.abc import Iterator, Mapping, Sequence
from io import SEEK_END
from typing import Any

import numpy as np
import orjson
from numpy.typing import NDArray

from finetune.core.callbacks import Progress
from finetune.core.errors import FinetuneError
from finetune.core.params import Abstain
from finetune.data.class_codes import table_of
from finetune.data.examples import Example
from finetune.data.near_duplicates import bare, mixed, normal
from finetune.data.prompts import PLACEHOLDER, Template, cell_text, fill_with
from finetune.data.readers import Row
from finetune.data.split import SPLITS, Gathered, Rows, gather, hashed, leaks

MARKS = {"true", "yes", "1", "1.0", "x"}  # 1.0: what Parquet makes of whole numbers where some are missing
NO_MARKS = {"", "false", "no", "0", "0.0"}
TRIED = 50  # contexts, before a row goes without another's

# Of each example: hashes of its context (0: it has none) and of what it asks beside, and whether it has an answer.
FACT = np.dtype("u8, u8, ?")
FACT.names = ("context", "asks", "answerable")
Facts = NDArray[Any]


def is_marked(row: Row, column: str, place: str) -> bool:
    """Whether a row's cell says that it cannot be answered. Raises FinetuneError where it says neither yes nor no."""
    said = normal(cell_text(row.get(column)))
    if said not in MARKS | NO_MARKS:
        raise FinetuneError(
            f"data.abstain.column names {column!r}, which says {cell_text(row[column])!r} in {place}.",
            "Write true, yes, 1 or x there where nothing can answer the row; else false, no, 0 or nothing.",
        )
    return said in MARKS


def asked_beside(template: Template, context: str, codes: Mapping[str, str]) -> list[str]:
    """The columns that a row asks by, beside its context.

    Raises FinetuneError where the context is none of them, or there is no other: a row that asks by its context alone
    would ask, with another's, what that one asks.
    """
    if not template:
        raise FinetuneError(
            "data.abstain.share is for data.prompt: rows of other formats do not tell a context from a question.",
            "Mark rows by data.abstain.column, or say under data.prompt how a row is asked.",
        )
    columns = {name for role in ("system", "user") for name in PLACEHOLDER.findall(template.get(role) or "")}
    if context not in columns:
        raise FinetuneError(
            f"data.abstain.context names {context!r}, which data.prompt does not ask by.",
            f"It asks by: {', '.join(sorted(columns)) or 'no column'}.",
        )
    if columns <= ({context, "codes"} if codes else {context}):
        raise FinetuneError(
            f"data.prompt asks by {context!r} alone: with another's context a row would ask what that one asks.",
            "Put the question in data.prompt.user, too, or remove data.abstain.share.",
        )
    return sorted(columns - {context})


def facts_of(gathered: Gathered, rows: Rows, context: str, beside: Sequence[str], answer: str) -> Facts:
    """A FACT of each row; `answer` is what those say that have none."""
    facts = np.empty(len(rows), FACT)
    for number, row in enumerate(rows):
        said = orjson.loads(gathered.line(row))["messages"][-1]["content"]
        cells = gathered.cells(row)
        passage = bare(cell_text(cells.get(context)))
        asks = b"\0".join(bare(cell_text(cells.get(column))) for column in beside)
        facts[number] = hashed(passage) if passage else 0, hashed(asks), bare(said) != bare(answer)
    return facts


def donors(rows: Rows, facts: Facts, share: float) -> NDArray[np.int64]:
    """For each row the row of its split whose context it shall be asked with as well; -1 for none.

    Hashes of the examples decide which rows, `share` of those that have an answer and a context, and where on the line
    of the contexts' hashes the search begins: so rows that come or go change few others. No row asks the same of the
    context already, and none of a later split has it.
    """
    found = np.full(len(rows), -1, np.int64)
    context, asks = facts["context"], facts["asks"]
    pairs = np.unique(both(context, asks))
    chosen = facts["answerable"] & (context != 0) & (mixed(rows["digest"]) / 2.0**64 < share)
    order = np.lexsort((rows["cells"], rows["digest"]))  # one context may be spelled in several ways
    for split in range(len(SPLITS)):
        later = context[rows["split"] > split]
        can = order[(rows["split"][order] == split) & (context[order] != 0) & ~np.isin(context[order], later)]
        line, first = np.unique(context[can], return_index=True)
        left = np.flatnonzero(chosen & (rows["split"] == split)) if len(line) else np.empty(0, np.int64)
        for step in range(min(TRIED, len(line))):
            at = (np.searchsorted(line, rows["digest"][left]) + step) % len(line)
            fits = ~np.isin(both(line[at], asks[left]), pairs)
            found[left[fits]] = can[first[at[fits]]]
            left = left[~fits]
            if not len(left):
                break
    return found


def both(context: NDArray[Any], asks: NDArray[Any]) -> NDArray[Any]:
    pairs: NDArray[Any] = mixed(context) ^ asks
    return pairs


def with_mismatched(
    gathered: Gathered,
    rows: Rows,
    abstain: Abstain,
    template: Template,
    codes: dict[str, str],
    workers: int | None = None,
    progress: Progress | None = None,
) -> Rows:
    """The rows, and right behind a share of them, in their split, the same question with another's context.

    What would be near to a row of another split is left out again, so that no row that was there has to go. Raises
    FinetuneError where all rows have the same context.
    """
    context, share = abstain.context or "", abstain.share or 0.0
    answer = codes.get(abstain.answer, abstain.answer)
    fixed = {"codes": table_of(codes)} if codes else {}
    facts = facts_of(gathered, rows, context, asked_beside(template, context, codes), answer)
    if share and len(np.unique(facts["context"][facts["context"] != 0])) < 2:
        raise FinetuneError(
            f"data.abstain.context names {context!r}, in which no two rows differ, so that none can get another's.",
            "Name the column of what is asked about, or remove data.abstain.share.",
        )

    def examples() -> Iterator[tuple[int, int, str, Example, Row]]:
        for row, other in zip(rows[chosen], rows[donor[chosen]], strict=True):
            cells = gathered.cells(row)
            asked = {**fixed, **cells, context: gathered.cells(other)[context]}
            gathered.spool.seek(0, SEEK_END)  # where gather goes on writing
            yield int(row["row"]), int(row["split"]), "", {"messages": fill_with(template, asked, answer)}, cells

    donor = donors(rows, facts, share)
    chosen = np.flatnonzero(donor >= 0)
    added = gather(examples(), gathered.spool).rows
    added["key"] = rows["key"][chosen]
    once = np.sort(np.unique(added["digest"], return_index=True)[1])
    added, behind = added[once], np.concatenate([np.arange(len(rows)), chosen[once]])
    rows = np.concatenate([rows, added])[np.argsort(behind, kind="stable")]
    # Each round leaves out at least one; the next sees whether a row was near to more than one of them.
    while leaky := leaky_among(added, gathered, rows, workers, progress):
        rows = rows[~np.isin(rows["start"], list(leaky))]
    return rows


def leaky_among(
    added: Rows, gathered: Gathered, rows: Rows, workers: int | None, progress: Progress | None
) -> set[int]:
    """Where those of the added rows lie that are near to a row of another split."""
    starts = set(added["start"].tolist())
    if not starts:
        return set()
    ordered = rows[np.lexsort((rows["cells"], rows["digest"]))]
    found = ((int(leak.row["start"]), int(leak.other["start"])) for leak in leaks(gathered, ordered, workers, progress))
    return {one if one in starts else other for one, other in found} & starts
