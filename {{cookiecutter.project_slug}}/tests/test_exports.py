"""The report and the registry show exported formats, and refuse those of another model or with other files."""

import json
import shlex
import subprocess
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from finished import record, write_finished, write_json

from finetune.core.errors import FinetuneError
from finetune.core.export_formats import known_format
from finetune.core.params import checked
from finetune.core.paths import EXPORT_REPORT, EXPORT_SPEED, EXPORTS
from finetune.export.comparison import logprob_differences, refuse_another_model
from finetune.export.serving import request_command, serve_commands
from finetune.project.export_manifest import files_of
from finetune.project.export_settings import export_settings, names_of_scores
from finetune.project.promotion import promote
from finetune.scoring.gates import check_gates
from finetune.stages import report
from finetune.stages.export import known_formats

FORMATS = {"merged": (1.0, 270), "gguf-q4_k_m": (0.95, 105)}


def scores(agreement: float, size: int) -> dict[str, Any]:
    figures = {"score": 0.89, "low": 0.85, "high": 0.93, "difference": -0.01, "p_value": 0.5, "margin": 0.05, "kept": 1}
    figures |= {"difference_low": -0.03, "difference_high": 0.01, "bytes": size * 10**6, "failed": 0}
    words = {"metric": "accuracy", "test": "score test (Tango)", "verdict": "no difference shown (p = 0.5)"}
    return {**figures, **words, "agreement": agreement, "logprob_difference": 0.012}


@pytest.fixture(autouse=True)
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A committed project with two exported formats."""
    monkeypatch.chdir(tmp_path)
    write_finished(tmp_path)
    evaluated = json.loads(Path("reports/evaluation.json").read_text(encoding="utf-8"))["evaluated"]
    found: dict[str, Any] = {"n": 169, "evaluated": evaluated, "tuned": 0.89, "gates_met": 1, "gates_failed": []}
    found["export"] = {name: scores(*figures) for name, figures in FORMATS.items()}
    write_json(tmp_path / EXPORT_REPORT, found)
    write_json(tmp_path / EXPORT_SPEED, {"merged": {"tokens_per_second": 12.5, "median_ms": 80.0}})
    for name in FORMATS:
        (EXPORTS / name).mkdir(parents=True)
        (EXPORTS / name / "model").write_text("weights", encoding="utf-8")
        manifest = {"fingerprint": record()["fingerprint"], "scores": found["export"][name]}
        write_json(tmp_path / EXPORTS / name / "manifest.json", {**manifest, "files": files_of(EXPORTS / name)})
    git("init", "-q")
    git("add", "-A")
    git("commit", "-qm", "Start")
    return tmp_path


def git(*arguments: str) -> str:
    who = ["-c", "user.name=t", "-c", "user.email=t@example.com"]
    return subprocess.run(["git", *who, *arguments], check=True, capture_output=True, text=True).stdout


def params(**require: str) -> Any:
    return SimpleNamespace(evaluate=SimpleNamespace(require={}), export=SimpleNamespace(require=require))


def test_the_report_shows_formats_as_columns() -> None:
    report.run()
    page = report.PAGE.read_text(encoding="utf-8")
    assert "<h2>Exports</h2>" in page
    assert "12.500" in page
    text = report.MARKDOWN.read_text(encoding="utf-8")
    assert "| 169 test rows | tuned | merged | gguf-q4\\_k\\_m |" in text
    assert "| equal answers |  | 100 % | 95 % |" in text
    assert "| size |  | 270.0 MB | 105.0 MB |" in text
    assert "tokens per second" not in text  # times are in no file of Git


def test_exports_of_another_model_are_not_shown() -> None:
    values = json.loads(EXPORT_REPORT.read_text(encoding="utf-8"))
    write_json(Path(EXPORT_REPORT), {**values, "evaluated": {**values["evaluated"], "model": "ft:other"}})
    with pytest.raises(FinetuneError, match="has the figures of ft:other"):
        report.run()


def test_without_exports_the_report_has_no_section() -> None:
    write_json(Path(EXPORT_REPORT), {"export": {}})
    report.run()
    assert "Exports" not in report.PAGE.read_text(encoding="utf-8")
    EXPORT_REPORT.unlink()
    report.run()
    assert "Exports" not in report.PAGE.read_text(encoding="utf-8")


def test_an_exported_format_is_promoted_under_its_own_name(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("AUTHOR", "COMMITTER"):
        monkeypatch.setenv(f"GIT_{name}_NAME", "t")
        monkeypatch.setenv(f"GIT_{name}_EMAIL", "t@example.com")
    done = promote(params(**{"export.gguf-q4_k_m.kept": "== 1"}), "production", "gguf-q4_k_m")
    assert (done["artifact"], done["version"]) == ("tuned-model-gguf-q4-k-m", "v0.0.1")
    assert done["met"] == ["export.gguf-q4_k_m.kept is 1, == 1"]
    assert "tuned-model-gguf-q4-k-m@v0.0.1" in git("tag").split()


def test_what_is_not_as_measured_is_not_promoted() -> None:
    with pytest.raises(FinetuneError, match=r"export.merged.agreement is 1, not < 1"):
        promote(params(**{"export.merged.agreement": "< 1"}), "production", "merged")
    with pytest.raises(FinetuneError, match="There is no export 'adapter'; exported are: merged, gguf-q4_k_m"):
        promote(params(), "production", "adapter")
    (EXPORTS / "merged/model").write_text("weight", encoding="utf-8")
    with pytest.raises(FinetuneError, match=r"exports/merged/model is cut off: it has 6 bytes, and 7 were written"):
        promote(params(), "production", "merged")
    (EXPORTS / "merged/model").write_text("Weights", encoding="utf-8")
    with pytest.raises(FinetuneError, match=r"exports/merged/model has changed"):
        promote(params(), "production", "merged")
    assert git("tag") == ""


def test_formats_have_short_names() -> None:
    assert [known_format(name) for name in ("gguf", "ollama", "merged")] == ["gguf-q8_0", "gguf-q8_0", "merged"]
    with pytest.raises(FinetuneError, match="--to: give some of adapter, merged, gguf-f16"):
        known_formats(["onnx"])


def test_gates_of_exports_are_checked_before_anything_is_trained() -> None:
    names = names_of_scores(["merged"])
    check_gates({"export.merged.kept": "== 1"}, names, "export.require")
    with pytest.raises(FinetuneError, match=r"export.require: there is no metric 'export.gguf-q8_0.kept'"):
        check_gates({"export.gguf-q8_0.kept": "== 1"}, names, "export.require")
    with pytest.raises(FinetuneError, match=r"export.require: export.merged.kept: '1' is not a valid condition"):
        check_gates({"export.merged.kept": "1"}, names, "export.require")


def test_the_section_may_be_left_out(project: Path) -> None:
    values: dict[str, Any] = {
        "data": {"file": "raw.jsonl", "split": {"train": 0.7, "valid": 0.1, "test": 0.2}},
        "provider": {"name": "local"},
        "train": {"base": "a", "method": "supervised", "n_epochs": 1, "batch_size": 1, "learning_rate_multiplier": 1.0}
        | {"seed": 1},
        "evaluate": {"max_tokens": 6, "temperature": 0.0, "concurrency": 8},
    }
    assert export_settings(checked(values)) == {"formats": []}
    with pytest.raises(FinetuneError, match=r"'export.formats': give some of"):
        checked({**values, "export": {"formats": ["onnx"]}})


def test_the_documents_have_these_commands() -> None:
    page = (Path(__file__).parents[1] / "docs/shipping.md").read_text(encoding="utf-8")
    for name in ("adapter", "merged", "gguf-bf16", "gguf-q8_0"):
        for command in serve_commands(name, "a-base", f"exports/{name}"):
            assert f"`{command}`" in page, command


def test_commands_name_the_base_its_revision_and_a_large_rank() -> None:
    (command,) = serve_commands("adapter", "organisation/model@abc", rank=24)
    lora = "--enable-lora --max-lora-rank 32 --lora-modules tuned=."
    assert command == f"vllm serve organisation/model --revision abc {lora}"


def test_requests_are_those_of_the_measurement() -> None:
    settings: Any = {"completion": None, "stop": [], "temperature": 0.0, "max_tokens": 6}
    prompts: Any = [[{"role": "system", "content": "It's red?"}, {"role": "user", "content": str(n)}] for n in range(2)]
    words = shlex.split(request_command("ollama", settings, prompts))
    assert words[1] == "http://127.0.0.1:11434/v1/chat/completions"
    body = json.loads(words[-1])
    assert body["messages"][0] == prompts[0][0]
    assert (body["temperature"], body["max_tokens"]) == (0.0, 6)
    settings = {**settings, "completion": {"separator": " ->", "lead": " ", "stop": "\n"}}
    words = shlex.split(request_command("vllm", settings, ["a ->", "b ->"]))
    assert words[1] == "http://127.0.0.1:8000/v1/completions"
    assert json.loads(words[-1])["stop"] == ["\n"]


def test_an_answer_that_is_cut_in_a_character_is_not_compared_there() -> None:
    def row(*tokens: tuple[str, float]) -> Any:
        return {"answer": "".join(text for text, _ in tokens), "logprobs": [[token] for token in tokens]}

    measured, exported = [row(("a", -1.0), ("\ufffd", -25.0))], [row(("a", -1.1), ("\ufffd", -0.1))]
    assert logprob_differences(measured, exported) == [pytest.approx(0.1)]


def test_long_answers_may_end_otherwise() -> None:
    measured: Any = [{"answer": f"{n} begins like this"} for n in range(4)]
    exported: Any = [{"answer": f"{n} begins like that"} for n in range(4)]
    found: Any = {**scores(0.0, 1), "kept": 0, "logprob_difference": 0.02}
    refuse_another_model("gguf-q8_0", found, "base", measured, exported)
    found["logprob_difference"] = 0.3
    with pytest.raises(FinetuneError, match="gguf-q8_0 is not the model that was measured: 0% of its answers"):
        refuse_another_model("gguf-q8_0", found, "base", measured, exported)
