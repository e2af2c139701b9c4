"""The types of the notes that are written before a request, so that nothing is created or sent twice."""

from typing import Any

from typing_extensions import NotRequired, TypedDict


class UploadNote(TypedDict):
    """.finetune/upload-<name>.json: a file that is sent in parts, until all of them are there."""

    identity: str  # the provider and its address
    id: str  # of the upload
    expires_at: int  # seconds since 1970
    parts: list[str]  # IDs of the parts that have arrived


class EarlierRequest(TypedDict):
    """What an earlier request of the same key has made."""

    id: str
    facts: dict[str, Any]


class RequestNote(TypedDict):
    """requests/<hash>.json in the user's folder: a request that creates something, written before it is sent."""

    asked_at: float  # seconds since 1970, by the provider's clock
    asked_here: NotRequired[float]  # the same by this machine's clock; earlier versions did not note it
    known: list[str]  # IDs of what existed before, which the request has not made
    facts: dict[str, Any]  # what the caller adds: of a job, its project, its request and its dollars
    id: NotRequired[str]  # of what was made, as soon as that is known
    was_shown: NotRequired[bool]  # the provider has shown what was made: if it is missing now, it was deleted
    earlier: NotRequired[list[EarlierRequest]]
