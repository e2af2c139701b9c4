"""The Evaluation Harness runs small tasks on questions that are in this file, by chat and by completions."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from conftest import MODEL, Server
from lm_eval import simple_evaluate
from lm_eval.tasks import TaskManager

CAPITALS = {"France": "Paris", "Italy": "Rome", "Japan": "Tokyo", "Norway": "Oslo"}
QUESTION = "What is the capital of {}?"
BEGINNING = "The capital of {} is"
CHOICES = """\
task: capitals_choices
output_type: multiple_choice
doc_to_text: "The capital of {{{{country}}}} is"
doc_to_choice: {choices}
doc_to_target: city
metric_list: [{{metric: acc}}]
"""
GENERATED = """\
task: capitals_generated
output_type: generate_until
doc_to_text: "What is the capital of {{country}}?"
doc_to_target: city
generation_kwargs: {until: ["\\n\\n"], max_gen_toks: 40, temperature: 0, do_sample: false}
metric_list: [{metric: exact_match}]
"""
PERPLEXITY = """\
task: capitals_perplexity
output_type: loglikelihood_rolling
doc_to_text: ""
doc_to_target: "The capital of {{country}} is {{city}}."
metric_list: [{metric: bits_per_byte}]
"""
DATA = """\
dataset_path: json
dataset_kwargs: {{data_files: {{test: {path}}}}}
test_split: test
"""


@pytest.fixture
def tasks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> TaskManager:
    """Write the tasks and their data."""
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    data = tmp_path / "capitals.jsonl"
    data.write_text("".join(json.dumps({"country": one, "city": city}) + "\n" for one, city in CAPITALS.items()))
    folder = tmp_path / "tasks"
    folder.mkdir()
    choices = CHOICES.format(choices=json.dumps(list(CAPITALS.values())))
    for name, text in (("choices", choices), ("generated", GENERATED), ("perplexity", PERPLEXITY)):
        (folder / f"{name}.yaml").write_text(text + DATA.format(path=data))
    return TaskManager(include_path=str(folder), include_defaults=False)


def run(server: Server, bases: Path, tasks: TaskManager, task: str, chat: bool = False, **more: Any) -> Any:
    """Return the results and the samples of one task."""
    path = "/chat/completions" if chat else "/completions"
    found = simple_evaluate(
        model="local-chat-completions" if chat else "local-completions",
        model_args={"model": MODEL, "base_url": server.url + path, "header": {"Authorization": f"Bearer {server.key}"},
                    "tokenizer": str(bases / MODEL), "tokenizer_backend": "huggingface", "max_retries": 1, **more},
        tasks=[task], task_manager=tasks, apply_chat_template=chat, log_samples=True,
        bootstrap_iters=0, verbosity="ERROR",
    )  # fmt: skip
    return found["results"][task], found["samples"][task]


def test_generated_in_chat(server: Server, bases: Path, tasks: TaskManager) -> None:
    _, samples = run(server, bases, tasks, "capitals_generated", chat=True)
    for sample in samples:
        messages = [{"role": "user", "content": QUESTION.format(sample["doc"]["country"])}]
        assert sample["resps"] == [[server.text(messages, max_tokens=40, stop=["\n\n"])]]
    assert "Paris" in samples[0]["resps"][0][0]


def test_generated_in_completions(server: Server, bases: Path, tasks: TaskManager) -> None:
    _, samples = run(server, bases, tasks, "capitals_generated")
    for sample in samples:
        body = {"model": MODEL, "prompt": QUESTION.format(sample["doc"]["country"]), "temperature": 0}
        plain = server.ask("/completions", {**body, "max_tokens": 40, "stop": ["\n\n"]})
        assert sample["resps"] == [[plain["choices"][0]["text"]]]


@pytest.mark.parametrize(("is_text", "size"), [(False, 8), (True, 1)], ids=["batches-of-tokens", "texts"])
def test_log_probabilities(
    server: Server, bases: Path, tasks: TaskManager, reference: Callable[..., Any], size: int, is_text: bool
) -> None:
    results, samples = run(server, bases, tasks, "capitals_choices", batch_size=size, tokenized_requests=not is_text)
    assert results["acc,none"] >= 0.75
    pairs = [(BEGINNING.format(one), f" {city}") for one in CAPITALS for city in CAPITALS.values()]
    expected = reference(*map(list, zip(*pairs, strict=True)))
    found = [response[0] for sample in samples for response in sample["resps"]]
    for (logprob, is_greedy), one in zip(found, expected, strict=True):
        assert float(logprob) == pytest.approx(one["logprob"], abs=0.25)  # of a number format of 8 bits
        assert (str(is_greedy) == "True") == one["is_greedy"]


def test_perplexity(server: Server, bases: Path, tasks: TaskManager, reference: Callable[..., Any]) -> None:
    results, samples = run(server, bases, tasks, "capitals_perplexity")
    texts = [f"The capital of {one} is {city}." for one, city in CAPITALS.items()]
    expected = reference(["<|im_start|>"] * len(texts), texts)  # the tokenizer's first token
    found = [float(sample["resps"][0][0]) for sample in samples]
    assert found == pytest.approx([one["logprob"] for one in expected], abs=0.5)
    assert results["bits_per_byte,none"] > 0
