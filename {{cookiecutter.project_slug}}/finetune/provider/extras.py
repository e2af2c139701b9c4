"""What a record can do without: a provider's events, result files and checkpoints of a job that has succeeded."""

from collections.abc import Callable
from typing import TypeVar

from finetune.provider.answer_checks import is_broken_answer
from finetune.provider.type_checks import WrongAnswerError

Row = TypeVar("Row")
FOR_A_PERSON = (401, 403, 429)  # they concern the key or the account, not this answer


def extra(what: str, fetch: Callable[[], list[Row]], missing: list[str]) -> list[Row]:
    """Return what `fetch` returns; [] where the provider does not have it, which `missing` gets with the reason.

    Raises the SDK's error where nothing was answered, or a person must act.
    """
    import openai

    try:
        return fetch()
    except openai.APIStatusError as error:
        if error.status_code in FOR_A_PERSON:
            raise
        reason = str(error.status_code)
    except openai.APIConnectionError as error:
        if not is_broken_answer(error):
            raise
        reason = "a broken answer"
    except WrongAnswerError:
        reason = "a damaged answer"
    except ValueError as error:
        reason = str(error)
    missing.append(f"{what} ({reason})")
    return []
