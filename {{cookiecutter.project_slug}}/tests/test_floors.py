"""Answers that cost nothing, and the strongest of them as the rival of the tuned model."""

from typing import Any

import pytest

from finetune.report.headline import base_sentence, headline, score_sentence
from finetune.scoring.evaluation import compare_models, pairs, strongest
from finetune.scoring.floors import TrainingTexts, floor_answers
from finetune.scoring.tasks import Scored, score
from finetune.terminal.scores import print_scores

WHERE = ["Where is my parcel {}?", "The courier did not bring order {}.", "Package {} has not arrived yet."]
PAY = ["I was charged twice for order {}.", "Invoice {} is wrong.", "Please refund payment {}."]
TRAIN = TrainingTexts(
    [text.format(n) for n in range(20) for text in (*WHERE, *PAY)], (["delivery"] * 3 + ["billing"] * 3) * 20
)


def test_the_most_frequent_class_and_a_simple_classifier_answer_for_nothing() -> None:
    questions = ["My parcel 99 is late", "You charged me twice"]
    more = TrainingTexts([*TRAIN.questions, "Hello?"], [*TRAIN.answers, "billing"])
    found = floor_answers("classify", more, questions)
    assert found == {"majority": ["billing", "billing"], "tfidf": ["delivery", "billing"]}


def test_languages_without_spaces_are_classified() -> None:
    train = TrainingTexts(
        [text.format(n) for n in range(9) for text in ("荷物{}はどこですか", "請求{}が間違っています")],
        ["配送", "請求"] * 9,
    )
    assert floor_answers("classify", train, ["私の荷物はどこ"])["tfidf"] == ["配送"]


@pytest.mark.parametrize("task", ["extract", "generate"])
def test_other_answers_are_those_of_the_nearest_example_and_a_copy(task: Any) -> None:
    train = TrainingTexts(["Two eggs and flour", "Rice with salmon"], ['["egg"]', '["rice"]'])
    found = floor_answers(task, train, ["Salmon and rice", "eggs"])
    assert found == {"nearest": ['["rice"]', '["egg"]'], "copy": ["Salmon and rice", "eggs"]}


@pytest.mark.parametrize(
    "train",
    [TrainingTexts(["a", "b"], ["x", "x"]), TrainingTexts(["!", "?"], ["x", "y"]), TrainingTexts(["", ""], ["x", "y"])],
)
def test_what_cannot_be_learned_leaves_the_most_frequent_class(train: TrainingTexts) -> None:
    assert floor_answers("classify", train, ["c"]) == {"majority": ["x"]}
    assert set(floor_answers("generate", train, ["c"])) == {"nearest", "copy"}
    assert floor_answers("classify", TrainingTexts([], []), ["c"]) == {}


def models_of(**rights: int) -> dict[str, Scored]:
    expected = ["a", "b"] * 50
    return {
        name.replace("__", "."): score("classify", expected, expected[:n] + ["?"] * (100 - n), ["a", "b"])
        for name, n in rights.items()
    }


def test_a_classifier_that_always_says_no_is_no_better_than_its_floor() -> None:
    """The base never names a class, so any class is better than it."""
    expected = ["no"] * 60 + ["yes"] * 40
    models = {
        "base": score("classify", expected, ["hm"] * 100, ["yes", "no"]),
        "floors.majority": score("classify", expected, ["no"] * 100, ["yes", "no"]),
        "tuned": score("classify", expected, ["no"] * 100, ["yes", "no"]),
    }
    found = compare_models(models)
    assert found["lift"]["verdict"].startswith("better by 60.0 points")
    assert (found["rival"]["name"], found["rival"]["accuracy"]) == ("floors.majority", 0.0)
    assert found["rival"]["verdict"].startswith("no difference shown")


def test_the_headline_is_about_the_strongest_rival() -> None:
    models = models_of(base=3, floors__majority=18, floors__tfidf=85, compared__v1=95, tuned=86)
    assert strongest(models) == "floors.tfidf"
    evaluation: Any = compare_models(models)
    assert headline(evaluation)[::3] == ("even", "TF-IDF with logistic regression")
    assert score_sentence(evaluation) == (
        "Accuracy 0.860 (tuned) against 0.850 (TF-IDF with logistic regression) and 0.030 (base)"
    )
    assert base_sentence(evaluation).startswith(
        "Against the base model: better by 83.0 points of accuracy (95 % interval"
    )
    table = [(row["model"], row["against"]) for row in pairs(models)]
    assert ("tuned", "floors.tfidf") in table
    assert ("floors.tfidf", "base") not in table


def test_where_the_base_is_the_strongest_the_headline_is_about_it() -> None:
    evaluation: Any = compare_models(models_of(base=70, floors__majority=18, tuned=90))
    assert headline(evaluation).against == "the base model"
    assert headline(evaluation).clause == "better by 20.0 points of accuracy"
    assert base_sentence(evaluation) == ""


def test_floors_are_printed_beside_graders_which_do_not_grade_them(capsys: pytest.CaptureFixture[str]) -> None:
    evaluation: Any = compare_models(models_of(base=70, floors__majority=18, tuned=90)) | {"also": {}}
    grade = {"score": 0.5, "low": 0.4, "high": 0.6}
    evaluation["graders"] = {"polite": {"base": grade, "tuned": grade, "lift": {**grade, "p_value": 1.0}}}
    print_scores(evaluation)
    assert "graders.polite" in capsys.readouterr().out
