"""Check the types of the fields of an answer: refuse it, or leave out what the work can do without."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from finetune.core.damage import checker, warn_once
from finetune.core.errors import FinetuneError

if TYPE_CHECKING:
    from pydantic_core import ErrorDetails

left_out: dict[str, list[str]] = {}  # by the object's ID: fields that its newest answer has with a wrong type


class WrongAnswerError(FinetuneError):
    """An answer has an object without a field that is needed, or with one of a wrong type."""

    def __init__(self, what: str) -> None:
        remedy = "Run the same command again later: what exists is found, and nothing is paid again."
        super().__init__(what, f"{remedy} If the message stays, tell the provider.")


@dataclass(frozen=True)
class Kind:
    """What messages call an object, the types of its fields, and those without which nothing can be decided."""

    name: str
    fields: Any
    needed: tuple[str, ...] = ()


def check_fields(row: Any, fields: Mapping[str, Any], kind: Kind) -> None:
    """Check the fields of a row, an object of the SDK or of JSON; what can be left out is None then, with a warning.

    Raises WrongAnswerError where a field has a wrong type that is needed.
    """
    identifier = fields["id"] if isinstance(fields.get("id"), str) else ""
    faults = faults_of(fields, kind.fields)
    for fault in faults:
        if fault["loc"][0] in kind.needed:
            place = f"{kind.name} {identifier}".strip()
            raise WrongAnswerError(f"The provider's answer about {place} is damaged: {words_of(fault)}.")
    left_out.pop(identifier, None)
    for fault in faults:
        left_out.setdefault(identifier, []).append(".".join(map(str, fault["loc"])))
        warn_once(f"A damaged field of the provider's answer about {kind.name} is left out: {words_of(fault)}.")
        leave_out(row, fault["loc"])


def faults_of(fields: Mapping[str, Any], kind: Any) -> "list[ErrorDetails]":
    """Return what pydantic finds wrong with the fields of an object. Fields may be missing where the type says so."""
    from pydantic import ValidationError

    try:
        checker(kind).validate_python(fields, strict=True)
    except ValidationError as error:
        return error.errors(include_url=False, include_context=False)
    return []


def words_of(fault: "ErrorDetails") -> str:
    """Return which field is wrong, and why, the same for all rows of a list. The value may be personal data."""
    path = ".".join(part for part in fault["loc"] if isinstance(part, str))
    return f"{path}: {fault['msg'][0].lower()}{fault['msg'][1:]}"


def leave_out(row: Any, path: Sequence[int | str]) -> None:
    """Set the field at a path to None, or the part of the object that has it."""
    from pydantic import BaseModel

    *parents, name = path
    for parent in parents:
        inner = row.get(parent) if isinstance(row, dict) else getattr(row, str(parent), None)
        if not isinstance(inner, (BaseModel, dict)):
            name = parent
            break
        row = inner
    if isinstance(row, dict):
        row[name] = None
    else:
        setattr(row, str(name), None)
