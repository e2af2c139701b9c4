"""All rows of a list of the provider, page after page, with an end."""

import itertools
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, TypeVar, cast

from finetune.core.errors import FinetuneError

if TYPE_CHECKING:
    from openai.pagination import SyncCursorPage, SyncPage

MOST_PAGES = 1000

Row = TypeVar("Row", bound=Any)


def all_rows(first: "SyncCursorPage[Row] | SyncPage[Row]") -> list[Row]:
    """Return the rows of a list that begins with this page. Raises FinetuneError as `each_row`."""
    return list(each_row(first))


def each_row(first: "SyncCursorPage[Row] | SyncPage[Row]") -> Iterator[Row]:
    """Yield the rows of a list that begins with this page, each ID once.

    A page without a new ID is the last one, whatever it says: some servers ignore `after` and repeat the first page.
    Raises FinetuneError after MOST_PAGES pages.
    """
    seen: set[str] = set()
    for page in itertools.islice(cast("Iterator[SyncCursorPage[Row]]", first.iter_pages()), MOST_PAGES):
        rows = {getattr(row, "id", None) or row.model_dump_json(): row for row in page.data or [] if row is not None}
        new = {key: row for key, row in rows.items() if key not in seen}
        if not new:
            return
        yield from new.values()
        seen |= set(new)
    if seen and page.has_next_page():
        raise FinetuneError(
            f"A list of the provider has no end: {len(seen):,} rows on {MOST_PAGES:,} pages.",
            "Ask the provider, or check provider.base_url with: finetune doctor",
        )
