"""Files that are JSON, but not one example per line: one finding names the cause, and the repair loses nothing."""

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from finetune.data.checks.across_files import check
from finetune.data.checks.repair import repair
from finetune.data.json_values import on_one_line, values_of


def example(number: int) -> dict[str, Any]:
    asked = f"注文{number}の荷物は\nどこ\u2028ですか, {{{number}}}, {{"
    return {"messages": [{"role": "user", "content": asked}, {"role": "assistant", "content": f"배송 {number}"}]}


EXAMPLES = [example(number) for number in range(12)]
LINES = [json.dumps(one, ensure_ascii=False) for one in EXAMPLES]
PRETTY = [json.dumps(one, ensure_ascii=False, indent=2) for one in EXAMPLES]
FILES = {
    "pretty-printed": "\n".join(PRETTY),
    "pretty-printed, Windows": "\n".join(PRETTY).replace("\n", "\r\n"),
    "pretty-printed, blank lines": "\n" + "\n\n\n".join(PRETTY) + "\n\n",
    "pretty-printed, back to back": "".join(PRETTY),
    "pretty-printed, commas": ",\n".join(PRETTY) + ",\n",
    "list": "[" + ", ".join(LINES) + "]",
    "list, pretty-printed": json.dumps(EXAMPLES, indent=1),
    "list, comma after the last": "[\n" + "".join(line + ",\n" for line in LINES) + "]\n",
    "commas between lines": ",\n".join(LINES),
}


@pytest.mark.parametrize("text", FILES.values(), ids=FILES.keys())
def test_one_finding_names_the_cause_and_the_repair_keeps_every_example(tmp_path: Path, text: str) -> None:
    path = tmp_path / "train.jsonl"
    path.write_bytes(text.encode())
    found = check([path])["findings"]
    assert [(one["code"], one["line"]) for one in found] == [("json_not_jsonl", 0)]
    assert "--fix" in found[0]["fix"]
    target, _ = repair(path)
    assert [json.loads(line) for line in target.read_bytes().decode().split("\n")[:-1]] == EXAMPLES
    assert [one for one in check([target])["findings"] if one["severity"] == "error"] == []


@pytest.mark.parametrize(
    ("line", "what"),
    [
        (LINES[0] + LINES[1], "2 JSON objects on one line"),
        (LINES[0] + " ,  " + LINES[1], "2 JSON objects on one line"),
        (LINES[0] + ",", "a comma beside the JSON object"),
    ],
)
def test_a_line_that_is_not_one_object_is_named_and_repaired(tmp_path: Path, line: str, what: str) -> None:
    path = tmp_path / "train.jsonl"
    path.write_text("\n".join([*LINES[2:], line, ""]), encoding="utf-8")
    [found] = [one for one in check([path])["findings"] if one["severity"] == "error"]
    assert (found["code"], found["line"], found["message"]) == ("invalid_json", 11, what)
    target, _ = repair(path)
    kept = [json.loads(text) for text in target.read_bytes().decode().split("\n")[:-1]]
    assert kept == EXAMPLES[2:] + EXAMPLES[: line.count('"messages"')]


def test_a_pretty_printed_object_among_lines_is_one_finding(tmp_path: Path) -> None:
    path = tmp_path / "train.jsonl"
    path.write_text("\n".join([*LINES[:5], PRETTY[5], *LINES[6:], ""]), encoding="utf-8")
    found = [one for one in check([path])["findings"] if one["severity"] == "error"]
    assert [(one["code"], one["line"]) for one in found] == [("json_not_jsonl", 6)]
    target, _ = repair(path)
    assert [json.loads(line) for line in target.read_bytes().decode().split("\n")[:-1]] == EXAMPLES


def test_broken_json_over_several_lines_is_one_finding_with_its_line(tmp_path: Path) -> None:
    path = tmp_path / "train.jsonl"
    broken = PRETTY[1].replace('"assistant"', "assistant")
    path.write_text("\n".join([PRETTY[0], broken, *PRETTY[2:]]), encoding="utf-8")
    [found] = check([path])["findings"]
    line = path.read_text(encoding="utf-8").split("\n").index('      "role": assistant,') + 1
    assert found["code"] == "json_not_jsonl"
    assert f"at line {line}" in found["message"]
    assert repair(path)[0].exists() is False


def test_a_list_without_its_end_may_be_cut_off_and_stays_an_error(tmp_path: Path) -> None:
    path = tmp_path / "train.jsonl"
    path.write_text("[\n" + "".join(line + ",\n" for line in LINES), encoding="utf-8")
    [found] = check([path])["findings"]
    assert found["code"] == "json_not_jsonl"
    assert "not valid JSON at line 13" in found["message"]
    left = [one for one in check([repair(path)[0]])["findings"] if one["severity"] == "error"]
    assert [(one["code"], one["line"]) for one in left] == [("json_not_jsonl", 0)]


def test_a_repair_does_not_rewrite_numbers(tmp_path: Path) -> None:
    path = tmp_path / "train.jsonl"
    path.write_text('{"messages": [],\n "n": 12345678901234567890123, "x": 1.10}\n{"messages": []}', encoding="utf-8")
    assert [on_one_line(text) for text in values_of(path.read_bytes()).texts] == [  # type: ignore[union-attr]
        b'{"messages": [], "n": 12345678901234567890123, "x": 1.10}',
        b'{"messages": []}',
    ]


JSON_VALUE: Any = st.dictionaries(st.text(max_size=5), st.text(max_size=8) | st.integers() | st.none(), max_size=4)


@settings(max_examples=100, deadline=None)
@given(st.lists(JSON_VALUE, min_size=1, max_size=5), st.sampled_from(["\n", "", ",\n", " , ", "\r\n"]), st.booleans())
def test_every_value_is_read_as_it_was_written(values: list[Any], between: str, pretty: bool) -> None:
    text = between.join(json.dumps(value, ensure_ascii=False, indent=3 if pretty else None) for value in values)
    found = values_of(text.encode())
    assert found is not None
    assert found.broken_line is None
    assert [json.loads(on_one_line(one)) for one in found.texts] == values
    assert not any(b"\n" in on_one_line(one) for one in found.texts)


def test_keys_that_are_null_are_removed(tmp_path: Path) -> None:
    path = tmp_path / "train.jsonl"
    rows: list[Any] = [example(number) for number in range(12)]
    for row in rows:
        row["messages"][1] |= {"tool_calls": None, "name": None, "refusal": None}
        row["messages"][0]["content"] = [{"type": "text", "text": row["messages"][0]["content"], "image_url": None}]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    assert {one["code"] for one in check([path])["findings"]} == {"bad_name", "bad_tool_call", "content_parts"}
    target, _ = repair(path)
    assert [one for one in check([target])["findings"] if one["severity"] == "error"] == []
