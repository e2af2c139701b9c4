"""Read tables: CSV, TSV and Parquet. `workbook` reads XLSX."""

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from typing import Any

from finetune.core.errors import FinetuneError
from finetune.data.cell_texts import time_text
from finetune.data.column_names import column_names
from finetune.data.delimited_text import Dialect
from finetune.data.dialect import choose_dialect
from finetune.data.json_readers import filled_rows
from finetune.data.raw_file import Note, RawFile, Row
from finetune.data.table_rows import table_rows


def read_csv(source: RawFile, note: Note) -> Iterator[Row]:
    note["format"] = "CSV"
    return rows_of_text(source, note, ",")


def read_tsv(source: RawFile, note: Note) -> Iterator[Row]:
    note["format"] = "TSV"
    return rows_of_text(source, note, "\t")


def rows_of_text(source: RawFile, note: Note, usual: str) -> Iterator[Row]:
    """Return the rows of delimited text, and note what its suffix does not say."""
    dialect = choose_dialect(source, usual)
    if dialect.delimiter != usual:
        note["delimiter"] = dialect.name
    if dialect != Dialect(dialect.delimiter, dialect.delimiter != "\t"):
        note["quoting"] = dialect.quote_style
    return table_rows(source, dialect)


def read_parquet(source: RawFile, note: Note) -> Iterator[Row]:
    note["format"] = "Parquet"
    content = source.bytes()
    try:
        from pyarrow.parquet import ParquetFile
    except ImportError as error:
        raise FinetuneError(
            f"{source.path}: reading Parquet needs the package pyarrow.", "Install it: pip install -e '.[parquet]'"
        ) from error
    try:
        table = ParquetFile(content)
    except (ValueError, OSError) as error:  # pyarrow's errors are subclasses of either
        raise FinetuneError(f"{source.path} is not Parquet: {error}", "Save it as Parquet again.") from error
    names = column_names(table.schema_arrow.names, str(source.path))
    classes = class_names(table.schema_arrow.metadata or {})
    if classes:
        note["class names of"] = " and ".join(classes)
    return filled_rows(source, parquet_rows(source, table, names, classes))


def class_names(metadata: Mapping[bytes, bytes]) -> dict[str, list[str]]:
    """Return the names of classes by column, which the library datasets keeps beside numbers (ClassLabel)."""
    try:
        features = json.loads(metadata[b"huggingface"])["info"]["features"]
        return {name: [*map(str, one["names"])] for name, one in features.items() if one.get("_type") == "ClassLabel"}
    except (KeyError, TypeError, ValueError, AttributeError):  # written by another program
        return {}


def named_class(value: Any, names: Sequence[str]) -> Any:
    """Return the name of a class's number; -1 is no class, as the library datasets writes it."""
    if isinstance(value, int) and not isinstance(value, bool):
        return names[value] if 0 <= value < len(names) else None if value == -1 else value
    return value


def parquet_rows(source: RawFile, table: Any, names: list[str], classes: Mapping[str, Sequence[str]]) -> Iterator[Row]:
    """Yield the rows of a Parquet file."""
    try:
        for batch in table.iter_batches():
            columns = [values_of_column(column) for column in batch.columns]
            for place, name in enumerate(names):
                if name in classes:
                    columns[place] = [named_class(value, classes[name]) for value in columns[place]]
            for cells in zip(*columns, strict=True):
                yield dict(zip(names, map(json_value, cells), strict=True))
    except (ValueError, OSError) as error:
        raise FinetuneError(f"{source.path} cannot be read: {error}", "Save it as Parquet again.") from error


def values_of_column(column: Any) -> list[Any]:
    """Return the values of a column of Parquet; 0.1 of 32 bits as 0.1, for which Python has 0.10000000149011612."""
    values = list(column.to_pylist())
    return [shortest(value, column.type) for value in values] if has_short_floats(column.type) else values


def has_short_floats(kind: Any) -> bool:
    """Return whether a type of pyarrow has numbers of less than 64 bits with a point, at any depth."""
    from pyarrow import types

    if types.is_float16(kind) or types.is_float32(kind):
        return True
    return any(has_short_floats(kind.field(index).type) for index in range(kind.num_fields))


def shortest(value: Any, kind: Any) -> Any:
    """Return a value of a type of pyarrow with the fewest decimals that give the same number of its bits."""
    import numpy as np
    from pyarrow import types

    if value is None or not has_short_floats(kind):
        return value
    if types.is_map(kind):
        return [(shortest(key, kind.key_type), shortest(item, kind.item_type)) for key, item in value]
    if types.is_struct(kind):
        fields = [kind.field(index) for index in range(kind.num_fields)]
        return {field.name: shortest(value[field.name], field.type) for field in fields}
    if isinstance(value, list):
        return [shortest(item, kind.value_type) for item in value]
    if types.is_float16(kind) or types.is_float32(kind):
        return float(str(np.float16(value) if types.is_float16(kind) else np.float32(value)))
    return value  # of a rare type, such as a union


def json_value(value: Any) -> Any:
    """Return a cell of Parquet as a value that JSON has: missing numbers as null, dates and the like as text."""
    if isinstance(value, (list, tuple)):
        return [json_value(item) for item in value]
    if isinstance(value, dict):
        return {str(key): json_value(item) for key, item in value.items()}
    if isinstance(value, (date, datetime, time, timedelta)):
        return time_text(value)
    if isinstance(value, bytes):
        return text_of_bytes(value)
    if isinstance(value, Decimal):
        return f"{value:f}"  # with its zeros, and without an exponent
    missing = value is None or (isinstance(value, float) and value != value)
    return None if missing else value if isinstance(value, (str, bool, int, float)) else str(value)


def text_of_bytes(value: bytes) -> str:
    """Return the text of bytes, which some programs write for texts; of other bytes, such as images, only the size."""
    with suppress(UnicodeDecodeError):
        return value.decode()
    return f"<{len(value):,} bytes that are no text>"
