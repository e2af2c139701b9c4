"""Cells of Parquet are read as they are: bytes as text, short floats as written, durations with their fractions."""

import datetime as dt
from pathlib import Path

import pytest

from finetune.data.readers import read_rows
from finetune.data.table_readers import json_value


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
    assert [row["a"] for row in read_rows(tmp_path / "a.parquet")[0]] == [0.1, None, 2.0, None]
