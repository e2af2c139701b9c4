"""JSON in answers: what is found, what is strict, and which values are the same."""

import json
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from finetune.scoring.answer_json import canonical, json_in, same, strict_json
from finetune.scoring.extract import extraction
from finetune.scoring.tasks import score


@pytest.mark.parametrize(
    ("answer", "found"),
    [
        ('{"a": 1}', {"a": 1}),
        ('[sic] {"a": 1}', {"a": 1}),
        ('As in [1], it is {"a": [2]}. See also [2].', {"a": [2]}),
        ('Peru [1] and Kenya [2, 3]: ["Peru"]', ["Peru"]),
        ('Sure:\n```json\n{"a": "} ]"}\n```\nIt\'s done!', {"a": "} ]"}),
        ('{"a": 1}\n{"a": 1.0}', {"a": 1}),
        ('{"a": [1, 2,], }', {"a": [1, 2]}),
        ('{"a": ", ]", "a": 2}', {"a": 2}),
        ('{"\\u00e9": "\\ud83d\\ude00"}', {"é": "😀"}),
        ('<think>Or {"a": 1}?</think>\n{"a": 2}', {"a": 2}),
        ('{"a": "</think>"}', {"a": "</think>"}),
        ("- [ ] milk\n- [x] salt\n{}", {}),
        ("[ ]", []),
        # Nothing is guessed.
        ('<think>{"a": 1}', None),
        ("- [ ] milk\n- [x] salt", None),
        ("[,]", None),
        ('{"a": [1,,]}', None),
        ('{"a": 1} or {"a": 2}', None),
        ('{"a": {"b": 1}, "c":', None),
        ('[{"a": 1}, {"b": 2}, {"c"', None),
        ("{'a': {\"b\": 1}}", None),
        ('{"a": NaN}', None),
        ('{"a": 01}', None),
        ('[sic] it is 5, "quoted', None),
        ("[" * 99999 + "]" * 99999, None),
        ('{"a": 1e99999999999999999999}', None),
        ("42", None),
    ],
)
def test_json_is_found_in_an_answer(answer: str, found: Any) -> None:
    assert json_in(answer) == found


@pytest.mark.parametrize(
    ("answer", "is_strict"),
    [
        ('{"a": 1}', True),
        (' \n["a"]\n', True),
        ('```json\n{"a": 1}\n```', False),
        ('{"a": 1} Enjoy!', False),
        ('{"a": 1,}', False),
        ('{"a": 1, "a": 1}', False),
        ('{"a": Infinity}', False),
        ('\ufeff{"a": 1}', False),
        ("{'a': 1}", False),
        ('"a"', False),
        ("", False),
    ],
)
def test_strict_json_is_what_a_program_reads_as_it_is(answer: str, is_strict: bool) -> None:
    assert (strict_json(answer) is not None) == is_strict
    metrics = score("extract", ['{"a": 1}'], [answer]).metrics
    assert metrics["strict_json"] == float(is_strict)
    assert metrics["exact_match"] == float(answer == '{"a": 1}')


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("2", "2.0"),
        ("1e2", "100"),
        ("0", "-0"),
        ("-0.0", "0e7"),
        ("1.10", "11E-1"),
        ('{"a": {"b": [2, {"c": 3}]}}', '{"a": {"b": [2.0, {"c": 30e-1}]}}'),
        ('{"a": 1, "b": 2}', '{"b": 2, "a": 1}'),
        ('"\\u00e9"', '"é"'),
    ],
)
def test_the_same_values(one: str, other: str) -> None:
    values = [json.loads(text, parse_float=Decimal) for text in (one, other)]
    assert same(*values)
    found = score("extract", [f"[{one}]"], [f"[{other}]"]).metrics
    assert (found["f1"], found["exact_match"]) == (1.0, 1.0)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("2", '"2"'),
        ("1", "true"),
        ("0", "false"),
        ("null", '"null"'),
        ("12345678901234567890", "12345678901234567891"),
        ("0.1", "0.10000000000000000000000000000001"),
        ("[2, 1]", "[1, 2]"),
        ('{"a": "1"}', '{"a": 1}'),
        ('{"A": 1}', '{"a": 1}'),
        ("{}", "[]"),
    ],
)
def test_different_values(one: str, other: str) -> None:
    found = score("extract", [f'{{"x": [{one}]}}'], [f'{{"x": [{other}]}}']).metrics
    assert (found["f1"], found["exact_match"]) == (0.0, 0.0)


def test_case_order_and_repetition_change_no_items_but_are_no_exact_match() -> None:
    answers = [
        '["salt", "Egg"]',
        '["Egg", "salt"]',
        '["salt", "egg"]',
        '["salt", "Egg", "Egg"]',
        'It is ["salt", "Egg"]',
    ]
    values, metrics = extraction(['["salt", "Egg"]'] * 5, answers)
    assert values["f1"] == values["same_items"] == [1.0] * 5
    assert values["exact_match"] == [1.0, 0.0, 0.0, 0.0, 0.0]
    assert (metrics["json_found"], metrics["strict_json"]) == (1.0, 0.8)


def test_an_empty_answer_of_the_other_kind_is_wrong() -> None:
    values, _ = extraction(["[]", "{}", "[]", "{}"], ["{}", "[]", "[]", "{}"])
    assert values["f1"] == [0.0, 0.0, 1.0, 1.0]


NUMBERS = st.integers() | st.decimals(allow_nan=False, allow_infinity=False)
JSON: Any = st.recursive(
    st.none() | st.booleans() | NUMBERS | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=8,
)


def written(value: Any) -> str:
    """Return JSON with numbers as they are."""
    if isinstance(value, dict):
        return "{" + ", ".join(f"{json.dumps(key)}: {written(one)}" for key, one in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(map(written, value)) + "]"
    return str(value) if isinstance(value, Decimal) else json.dumps(value)


@settings(deadline=None)
@given(JSON.filter(lambda value: isinstance(value, (list, dict))))
def test_what_is_written_is_read(value: Any) -> None:
    text = written(value)
    strict = strict_json(text)
    assert canonical(strict) == canonical(value)
    assert extraction([text], [f"[sic] {{it}} {text}\nThanks"])[0]["f1"] == [1.0]
    assert extraction([text, "[1]"], [text, "[1]"])[1]["exact_match"] == 1.0


@settings(max_examples=300, deadline=None)
@given(JSON, JSON)
def test_values_are_the_same_if_and_only_if_python_says_so(one: Any, other: Any) -> None:
    def typed(value: Any) -> Any:
        """Return a value in which True is not 1."""
        if isinstance(value, dict):
            return {key: typed(inner) for key, inner in value.items()}
        if isinstance(value, list):
            return [typed(inner) for inner in value]
        return ("bool", value) if isinstance(value, bool) else value

    assert same(one, other) == (typed(one) == typed(other))


@pytest.mark.slow
@settings(max_examples=300, deadline=None)
@given(st.text('[]{}":,1a\\ \n', max_size=30) | st.text(max_size=20))
def test_any_answer_can_be_read(answer: str) -> None:
    found, strict = json_in(answer), strict_json(answer)
    assert found is None or isinstance(found, (list, dict))
    if strict is not None:
        assert found is not None
    _, metrics = extraction(['["a"]', '{"a": 1}'], [answer, answer])
    assert metrics["json_found"] >= metrics["strict_json"] >= metrics["exact_match"]
