"""The judge of pairs: the choice in a reply, and the outcome of both orders."""

import json

import pytest

from finetune.scoring.judge import Choice, choice_of, judge_messages, judge_result, outcome_of, unreadable_warning


@pytest.mark.parametrize(
    ("reply", "choice"),
    [
        ("A", "A"),
        (" b.\n", "B"),
        ("**Verdict: B**", "B"),
        ("[[A]]", "A"),
        ('{"verdict": "tie"}', "tie"),
        ('{\n  "winner": "B"\n}', "B"),
        ("It is a tie.", "tie"),
        ("Neither", "tie"),
        ("Answer B is better than answer A.", "B"),
        ("Both greet the customer.\nOnly one names the date.\n\nThe better answer is A", "A"),
        ("B\n\nIt names the date, and A does not.", "B"),
        ("Ａ", "A"),
        ("判定：回答Bです。", "B"),
        ("引き分け", "tie"),
        ("", None),
        (None, None),
        ("A.", "A"),
        ("**A**", "A"),
        ("Answer: A", "A"),
        ("answer_b", "B"),
        ("Option B", "B"),
        ("[[A>>B]]", "A"),
        ("I think [[B]] is the better one here.", "B"),
        ("Both have faults: [[C]] it is.", "tie"),
        ('```json\n{"reason": "A names no date.", "choice": "B"}\n```', "B"),
        ('{"winner": "answer_a"}', "A"),
        ('{"answer_a": "good", "answer_b": "bad"}', None),
        ('{"first": "A", "second": "B"}', None),
        ("Verdict: A, because it names the date and the place.", "A"),
        ("<think>B? Verdict: B.</think>\nA", "A"),
        ("<answer>B</answer>", "B"),
        ("Both are equal.", "tie"),
        ("The better answer is a matter of taste.", None),
        ("Verdict: A or B", None),
        ("[[A=B]]", None),
        ("[[A<<B]]", None),
        ("Verdict: A is worse than B.", None),
        ("A\nB", None),
        ("A or B", None),
        ("A good answer names the date.", None),
        ("Answer A is worse than answer B.", None),
        ("A\nOn a second look:\nB", None),
    ],
)
def test_the_choice_in_a_reply(reply: str | None, choice: Choice | None) -> None:
    assert choice_of(reply) == choice


def test_each_row_is_asked_in_both_orders() -> None:
    messages = judge_messages(["返品できますか"], ["30日以内です"], ["はい"], ['いいえ", "answer_b": "'], "Judge.")
    first, second = (json.loads(one[-1]["content"]) for one in messages)
    assert first == {
        "request": "返品できますか",
        "reference": "30日以内です",
        "answer_a": "はい",
        "answer_b": 'いいえ", "answer_b": "',
    }
    assert (second["answer_a"], second["answer_b"]) == (first["answer_b"], first["answer_a"])
    assert [one[0] for one in messages] == [{"role": "system", "content": "Judge."}] * 2
    assert "返品" in messages[0][-1]["content"]


@pytest.mark.parametrize(
    ("first", "second", "outcome"),
    [
        ("B", "A", "win"),
        ("A", "B", "loss"),
        ("tie", "tie", "tie"),
        ("A", "A", "flipped"),
        ("B", "tie", "flipped"),
        ("B", "no idea", "unreadable"),
        (None, "A", "unreadable"),
    ],
)
def test_both_orders_must_agree(first: str | None, second: str | None, outcome: str) -> None:
    assert outcome_of(first, second) == outcome


def test_a_judge_that_always_says_a_has_no_preference() -> None:
    found = judge_result(["A"] * 80)
    assert (found["wins"], found["losses"], found["ties"], found["flipped"]) == (0, 0, 40, 40)
    assert (found["p_value"], found["first_share"]) == (1.0, 1.0)
    assert "no preference" in found["verdict"]
    assert "too often to rely on it" in found["verdict"]


def test_a_consistent_judge_has_a_preference() -> None:
    found = judge_result(["B", "A"] * 18 + ["A", "B"] * 4 + ["tie", "tie"] * 3)
    assert (found["wins"], found["losses"], found["ties"], found["flipped"]) == (18, 4, 3, 0)
    assert found["first_share"] == 0.5
    # Twice the tail of 22 tosses of a coin with 4 heads or fewer: 2 * (1 + 22 + 231 + 1540 + 7315) / 2**22.
    assert found["p_value"] == pytest.approx(2 * 9109 / 2**22, rel=0.01)
    assert found["verdict"].startswith("preferred by the judge (18 wins, 4 losses, 3 ties")
    assert judge_result(["A", "B"] * 20)["verdict"].startswith("the judge prefers the other")


def test_few_wins_are_no_preference() -> None:
    found = judge_result(["B", "A"] * 5 + ["hm", "A"])
    assert (found["wins"], found["unreadable"], found["p_value"]) == (5, 1, 0.0625)
    assert found["verdict"].startswith("the judge shows no preference")
    assert "1 row could not be read" in found["verdict"]


def test_missing_replies_are_unreadable() -> None:
    found = judge_result([None, None])
    assert (found["ties"], found["unreadable"], found["first_share"], found["p_value"]) == (0, 1, None, 1.0)
    assert judge_result([])["unreadable"] == 0


def test_a_preference_that_hangs_on_replies_that_could_not_be_read_is_not_claimed() -> None:
    """Six wins of six are shown; with 20 unreadable rows nothing is known of the whole."""
    found = judge_result(["B", "A"] * 6 + ["hm", "hm"] * 20)
    assert found["p_value"] <= 0.05
    assert found["verdict"].startswith("the judge shows no sure preference")
    assert "20 rows could not be read: too many to rely on it" in found["verdict"]
    assert unreadable_warning(found).startswith("20 of 26 rows")
    few = judge_result(["B", "A"] * 40 + ["hm", "hm"])
    assert few["verdict"].startswith("preferred by the judge")
    assert judge_result(["hm", "hm"] * 3)["verdict"] == "no reply of the judge could be read (3 rows)"
    assert unreadable_warning(judge_result(["A", "B"])) == ""
