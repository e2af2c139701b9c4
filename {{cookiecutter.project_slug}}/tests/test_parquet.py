"""Cells of Parquet are read as they are: bytes as text, short floats as written, durations with their fractions."""

import datetime as dt
import json
from decimal import Decimal
from pathlib import Path

import pytest

from finetune.data.readers import read_rows
from finetune.data.table_readers import class_names, json_value


def test_bytes_are_text_or_named_with_their_size() -> None:
    assert json_value("Grüße".encode()) == "Grüße"
    assert json_value({"bytes": b"\x89PNG\xff", "path": None}) == {"bytes": "<5 bytes that are no text>", "path": None}


def test_a_duration_keeps_its_fraction() -> None:
    assert json_value(dt.timedelta(milliseconds=1500)) == "0:00:01.500000"
    assert json_value(-dt.timedelta(minutes=90)) == "-1:30:00"


def test_a_float_of_32_bits_is_read_as_written(tmp_path: Path) -> None:
    pa = pytest.importorskip("pyarrow")
    parquet = pytest.importorskip("pyarrow.parquet")
    values = [0.1, None, 2.0, float("nan")]
    parquet.write_table(pa.table({"a": pa.array(values, pa.float32())}), tmp_path / "a.parquet")
    assert [row["a"] for row in read_rows(tmp_path / "a.parquet", keep_all=True)[0]] == [0.1, None, 2.0, None]


def test_floats_of_32_bits_inside_lists_and_objects_are_read_as_written(tmp_path: Path) -> None:
    pa = pytest.importorskip("pyarrow")
    parquet = pytest.importorskip("pyarrow.parquet")
    item = pa.struct([("x", pa.float32()), ("name", pa.string())])
    columns = {
        "a": pa.array([[0.1, None, 2.5], None], pa.list_(pa.float32())),
        "b": pa.array([{"x": 0.2, "name": "n"}, None], item),
        "c": pa.array([[{"x": 0.3, "name": None}], []], pa.list_(item)),
        "d": pa.array([[[0.1]], [[]]], pa.list_(pa.list_(pa.float32()))),
        "e": pa.array([[("k", 0.7)], []], pa.map_(pa.string(), pa.float32())),
        "f": pa.array([0.1, 1e30], pa.float32()),
    }
    parquet.write_table(pa.table(columns), tmp_path / "a.parquet")
    assert list(read_rows(tmp_path / "a.parquet")[0]) == [
        {
            "a": [0.1, None, 2.5],
            "b": {"x": 0.2, "name": "n"},
            "c": [{"x": 0.3, "name": None}],
            "d": [[0.1]],
            "e": [["k", 0.7]],
            "f": 0.1,
        },
        {"a": None, "b": None, "c": [], "d": [[]], "e": [], "f": 1e30},
    ]


def test_decimals_keep_their_zeros() -> None:
    assert [json_value(Decimal(text)) for text in ("10.50", "0.0000001", "1E+3")] == ["10.50", "0.0000001", "1000"]


def test_numbers_of_classes_are_their_names_where_the_file_has_them(tmp_path: Path) -> None:
    """As the library datasets writes a ClassLabel; -1 is a row without a class."""
    pa = pytest.importorskip("pyarrow")
    parquet = pytest.importorskip("pyarrow.parquet")
    features = {"text": {"dtype": "string", "_type": "Value"}, "label": {"names": ["no", "yes"], "_type": "ClassLabel"}}
    table = pa.table({"text": ["a", "b", "c"], "label": [1, 0, -1]})
    metadata = {"huggingface": json.dumps({"info": {"features": features}})}
    parquet.write_table(table.replace_schema_metadata(metadata), tmp_path / "a.parquet")
    rows, note = read_rows(tmp_path / "a.parquet")
    assert [row["label"] for row in rows] == ["yes", "no", None]
    assert note["class names of"] == "label"


@pytest.mark.parametrize("metadata", [b"no JSON", b"[]", b'{"info": {"features": {"label": 3}}}', b'{"info": null}'])
def test_other_metadata_names_no_classes(metadata: bytes) -> None:
    assert class_names({b"huggingface": metadata}) == {}
    assert class_names({}) == {}
