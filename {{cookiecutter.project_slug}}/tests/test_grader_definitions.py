"""OpenAI's grader definitions, by the types of its package: every type and every field is taken."""

import typing
from typing import Any

import openai.types.graders as types
import pytest

from finetune.core.errors import FinetuneError
from finetune.scoring.graders.by_model import grade_by_replies, grader_request
from finetune.scoring.graders.check_definitions import check_grader
from finetune.scoring.graders.definitions import LabelModel, Multi, ScoreModel
from finetune.scoring.graders.formula import names_in, output
from finetune.scoring.graders.summary import grades_of
from finetune.scoring.graders.templates import render, variables

ANSWER = "{{ sample.output_text }}"
CONTENTS: list[Any] = [
    ANSWER,
    {"type": "input_text", "text": ANSWER},
    {"type": "output_text", "text": ANSWER},
    {"type": "input_image", "image_url": "https://example.org/a.png", "detail": "low"},
    {"type": "input_audio", "input_audio": {"data": "AA==", "format": "wav"}},
    ["one", {"type": "input_text", "text": "two"}, {"type": "input_image", "image_url": "data:image/png;base64,A"}],
]
CHECK = {"type": "string_check", "input": ANSWER, "reference": "{{ item.reference }}", "operation": "eq", "name": "c"}
SIMILAR = {**CHECK, "type": "text_similarity", "evaluation_metric": "rouge_l"}
del SIMILAR["operation"]
INPUT = [{"role": "user", "content": ANSWER, "type": "message"}]
LABELS = {"type": "label_model", "name": "l", "model": "m", "input": INPUT, "labels": ["good", "bad"]}
LABELS["passing_labels"] = ["good"]
SAMPLING = {"max_completions_tokens": 9, "reasoning_effort": "low", "seed": 1, "temperature": 0, "top_p": 1}
SCORE = {"type": "score_model", "name": "s", "model": "m", "input": INPUT, "range": [1, 5], "sampling_params": SAMPLING}
PYTHON = {"type": "python", "name": "p", "source": "def grade(sample, item): return 7", "image_tag": "2025-05-08"}
MULTI = {"type": "multi", "name": "x", "graders": {"c": CHECK, "s": SCORE}, "calculate_output": "0.5 * c + s / 10"}
KINDS: dict[str, tuple[Any, dict[str, Any]]] = {
    "string_check": (types.StringCheckGrader, CHECK),
    "text_similarity": (types.TextSimilarityGrader, SIMILAR),
    "python": (types.PythonGrader, PYTHON),
    "score_model": (types.ScoreModelGrader, SCORE),
    "label_model": (types.LabelModelGrader, LABELS),
    "multi": (types.MultiGrader, MULTI),
}


@pytest.mark.parametrize("kind", KINDS)
def test_every_field_of_the_type_is_taken_and_optional_ones_may_be_left_out_or_null(kind: str) -> None:
    model, definition = KINDS[kind]
    assert set(definition) == set(model.model_fields)
    assert check_grader("mine", definition).name == "mine"
    for name, field in model.model_fields.items():
        if not field.is_required():
            check_grader("mine", {key: value for key, value in definition.items() if key != name})
            check_grader("mine", {**definition, name: None})


@pytest.mark.parametrize("operation", typing.get_args(types.StringCheckGrader.model_fields["operation"].annotation))
def test_every_operation_is_taken(operation: str) -> None:
    check_grader("mine", {**CHECK, "operation": operation})


METRICS = typing.get_args(types.TextSimilarityGrader.model_fields["evaluation_metric"].annotation)


@pytest.mark.parametrize("metric", METRICS)
def test_every_metric_is_taken_or_refused_with_its_reason(metric: str) -> None:
    if metric == "cosine":
        with pytest.raises(FinetuneError, match="embeddings"):
            check_grader("mine", {**SIMILAR, "evaluation_metric": metric})
    else:
        check_grader("mine", {**SIMILAR, "evaluation_metric": metric})


@pytest.mark.parametrize("content", CONTENTS)
@pytest.mark.parametrize("role", ["user", "assistant", "system", "developer"])
def test_every_content_is_asked(content: Any, role: str) -> None:
    for definition in (SCORE, LABELS):
        grader = check_grader("mine", {**definition, "input": [{"role": role, "content": content}]})
        assert isinstance(grader, (ScoreModel, LabelModel))
        messages = grader_request(grader, {"asked": "q", "expected": "e"}, "hello")["messages"]
        assert "Reply with one JSON object" in str(messages[0]["content"])
        if "hello" in str(content).replace(ANSWER, "hello"):
            assert "hello" in str(messages)


def test_a_label_model_gives_1_for_a_passing_label() -> None:
    grader = check_grader("mine", LABELS)
    assert isinstance(grader, LabelModel)
    found = grade_by_replies(grader, ['{"label": "good"}', "bad", "Good.", "neither", None])
    assert found.scores == [1, 0, 1, 0, 0]
    assert sorted(found.errors) == [3, 4]
    with pytest.raises(FinetuneError, match="fine is not among the labels"):
        check_grader("mine", {**LABELS, "passing_labels": ["fine"]})


def test_a_multi_grader_combines_scores_in_their_own_ranges() -> None:
    grader = check_grader("mine", MULTI)
    assert isinstance(grader, Multi)
    rows: Any = [{"asked": "q", "expected": "e", "answer": text} for text in ("e", "f", "e")]
    replies: Any = [{"grader": "mine.s", "model": "tuned", "reply": text} for text in ('{"result": 5}', "1", "no")]
    found = grades_of(grader, "tuned", rows, replies)
    assert found.scores == [1.0, 0.1, 0.0]
    assert list(found.errors) == [2]


@pytest.mark.parametrize(
    ("formula", "message"),
    [
        ("c + other", "names other"),
        ("__import__('os')", "not a function"),
        ("c.x", "not arithmetic"),
        ("c +", "formula"),
        ("log(c, s)", "has 2 values"),
        ("1", "name the graders"),
    ],
)
def test_a_formula_is_arithmetic_of_the_graders_only(formula: str, message: str) -> None:
    with pytest.raises(FinetuneError, match=message):
        check_grader("mine", {**MULTI, "calculate_output": formula})


def test_formulas() -> None:
    assert output("min(a, b) ^ 2 + max(a, b) - abs(-1)", {"a": 2.0, "b": 3.0}) == 6
    assert names_in("sqrt(a) / b") == {"a", "b"}
    assert names_in("log(a - 1)") == {"a"}  # it has a value for other scores
    with pytest.raises(ZeroDivisionError):
        output("1 / a", {"a": 0.0})


@pytest.mark.parametrize(
    ("template", "text"),
    [
        ("{{ sample.output_json.city }}", "Kyoto"),
        ("{{ sample.output_json.days[1] }}", "2"),
        ("{{ sample.output_tools[0].function.name }}", "book"),
        ("{{ item.reference.city }}", "Nara"),
        ("{{ item.expected.city }}", "Nara"),
    ],
)
def test_paths_into_the_answer_and_the_expected_text(template: str, text: str) -> None:
    answer = '{"city": "Kyoto", "days": [1, 2], "tool_calls": [{"function": {"name": "book"}}]}'
    assert render(template, variables({"asked": "q", "expected": '{"city": "Nara"}'}, answer)) == text


def test_a_row_without_the_path_is_an_error_and_not_an_empty_text() -> None:
    grader = check_grader("mine", {**CHECK, "input": "{{ sample.output_json.city }}", "reference": ""})
    rows: Any = [{"asked": "q", "expected": "e", "answer": "no JSON"}]
    assert list(grades_of(grader, "tuned", rows, []).errors) == [0]
