"""Find out what answers under a model's name now, so that answers of another model are not taken for its own.

A name can be pointed elsewhere: a deployment gets another model, an alias a new version, a folder other weights. The
answers say which model gave them (`model`), and on some servers with which weights (`system_fingerprint`). OpenAI's and
Azure's fingerprint also changes when only their machines do, so it decides nothing there.
"""

import re
from collections.abc import Mapping

from finetune.core.callbacks import Say
from finetune.provider.answer_cache import AnswerCache
from finetune.provider.answer_parser import Answer
from finetune.provider.completion_request import CompletionRequest
from finetune.provider.connect import Connection
from finetune.provider.rate_limits import RateLimiter
from finetune.provider.retries import request_answer

Identity = tuple[str, str]  # the model that answers, and its fingerprint where that stands for it


def identity_of(connection: Connection, answer: Answer) -> Identity | None:
    """Return what has answered; None for an answer of an earlier version, which did not keep it."""
    if not answer.model and not answer.fingerprint:
        return None
    return answer.model, answer.fingerprint if connection.profile.fingerprints else ""


def is_fixed(connection: Connection, model: str) -> bool:
    """Return whether a name always means the same model."""
    return re.fullmatch(connection.profile.fixed_names or "(?!)", model) is not None


def still_valid(
    connection: Connection,
    kept: Mapping[str, Answer],
    new: Mapping[str, Answer],
    requests: Mapping[str, CompletionRequest],
    cache: AnswerCache,
    say: Say,
) -> dict[str, Answer]:
    """Return those of the kept answers that come from what answers under their model's name now.

    `new` are answers of this moment, which say what that is. Without any, and where a name may mean another model than
    before, one request is sent to find out, whose answer replaces the kept one. An answer of an earlier version, which
    did not keep what answered, is taken as it is, with a warning.
    """
    for key, answer in new.items():
        if (identity := identity_of(connection, answer)) is not None:
            connection.answering.setdefault(str(requests[key]["model"]), identity)
    by_model: dict[str, dict[str, Answer]] = {}
    for key, answer in kept.items():
        by_model.setdefault(str(requests[key]["model"]), {})[key] = answer
    valid: dict[str, Answer] = {}
    for model, answers in by_model.items():
        if is_fixed(connection, model):
            valid |= answers
            continue
        if model not in connection.answering:
            key = next(iter(answers))
            connection.answering[model] = ask_identity(connection, requests[key], key, answers, cache)
        valid |= those_of(connection, model, answers, say)
    return valid


def those_of(connection: Connection, model: str, answers: Mapping[str, Answer], say: Say) -> dict[str, Answer]:
    """Return those of the answers to a name that come from what answers now; all where that is not known."""
    now = connection.answering[model]
    before = {key: identity_of(connection, answer) for key, answer in answers.items()}
    others = [key for key, identity in before.items() if now is not None and identity not in (now, None)]
    if others:
        say(f"{model} is another model than before: {len(others)} of its answers are asked again.")
    if unknown := sum(identity is None for identity in before.values()) if now is not None else 0:
        say(
            f"warning: {unknown} kept answers of {model} are of an earlier version, which did not keep what answered."
            " If the name has meant another model since, ask again with --fresh."
        )
    return {key: answer for key, answer in answers.items() if key not in others}


def ask_identity(
    connection: Connection, request: CompletionRequest, key: str, kept: dict[str, Answer], cache: AnswerCache
) -> Identity | None:
    """Return what answers now: from the engine's list of models, else by a request; None if it cannot be found out."""
    import openai

    model = str(request["model"])
    if connection.profile.name == "local":
        try:
            entry = connection.control.models.retrieve(model).to_dict()
        except openai.NotFoundError:  # deleted since: its answers stay
            return None
        fingerprint = entry.get("system_fingerprint")
        return (model, str(fingerprint)) if fingerprint else None
    try:
        answer = request_answer(connection.client, request, RateLimiter(1))
    except openai.NotFoundError:
        return None
    kept[key] = answer
    cache.put(key, answer, connection.identity, model)
    return identity_of(connection, answer)
