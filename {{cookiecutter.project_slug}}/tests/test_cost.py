"""Estimates of tokens and dollars, compared with published bills and prices."""

import datetime
import json
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from typer.testing import CliRunner

from finetune.cli import app
from finetune.core.errors import FinetuneError
from finetune.data.token_counts import counter, encoder, length_in
from finetune.pricing import catalogue
from finetune.pricing.catalogue import base_name, look_up
from finetune.pricing.cost import auto_epochs, estimate

CHAT = {"messages": [{"role": "user", "content": "荷物はどこですか"}, {"role": "assistant", "content": "配送"}]}


@pytest.mark.parametrize(
    ("examples", "epochs"),
    [
        (4, 25),
        (5, 20),
        (10, 10),
        (11, 9),
        (12, 8),
        (20, 5),
        (25, 4),
        (30, 3),
        (34, 3),
        (8333, 3),
        (8334, 2),
        (12501, 1),
    ],
)
def test_auto_epochs_are_those_of_the_cookbook(examples: int, epochs: int) -> None:
    assert auto_epochs(examples) == epochs


def test_a_published_bill_of_2023_is_reproduced() -> None:
    """OpenAI's own example: 100,000 tokens over 3 epochs of gpt-3.5-turbo for 2.40 dollars."""
    price = look_up("gpt-3.5-turbo-0125", "openai").training
    assert estimate([1000] * 100, 3, None, price, None)["train_usd"] == 2.40


def test_an_unknown_price_is_unknown_and_not_0() -> None:
    assert estimate([10], 1, None, None, None) == {
        "examples": 1,
        "tokens": 10,
        "n_epochs": 1,
        "billed_tokens": 10,
        "train_usd": "unknown",
        "seconds": "unknown",
    }
    assert look_up("gpt-4.1-2025-04-14", "azure").training is None
    assert look_up("gpt-4.1-2025-04-14", "azure").context == 65536
    assert look_up("some-model", "openai").training is None
    assert look_up("some-model", "local").training == 0


def test_tokens_over_the_context_are_not_billed() -> None:
    assert estimate([100, 30], 2, 50, 1.0, None)["billed_tokens"] == 160


def test_a_tuned_model_has_the_facts_of_its_base() -> None:
    assert base_name("ft:gpt-4.1-mini-2025-04-14:org::abc") == "gpt-4.1-mini-2025-04-14"
    assert look_up("ft:gpt-4.1-mini-2025-04-14:org::abc", "openai").encoding == "o200k_base"
    assert base_name("ft:odd") == "ft:odd"


def test_the_error_for_an_invalid_catalogue_says_what_is_wrong(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(catalogue, "FILE", tmp_path / "models.toml")
    for text, message in (
        ("a = ", "not valid TOML"),
        ('[m]\nencoding = "x"\n', "Invalid entry"),
        ("[m]\nmethods=[]\nx=1\n", "Invalid entry"),
    ):
        (tmp_path / "models.toml").write_text(text, encoding="utf-8")
        with pytest.raises(FinetuneError, match=message):
            look_up("m", "openai")


@settings(max_examples=200, deadline=None)
@given(st.text(st.characters(codec="utf-8"), max_size=40), st.sampled_from(["o200k_base", "cl100k_base"]))
def test_tokens_are_counted_as_tiktoken_counts_them(text: str, encoding: str) -> None:
    assert length_in(encoding)(text) == len(encoder(encoding)(text))


def test_the_tokens_of_every_shape_are_counted() -> None:
    count = counter("o200k_base")
    tool = {"type": "function", "function": {"name": "weather"}}
    parts = [{"type": "text", "text": "荷物はどこですか"}]
    assert count({"messages": [{"role": "user", "content": parts}, CHAT["messages"][1]]}) == count(CHAT)
    assert count({**CHAT, "tools": [tool]}) > count(CHAT)
    image = {"type": "image_url", "image_url": {"url": "https://example.com/a.png"}}
    assert count({"messages": [{"role": "user", "content": [*parts, image]}, CHAT["messages"][1]]}) == count(CHAT) + 85
    asked, answer = CHAT["messages"][:1], CHAT["messages"][1:]
    preference = {"input": {"messages": asked}, "preferred_output": answer, "non_preferred_output": answer}
    assert count(preference) == 2 * count(CHAT)
    assert count({"prompt": "a ->", "completion": " b"}) == 3


def test_the_command_prints_a_table_or_json(tmp_path: Path) -> None:
    path = tmp_path / "train.jsonl"
    rows = [{"messages": [{"role": "user", "content": f"{n}번 환불"}, CHAT["messages"][1]]} for n in range(12)]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    run = CliRunner().invoke
    done = run(app, ["estimate", str(path), "--base", "gpt-4.1-mini-2025-04-14", "--json"])
    assert done.exit_code == 0, done.output
    report = json.loads(done.stdout)
    assert list(report)[:6] == ["examples", "tokens", "n_epochs", "billed_tokens", "train_usd", "seconds"]
    assert (report["examples"], report["n_epochs"]) == (12, 8)
    assert report["billed_tokens"] == 8 * report["tokens"]
    assert report["train_usd"] == round(report["billed_tokens"] * 5 / 1_000_000, 4)
    assert report["retired"] == (datetime.date.today() >= datetime.date(2027, 1, 14))
    old = run(app, ["estimate", str(path), "--base", "gpt-3.5-turbo-1106", "--n-epochs", "2"])
    assert "shut down on 2026-09-28" in old.stderr
    assert "n epochs" in old.stdout
    assert run(app, ["estimate", str(path), "--base", "x", "--n-epochs", "many"]).exit_code == 2
