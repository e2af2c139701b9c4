"""Estimates of tokens and dollars, compared with published bills and prices."""

import datetime
import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from ruamel.yaml import YAML
from typer.testing import CliRunner

from finetune.cli import app
from finetune.core.errors import FinetuneError
from finetune.data.token_counts import counter, encoder, length_in
from finetune.pricing import catalogue
from finetune.pricing.catalogue import alias_note, base_name, dated_name, look_up
from finetune.pricing.cost import auto_epochs, dollars, estimate, price_of_calls
from finetune.project.ledger import add_job

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


def test_a_small_price_is_not_rounded_to_0() -> None:
    assert [dollars(tokens, 0.4) for tokens in (0, 40, 400, 1_000_000)] == [0, 2e-5, 2e-4, 0.4]
    assert price_of_calls(30, 10, (0.15, 0.6)) == 1e-5
    assert dollars(10**9, 0) == 0


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


@pytest.mark.parametrize(
    ("alias", "dated"),
    [
        ("gpt-3.5-turbo", "gpt-3.5-turbo-0125"),
        ("gpt-4o", "gpt-4o-2024-08-06"),
        ("gpt-4o-mini", "gpt-4o-mini-2024-07-18"),
        ("gpt-4.1", "gpt-4.1-2025-04-14"),
        ("gpt-4.1-mini", "gpt-4.1-mini-2025-04-14"),
        ("gpt-4.1-nano", "gpt-4.1-nano-2025-04-14"),
    ],
)
def test_an_alias_is_looked_up_by_its_dated_name(alias: str, dated: str) -> None:
    for provider in ("openai", "azure", "local"):
        assert look_up(alias, provider) == look_up(dated, provider)
    assert look_up(f"ft:{alias}:org::abc", "openai").name == dated
    assert alias_note(alias) == f"{alias!r} is an alias, whose meaning may change; it is taken as {dated!r}."
    assert alias_note(dated) is alias_note("some/model") is alias_note(f"ft:{dated}:org::abc") is None


def test_aliases_of_the_project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    own = Path("models.toml")
    own.write_text(
        '["gpt-4o-mini-2024-07-18".openai]\ntraining = 2.5\n["me/new"]\naliases = ["newest"]\n', encoding="utf-8"
    )
    assert look_up("gpt-4o-mini", "openai").training == 2.5
    assert look_up("newest", "openai").name == "me/new"
    own.write_text(
        '["gpt-4o-mini".openai]\ntraining = 1.5\n', encoding="utf-8"
    )  # an entry by the name of the alias is for that name
    assert (look_up("gpt-4o-mini", "openai").name, look_up("gpt-4o-mini", "openai").training) == ("gpt-4o-mini", 1.5)
    assert dated_name("gpt-4o") == "gpt-4o-2024-08-06"
    own.write_text('["me/new"]\naliases = "newest"\n', encoding="utf-8")
    assert dated_name("new") == "new"
    with pytest.raises(FinetuneError, match="aliases"):
        look_up("me/new", "openai")


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


def test_the_command_prints_a_table_or_json(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)  # outside a project
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
    assert (report["provider"], report["tokens_exact"]) == ("openai", True)
    old = run(app, ["estimate", str(path), "--base", "gpt-3.5-turbo-1106", "--n-epochs", "2"])
    assert "shut down on 2026-09-28" in old.stderr
    assert "n epochs" in old.stdout
    assert run(app, ["estimate", str(path), "--base", "x", "--n-epochs", "many"]).exit_code == 2
    assert run(app, ["estimate", str(path), "--base", "x", "--provider", "opneai"]).exit_code == 2


@pytest.fixture
def training_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Change to an empty folder, and return a training file there."""
    monkeypatch.chdir(tmp_path)
    rows = [{"messages": [{"role": "user", "content": f"{n}번 환불"}, CHAT["messages"][1]]} for n in range(12)]
    path = Path("train.jsonl")
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def estimated(*arguments: str) -> tuple[dict[str, Any], str]:
    """Run `finetune estimate --json`, and return its report and what it says."""
    done = CliRunner().invoke(app, ["estimate", *arguments, "--json"])
    assert done.exit_code == 0, done.output
    return json.loads(done.stdout), done.stderr


def test_an_estimate_by_an_alias_names_the_dated_model(training_file: Path) -> None:
    by_alias, said = estimated(str(training_file), "--model", "gpt-3.5-turbo")
    assert "'gpt-3.5-turbo' is an alias, whose meaning may change; it is taken as 'gpt-3.5-turbo-0125'." in said
    by_name, said = estimated(str(training_file), "--base", "gpt-3.5-turbo-0125")
    assert by_alias == by_name
    assert by_alias["train_usd"] == round(by_alias["billed_tokens"] * 8 / 1_000_000, 4)
    assert "alias" not in said


def test_outside_a_project_the_base_must_be_given(training_file: Path) -> None:
    done = CliRunner().invoke(app, ["estimate", str(training_file)])
    assert done.exit_code == 2
    assert "--base" in done.stderr


def test_an_estimate_in_a_project_takes_its_settings_and_its_bills(training_file: Path) -> None:
    project = (Path(__file__).parents[1] / "params.yaml").read_text(encoding="utf-8")
    values = YAML(typ="safe").load(project)
    values["provider"]["name"], values["train"]["base"], values["train"]["n_epochs"] = "nebius", "me/base", 6
    YAML().dump(values, Path("params.yaml"))
    Path("models.toml").write_text('["me/base".nebius]\ntraining = 2.0\n', encoding="utf-8")
    report, said = estimated(str(training_file))
    assert said == "From params.yaml: base me/base, n_epochs 6, provider nebius.\n"
    assert (report["provider"], report["n_epochs"], report["seconds"]) == ("nebius", 6, "unknown")
    assert report["train_usd"] == round(report["billed_tokens"] * 2 / 1_000_000, 4)
    million = dict.fromkeys(("counted_tokens", "billed_tokens"), 1_000_000)
    row: Any = {"job": "a", "provider": "nebius", "base": "me/base", "seconds": 1_000_030, "billed_usd": 2.0, **million}
    add_job(row)
    corrected, said = estimated(str(training_file))
    assert corrected["seconds"] == 30 + report["billed_tokens"]
    assert "Corrected by the bills of earlier jobs on this base in reports/ledger.csv: 1." in said
    given, said = estimated(str(training_file), "--base", "gpt-4.1", "--n-epochs", "2", "--provider", "openai")
    assert (given["provider"], given["n_epochs"]) == ("openai", 2)
    assert "params.yaml" not in said
    part, said = estimated(str(training_file), "--n-epochs", "2")
    assert (part["provider"], part["n_epochs"]) == ("nebius", 2)
    assert said.startswith("From params.yaml: base me/base, provider nebius.")


def test_a_hosted_base_is_not_free_in_a_project_that_trains_on_this_machine(training_file: Path) -> None:
    shutil.copy(Path(__file__).parents[1] / "params.yaml", "params.yaml")
    values = YAML(typ="safe").load(Path("params.yaml"))
    values["provider"]["name"], values["train"]["base"] = "local", "SmolLM2-135M-Instruct"
    YAML().dump(values, Path("params.yaml"))
    assert estimated(str(training_file))[0]["train_usd"] == 0
    report, said = estimated(str(training_file), "--base", "gpt-4.1-mini")
    assert report["provider"] == "openai"
    assert report["train_usd"] == round(report["billed_tokens"] * 5 / 1_000_000, 4)
    assert "provider" not in said
    assert estimated(str(training_file), "--base", "gpt-4.1-mini", "--provider", "local")[0]["train_usd"] == 0


def test_an_invalid_params_file_is_an_error_only_where_it_is_needed(training_file: Path) -> None:
    Path("params.yaml").write_text("another: tool\n", encoding="utf-8")
    needed = CliRunner().invoke(app, ["estimate", str(training_file)])
    assert isinstance(needed.exception, FinetuneError)
    report, said = estimated(str(training_file), "--base", "gpt-4.1-mini-2025-04-14")
    assert report["provider"] == "openai"
    assert said.startswith("Not used: params.yaml: ")


def test_a_job_on_an_alias_corrects_the_estimate_of_the_dated_name(training_file: Path) -> None:
    million = {"counted_tokens": 1_000_000, "billed_tokens": 2_000_000}
    row: Any = {"job": "a", "provider": "openai", "base": "gpt-4.1-mini", "seconds": 60, "billed_usd": 2.0, **million}
    add_job(row)
    report, _ = estimated(str(training_file), "--base", "gpt-4.1-mini-2025-04-14")
    assert report["billed_tokens"] == 2 * report["tokens"] * report["n_epochs"]
