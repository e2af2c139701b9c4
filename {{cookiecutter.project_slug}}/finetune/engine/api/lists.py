"""Pages of lists: the database reads no more rows than the page has, and one to know whether there are more."""

from collections.abc import Callable, Mapping, Sequence
from typing import TypeVar

from starlette.requests import Request

from finetune.engine.api.helpers import store_of
from finetune.engine.api.queries import PageQuery
from finetune.engine.api.responses import Json
from finetune.engine.api_errors import ApiError

Item = TypeVar("Item", bound=Mapping[str, object])
Condition = tuple[str, Sequence[object]]  # in SQL, and the values of its question marks


def page(
    request: Request,
    select: str,
    conditions: Sequence[Condition],
    to_object: Callable[[Item], Json],
    name: str | None = None,
    ascending: bool = False,
) -> Json:
    """Return OpenAI's list object: the rows of `select` that meet the conditions and the query's `after` and `limit`.

    `name` is that of the list in the table `places`, for lists whose entries can be deleted. The newest row comes
    first, or the oldest if `ascending`. Raises ApiError if the list has never had an entry of the ID `after`.
    """
    query: PageQuery = request.state.query
    store = store_of(request)
    where = " AND ".join(["n > 0", *(sql for sql, _ in conditions)])
    values = [value for _, part in conditions for value in part]
    if query.after is not None:
        last = store.row(f"{select} WHERE {where} AND id = ?", *values, query.after)
        # A new row may get the number of a deleted one, so the place of that one is just before the number.
        last = last or store.row("SELECT n - 0.5 AS n FROM places WHERE id = ? AND list = ?", query.after, name)
        if last is None:
            what = f"No entry of this list has the ID given as 'after': {query.after}"
            raise ApiError(400, what, "invalid_value", "after")
        where, values = f"{where} AND n {'>' if ascending else '<'} ?", [*values, last["n"]]
    order = f"ORDER BY n {'ASC' if ascending else 'DESC'} LIMIT ?"
    rows: list[Item] = store.rows(f"{select} WHERE {where} {order}", *values, query.limit + 1)
    data = [to_object(row) for row in rows[: query.limit]]
    return {
        "object": "list",
        "data": data,
        "has_more": len(rows) > query.limit,
        "first_id": data[0]["id"] if data else None,
        "last_id": data[-1]["id"] if data else None,
    }
