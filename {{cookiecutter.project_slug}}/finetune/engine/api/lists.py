"""Pages of lists: the database reads no more rows than the page has, and one to know whether there are more."""

import re
from collections.abc import Callable, Mapping, Sequence
from typing import TypeVar

from starlette.requests import Request

from finetune.engine.api.helpers import store_of
from finetune.engine.api.responses import Json
from finetune.engine.api_errors import ApiError

Item = TypeVar("Item", bound=Mapping[str, object])
Condition = tuple[str, Sequence[object]]  # in SQL, and the values of its question marks


def page(
    request: Request,
    select: str,
    conditions: Sequence[Condition],
    to_object: Callable[[Item], Json],
    default_limit: int,
    max_limit: int,
    ascending: bool = False,
) -> Json:
    """Return OpenAI's list object: the rows of `select` that meet the conditions and the query's `after` and `limit`.

    The newest row comes first, or the oldest if `ascending`. Raises ApiError if no row of the list has the ID `after`.
    """
    limit = query_number(request, "limit", default_limit, max_limit)
    where = " AND ".join(["n > 0", *(sql for sql, _ in conditions)])
    values = [value for _, part in conditions for value in part]
    after = request.query_params.get("after")
    if after is not None:
        last = store_of(request).row(f"{select} WHERE {where} AND id = ?", *values, after)
        if last is None:
            raise ApiError(400, f"No entry of this list has the ID given as 'after': {after}", "invalid_value", "after")
        where, values = f"{where} AND n {'>' if ascending else '<'} ?", [*values, last["n"]]
    order = f"ORDER BY n {'ASC' if ascending else 'DESC'} LIMIT ?"
    rows: list[Item] = store_of(request).rows(f"{select} WHERE {where} {order}", *values, limit + 1)
    data = [to_object(row) for row in rows[:limit]]
    return {
        "object": "list",
        "data": data,
        "has_more": len(rows) > limit,
        "first_id": data[0]["id"] if data else None,
        "last_id": data[-1]["id"] if data else None,
    }


def query_number(request: Request, name: str, default: int, high: int) -> int:
    """Return an integer from 1 to `high` of the query. Raises ApiError for any other value."""
    value = request.query_params.get(name, str(default))
    if not re.fullmatch("[0-9]{1,9}", value) or not 1 <= int(value) <= high:
        raise ApiError(400, f"'{name}' must be an integer from 1 to {high}.", "invalid_value", name)
    return int(value)


def is_ascending(request: Request) -> bool:
    """Return whether the query's `order` is `asc`. Raises ApiError if it is neither that nor `desc`."""
    order = request.query_params.get("order", "desc")
    if order not in ("asc", "desc"):
        raise ApiError(400, "'order' must be 'asc' or 'desc'.", "invalid_value", "order")
    return order == "asc"
