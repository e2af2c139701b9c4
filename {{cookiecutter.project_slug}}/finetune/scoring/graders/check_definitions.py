"""Check the definitions of `evaluate.graders`, and return the graders."""

import re
from collections.abc import Mapping
from typing import Any

from pydantic import ValidationError

from finetune.core.errors import FinetuneError
from finetune.core.invalid_values import explain
from finetune.scoring.graders.definitions import (
    KINDS,
    Grader,
    LabelModel,
    Multi,
    Part,
    Python,
    ScoreModel,
    Single,
    Text,
)
from finetune.scoring.graders.formula import names_in
from finetune.scoring.graders.python_grader import started
from finetune.scoring.graders.templates import check_names

REFUSED_TYPES = {
    "endpoint": "It would send each answer to a server of yours: call that from a python grader's project instead.",
}
REFUSED_METRICS = {
    "cosine": "it needs an embeddings model, which would have to be asked or downloaded",
}


def check_graders(definitions: Mapping[str, Any]) -> list[Grader]:
    """Return the graders of a project. Raises FinetuneError for an invalid name or definition."""
    for name in definitions:
        if not re.fullmatch(r"\w+", name):
            raise FinetuneError(
                f"evaluate.graders: {name!r} is not a valid name.", "Use only letters, digits and underscores."
            )
    return [check_grader(name, definition) for name, definition in definitions.items()]


def check_grader(name: str, definition: Any) -> Grader:
    """Return the grader of a definition. Raises FinetuneError naming the grader and the invalid key.

    The source of a python grader is run once, without a row, so that its mistakes are found before anything is asked.
    """
    where = f"evaluate.graders.{name}"
    kind = definition.get("type") if isinstance(definition, Mapping) else None
    if kind == "multi":
        return check_multi(name, definition)
    if not isinstance(kind, str) or kind not in KINDS:
        raise FinetuneError(
            f"{where}: graders of type {kind!r} are not supported.",
            REFUSED_TYPES.get(str(kind), f"Supported types: {', '.join(KINDS)}, multi."),
        )
    metric = definition.get("evaluation_metric")
    if kind == "text_similarity" and metric in REFUSED_METRICS:
        raise FinetuneError(
            f"{where}: {metric} is not supported: {REFUSED_METRICS[metric]}.",
            "Use fuzzy_match, bleu, gleu, meteor, rouge_1 to rouge_5 or rouge_l.",
        )
    try:
        grader = KINDS[kind].model_validate({**definition, "name": name})
    except ValidationError as error:
        raise FinetuneError(f"{where}: " + "; ".join(explain(problem) for problem in error.errors())) from error
    try:
        for template in templates_of(grader):
            check_names(template)
    except FinetuneError as error:
        raise FinetuneError(f"{where}: {error.what}", error.remedy) from None
    if isinstance(grader, Python):
        with started(name, grader.source):
            pass
    return grader


def check_multi(name: str, definition: Mapping[str, Any]) -> Multi:
    """Return a multi grader. `graders` has definitions by name, a list of named ones, or one."""
    where = f"evaluate.graders.{name}"
    given = definition.get("graders")
    if isinstance(given, Mapping) and isinstance(given.get("type"), str):
        given = [given]
    if isinstance(given, list):
        given = {str(one.get("name")) if isinstance(one, Mapping) else "": one for one in given}
    if not isinstance(given, Mapping) or not given or not all(re.fullmatch(r"[^\W\d]\w*", str(one)) for one in given):
        raise FinetuneError(f"{where}.graders: give at least one grader, each with a name of letters and digits.")
    if unknown := sorted(set(definition) - {"type", "name", "graders", "calculate_output"}):
        raise FinetuneError(f"{where}: {', '.join(unknown)} is not a key of a multi grader.")
    graders: dict[str, Single] = {}
    for one, inner in given.items():
        found = check_grader(f"{name}.{one}", inner)
        if isinstance(found, Multi):
            raise FinetuneError(f"{where}.{one}: a multi grader cannot hold another one.")
        graders[str(one)] = found
    formula = definition.get("calculate_output")
    try:
        names = names_in(str(formula)) if isinstance(formula, str) else set()
    except ValueError as error:
        raise FinetuneError(f"{where}.calculate_output: {error}.") from None
    if not names or names - set(graders):
        wrong = f"it names {', '.join(sorted(names - set(graders)))}" if names else "name the graders in it"
        raise FinetuneError(f"{where}.calculate_output: {wrong}.", f"It can name {', '.join(graders)}.")
    return Multi(name, graders, str(formula))


def templates_of(grader: Single) -> list[str]:
    """Return the texts of a grader that may hold `{{ names }}`."""
    if isinstance(grader, (ScoreModel, LabelModel)):
        return [text for message in grader.input for part in message.parts if (text := text_of(part))]
    return [] if isinstance(grader, Python) else [grader.input, grader.reference]


def text_of(part: Part) -> str:
    """Return the text of a part of a message that may hold `{{ names }}`."""
    return part if isinstance(part, str) else part.text if isinstance(part, Text) else getattr(part, "image_url", "")
