"""Numbers of JSON reach the prompt and the answer as they are written in the file."""

import json
from decimal import Decimal
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
from hypothesis import given
from hypothesis import strategies as st

from finetune.core.params import Params
from finetune.core.paths import PREPARED, TEST_ROWS
from finetune.core.sections.data import Data
from finetune.data.cell_map import cell_map_of, map_cells
from finetune.data.converters.alpaca import from_alpaca
from finetune.data.converters.chat import from_sharegpt
from finetune.data.identity import canonical_json
from finetune.data.json_schemas import schema_fault
from finetune.data.prompts import cell_text, filled
from finetune.data.readers import read_rows
from finetune.data.token_counts import as_sent
from finetune.data.written_numbers import WrittenFloat, WrittenInt, has_written, parse_json
from finetune.stages import prepare

SHARES = {"train": 0.6, "valid": 0.2, "test": 0.2}
SPELLINGS = [
    "10.50",
    "1e3",
    "1E-7",
    "0.00001",
    "1.0",
    "-0",
    "-0.0",
    "0.1",
    "1234567890123456789012345",
    "3.0000000000000001",
]
PARTS = st.from_regex(r"-?(0|[1-9][0-9]{0,24})(\.[0-9]{1,20})?([eE][-+]?[0-9]{1,2})?", fullmatch=True)


@given(PARTS | st.sampled_from(SPELLINGS), st.sampled_from(["", " ", "\n"]))
def test_any_number_is_text_as_it_is_written(number: str, space: str) -> None:
    text = f'{{"a":{space}{number}{space},"b":[{number}{space}],"c":{{"d":{number}}}}}'
    row = parse_json(text)
    assert [cell_text(row[key]) for key in "abc"] == [number, f"[{number}]", f'{{"d": {number}}}']
    assert row == json.loads(text)
    assert json.loads(json.dumps(row)) == json.loads(text)


@pytest.mark.parametrize("number", SPELLINGS)
@pytest.mark.parametrize("name", ["a.jsonl", "b.jsonl", "a.json"])
def test_prompts_and_answers_have_the_numbers_of_the_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, number: str
) -> None:
    monkeypatch.chdir(tmp_path)
    rows = [f'{{"q": "item {n**5:x}", "n": {number}, "in": {{"p": [{number}, {n}]}}, "g": {n}}}' for n in range(30)]
    rows = [row.replace(", ", ",\n ") for row in rows] if name == "b.jsonl" else rows
    text = f"[{','.join(rows)}]" if name == "a.json" else "\n".join(rows)
    Path(name).write_text(text, encoding="utf-8")
    prompt = {"user": "{q}: {n} {in} {in.p[0]}", "assistant": "{n}"}
    data = Data.model_validate({"file": name, "prompt": prompt, "split": SHARES, "by": "n"})
    prepare.run(cast("Params", SimpleNamespace(data=data)))
    lines = [json.loads(line) for part in SHARES for line in (PREPARED / f"{part}.jsonl").read_bytes().splitlines()]
    assert len(lines) == 30
    for line in lines:
        asked, answer = (message["content"] for message in line["messages"])
        assert answer == number
        assert f': {number} {{"p": [{number}, ' in asked
        assert asked.endswith(f"}} {number}")
    assert {json.loads(line)["by"] for line in TEST_ROWS.read_text(encoding="utf-8").splitlines()} == {number}


def test_unanswerable_copies_have_the_numbers_of_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    rows = [f'{{"d": {{"p": {n}.50}}, "q": "what of {n**5:x} {n**7:x}?", "a": "{n}"}}' for n in range(1, 41)]
    Path("a.jsonl").write_text("\n".join(rows), encoding="utf-8")
    prompt = {"user": "{d}\n{q}", "assistant": "{a}"}
    abstain = {"answer": "No idea.", "context": "d", "share": 1.0}
    data = Data.model_validate({"file": "a.jsonl", "prompt": prompt, "split": SHARES, "abstain": abstain})
    prepare.run(cast("Params", SimpleNamespace(data=data)))
    lines = [json.loads(line) for part in SHARES for line in (PREPARED / f"{part}.jsonl").read_bytes().splitlines()]
    copies = [line["messages"][0]["content"] for line in lines if line["messages"][1]["content"] == "No idea."]
    assert len(copies) > 20
    assert all(".50}\n" in asked for asked in copies)


def test_json_in_cells_of_tables_keeps_its_numbers(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text('a,b\n"{""p"": 10.50}","[1.50, 2]"\n', encoding="utf-8")
    [row] = read_rows(tmp_path / "a.csv")[0]
    assert filled("{a.p} {a}", row) == '10.50 {"p": 10.50}'
    assert map_cells(row, {"b": "lettered"})["b"] == "A. 1.50\nB. 2"


def test_numbers_are_mapped_by_their_value() -> None:
    row = parse_json('{"x": 1.00, "y": 1e3, "z": 2.50}')
    changes: Any = {"x": {1: "A"}, "y": {1000: "B"}, "z": {2.5: "C"}}
    assert map_cells(row, cell_map_of(changes)) == {"x": "A", "y": "B", "z": "C"}


def test_answers_and_calls_of_other_formats_keep_their_numbers() -> None:
    assert from_alpaca(parse_json('{"instruction": "q", "output": 10.50}'))["messages"][1]["content"] == "10.50"
    call = '{"from": "function_call", "value": "{\\"name\\": \\"f\\", \\"arguments\\": {\\"x\\": 10.50}}"}'
    text = f'{{"conversations": [{{"from": "human", "value": "q"}}, {call}, {{"from": "observation", "value": 1e3}}]}}'
    asked = from_sharegpt(parse_json(text))["messages"]
    assert asked[1]["tool_calls"][0]["function"]["arguments"] == '{"x": 10.50}'
    assert asked[2]["content"] == "1e3"


def test_numbers_with_a_spelling_are_written_where_json_is_needed() -> None:
    """orjson writes no subclass of float, and would raise an error for a number in tools."""
    value = parse_json('{"type": "object", "properties": {"x": {"type": "number", "minimum": 10.50}}}')
    assert has_written(value)
    assert as_sent(value) == as_sent(json.loads(json.dumps(value)))
    assert canonical_json(value) == canonical_json(json.loads(json.dumps(value)))
    assert schema_fault(value) is None


def test_a_number_that_python_writes_in_the_same_way_is_plain() -> None:
    row = parse_json('{"a": 0.1, "b": 12, "c": 1.5, "d": 1234567890123456789012345, "e": 10.50}')
    assert [type(value) for value in row.values()] == [float, int, float, WrittenInt, WrittenFloat]
    assert row["e"] == float(Decimal("10.5"))
