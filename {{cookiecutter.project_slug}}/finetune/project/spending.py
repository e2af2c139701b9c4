"""What a project has spent on jobs, and may spend on those that run: on all branches, experiments, clones and machines.

Three places know of jobs: the ledgers of all commits, the notes in the user's folder, and the provider's list. A job
that no bill is known of counts by its estimate.
"""

import math
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from finetune.core.break_even import UNKNOWN
from finetune.core.records.costs import Usd
from finetune.pricing.catalogue import look_up
from finetune.pricing.cost import dollars
from finetune.project import ledger
from finetune.project.history import project_id
from finetune.provider.connect import Connection
from finetune.provider.create_once import LIST_LAG
from finetune.provider.find_jobs import PROJECT, USD
from finetune.provider.locks import exclusive_lock
from finetune.provider.paging import all_rows
from finetune.provider.request_notes import (
    all_notes,
    read_request_note,
    requests_in,
    without_unclear_request,
    write_request_note,
)

if TYPE_CHECKING:
    from openai.types.fine_tuning import FineTuningJob

UNCLEAR = "request "  # before the fingerprint, where it is not known whether there is a job


def project_names() -> list[str]:
    """Return the names of this project in notes: before the first commit it has only its folder."""
    return [name for name in (project_id(), f"none {Path.cwd()}") if name != "none"]


@contextmanager
def spending_lock() -> Iterator[None]:
    """Let no other process of this user decide about the project's money in the block."""
    with exclusive_lock("spending", project_names()[0]):
        yield


def spent_by_job(connection: Connection | None, provider: str, besides: Collection[str] = ()) -> dict[str, Usd]:
    """Return the dollars of each job of this project.

    `besides` are fingerprints: their requests without a known outcome are not counted, because they are about to be
    sent again.
    """
    found: dict[str, Usd] = {}
    unbilled: set[str] = set()
    for request in our_requests():
        facts = request["facts"]
        unbilled.update(facts.get("unbilled", ()))
        if "id" in request:
            found[request["id"]] = facts.get("usd", UNKNOWN)
        elif facts["fingerprint"] not in besides and may_be_listed_later(connection, request):
            found[f"{UNCLEAR}{facts['fingerprint']}"] = facts.get("usd", UNKNOWN)
    if connection is not None and connection.profile.metadata and project_id() != "none":
        jobs = connection.control.fine_tuning.jobs.list(metadata={PROJECT: project_id()}, limit=100)
        ours = (job for job in all_rows(jobs) if (job.metadata or {}).get(PROJECT) == project_id())
        found.update({job.id: cost_of(job, provider) for job in ours})
    for row in ledger.rows_of_all_commits():
        bill = usd_of(row["billed_usd"])
        found[row["job"]] = usd_of(row.get("estimated_usd", "")) if bill == UNKNOWN else bill
    return {job: usd for job, usd in found.items() if job not in unbilled}


def our_requests() -> Iterator[Mapping[str, Any]]:
    """Yield the requests of this project in all notes. A later request for the same job may be another project's."""
    names = project_names()
    for _, note in all_notes():
        yield from (request for request in requests_in(note) if request["facts"].get("project") in names)


def is_ours(connection: Connection, job: "FineTuningJob", fingerprint: str) -> bool:
    """Return whether this project has created a job, and so pays for it; also where nobody can say who has."""
    owner = (job.metadata or {}).get(PROJECT, "none")
    if owner != "none":
        return owner == project_id()
    note = read_request_note(connection.identity, fingerprint)
    creators = (one["facts"].get("project") for one in (requests_in(note) if note else ()) if one.get("id") == job.id)
    return next(creators, None) in (None, *project_names())


def may_be_listed_later(connection: Connection | None, request: Mapping[str, Any]) -> bool:
    """Return whether a request without a known outcome may have made a job that no list shows as this project's."""
    if connection is None or not connection.profile.metadata:
        return True
    return bool(connection.clock.now() - request["asked_at"] < LIST_LAG)


def forget_unclear_requests() -> None:
    """Forget all requests of this project without a known outcome, because the user knows that they made no job."""
    names = project_names()
    for path, note in all_notes():
        if "id" not in note and note["facts"].get("project") in names:
            without_unclear_request(path, note)


def cost_of(job: "FineTuningJob", provider: str) -> Usd:
    """Return the dollars of a job in the provider's list.

    They are those of the tokens that the provider reports, else the estimate in the job's metadata. A job of an earlier
    version has no estimate; if it has ended without a model, it counts nothing.
    """
    if job.trained_tokens is not None:
        return dollars(job.trained_tokens, look_up(job.model, provider).training)
    if USD in (job.metadata or {}):
        return usd_of((job.metadata or {})[USD])
    return 0.0 if job.status in ("failed", "cancelled") else UNKNOWN


def usd_of(text: object) -> Usd:
    """Return the number in a text; "unknown" where there is none that can be a cost."""
    with suppress(TypeError, ValueError):
        usd = float(text)  # type: ignore[arg-type]
        return usd if 0 <= usd < math.inf else UNKNOWN
    return UNKNOWN


def settle(connection: Connection, fingerprint: str, usd: Usd) -> None:
    """Replace the estimate in the note on a job by its bill, where that is known."""
    note = read_request_note(connection.identity, fingerprint)
    if usd != UNKNOWN and note is not None and note["facts"].get("usd", usd) != usd:
        facts: dict[str, Any] = {**note["facts"], "usd": usd}
        write_request_note(connection.identity, fingerprint, {**note, "facts": facts})
