"""Result files and events of all providers, and the verdict on their curves."""

import base64
from typing import NamedTuple

import pytest

from finetune.report.curve_verdict import curve_verdict
from finetune.report.training_curves import CurveRow, parse_events, parse_result_file

OPENAI = b"step,train_loss,train_accuracy,valid_loss,valid_mean_token_accuracy\n1,0.9,0.5,,\n2,0.5,0.7,0.6,0.8\n"
AZURE = (
    b"\xef\xbb\xbfstep,train_loss,train_mean_token_accuracy,valid_loss,validation_mean_token_accuracy,full_valid_loss,"
    b"full_valid_mean_token_accuracy\n1,0.9,0.5,,,,\n2,0.5,0.7,0.3,0.9,0.6,0.8\n"
)


@pytest.mark.parametrize("content", [OPENAI, AZURE, base64.b64encode(OPENAI), base64.encodebytes(AZURE)])
def test_all_column_names_plain_and_in_base64_give_the_same_rows(content: bytes) -> None:
    rows = parse_result_file(content)
    assert [row["step"] for row in rows] == ["1", "2"]
    assert [row["train_accuracy"] for row in rows] == ["0.5", "0.7"]
    assert (rows[1]["valid_loss"], rows[1]["valid_accuracy"]) == ("0.6", "0.8")
    assert not rows[0]["valid_loss"]


@pytest.mark.parametrize("content", [b"", b"\xff\xfe\x00", b"<html></html>", b"%PDF", b"step\n\n"])
def test_content_that_is_no_table_has_no_rows(content: bytes) -> None:
    assert parse_result_file(content) == []


class Event(NamedTuple):
    data: object


def test_events_give_the_same_rows_as_a_result_file() -> None:
    events = [
        Event({"step": 2, "train_loss": 0.5, "full_valid_loss": 0.6, "valid_loss": 0.1}),
        Event({}),
        Event(None),
        Event({"step": 1, "train_loss": 0.9}),
    ]
    assert [(row["step"], row.get("valid_loss")) for row in parse_events(events)] == [(1, None), (2, 0.6)]


def rows(train: list[float], valid: dict[int, float] | None = None) -> list[CurveRow]:
    return [
        {"step": step, "train_loss": loss, "valid_loss": (valid or {}).get(step, "")}
        for step, loss in enumerate(train, 1)
    ]


FALLING = [2 / step for step in range(1, 41)]


@pytest.mark.parametrize(
    ("curves", "word", "step", "epochs"),
    [
        (rows(FALLING, {10: 1.0, 20: 0.6, 30: 0.4, 40: 0.2}), "improving", None, 6),
        (rows(FALLING, {10: 1.0, 20: 0.5, 30: 0.405, 40: 0.4}), "converged", None, None),
        (rows(FALLING, {10: 1.0, 20: 0.5, 30: 0.7, 40: 0.9}), "overfitting", 20, 2),
        (rows(FALLING, {10: 0.5, 20: 0.6, 30: 0.7, 40: 0.9}), "overfitting", 10, 1),
        (rows([1.0] * 20 + [3.0] * 20), "diverging", None, None),
        (rows([1.0] * 10 + [float("nan")]), "diverging", None, None),
        (rows([1 - step / 50 for step in range(40)]), "improving", None, 6),
        (rows([1.0] * 40), "converged", None, None),
        ([], "unknown", None, None),
    ],
)
def test_the_verdict_on_curves(curves: list[CurveRow], word: str, step: int | None, epochs: int | None) -> None:
    found = curve_verdict(curves, 4)
    assert (found.verdict, found.step, found.n_epochs) == (word, step, epochs)
    assert found.words.endswith(".")


def test_fewer_epochs_are_not_proposed_where_one_epoch_overfits() -> None:
    found = curve_verdict(rows(FALLING, {10: 1.0, 20: 0.4, 30: 0.7, 40: 0.9}), 1)
    assert found.n_epochs is None
    assert "learning_rate_multiplier" in found.words


def test_losses_of_the_whole_validation_file_replace_those_of_its_batches() -> None:
    whole = {20: 0.31, 40: 0.3}
    curves = [
        {**row, "full_valid_loss": whole.get(int(row["step"] or 0), "")} for row in rows(FALLING, {10: 0.1, **whole})
    ]
    assert curve_verdict(rows(FALLING, {10: 0.1, **whole}), 2).verdict == "overfitting"  # if only batches were measured
    assert curve_verdict(curves, 2).verdict == "improving"
    assert parse_result_file(AZURE)[1]["full_valid_loss"] == "0.6"
