"""Find out what answers under a model's name now, so that answers of another model are not taken for its own.

A name can be pointed elsewhere: a deployment gets another model, an alias a new version, a folder other weights. What
answers is known from, in this order:
- the deployment, where the provider's resource manager says which model it has (Azure);
- the model that the answers name (`model`);
- their `system_fingerprint`, where it stands for the weights: on the engine, and on other compatible servers. OpenAI's
  and Azure's is that of the machines and their software: up to six for one model within a hundred requests
  (community.openai.com, thread 715497, 2024). It decides nothing there, nor on a server whose fingerprints alternate,
  such as a gateway to one of them: else all answers would be paid again each time.
"""

import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace

from finetune.core.callbacks import Say
from finetune.core.errors import FinetuneError
from finetune.provider.answer_cache import AnswerCache
from finetune.provider.answer_parser import Answer
from finetune.provider.azure_deployments import deployed_model
from finetune.provider.completion_request import CompletionRequest
from finetune.provider.connect import Connection
from finetune.provider.deployment_api import READY
from finetune.provider.error_messages import error_message
from finetune.provider.rate_limits import RateLimiter
from finetune.provider.retries import request_answer

ALTERNATE_SECONDS = 60  # to bring other weights and then the former ones again takes longer


@dataclass(frozen=True)
class Identity:
    """What has answered. A field is "" where it is not known."""

    deployed: str = ""  # the model that the deployment had
    model: str = ""
    fingerprint: str = ""

    def is_same(self, other: "Identity") -> bool:
        """Return whether both are one model, by the best that is known of both."""
        if self.deployed and other.deployed:
            return self.deployed == other.deployed
        return (self.model, self.fingerprint) == (other.model, other.fingerprint)

    def __str__(self) -> str:
        return " ".join(filter(None, [self.deployed or self.model, self.fingerprint]))


def identity_of(answer: Answer, by_fingerprint: bool) -> Identity | None:
    """Return what has answered; None for an answer of an earlier version, which did not keep it."""
    if not (answer.deployed or answer.model or answer.fingerprint):
        return None
    return Identity(answer.deployed, answer.model, answer.fingerprint if by_fingerprint else "")


def is_fixed(connection: Connection, model: str) -> bool:
    """Return whether a name always means the same model."""
    return re.fullmatch(connection.profile.fixed_names or "(?!)", model) is not None


def find_deployed(connection: Connection, models: Iterable[str], say: Say) -> None:
    """Ask the provider's resource manager once, at no cost, which models these deployments have."""
    for model in models:
        if model not in connection.deployed:
            connection.deployed[model] = ""
            try:
                found = deployed_model(connection.profile, model, connection.deploy)
            except FinetuneError as error:
                say(f"warning: it cannot be read which model {model} has, so its answers say it: {error.what}")
                continue
            is_ready = bool(found) and found["state"].lower() in READY
            connection.deployed[model] = f"{found['name']} version {found['version']}" if is_ready else ""


def keep(connection: Connection, cache: AnswerCache, key: str, request: CompletionRequest, answer: Answer) -> Answer:
    """Keep an answer with the model that its deployment has, and return it so."""
    model = str(request["model"])
    whole = replace(answer, deployed=connection.deployed.get(model, ""))
    cache.put(key, whole, connection.identity, model)
    return whole


def still_valid(
    connection: Connection,
    kept: Mapping[str, Answer],
    new: Mapping[str, Answer],
    requests: Mapping[str, CompletionRequest],
    cache: AnswerCache,
    say: Say,
    probe: bool = True,
) -> dict[str, Answer]:
    """Return those of the kept answers that come from what answers under their model's name now; forget the others.

    `new` are answers of this moment, which say what that is. Without any, and where a name may mean another model than
    before, one request is sent to find out, unless `probe` is false. Kept answers are used, with a warning, where it
    cannot be found out, and where they are of an earlier version, which did not keep what answered: they are paid.
    """
    for key, answer in new.items():
        if not answer.error:
            connection.answering.setdefault(str(requests[key]["model"]), answer)
    by_model: dict[str, dict[str, Answer]] = {}
    for key, answer in kept.items():
        by_model.setdefault(str(requests[key]["model"]), {})[key] = answer
    valid: dict[str, Answer] = {}
    for model, answers in by_model.items():
        if is_fixed(connection, model):
            valid |= answers
            continue
        if model not in connection.answering:
            found = answering_now(connection, model, answers, requests, cache, say, probe)
            connection.answering[model] = found
        valid |= those_of(connection, model, answers, cache, say)
    return valid


def those_of(
    connection: Connection, model: str, answers: Mapping[str, Answer], cache: AnswerCache, say: Say
) -> dict[str, Answer]:
    """Return those of the answers to a name that come from what answers now; all where that is not known."""
    now: Answer | None = connection.answering[model]
    if now is None:
        return dict(answers)
    if not now.deployed and (several := cache.alternating(connection.identity, model, ALTERNATE_SECONDS, "model")):
        say(
            f"warning: several models answer as {model} by turns ({', '.join(several)}), so its figures are of all of"
            " them. Its kept answers are used. Ask one of them by its own name, or again with --fresh."
        )
        return dict(answers)
    by_fingerprint = connection.profile.fingerprints
    if by_fingerprint and (several := cache.alternating(connection.identity, model, ALTERNATE_SECONDS)):
        by_fingerprint = False
        say(
            f"warning: {model} gives several fingerprints ({', '.join(several)}), so they do not tell whether it is the"
            " same model as before. Its kept answers are used. If it is another one, ask again with --fresh."
        )
    current = identity_of(now, by_fingerprint)
    if current is None:
        return dict(answers)
    before = {key: identity_of(answer, by_fingerprint) for key, answer in answers.items()}
    others = {key: one for key, one in before.items() if one is not None and not one.is_same(current)}
    if others:
        former = sorted({str(one) for one in others.values()})
        say(
            f"{model} is another model than before ({current}; before: {', '.join(former)}):"
            f" {len(others)} kept answers are asked again."
        )
        cache.forget(others)
    if unknown := sum(one is None for one in before.values()):
        say(
            f"warning: {unknown} kept answers of {model} are of an earlier version, which did not keep what answered."
            " If the name has meant another model since, ask again with --fresh."
        )
    return {key: answer for key, answer in answers.items() if key not in others}


def answering_now(
    connection: Connection,
    model: str,
    kept: dict[str, Answer],
    requests: Mapping[str, CompletionRequest],
    cache: AnswerCache,
    say: Say,
    probe: bool,
) -> Answer | None:
    """Return an answer of what answers now; only its identity counts. None if it cannot be found out.

    Without `probe`, nothing is sent that costs something.
    """
    import openai

    deployed = connection.deployed.get(model, "")
    if deployed and all(answer.deployed for answer in kept.values()):
        return Answer("", deployed=deployed)
    try:
        if connection.profile.name == "local":
            entry = connection.control.models.retrieve(model).to_dict()
            fingerprint = entry.get("system_fingerprint")
            return Answer("", model=model, fingerprint=str(fingerprint)) if fingerprint else None
        if not probe:
            return None
        return replace(ask_shortest(connection, model, kept, requests, cache, say), deployed=deployed)
    except openai.APIError as error:
        reason = error_message(error) if isinstance(error, openai.APIStatusError) else str(error)
        say(
            f"warning: it cannot be found out what answers under {model} now ({reason.rstrip('.')})."
            f" Its {len(kept)} kept answers are used; ask again with --fresh."
        )
        return None


def ask_shortest(
    connection: Connection,
    model: str,
    kept: dict[str, Answer],
    requests: Mapping[str, CompletionRequest],
    cache: AnswerCache,
    say: Say,
) -> Answer:
    """Send the shortest of the requests again and return its answer, which replaces one of another model.

    An answer of the same model is not replaced, so that a second run writes the same bytes.
    """
    key = min(kept, key=lambda one: len(json.dumps(requests[one])))
    answer = request_answer(connection.client, requests[key], RateLimiter(1))
    before = identity_of(kept[key], connection.profile.fingerprints)
    now = identity_of(answer, connection.profile.fingerprints)
    if answer.error or now is None:
        return answer
    if before is None or not before.is_same(now):
        kept[key] = keep(connection, cache, key, requests[key], answer)
    elif not now.fingerprint and requests[key].get("temperature") == 0 and answer.text != kept[key].text:
        say(
            f"warning: {model} answers a question otherwise than before, and its server does not say with which"
            " weights. This may be chance. If it is another model, ask again with --fresh."
        )
    return answer
