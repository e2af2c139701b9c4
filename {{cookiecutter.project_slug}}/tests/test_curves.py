"""Result files and events of all providers, and the verdict on their curves."""

import base64
import re
from typing import NamedTuple

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from finetune.report.curve_verdict import curve_verdict
from finetune.report.training_curves import (
    CurveRow,
    columns_of,
    parse_events,
    parse_result_file,
    with_whole_file_losses,
)

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


LOSSES = st.floats(-1, 20) | st.sampled_from([0.0, 1e-9, 1e30, float("inf"), float("nan")])
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


def with_whole_file(train: list[float], whole: dict[int, float], batches: dict[int, float]) -> list[CurveRow]:
    """Return rows with losses of validation batches, and of the whole file, which replace them in `valid_loss`."""
    found = rows(train, {**batches, **whole})
    return [
        {**row, "full_valid_loss": whole[step]} if (step := int(row["step"] or 0)) in whole else row for row in found
    ]


def test_a_batch_is_not_compared_with_the_whole_file() -> None:
    """With one epoch, an easy batch had 0.119 at step 72, and the whole file 0.376 at the end: "overfitting"."""
    random = np.random.default_rng(1)
    batches = {step: 0.376 * float(random.gamma(3)) / 3 for step in range(4, 80, 4)} | {72: 0.119}
    train = [0.3 + 2 / step for step in range(1, 81)]
    found = curve_verdict(with_whole_file(train, {80: 0.376}, batches), 1)
    assert found.verdict == "cannot tell"
    assert "vary by about" in found.words


def test_one_validation_loss_of_one_epoch_is_not_converged() -> None:
    for whole in ({40: 0.3}, {}):
        found = curve_verdict(with_whole_file([1.0] * 40, whole, {} if whole else {40: 0.3}), 1)
        assert found.verdict == "cannot tell"
        assert found.words == (
            "The validation loss was measured only once, which shows no change: try n_epochs 2 or more."
        )


def test_a_small_loss_that_falls_slightly_is_not_improving() -> None:
    train = [0.01 + 2 / step**2 for step in range(1, 41)]
    found = curve_verdict(with_whole_file(train, {10: 0.015, 20: 0.012, 30: 0.011, 40: 0.01}, {}), 4)
    assert (found.verdict, found.n_epochs) == ("converged", None)


def test_no_percentage_is_given_of_a_small_loss() -> None:
    """The losses fell by 21 % from step 8 on, and the smooth curve rose."""
    valid = {1: 0.9, 2: 0.02, 3: 0.002, 4: 5e-4, 5: 4e-4, 6: 5e-4, 7: 6e-4, 8: 0.00146, 9: 0.0012, 10: 0.00115}
    found = curve_verdict(rows([2 / step**2 for step in range(1, 11)], valid), 3)
    assert found.verdict == "converged"
    small = "was about 0.001 at the end, where changes do not matter: more epochs would bring little."
    assert found.words == f"The loss of validation batches {small}"


def test_no_percentage_is_given_that_the_losses_contradict() -> None:
    """From step 30 to the end, the smooth curve rose by 4 %, and the losses fell from 0.41 to 0.40."""
    valid = {4: 0.5, 8: 0.41, 12: 0.4, 16: 0.39, 20: 0.38, 24: 0.37, 28: 0.37, 30: 0.41, 32: 0.36, 34: 0.38, 36: 0.39}
    train = [0.3 + 0.2 / step for step in range(1, 41)]
    words = "The loss of validation batches changed little after step 30: more epochs would bring little."
    assert curve_verdict(rows(train, {**valid, 40: 0.4}), 3).words == words
    agrees = curve_verdict(rows(train, {**valid, 30: 0.37, 40: 0.4}), 3).words
    assert re.search(r"changed by about \+\d+ % after step 30", agrees)


def test_a_validation_split_of_few_examples_shows_nothing() -> None:
    curves = with_whole_file(FALLING, {10: 1.0, 20: 0.5, 30: 0.7, 40: 0.9}, {})
    assert curve_verdict(curves, 4, examples=10).verdict == "overfitting"
    found = curve_verdict(curves, 4, examples=1)
    assert found.verdict == "cannot tell"
    assert found.words.startswith("The validation split has 1 example, too few")


@pytest.mark.parametrize(
    ("kept", "words"),
    [
        (None, ""),
        ([], " The provider kept no checkpoints."),
        ([20, 30, 40], " The checkpoint of step 20 was kept: train.choose can choose it."),
        ([26, 33, 40], " No checkpoint of step 20 was kept; the nearest is that of step 26."),
    ],
)
def test_the_verdict_says_whether_the_step_that_it_names_was_kept(kept: list[int] | None, words: str) -> None:
    found = curve_verdict(with_whole_file(FALLING, {10: 1.0, 20: 0.5, 30: 0.7, 40: 0.9}, {}), 4, kept)
    assert found.step == 20
    assert found.words == (
        f"The validation loss was least at step 20 and rose after it, from 0.500 to 0.900: try n_epochs 2.{words}"
    )


def test_batches_show_a_rise_between_the_ends_of_two_epochs() -> None:
    """The whole file has less loss after the second epoch than after the first, but least was between them."""
    random = np.random.default_rng(1)
    curve = [0.5 + 1.5 * 0.93**step + max(0, step - 70) / 100 for step in range(1, 101)]
    batches = {step: loss * float(random.gamma(100)) / 100 for step, loss in enumerate(curve, 1)}
    train = [0.3 + 2 / step for step in range(1, 101)]
    whole = {25: 0.75, 100: 0.7}  # a file whose epochs are of unequal length
    assert curve_verdict(with_whole_file(train, whole, {}), 2).verdict == "improving"
    found = curve_verdict(with_whole_file(train, whole, batches), 2)
    assert found.verdict == "overfitting"
    assert found.step is not None
    assert 50 <= found.step <= 85


@pytest.mark.parametrize("missing", ["", "-1", -1.0, None])
def test_a_missing_loss_is_no_loss(missing: str | float | None) -> None:
    curves = rows(FALLING, {10: 1.0, 20: 0.6, 30: 0.4, 40: 0.2})
    filled = [{**row, "valid_loss": missing} if row["valid_loss"] == "" else row for row in curves]
    assert curve_verdict(filled, 4) == curve_verdict(curves, 4)


def test_a_validation_loss_that_is_not_finite_diverges() -> None:
    found = curve_verdict(rows(FALLING, {20: 0.5, 40: float("nan")}), 2)
    assert (found.verdict, found.words) == (
        "diverging",
        "A loss is not a finite number: try half the learning_rate_multiplier.",
    )


def test_what_training_losses_cannot_show_is_said() -> None:
    found = curve_verdict(rows([1 - step / 50 for step in range(40)]), 4)
    assert found.words.endswith("try n_epochs 6. Without a validation loss, overfitting cannot be seen.")


def test_events_add_the_losses_of_the_whole_file_to_a_result_file() -> None:
    """OpenAI's result file has one loss of a step, and does not say of what."""
    events = parse_events([Event({"step": 2, "train_loss": 0.5, "full_valid_loss": 0.6, "valid_loss": 0.1})])
    found = with_whole_file_losses(parse_result_file(OPENAI), events)
    assert [row.get("full_valid_loss") for row in found] == [None, 0.6]
    assert found[0]["train_loss"] == "0.9"
    assert with_whole_file_losses([], events) == []


@settings(deadline=None, max_examples=60)
@given(
    st.lists(st.tuples(LOSSES, LOSSES | st.none(), LOSSES | st.none()), max_size=50),
    st.integers(1, 12) | st.none(),
    st.lists(st.integers(1, 60)) | st.none(),
)
def test_every_curve_has_a_verdict(
    losses: list[tuple[float, float | None, float | None]], n_epochs: int | None, kept: list[int] | None
) -> None:
    curves: list[CurveRow] = [
        {"step": step, "train_loss": train, "valid_loss": valid, "full_valid_loss": whole}
        for step, (train, valid, whole) in enumerate(losses, 1)
    ]
    found = curve_verdict(curves, n_epochs, kept)
    assert found.verdict in ("improving", "converged", "overfitting", "diverging", "cannot tell", "unknown")
    assert found.words.endswith(".")
    assert not re.search(r"\b(nan|inf|None)\b", found.words)


def test_the_table_has_the_columns_of_the_former_api_where_the_provider_has_them() -> None:
    assert "elapsed_tokens" not in columns_of(parse_result_file(OPENAI))
    found = parse_result_file(b"step,train_loss,elapsed_tokens,valid_sequence_accuracy\n1,0.9,20,\n2,0.5,40,0.5\n")
    assert columns_of(found)[-2:] == ["elapsed_tokens", "valid_sequence_accuracy"]
