"""`finetune check --fix`: what it repairs, what it leaves, and that it changes nothing else."""

import json
from collections.abc import Iterator
from copy import deepcopy
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from finetune.data.checks.across_files import check
from finetune.data.checks.check_lines import read_line
from finetune.data.checks.exact_json import read_exactly, write_like
from finetune.data.checks.repair import repair, repaired_object

USER, ANSWER = {"role": "user", "content": "荷物は?"}, {"role": "assistant", "content": "明日です"}


def repaired(example: Any) -> tuple[Any, list[str]]:
    """Return an example after its repairs, and what was done."""
    text, done = repaired_object(json.dumps(example, ensure_ascii=False).encode())
    assert repaired_object(text) == (text, [])
    return json.loads(text), done


def chat(**answer: Any) -> dict[str, Any]:
    return {"messages": [USER, {**ANSWER, **answer}]}


def test_numbers_escapes_spaces_and_line_ends_stay_as_they_were(tmp_path: Path) -> None:
    numbers = '{"type":"object","properties":{"a":{"maximum":1e2,"minimum":1.50,"default":12345678901234567890123}}}'
    tools = '"tools":[{"type":"function","function":{"name":"w","parameters":' + numbers + "}}]"
    answer = r'{"role":"assistant","content":"caf\u00e9 \ud83d\ude00"}'
    line = '{"messages":[{"role":"user","content":"a","name":null},' + answer + "]," + tools + "}"
    good = '{"messages" : [{"role":"user","content":"b"}, {"role":"assistant","content":"d\\/e"}]}'
    path = tmp_path / "a.jsonl"
    path.write_bytes(f"{line}\r\n{good}\r\n".encode())
    target, changes = repair(path)
    assert len(changes) == 1
    assert target.read_bytes().decode() == path.read_bytes().decode().replace(',"name":null', "")


@pytest.mark.parametrize(
    "more",
    [
        {"label": False},
        {"images": ["a.png"]},
        {"chosen": "Gut", "rejected": "Schlecht"},
        {"response_format": {"type": "json_object"}},
        {"system": "Antworte kurz."},
        {"history": [["q", "a"]]},
    ],
    ids=lambda more: next(iter(more)),
)
def test_a_key_with_a_meaning_is_not_removed(more: dict[str, Any]) -> None:
    """Without it, a bad answer would be trained, or an image or the system prompt would be gone."""
    assert repaired({**chat(), **more}) == ({**chat(), **more}, [])


def test_a_key_without_a_meaning_is_removed() -> None:
    assert repaired({**chat(), "id": 7, "label": "ok", "images": []})[0] == chat()
    assert repaired(chat(annotations=[], loss=True))[0] == chat()


def test_a_turn_that_is_marked_as_not_trained_keeps_its_mark() -> None:
    assert repaired(chat(loss=False)) == (chat(loss=False), [])


def test_what_to_do_with_a_key_that_has_a_meaning_is_said(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    rows = [{**chat(), "images": ["a.png"]}, {**chat(), "label": False}, {**chat(), "system": "Kurz."}]
    path.write_text("\n".join(map(json.dumps, rows)), encoding="utf-8")
    fixes = [one["fix"] for one in check([path], training=False)["findings"] if one["code"] == "unknown_key"]
    assert [fix.split()[:3] for fix in fixes] == [
        ["Put", "each", "image"],
        ["If", "it", "marks"],
        ["Write", "it", "as"],
    ]


def test_null_keys_of_parts_calls_and_tools_are_removed() -> None:
    url = "https://example.com/a.png"
    parts = [
        {"type": "text", "text": "何?", "image_url": None},
        {"type": "image_url", "text": None, "image_url": {"url": url, "detail": None}},
        {"type": "text", "text": "何?", "image_url": {"url": None, "detail": None}},
    ]
    call = {"id": "c1", "type": "function", "index": None, "function": {"name": "w", "arguments": "{}"}}
    schema = {"type": "object", "properties": {"a": {"enum": ["x", None], "default": None, "items": {"enum": None}}}}
    tool = {"type": "function", "function": {"name": "w", "description": None, "strict": None, "parameters": schema}}
    found, done = repaired(
        {
            "messages": [
                {"role": "user", "content": parts},
                {"role": "assistant", "content": None, "tool_calls": [call]},
            ],
            "tools": [tool],
            "functions": None,
            "parallel_tool_calls": None,
        }
    )
    assert found["messages"][0]["content"] == [
        {"type": "text", "text": "何?"},
        {"type": "image_url", "image_url": {"url": url}},
        {"type": "text", "text": "何?"},
    ]
    assert found["messages"][1]["tool_calls"] == [{k: v for k, v in call.items() if k != "index"}]
    kept = {"type": "object", "properties": {"a": {"enum": ["x", None], "default": None, "items": {}}}}
    assert found["tools"] == [{"type": "function", "function": {"name": "w", "strict": None, "parameters": kept}}]
    assert found.keys() == {"messages", "tools"}
    assert "messages[0].content[1].image_url: the key 'detail' removed, which was null" in done


def test_a_line_with_a_key_twice_is_left_as_it_is() -> None:
    line = b'{"messages": [], "messages": [{"role": "user", "content": "b", "name": null}]}'
    assert repaired_object(line) == (line, [])


def test_one_repair_is_enough() -> None:
    found, _ = repaired(chat(content="か\u0000\u3099 \u001c"))
    assert found["messages"][1]["content"] == "が"


def test_white_space_alone_stays() -> None:
    assert repaired(chat(content="   ")) == (chat(content="   "), [])


@pytest.mark.parametrize("content", [b"", b"\n\n"])
def test_a_file_without_examples_has_no_copy(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "a.jsonl"
    path.write_bytes(content)
    target, changes = repair(path)
    assert (changes, target.exists()) == ([], False)


def test_equal_lines_that_are_not_json_stay(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_bytes(b'{"messages": [\n{"messages": [\n\n')
    assert repair(path)[0].read_bytes() == b'{"messages": [\n{"messages": [\n'


NUMBERS = st.sampled_from(["1e2", "-0", "0.10", "1E-5", "123456789012345678901234567890", "-1.5e+300", "7"])
VALUES: Any = st.recursive(
    st.none() | st.booleans() | st.text(max_size=5) | NUMBERS.map(lambda text: ("number", text)),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3),
    max_leaves=12,
)


@settings(max_examples=200, deadline=None)
@given(VALUES, st.booleans(), st.booleans())
def test_what_is_read_exactly_is_written_as_it_was(value: Any, ascii_only: bool, compact: bool) -> None:
    separators = (",", ":") if compact else (", ", ": ")

    def written(part: Any) -> str:
        if isinstance(part, tuple):
            return str(part[1])
        if isinstance(part, dict):
            items = [json.dumps(key, ensure_ascii=ascii_only) + separators[1] + written(v) for key, v in part.items()]
            return "{" + separators[0].join(items) + "}"
        if isinstance(part, list):
            return "[" + separators[0].join(map(written, part)) + "]"
        return json.dumps(part, ensure_ascii=ascii_only)

    text = written({"a": value, "ü" if not ascii_only else "u": 1}).encode("utf-8", "surrogatepass")
    if b'": ' in text and compact:  # a text holds what tells the two forms apart
        return
    assert write_like(read_exactly(text), text) == text


TOOL = {"type": "function", "function": {"name": "w", "parameters": {"type": "object", "properties": {"c": {}}}}}
CALL = {"id": "c1", "type": "function", "function": {"name": "w", "arguments": '{"c": 1}'}}
PARTS = [{"type": "text", "text": "a"}, {"type": "image_url", "image_url": {"url": "https://a.org/b.png"}}]
WHOLE: list[dict[str, Any]] = [
    {"messages": [{"role": "user", "content": PARTS}, {**ANSWER, "weight": 1}]},
    {"messages": [USER, {"role": "assistant", "content": None, "tool_calls": [CALL]}], "tools": [TOOL]},
    {"input": {"messages": [USER], "tools": [TOOL]}, "preferred_output": [ANSWER], "non_preferred_output": [USER]},
    {"prompt": "a ->", "completion": " b"},
]
ODD = st.sampled_from([None, True, 0, "", "x ", "0", [], {}, [None], {"a": None}, "\u0000e\u0301 ", 10**30])
KEYS = st.sampled_from(["name", "weight", "tool_calls", "image_url", "detail", "tools", "functions", "label", "x"])


@settings(max_examples=150, deadline=None)
@given(st.sampled_from(WHOLE), st.lists(st.tuples(st.integers(0, 60), KEYS, ODD), min_size=1, max_size=3))
def test_a_repair_is_needed_is_enough_and_leaves_no_new_mistake(example: dict[str, Any], changes: list[Any]) -> None:
    example = json.loads(json.dumps(example))
    for number, key, value in changes:
        objects = list(objects_in(example))
        objects[number % len(objects)][key] = deepcopy(value)
    text = json.dumps(example).encode()
    method = "dpo" if "input" in example else "supervised"
    found = read_line(text, method)[2]
    after, done = repaired_object(text)
    assert repaired_object(after) == (after, [])
    assert found or not done
    assert errors(read_line(after, method)[2]) <= errors(found)


def objects_in(value: Any) -> Iterator[dict[str, Any]]:
    if isinstance(value, dict):
        yield value
    for item in value.values() if isinstance(value, dict) else value if isinstance(value, list) else ():
        yield from objects_in(item)


def errors(found: list[Any]) -> int:
    return sum(severity == "error" for _, severity, _, _ in found)
