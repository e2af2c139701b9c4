"""How well lists and objects are extracted: as sets, field by field."""

import json
from collections.abc import Mapping, Sequence
from typing import Any


def parsed(answer: str) -> Any:
    """The JSON of an answer, or the first list or object in it; None where there is none.

    The same leniency for every model, so that a chatty base is not failed for its manners.
    """
    begins = [answer.index(sign) for sign in "[{" if sign in answer]
    for text in (answer, answer[min(begins) :] if begins else ""):
        try:
            return json.JSONDecoder().raw_decode(text.strip())[0]
        except (ValueError, RecursionError):
            continue
    return None


def items_of(value: Any) -> set[str]:
    """What was extracted, as comparable pieces: a list's members, or an object's `key: value` pairs."""
    if isinstance(value, dict):
        return {f"{key}: {piece}" for key, inner in value.items() for piece in pieces(inner)}
    return set(pieces(value)) if isinstance(value, list) else set()


def pieces(value: Any) -> list[str]:
    members = value if isinstance(value, list) else [value]
    return [
        (member if isinstance(member, str) else json.dumps(member, sort_keys=True)).strip().casefold()
        for member in members
    ]


def extraction(
    expected: Sequence[str], answered: Sequence[str], schema: Mapping[str, Any] | None = None
) -> tuple[list[float], dict[str, float]]:
    """F1 of each row, and of all: F1 per example, micro and macro, precision, recall, exact match, valid JSON.

    By scikit-learn over the sets of items; an answer that is no JSON has none. Objects also get an F1 for each field,
    as `f1_<field>`; with a JSON Schema, `fits_schema` is the share of answers that fit it.
    """
    truths, guesses = [parsed(text) for text in expected], [parsed(text) for text in answered]
    rows, metrics = set_scores([items_of(one) for one in truths], [items_of(one) for one in guesses])
    exact = [items_of(a) == items_of(b) and b is not None for a, b in zip(truths, guesses, strict=True)]
    metrics["exact_match"] = share(exact)
    metrics["valid_json"] = share([isinstance(guess, (list, dict)) for guess in guesses])
    metrics["right_shape"] = share(
        [
            type(a) is type(b) and (not isinstance(a, dict) or set(a) == set(b))
            for a, b in zip(truths, guesses, strict=True)
        ]
    )
    if schema is not None:
        from jsonschema.validators import validator_for

        validator = validator_for(schema)(schema)
        metrics["fits_schema"] = share([guess is not None and validator.is_valid(guess) for guess in guesses])
    fields = sorted({key for truth in truths if isinstance(truth, dict) for key in truth})
    for field in fields:
        columns = [
            [set(pieces(one[field])) if isinstance(one, dict) and field in one else set() for one in side]
            for side in (truths, guesses)
        ]
        metrics[f"f1_{field}"] = set_scores(*columns)[1]["f1_micro"]
    return rows, metrics


def set_scores(truths: Sequence[set[str]], guesses: Sequence[set[str]]) -> tuple[list[float], dict[str, float]]:
    """F1 of each pair of sets (1 where both are empty), and the averages of scikit-learn."""
    from sklearn.metrics import f1_score, precision_recall_fscore_support
    from sklearn.preprocessing import MultiLabelBinarizer

    every = sorted(set().union(*truths, *guesses))
    if not every:
        rows = [1.0] * len(truths)
        return rows, {"f1": 1.0, "f1_micro": 1.0, "f1_macro": 1.0, "precision": 1.0, "recall": 1.0}
    # A column that nobody has: of a single one scikit-learn would take the zeros for a class of their own.
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
    return round(sum(values) / len(values), 4)
