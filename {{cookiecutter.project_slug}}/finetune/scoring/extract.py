"""Score extracted lists and objects as sets, and objects field by field. A list is JSON, or one item a line."""

import json
import re
from collections.abc import Mapping, Sequence
from typing import Any

from finetune.core.records import Metrics
from finetune.scoring.answer_schema import validator_of

UNREADABLE = "\0unreadable"  # in place of items: an answer without JSON is not an empty list
BULLET = re.compile(r"^(?:[-*•・]|\d{1,3}[.)])\s+")  # before an item of a list


def json_in(answer: str) -> Any:
    """Return the JSON of an answer, or the first list or object in it; None if there is none.

    The same rule for every model, so that verbose answers are scored fairly.
    """
    begins = [answer.index(sign) for sign in "[{" if sign in answer]
    for text in (answer, answer[min(begins) :] if begins else ""):
        try:
            return json.JSONDecoder().raw_decode(text.strip())[0]
        except (ValueError, RecursionError):
            continue
    return None


def items_of(value: Any) -> set[str]:
    """Return comparable items: the members of a list, or the `key: value` pairs of an object."""
    if isinstance(value, dict):
        return {f"{key}: {piece}" for key, inner in value.items() for piece in members_of(inner)}
    return set(members_of(value)) if isinstance(value, list) else set()


def members_of(value: Any) -> list[str]:
    """Return a value's members as comparable texts; a value that is no list is its only member."""
    members = value if isinstance(value, list) else [value]
    return [
        (member if isinstance(member, str) else json.dumps(member, sort_keys=True)).strip().casefold()
        for member in members
    ]


def whole_json(text: str) -> Any:
    """Return the list or object that a whole text is as JSON; None if it is none."""
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        return None
    return value if isinstance(value, (list, dict)) else None


def are_lines(expected: Sequence[str]) -> bool:
    """Return whether all expected answers are lists with one item a line, because none of them is JSON.

    A text in brackets inside an answer may look like JSON. So all answers must have JSON in them if none is JSON alone.
    """
    if any(whole_json(text) is not None for text in expected):
        return False
    return not all(isinstance(json_in(text), (list, dict)) for text in expected)


def unreadable(expected: Sequence[str]) -> list[int]:
    """Return the places of expected answers that are neither a list nor an object, though others are."""
    if are_lines(expected):
        return []
    return [place for place, text in enumerate(expected) if not isinstance(json_in(text), (list, dict))]


def lines_of(answer: str) -> list[str]:
    """Return the items of an answer: those of its JSON list if it is one, else its lines without bullets."""
    lines = [line.strip() for line in answer.splitlines() if not line.startswith("```")]
    found = whole_json("\n".join(lines))
    if isinstance(found, list):
        return members_of(found)
    return [line for line in (BULLET.sub("", line).strip() for line in lines) if line]


def extraction(
    expected: Sequence[str], answered: Sequence[str], schema: Mapping[str, Any] | None = None
) -> tuple[list[float], Metrics]:
    """Compute the F1 of each row, and over all rows F1 (mean, micro, macro), precision, recall and exact match.

    Source: scikit-learn, over sets of items. Where the expected answer is not JSON, each line of the two answers is an
    item; else an answer without JSON is wrong, also where an empty list is expected. For objects, `fields` has the F1
    of each field. With a JSON Schema, `fits_schema` is the share of answers that are valid under it.
    """
    only_lines = are_lines(expected)
    as_json = [json_in(text) for text in answered]
    truths: list[Any] = [None if only_lines else json_in(text) for text in expected]
    by_line = [not isinstance(truth, (list, dict)) for truth in truths]
    truths = [lines_of(text) if line else one for one, text, line in zip(truths, expected, by_line, strict=True)]
    guesses = [lines_of(text) if line else one for one, text, line in zip(as_json, answered, by_line, strict=True)]
    true_items = [items_of(one) for one in truths]
    found_items = [
        items_of(one) if items or isinstance(one, (list, dict)) else {UNREADABLE}
        for one, items in zip(guesses, true_items, strict=True)
    ]
    rows, averages = set_scores(true_items, found_items)
    metrics: Metrics = dict(averages)
    metrics["exact_match"] = share([a == b for a, b in zip(true_items, found_items, strict=True)])
    if not only_lines:
        metrics["valid_json"] = share([isinstance(guess, (list, dict)) for guess in as_json])
        metrics["right_shape"] = share(
            [
                type(a) is type(b) and (not isinstance(a, dict) or set(a) == set(b))
                for a, b in zip(truths, guesses, strict=True)
            ]
        )
    if schema is not None:
        validator = validator_of(schema)
        metrics["fits_schema"] = share([guess is not None and validator.is_valid(guess) for guess in as_json])
    fields = sorted({key for truth in truths if isinstance(truth, dict) for key in truth})
    for field in fields:  # under a key of their own: a field may be called like a metric
        columns = [
            [set(members_of(one[field])) if isinstance(one, dict) and field in one else set() for one in side]
            for side in (truths, guesses)
        ]
        metrics.setdefault("fields", {})[field] = set_scores(*columns)[1]["f1_micro"]
    return rows, metrics


def set_scores(truths: Sequence[set[str]], guesses: Sequence[set[str]]) -> tuple[list[float], dict[str, float]]:
    """Compute the F1 of each pair of sets (1 if both are empty), and scikit-learn's averages."""
    from sklearn.metrics import f1_score, precision_recall_fscore_support
    from sklearn.preprocessing import MultiLabelBinarizer

    every = sorted(set().union(*truths, *guesses))
    if not every:
        rows = [1.0] * len(truths)
        return rows, {"f1": 1.0, "f1_micro": 1.0, "f1_macro": 1.0, "precision": 1.0, "recall": 1.0}
    # One more column, which no row has: with a single column, scikit-learn would take 0 for a class.
    matrix = MultiLabelBinarizer(classes=[*every, None], sparse_output=True)
    truth, guess = matrix.fit_transform(truths), matrix.transform(guesses)
    settings: dict[str, Any] = {"labels": list(range(len(every))), "zero_division": 0.0}
    rows = [
        1.0 if not a and not b else 2 * len(a & b) / (len(a) + len(b)) for a, b in zip(truths, guesses, strict=True)
    ]
    precision, recall, micro, _ = precision_recall_fscore_support(truth, guess, average="micro", **settings)
    macro = f1_score(truth, guess, average="macro", **settings)
    return rows, {
        "f1": round(sum(rows) / len(rows), 4),
        "f1_micro": round(float(micro), 4),
        "f1_macro": round(float(macro), 4),
        "precision": round(float(precision), 4),
        "recall": round(float(recall), 4),
    }


def share(values: Sequence[bool]) -> float:
    """Return the share of true values."""
    return round(sum(values) / len(values), 4)
