"""The parameters of queries, as exact as bodies: an unknown one, a wrong value and one that comes twice are refused."""

import re
from typing import Annotated, ClassVar, Literal, TypeVar

from pydantic import BeforeValidator, Field
from starlette.requests import Request

from finetune.engine.api_errors import ApiError
from finetune.engine.request_body import MAX_PAIRS, RequestBody, digits, parse_body

# Azure's clients send it with each request. The API of this server has one version.
IGNORED = "api-version"


class Query(RequestBody):
    """The query of a route that has no parameters."""

    unknown_code: ClassVar[str] = "unknown_parameter"


class PageQuery(Query):
    """The part of a list that is asked for: the entries after the one of the ID `after`."""

    after: str | None = None
    limit: Annotated[int, BeforeValidator(digits)] = Field(20, ge=1, le=100, description="an integer from 1 to 100")


class FileQuery(PageQuery):
    """`GET /v1/files`."""

    limit: Annotated[int, BeforeValidator(digits)] = Field(
        10_000, ge=1, le=10_000, description="an integer from 1 to 10000"
    )
    order: Literal["asc", "desc"] = Field("desc", description="'asc' or 'desc'")
    purpose: (
        Literal[
            "assistants",
            "assistants_output",
            "batch",
            "batch_output",
            "fine-tune",
            "fine-tune-results",
            "vision",
            "user_data",
        ]
        | None
    ) = None


class JobQuery(PageQuery):
    """`GET /v1/fine_tuning/jobs`. `metadata` has the pairs of `metadata[key]=value`, or is null."""

    metadata: Annotated[list[tuple[str, str]], Field(max_length=MAX_PAIRS)] | Literal["null"] | None = Field(
        None, description=f"null, or up to {MAX_PAIRS} pairs in the form metadata[key]=value"
    )


class EventQuery(PageQuery):
    """`GET /v1/fine_tuning/jobs/{id}/events`."""

    limit: Annotated[int, BeforeValidator(digits)] = Field(20, ge=1, le=1000, description="an integer from 1 to 1000")


class CheckpointQuery(PageQuery):
    """`GET /v1/fine_tuning/jobs/{id}/checkpoints`."""

    limit: Annotated[int, BeforeValidator(digits)] = Field(10, ge=1, le=1000, description="an integer from 1 to 1000")


class PermissionQuery(PageQuery):
    """`GET /v1/fine_tuning/checkpoints/{checkpoint}/permissions`."""

    limit: Annotated[int, BeforeValidator(digits)] = Field(10, ge=1, le=100, description="an integer from 1 to 100")
    order: Literal["ascending", "descending"] = Field("descending", description="'ascending' or 'descending'")
    project_id: str | None = None


Kind = TypeVar("Kind", bound=Query)


def parse_query(kind: type[Kind], request: Request) -> Kind:
    """Return the request's query. Raises ApiError that names the first parameter which is wrong."""
    found: dict[str, object] = {}
    pairs: list[tuple[str, str]] = []
    for name, value in request.query_params.multi_items():
        if name == IGNORED:
            continue
        if "metadata" in kind.model_fields and (key := re.fullmatch(r"metadata\[(.*)\]", name, re.DOTALL)):
            pairs.append((key[1], value))
        elif name in found:
            raise ApiError(400, f"The query has '{name}' more than once.", "invalid_value", name)
        else:
            found[name] = value
    if pairs:
        if "metadata" in found:
            what = "'metadata' must be null, or a pair in the form metadata[key]=value; not both."
            raise ApiError(400, what, "invalid_value", "metadata")
        found["metadata"] = pairs
    return parse_body(kind, found)
