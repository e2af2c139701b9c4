"""Score extracted lists and objects as sets, and objects field by field. A list is JSON, or one item a line."""

import re
from collections.abc import Mapping, Sequence
from typing import Any

from finetune.core.records.evaluation import Metrics
from finetune.scoring.answer_json import canonical, folded, found_json, json_in, same, strict_json
from finetune.scoring.answer_schema import validator_of
from finetune.scoring.design_effect import Values
from finetune.scoring.item_sets import set_scores
from finetune.scoring.thoughts import without_thoughts

UNREADABLE = "unreadable"  # in place of items, which are JSON: an answer without JSON is not an empty list
BULLET = re.compile(r"^(?:[-*•・]|\d{1,3}[.)])\s+")  # before an item of a list


def extraction(
    expected: Sequence[str],
    answered: Sequence[str],
    schema: Mapping[str, Any] | None = None,
    groups: Sequence[int] | None = None,
) -> tuple[dict[str, Values], Metrics]:
    """Compute the values of each answer by metric, and the metrics.

    `f1` is the mean F1 of the rows; `f1_micro`, `f1_macro`, `precision` and `recall` are over all rows (scikit-learn).
    They compare sets of items, without case and order: of JSON, which is found in verbose answers too, or of lines
    where the expected answer is no JSON. Where it is, an answer without JSON is wrong, also if an empty list is
    expected. `same_items` is the share of answers with exactly the right items; `exact_match` that of answers that are
    the expected list or object and nothing else, with its case and order. `json_found` counts the answers in which JSON
    is found, `strict_json` those that a program can read as they are. `fits_schema` is the share of answers with JSON
    that a schema allows. For objects, `fields` has the F1 of each field.
    """
    only_lines = are_lines(expected)
    found = [found_json(text) for text in answered]
    truths = [None if only_lines else json_value(text) for text in expected]
    guesses = [one.value if one else None for one in found]
    for place, truth in enumerate(truths):
        if truth is None:
            truths[place], guesses[place] = lines_of(expected[place]), lines_of(answered[place])
    true_items = [items_of(one) for one in truths]
    found_items = [items_found(guess, truth) for guess, truth in zip(guesses, truths, strict=True)]
    values, averages = set_scores(true_items, found_items, groups)
    shares = {
        "same_items": [a == b for a, b in zip(true_items, found_items, strict=True)],
        "exact_match": [is_exact(*pair) for pair in zip(expected, answered, strict=True)],
    }
    if not only_lines:
        shares["json_found"] = [one is not None for one in found]
        shares["strict_json"] = [strict_json(text) is not None for text in answered]
        shares["right_shape"] = [has_shape(guess, truth) for guess, truth in zip(guesses, truths, strict=True)]
    if schema is not None:
        validator = validator_of(schema)
        shares["fits_schema"] = [one is not None and validator.is_valid(json_in(one.text)) for one in found]
    metrics: Metrics = {**averages, **{name: share(rows) for name, rows in shares.items()}}
    if fields := field_scores(truths, guesses):
        metrics["fields"] = fields  # under a key of their own: a field may be called like a metric
    return values | {name: [float(one) for one in rows] for name, rows in shares.items()}, metrics


def json_value(text: str) -> Any:
    found = found_json(text)
    return found.value if found else None


def items_of(value: Any) -> set[str]:
    """Return comparable items: the members of a list, or a key with each of its values for an object."""
    if isinstance(value, dict):
        return {f"{canonical(key)}: {piece}" for key, inner in value.items() for piece in members_of(inner)}
    return set(members_of(value)) if isinstance(value, list) else set()


def members_of(value: Any) -> list[str]:
    """Return a value's members as comparable texts; a value that is no list is its only member."""
    return [canonical(member, folded) for member in (value if isinstance(value, list) else [value])]


def items_found(guess: Any, truth: Any) -> set[str]:
    """Return the items of an answer; one that is no list or object as it should be is not the same as an empty one."""
    return items_of(guess) or (set() if type(guess) is type(truth) or items_of(truth) else {UNREADABLE})


def is_exact(expected: str, answer: str) -> bool:
    """Return whether an answer is the expected text, or JSON of the same value and nothing else."""
    value, truth = strict_json(answer), json_value(expected)
    if value is None or truth is None:
        return expected.strip() == answer.strip()
    return same(value, truth)


def has_shape(guess: Any, truth: Any) -> bool:
    """Return whether an answer is a list, or an object with the expected keys, as it should be."""
    return type(guess) is type(truth) and (not isinstance(guess, dict) or set(guess) == set(truth))


def field_scores(truths: Sequence[Any], guesses: Sequence[Any]) -> dict[str, float]:
    """Return the F1 of each field of the expected objects, over all rows."""
    scores: dict[str, float] = {}
    for field in sorted({key for truth in truths if isinstance(truth, dict) for key in truth}):
        expected, found = (
            [set(members_of(one[field])) if isinstance(one, dict) and field in one else set() for one in side]
            for side in (truths, guesses)
        )
        scores[field] = set_scores(expected, found)[1]["f1_micro"]
    return scores


def are_lines(expected: Sequence[str]) -> bool:
    """Return whether all expected answers are lists with one item a line, because none of them is JSON.

    A text in brackets inside an answer may look like JSON. So all answers must have JSON in them if none is JSON alone.
    """
    if any(strict_json(text) is not None for text in expected):
        return False
    return not all(json_value(text) is not None for text in expected)


def unreadable(expected: Sequence[str]) -> list[int]:
    """Return the places of expected answers in which no list or object can be read, though others are JSON."""
    if are_lines(expected):
        return []
    return [place for place, text in enumerate(expected) if json_value(text) is None]


def lines_of(answer: str) -> list[str]:
    """Return the items of an answer as texts: those of its JSON list if it is one, else its lines without bullets."""
    lines = [line.strip() for line in without_thoughts(answer).splitlines() if not line.startswith("```")]
    found = strict_json("\n".join(lines))
    if isinstance(found, list):
        return [one if isinstance(one, str) else canonical(one) for one in found]
    return [line for line in (BULLET.sub("", line).strip() for line in lines) if line]


def share(values: Sequence[bool]) -> float:
    """Return the share of true values."""
    return round(sum(values) / len(values), 4)
