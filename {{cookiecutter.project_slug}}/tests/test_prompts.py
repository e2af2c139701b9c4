"""Messages are filled with cells as they are."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from finetune.core.errors import FinetuneError
from finetune.core.sections.data import Data
from finetune.data.prompts import check_columns, fill
from finetune.data.raw_examples import ReadingNotes, raw_examples

TEMPLATE = {"system": None, "user": "{question}", "assistant": "{answer}"}


def contents(template: dict[str, str | None], **row: object) -> list[str]:
    return [message["content"] for message in fill(template, row)]


def test_white_space_of_cells_is_kept() -> None:
    assert contents(TEMPLATE, question="  why?\n", answer="    y = x + 14\n") == ["  why?\n", "    y = x + 14\n"]


@given(st.text(min_size=1).filter(str.strip), st.text(min_size=1).filter(str.strip))
def test_a_cell_alone_is_the_message(question: str, answer: str) -> None:
    assert contents(TEMPLATE, question=question, answer=answer) == [question, answer]


@pytest.mark.parametrize(
    ("text", "cells", "message"),
    [
        ("\n{a}\n", {"a": " x "}, " x "),
        ("Say: {a}\n\n{b}\n", {"a": "x", "b": "y"}, "Say: x\n\ny"),
        ("{a}\n\n{b}", {"a": "x", "b": ""}, "x"),
        ("{a}\n\n{b}", {"a": "", "b": " y"}, " y"),
        ("{a}\n\n{b}\n", {"a": "x ", "b": ""}, "x "),
        ("  {a}: {b}  ", {"a": "x", "b": ""}, "x:"),
        ("{a}{a}", {"a": "\t1"}, "\t1\t1"),
    ],
)
def test_white_space_of_the_template_is_removed_at_the_ends(text: str, cells: dict[str, str], message: str) -> None:
    assert contents({"user": text}, **cells) == [message]


def test_a_message_of_white_space_is_empty() -> None:
    for row in ({"question": " \n", "answer": "x"}, {"question": "x", "answer": None}):
        with pytest.raises(ValueError, match="is empty"):
            fill(TEMPLATE, row)


def test_text_that_looks_like_json_stays_text(tmp_path: object) -> None:
    assert contents(TEMPLATE, question='{"paid":true}', answer="[1,  2]") == ['{"paid":true}', "[1,  2]"]
    assert contents(TEMPLATE, question={"paid": True, "by": None}, answer=7) == ['{"paid": true, "by": null}', "7"]


def test_white_space_around_a_class_is_removed_and_counted(tmp_path: pytest.TempPathFactory) -> None:
    path = f"{tmp_path}/a.csv"
    with open(path, "w", encoding="utf-8") as file:
        file.write("message,team\nHello,billing \nYou,billing\nWe, other\n")
    data = Data.model_validate(
        {"file": path, "split": {"train": 0.8, "valid": 0.1, "test": 0.1}, "labels": ["billing"]}
    )
    notes = ReadingNotes()
    template = {"system": None, "user": "{message}", "assistant": "{team}"}
    examples = [example for _, _, _, _, example, _ in raw_examples(data, template, {}, notes)]
    assert [example["messages"][-1]["content"] for example in examples] == ["billing", "billing", " other"]
    assert notes.counts["labels_trimmed"] == 1


def test_a_column_in_two_braces_is_refused() -> None:
    with pytest.raises(
        FinetuneError, match=r"data\.prompt\.user in params\.yaml has 'q' in two braces(.|\n)*Write {q}"
    ):
        check_columns({"user": "Say {{q}}", "assistant": '{"team": "{a}"}'}, {"q", "a"}, "raw.csv")
    check_columns({"user": "{q}", "assistant": '{"team": {a}}'}, {"q"} | {"a"}, "raw.csv")
