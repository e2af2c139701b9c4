"""OpenAI's grader definitions: their scores, what is refused, and the limits of python graders."""

import sys
import time
from typing import Any

import pytest

from finetune.core.errors import FinetuneError
from finetune.scoring.graders import python_grader
from finetune.scoring.graders.by_model import grade_by_replies, grader_request, score_of
from finetune.scoring.graders.check_definitions import check_grader
from finetune.scoring.graders.definitions import Python, ScoreModel, StringCheck, TextSimilarity
from finetune.scoring.graders.local import Graded, grade

ANSWER = "{{ sample.output_text }}"


def item(expected: str, asked: str = "?") -> dict[str, str]:
    return {"asked": asked, "expected": expected}


def run(definition: dict[str, Any], *pairs: tuple[str, str]) -> Graded:
    """Return the grades of pairs of an expected text and an answer."""
    grader = check_grader("mine", definition)
    assert isinstance(grader, (StringCheck, TextSimilarity, Python))
    return grade(grader, [item(expected) for expected, _ in pairs], [answer for _, answer in pairs])


def check(operation: str, reference: str = "{{item.expected}}") -> dict[str, Any]:
    return {"type": "string_check", "input": ANSWER, "reference": reference, "operation": operation}


def similarity(metric: str) -> dict[str, Any]:
    return {
        "type": "text_similarity",
        "input": ANSWER,
        "reference": "{{ item.reference }}",
        "evaluation_metric": metric,
    }


def python(source: str) -> dict[str, Any]:
    return {"type": "python", "source": source}


@pytest.mark.parametrize(
    ("operation", "expected", "answer", "score"),
    [
        ("eq", "Yes", "Yes", 1),
        ("eq", "Yes", "yes", 0),
        ("ne", "Yes", "yes", 1),
        ("like", "東京", "答えは東京です", 1),
        ("like", "答えは東京です", "東京", 0),
        ("like", "yes", "Yes, please", 0),
        ("ilike", "yes", "Yes, please", 1),
        ("ilike", "STRASSE", "Straße", 1),
    ],
)
def test_string_checks(operation: str, expected: str, answer: str, score: float) -> None:
    assert run(check(operation), (expected, answer)).scores == [score]


METRICS = ["fuzzy_match", "bleu", "gleu", "meteor", *(f"rouge_{n}" for n in range(1, 6)), "rouge_l"]


@pytest.mark.parametrize("metric", METRICS)
def test_similarity_falls_from_1_to_0(metric: str) -> None:
    pairs = [
        ("ご注文の商品は明日お届けします", "ご注文の商品は明日お届けします"),
        ("ご注文の商品は明日お届けします", "ご注文の商品は明日発送いたします"),
        ("주문하신 상품은 내일 배송될 예정입니다", "주문하신 상품은 내일 배송될 것입니다"),
        ("Your order will reach you by tomorrow", "Your order will reach you by Friday"),
        ("ご注文の商品は明日お届けします", "xyz"),
        ("ok", "ok"),
        ("something", ""),
    ]
    same, japanese, korean, english, other, short, nothing = run(similarity(metric), *pairs).scores
    assert (same, short, nothing) == (1, 1, 0)
    assert 0 < japanese < 1
    assert 0 < english < 1
    assert other < 0.1
    assert 0 < korean < 1


def test_known_values_of_text_similarity() -> None:
    pair = ("the cat sat on the mat", "the cat lay on the mat")
    assert run(similarity("rouge_1"), pair).scores == [pytest.approx(5 / 6)]
    assert run(similarity("rouge_2"), pair).scores == [pytest.approx(3 / 5)]
    assert run(similarity("rouge_l"), pair).scores == [pytest.approx(5 / 6)]
    # Of 6 + 5 + 4 + 3 n-grams 5 + 3 + 1 + 0 are shared.
    assert run(similarity("gleu"), pair).scores == [pytest.approx(9 / 18)]


def test_a_template_in_an_answer_is_not_filled() -> None:
    assert run(check("eq"), ("secret", "{{ item.expected }}")).scores == [0]
    assert run(check("eq", "{{ item.expected }}{{item.asked}}"), ("a\\1", "a\\1?")).scores == [1]


@pytest.mark.parametrize(
    ("definition", "message"),
    [
        (check("eq", "{{ item.expectd }}"), "item.expectd"),
        (check("eq", "{{ sample.output_text }"), "without its }}"),
        (check("equals"), "operation"),
        (check("eq") | {"operatoin": "eq"}, "operatoin"),
        ({"type": "string_check", "input": ANSWER, "operation": "eq"}, "reference"),
        (similarity("cosine"), "embeddings"),
        (similarity("rouge_6"), "evaluation_metric"),
        ({"type": "multi", "graders": {}}, "at least one grader"),
        ({"type": "label_model"}, "passing_labels"),
        ({"type": "endpoint"}, "a server of yours"),
        ({"type": ["python"]}, "graders of type"),
        ("string_check", "graders of type"),
        (python("def grade(sample, item:\n"), "SyntaxError"),
        (python("import no_such_thing"), "no_such_thing"),
        (python("def grades(sample, item): return 1"), "no function grade"),
        (python("grade = 1"), "no function grade"),
        (python("def grade(answer): return 1"), "too many positional arguments"),
        (python("raise SystemExit(3)"), "SystemExit"),
        (python("import os; os._exit(0)"), "the process ended"),
        ({"type": "score_model", "model": "m", "input": []}, "input"),
        ({"type": "score_model", "model": "m", "input": "hi"}, "input"),
        ({"type": "score_model", "model": "m", "input": [{"role": "user", "content": "{{ x }}"}]}, "name x"),
        ({"type": "score_model", "model": "m", "input": [{"role": "user", "content": "x"}], "range": [1, 0]}, "range"),
        ({"type": "score_model", "model": "m", "input": [{"role": "user", "content": "x"}], "range": [1]}, "range"),
    ],
)
def test_an_error_names_the_grader_and_the_key(definition: Any, message: str) -> None:
    with pytest.raises(FinetuneError) as caught:
        check_grader("mine", definition)
    assert "evaluate.graders.mine" in caught.value.what
    assert message in str(caught.value)


def test_the_name_in_a_definition_is_ignored() -> None:
    assert check_grader("mine", check("eq") | {"name": "theirs"}).name == "mine"


def test_a_python_grader_sees_the_answer_and_the_row() -> None:
    source = """
from __future__ import annotations
from dataclasses import dataclass
from rapidfuzz import fuzz

@dataclass
class Pair:
    a: str
    b: str

def grade(sample, item):
    print("printed by the grader")
    pair = Pair(sample["output_text"], item["expected"])
    assert item["expected"] == item["reference"] and item["asked"] == "?"
    return fuzz.ratio(pair.a, pair.b) / 100
"""
    assert run(python(source), ("東京", "東京"), ("東京", "京都")) == Graded([1.0, 0.5], {})


def test_a_row_that_fails_is_counted_and_the_others_are_graded() -> None:
    source = """
import os
def grade(sample, item):
    if sample["output_text"] == "exits":
        os._exit(1)
    grades = {"fine": 1, "nan": float("nan"), "inf": float("inf"), "text": "1", "none": None}
    return grades[sample["output_text"]]
"""
    answers = ["fine", "raises", "nan", "inf", "text", "none", "exits", "fine"]
    found = run(python(source), *(("x", answer) for answer in answers))
    assert found.scores == [1, 0, 0, 0, 0, 0, 0, 1]
    assert sorted(found.errors) == list(range(1, 7))
    assert found.errors[1] == "KeyError: 'raises'"
    assert "not a finite number" in found.errors[2]
    assert found.errors[6] == "the process ended"


def test_an_endless_loop_fails_only_its_row(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(python_grader, "ROW_CPU_SECONDS", 1)
    source = """
def grade(sample, item):
    while sample["output_text"] == "loop":
        pass
    return 1
"""
    found = run(python(source), ("x", "a"), ("x", "loop"), ("x", "b"))
    assert found == Graded([1, 0, 1], {1: "no answer within 1 s of computing"})


@pytest.mark.slow
def test_a_row_that_waits_for_a_busy_computer_is_graded(monkeypatch: pytest.MonkeyPatch) -> None:
    """Only the time that it computes is short."""
    monkeypatch.setattr(python_grader, "ROW_CPU_SECONDS", 1)
    source = "import time\ndef grade(sample, item): return time.sleep(1.5) or 1"
    assert run(python(source), ("x", "a")) == Graded([1], {})


def test_all_rows_together_have_a_time_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(python_grader, "ALL_SECONDS", 1.0)
    began = time.monotonic()
    found = run(python("import time\ndef grade(sample, item): time.sleep(99)"), *[("x", "y")] * 1000)
    assert time.monotonic() - began < python_grader.ROW_SECONDS
    assert found.scores == [0] * 1000
    assert len(found.errors) == 1000
    assert "limit for all rows" in found.errors[999]


@pytest.mark.skipif(sys.platform != "linux", reason="macOS and Windows do not limit the address space")
def test_memory_is_limited() -> None:
    source = "def grade(sample, item): return len(bytearray(10 * 2**30)) > 0 if sample['output_text'] == 'big' else 1"
    found = run(python(source), ("x", "big"), ("x", "small"))
    assert found.scores == [0, 1]
    assert found.errors[0].startswith("MemoryError")


def test_a_python_grader_cannot_read_keys_of_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "sk-of-a-test")
    source = """
import os, subprocess, sys
def grade(sample, item):
    print(os.environ["OPENAI_API_KEY"]) if "OPENAI_API_KEY" in os.environ else None
    child = subprocess.run([sys.executable, "-c", "import os; print(dict(os.environ))"], capture_output=True, text=True)
    seen = child.stdout + str(dict(os.environ)) + str(os.listdir())
    raise ValueError(f"saw {'sk-of-a-test' in seen} {len(child.stdout) > 2} {os.listdir()}")
"""
    assert run(python(source), ("x", "y")).errors == {0: "ValueError: saw False True []"}


TONE = {
    "type": "score_model",
    "model": "judge-1",
    "range": [1, 5],
    "input": [
        {"role": "system", "content": "Score the tone."},
        {"role": "user", "content": "Asked: {{ item.asked }} Answer: {{ sample.output_text }}"},
    ],
    "sampling_params": {"temperature": 0, "seed": 3, "max_completions_tokens": 200},
}


def test_the_request_of_a_score_model() -> None:
    grader = check_grader("tone", TONE)
    assert isinstance(grader, ScoreModel)
    body = grader_request(grader, item("はい", "返品できますか"), "{{ item.expected }}")
    assert body["messages"][1] == {"role": "user", "content": "Asked: 返品できますか Answer: {{ item.expected }}"}
    assert body["messages"][0]["content"].startswith("Score the tone.\n\nReply with one JSON object")
    assert "from 1 to 5" in body["messages"][0]["content"]
    del body["messages"]
    assert body == {"model": "judge-1", "temperature": 0, "seed": 3, "max_completion_tokens": 200}

    bare = check_grader("bare", {**TONE, "input": [{"role": "user", "content": ANSWER}]})
    assert isinstance(bare, ScoreModel)
    assert [one["role"] for one in grader_request(bare, item("a"), "b")["messages"]] == ["system", "user"]


@pytest.mark.parametrize(
    ("reply", "score"),
    [
        ('{"steps": [{"description": "d", "conclusion": "c"}], "result": 3}', 3),
        ('Here it is:\n```json\n{"result": 5.0}\n```', 5),
        ('{"result": "2"}', 2),
        ('{"result": 9}', 5),
        ('{"result": -Infinity}', None),
        (" 4 ", 4),
        ("<think>2 or 3?</think>\n4", 4),
        ('<think>{"result": 1}?</think>{"result": 4}', 4),
        ('{"result": NaN}', None),
        ('{"result": true}', None),
        ('{"result": null}', None),
        ('{"score": 3}', None),
        ('{"result": ' + "9" * 400 + "}", None),
        ("4/5", None),
        ("とても良い", None),
        ("", None),
    ],
)
def test_the_score_in_a_reply(reply: str, score: float | None) -> None:
    grader = check_grader("tone", TONE)
    assert isinstance(grader, ScoreModel)
    assert score_of(grader, reply) == score


def test_replies_without_a_score_are_counted() -> None:
    grader = check_grader("tone", TONE)
    assert isinstance(grader, ScoreModel)
    found = grade_by_replies(grader, ['{"result": 5}', "no", None])
    assert found.scores == [5, 1, 1]
    assert sorted(found.errors) == [1, 2]
