"""Calls of the APIs that deploy models, with errors that say what to do."""

import json
from typing import Any

from finetune.core.errors import FinetuneError
from finetune.provider.polling import TemporaryError
from finetune.provider.type_checks import Kind, check_fields

Json = dict[str, Any]  # a body of Azure's or Nebius' API


class NotThereError(FinetuneError):
    """The provider has no deployment of this name."""


def call(method: str, address: str, token: str, body: Json | None, kind: Kind) -> Json:
    """Return the JSON of the answer, whose fields are checked; an empty object where there is none.

    Raises TemporaryError without an answer, for 429 and 5xx, and for a success that is no object, NotThereError for
    404, WrongAnswerError as `check_fields`, and FinetuneError for other refusals, with the server's message.
    """
    import httpx2

    try:
        answer = httpx2.request(method, address, json=body, headers={"authorization": f"Bearer {token}"}, timeout=60)
    except httpx2.HTTPError as error:
        raise TemporaryError(
            f"No answer from {address}: {error}", "Check the network, then run the same command again."
        ) from error
    try:
        content = answer.json() if answer.content else {}
    except (ValueError, RecursionError):
        content = None
    if answer.is_success and not isinstance(content, dict):
        raise TemporaryError(
            f"{address.split('?')[0]} answered {answer.status_code} with something that is no JSON object.",
            "Check the network, then run the same command again. See the deployments in the provider's console.",
        )
    content = content if isinstance(content, dict) else {}
    if not answer.is_success and not (method == "DELETE" and answer.status_code == 404):
        error_type: type[FinetuneError] = NotThereError if answer.status_code == 404 else FinetuneError
        if answer.status_code == 429 or answer.status_code >= 500:
            error_type = TemporaryError
        problem = content.get("error") or content.get("detail") or answer.reason_phrase
        message = problem.get("message") if isinstance(problem, dict) else json.dumps(problem)
        raise error_type(
            f"{address.split('?')[0]} answered {answer.status_code}: {str(message).replace(token, '***')}",
            "Correct what the message names, then run the same command again.",
        )
    check_fields(content, content, kind)
    return content
