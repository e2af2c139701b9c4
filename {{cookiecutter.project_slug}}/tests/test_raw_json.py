"""JSON of raw data is read as it is, or refused with its line and the cause."""

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from finetune.core.errors import FinetuneError
from finetune.data.json_readers import has_repeated_keys
from finetune.data.readers import read_rows

ROWS = [{"q": "one"}, {"q": "two, {three}"}, {"q": "four"}]


def write(folder: Path, name: str, text: str) -> Path:
    (folder / name).write_text(text, encoding="utf-8", newline="")
    return folder / name


def refusal(path: Path) -> str:
    with pytest.raises(FinetuneError) as caught:
        list(read_rows(path)[0])
    assert caught.value.remedy
    return str(caught.value)


@pytest.mark.parametrize("name", ["a.json", "a.jsonl"])
@pytest.mark.parametrize("between", ["\n", ",\n", "", " ", "\r", "\r\n"])
@pytest.mark.parametrize("indent", [None, 2])
def test_objects_one_after_another_are_read(tmp_path: Path, name: str, between: str, indent: int | None) -> None:
    path = write(tmp_path, name, between.join(json.dumps(row, indent=indent) for row in ROWS) + "\n")
    assert list(read_rows(path)[0]) == ROWS


def test_objects_over_lines_know_their_lines(tmp_path: Path) -> None:
    rows, note = read_rows(write(tmp_path, "a.jsonl", '{\n "q": "one"\n}\n\n{\n "q": "two"\n}\n'))
    assert len(list(rows)) == 2
    assert [rows.place(1), rows.place(2)] == ["row 1", "line 5, row 2"]
    assert note["format"] == "JSON objects one after another"


def test_a_list_may_have_a_comma_before_its_end(tmp_path: Path) -> None:
    assert list(read_rows(write(tmp_path, "a.json", '[\n{"q": "one"},\n{"q": "two"},\n]\n'))[0]) == [
        {"q": "one"},
        {"q": "two"},
    ]


@pytest.mark.parametrize(
    ("text", "part"),
    [
        ('{"q": "one"}\n{"q": "two"}{"q": "three"}\n', "line 2: 2 JSON objects on one line"),
        ('{"q": "one"}\n{"q": "two"},\n', "line 2: a comma stands after the object"),
        ('{"q": "one"}\n{"q": NaN}\n', "line 2: not valid JSON: NaN is no number"),
        ('{"q": "one"}\n{"q": -Infinity}\n', "-Infinity is no number"),
        ("{'q': 'one'}\n{'q': 'two'}\n", "line 1: not valid JSON: texts are in single quotes"),
        ('{"q": "one"}\n\ufeff{"q": "two"}\n', "line 2: a byte-order mark stands before the object"),
        ('{\n "q": "one"\n}\n{\n "q": two\n}\n', "line 5: not valid JSON"),
    ],
)
def test_a_line_that_is_no_json_is_refused_with_the_cause(tmp_path: Path, text: str, part: str) -> None:
    assert part in refusal(write(tmp_path, "a.jsonl", text))


@pytest.mark.parametrize(
    "text",
    [
        '{"q": ["one", "two"], "a": ["1", "2"]}',
        '{"q": {"0": "one"}, "a": {"0": "1"}}',
        '{"columns": ["q"], "data": [["one"]]}',
        '{"train": [{"q": "one"}], "test": [{"q": "two"}]}',
    ],
)
def test_an_object_of_columns_or_splits_is_no_row(tmp_path: Path, text: str) -> None:
    assert "is no row" in refusal(write(tmp_path, "a.json", text))


def test_one_object_may_be_a_row_or_hold_the_rows(tmp_path: Path) -> None:
    row = {"q": "one", "tags": ["x"], "more": {}}
    assert list(read_rows(write(tmp_path, "a.json", json.dumps(row)))[0]) == [row]
    assert list(read_rows(write(tmp_path, "a.json", '{"version": "1", "data": [{"q": "one"}]}'))[0]) == [{"q": "one"}]
    chat = {"conversations": [{"from": "human", "value": "hi"}, {"from": "gpt", "value": "ho"}]}
    assert list(read_rows(write(tmp_path, "a.json", json.dumps(chat)))[0]) == [chat]


@pytest.mark.parametrize(
    "row",
    [
        '{"messages": [{"role": "user", "content": "a", "content": "b"}]}',
        '{"a": {"k": 1, "k": 2}}',
        '{"a" : "1", "a" : "2"}',
        '{"a": "1", "\\u0061": "2"}',
    ],
)
def test_a_key_twice_is_refused_at_any_depth(tmp_path: Path, row: str) -> None:
    assert "line 2: an object has the key" in refusal(write(tmp_path, "a.jsonl", f'{{"a": "0"}}\n{row}\n'))
    assert "twice" in refusal(write(tmp_path, "a.json", f"[{row}]"))


KEYS = st.text(st.sampled_from("ab: "), max_size=3)
JSON = st.recursive(
    st.none() | st.integers() | st.text(st.sampled_from('a":\\ {},\n')),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(KEYS, inner, max_size=3),
)


@given(JSON, KEYS, st.sampled_from([None, 1]), st.sampled_from([(", ", ": "), (",", ":"), (" , ", " : ")]))
def test_a_key_twice_never_passes_unseen(value: Any, key: str, indent: int | None, separators: tuple[str, str]) -> None:
    text = json.dumps(value, indent=indent, separators=separators)
    name = json.dumps(key)
    twice = f"{{{name}{separators[1]}{text}{separators[0]}{name}{separators[1]}{text}}}"
    assert has_repeated_keys(twice, json.loads(twice))


@pytest.mark.parametrize(
    ("name", "content", "part"),
    [
        ("a.csv", b"\x1f\x8b\x08\0", "is a gzip file, not CSV"),
        ("a.jsonl", b"PK\x03\x04\0", "is a workbook or a zip archive, not JSONL"),
        ("a.tsv", b"PAR1\0", "is Parquet, not TSV"),
        ("a.txt", b"\xd0\xcf\x11\xe0\0", "is an old workbook"),
        ("a.csv", b"\xef\xbb\xbf<!DOCTYPE html>\n", "is an HTML page, not CSV"),
        ("a.csv", b'<?xml version="1.0"?>\n', "is XML, not CSV"),
        ("a.csv", b'{"q": "one"}\n{"q": "two"}\n', "is JSON, not CSV"),
        ("a.csv", b'[\n {"q": "one"}]', "is JSON, not CSV"),
        ("a.ndjson", b'{"q": "one"}\n', "rename it to .jsonl"),
        ("a.xls", b"", "Save it as .xlsx"),
        ("a.zip", b"", "Unpack it"),
    ],
)
def test_content_of_another_kind_than_the_name_says_is_refused(
    tmp_path: Path, name: str, content: bytes, part: str
) -> None:
    (tmp_path / name).write_bytes(content)
    assert part in refusal(tmp_path / name)


def test_lines_of_html_and_cells_with_braces_are_text(tmp_path: Path) -> None:
    assert list(read_rows(write(tmp_path, "a.txt", "<html>\n<p>\n"))[0]) == [{"text": "<html>"}, {"text": "<p>"}]
    assert list(read_rows(write(tmp_path, "a.csv", "{a},[b]\n1,2\n"))[0]) == [{"{a}": "1", "[b]": "2"}]


def test_deep_values_are_read(tmp_path: Path) -> None:
    text = '{"a":' * 900 + "1" + "}" * 900
    assert len(list(read_rows(write(tmp_path, "a.jsonl", f"{text}\n{text}\n"))[0])) == 2
