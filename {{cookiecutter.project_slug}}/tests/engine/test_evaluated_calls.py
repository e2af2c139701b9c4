"""The pipeline on rows whose answers are calls of a tool: trained, asked with the tool, and scored by exact calls.

The tiny base learns no call in a test's time; `bench/tools.py` of the template shows what the real one learns.
"""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import openai
import pytest
import quick
from conftest import COLOURS
from ruamel.yaml import YAML
from tiny import make_tiny_base

from finetune.core.disk import read_json, read_jsonl, write_jsonl
from finetune.core.errors import FinetuneError
from finetune.core.params import load_params
from finetune.core.paths import BASE_ANSWERS, EVALUATION, TUNED_ANSWERS
from finetune.stages import baseline, evaluate, export, prepare, train, tuned, upload, validate

pytestmark = pytest.mark.slow
PAINT = {
    "type": "function",
    "function": {
        "name": "paint",
        "parameters": {
            "type": "object",
            "properties": {"colour": {"enum": COLOURS}},
            "required": ["colour"],
            "additionalProperties": False,
        },
    },
}


@pytest.fixture(scope="module", autouse=True)
def _project(
    client: openai.OpenAI, home: Path, forked_workers: None, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[None]:
    make_tiny_base(home / "bases" / "roomy", context=4096)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(tmp_path_factory.mktemp("project"))
        quick.use_engine(patch, client.api_key)
        write_jsonl(Path("data/raw/calls.jsonl"), [row(number) for number in range(90)])
        values = {
            "data": {
                "file": "data/raw/calls.jsonl",
                "near": "off",
                "split": {"train": 0.5, "valid": 0.1, "test": 0.4},
            },
            "provider": {"name": "local", "base_url": str(client.base_url)},
            "train": {
                "base": "roomy",
                "method": "supervised",
                "n_epochs": 2,
                "batch_size": 4,
                "learning_rate_multiplier": 10.0,
                "seed": 7,
            },
            "evaluate": {"task": "extract", "max_tokens": 120, "temperature": 0.0, "concurrency": 8},
        }
        YAML().dump(values, Path("params.yaml"))
        yield


def row(number: int) -> dict[str, Any]:
    colour = COLOURS[number % 3]
    function = {"name": "paint", "arguments": json.dumps({"colour": colour})}
    called = {"role": "assistant", "tool_calls": [{"id": "c1", "type": "function", "function": function}]}
    return {"messages": [{"role": "user", "content": f"{number * 7919}: paint it {colour}"}, called], "tools": [PAINT]}


def test_calls_are_asked_with_their_tool_and_compared() -> None:
    params = load_params()
    for stage in (prepare, validate, upload, train, baseline, tuned, evaluate):
        stage.run(params)
    base, answers = read_jsonl(BASE_ANSWERS, "baseline"), read_jsonl(TUNED_ANSWERS, "tuned")
    assert len(answers) > 20
    for one, other in zip(base, answers, strict=True):
        [expected] = json.loads(one["expected"])
        assert expected["name"] == "paint"
        assert expected["arguments"]["colour"] in one["asked"]
        assert other["expected"] == one["expected"]
        assert one["prompt_tokens"] > len(json.dumps(PAINT)) // 2  # the tool is in the prompt
    found = read_json(EVALUATION, "evaluate")
    assert found["base"]["exact_match"] == 0  # it answers in words, and not with an empty text
    assert 0 <= found["tuned"]["exact_match"] <= 1
    assert found["floors"]["nearest"]["exact_match"] > 0.5
    with pytest.raises(FinetuneError, match="test rows declare tools"):
        export.run(params, to=["merged"])
