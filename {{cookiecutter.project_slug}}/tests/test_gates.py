"""Gates: what `validate` refuses and warns of, and what an evaluation meets."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from finetune.core.errors import FinetuneError
from finetune.core.params import Params
from finetune.core.sections.evaluate import Evaluate
from finetune.scoring.gates import check_gates, parse_condition, results_of
from finetune.scoring.metric_names import metric_names

METRICS: dict[str, Any] = {"tuned": {"accuracy": 0.8}, "lift": {"p_value": 1e-9, "test": "x"}, "n": 50}
PREPARED: Any = {"codes": {}, "completion": None, "abstain": None}


def names_of(task: str = "classify", expected: tuple[str, ...] = ("yes", "no"), **settings: Any) -> set[str]:
    evaluate = Evaluate.model_validate(
        {"task": task, "max_tokens": 5, "temperature": 0.0, "concurrency": 8, "few_shot": 2, **settings}
    )
    data = SimpleNamespace(labels=[])
    train, provider = SimpleNamespace(base="gpt-4.1-mini-2025-04-14"), SimpleNamespace(name="openai")
    params = SimpleNamespace(evaluate=evaluate, data=data, train=train, provider=provider)
    return metric_names(cast("Params", params), PREPARED, expected)


@pytest.fixture(autouse=True)
def _in_a_project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def test_met_and_unmet_gates_are_named_with_their_values() -> None:
    met, failed = results_of({"tuned.accuracy": ">= 0.8", "lift.p_value": "<= 1e-12", "n": "> 49"}, METRICS)
    assert met == ["tuned.accuracy is 0.8, >= 0.8", "n is 50, > 49"]
    assert failed == ["lift.p_value is 1e-09, not <= 1e-12"]


def test_a_metric_without_a_value_meets_no_gate() -> None:
    assert results_of({"tuned.log_loss": "<= 9"}, METRICS) == ([], ["tuned.log_loss has no value, so it is not <= 9"])


@pytest.mark.parametrize("condition", ["!= 0.8", ">= 0.8.1", ">= .", "0.8", ">= 1 2", "at least 0.8"])
def test_an_invalid_condition_is_refused(condition: str) -> None:
    with pytest.raises(FinetuneError, match=r"evaluate\.require: tuned\.accuracy: .* is not a valid condition"):
        parse_condition("tuned.accuracy", condition)
    with pytest.raises(FinetuneError, match="is not a valid condition"):
        check_gates({"tuned.accuracy": condition}, {"tuned.accuracy"})


@pytest.mark.parametrize(
    "name",
    [
        "tuned.acuracy",
        "tuned.f1",
        "compared.v2.accuracy",
        "also.tone.kept",
        "lift.verdict",
        "graders.x.tuned.score",
        "judge",
    ],
)
def test_a_name_that_is_no_metric_is_refused_before_anything_is_asked(name: str) -> None:
    names = names_of(compare=["v1"], also={"general": {"file": "a", "task": "classify", "margin": 0.1}})
    with pytest.raises(FinetuneError, match=rf"there is no metric '{name}'"):
        check_gates({name: ">= 0.8"}, names)


def test_the_names_of_all_metrics_are_known() -> None:
    also = {"general": {"file": "a", "task": "classify", "margin": 0.1}}
    names = names_of(compare=["v1.0", "checkpoints"], also=also, graders={"polite": {}}, judge={"model": "m"}, beta=0.5)
    known = {
        "tuned.accuracy": "> 0", "tuned.accuracy_low": "> 0", "tuned.log_loss": "< 9", "base.macro_f1": "> 0",
        "lift.accuracy_low": "> 0", "lift.wins": "> 0", "lift_over_few_shot.accuracy_low": "> 0",
        "compared.v1.0.accuracy": "> 0", "compared.v1.0.lift.accuracy_low": "> 0", "checkpoints.76.accuracy": "> 0",
        "graders.polite.tuned.score": "> 0", "graders.polite.checkpoints.76.score": "> 0", "tuned.f_beta": "> 0",
        "graders.polite.lift.low": "> 0", "also.general.kept": "== 1", "judge.wins": "> 3", "tuned.failed": "== 0",
        "tuned.usd_per_1000": "< 1", "saved_prompt_tokens": "> 0", "n": "> 9", "groups": "> 9",
    }  # fmt: skip
    assert check_gates(known, names) == []
    names = names_of("extract", ('{"city": "Oslo"}', '{"city": "Rome"}'))
    more = {"tuned.f1": "> 0", "tuned.fields.city": "> 0", "base.fields.days": "> 0", "tuned.strict_json": "== 1"}
    assert check_gates(more, names) == []
    assert check_gates({"lift.chrf_low": "> 0", "tuned.rouge_l": "> 0"}, names_of("generate", ("a b", "c d"))) == []


def test_a_gate_on_a_two_sided_p_alone_is_warned_of() -> None:
    """A model that is worse by 50 points has a small p too."""
    names = names_of(graders={"polite": {}}, judge={"model": "m"})
    [warning] = check_gates({"lift.p_value": "<= 0.05"}, names)
    assert 'Require also lift.accuracy_low: "> 0".' in warning
    [warning] = check_gates({"graders.polite.lift.p_value": "<= 0.05", "tuned.accuracy": ">= 0.8"}, names)
    assert 'graders.polite.lift.low: "> 0"' in warning
    assert "judge.wins" in check_gates({"judge.p_value": "<= 0.05"}, names)[0]
    assert check_gates({"lift.p_value": "<= 0.05", "lift.accuracy_low": "> 0"}, names) == []
    assert check_gates({"lift.p_value": "<= 0.05", "lift.accuracy": ">= 0.02"}, names) == []
    assert len(check_gates({"lift.p_value": "<= 0.05", "lift.accuracy": ">= -0.5"}, names)) == 1
