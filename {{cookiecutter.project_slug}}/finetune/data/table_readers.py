"""Read tables by pandas: CSV, TSV, XLSX and Parquet."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from finetune.core.errors import FinetuneError
from finetune.data.raw_file import Note, RawFile, Row

ROWS_AT_ONCE = 10_000
WRONG_NUMBER_OF_CELLS = re.compile(r"Expected (\d+) fields in line (\d+), saw (\d+)")  # of pandas


def read_csv(source: RawFile, note: Note) -> Iterator[Row]:
    note["format"] = "CSV"
    return rows_of_text(source, ",")


def read_tsv(source: RawFile, note: Note) -> Iterator[Row]:
    note["format"] = "TSV"
    return rows_of_text(source, "\t")


def rows_of_text(source: RawFile, separator: str) -> Iterator[Row]:
    import pandas as pd

    with source.text(newline="") as text:
        try:
            for part in pd.read_csv(text, sep=separator, dtype=str, keep_default_na=False, chunksize=ROWS_AT_ONCE):
                yield from table_rows(part)
        except pd.errors.EmptyDataError:
            return
        except pd.errors.ParserError as error:
            raise table_error(source.path, separator, error) from error


def table_error(path: Path, separator: str, error: Exception) -> FinetuneError:
    """Return the error for a table that pandas cannot parse."""
    name = "comma" if separator == "," else "tab"
    if found := WRONG_NUMBER_OF_CELLS.search(str(error)):
        expected, line, cells = found.groups()
        return FinetuneError(
            f"{path}, line {line}: {cells} cells, but {expected} were expected.", f"Quote cells that contain a {name}."
        )
    return FinetuneError(f"{path}: {str(error).strip()}", f"Check the quotes and the {name}s of that line.")


def read_workbook(source: RawFile, note: Note) -> list[Row]:
    import pandas as pd
    from python_calamine import CalamineError

    note["format"] = "XLSX"
    content = source.bytes()
    try:
        book = pd.ExcelFile(content, engine="calamine")
    except (CalamineError, ValueError, OSError) as error:
        raise FinetuneError(f"{source.path} is not a workbook: {error}", "Save it as .xlsx again.") from error
    names = [str(name) for name in book.sheet_names]
    if source.sheet is not None and source.sheet not in names:
        raise FinetuneError(f"{source.path} has no sheet {source.sheet!r}.", f"Its sheets are: {', '.join(names)}.")
    note["sheet"] = source.sheet or names[0]
    if source.sheet is None and len(names) > 1:
        note["other sheets"] = ", ".join(names[1:])
    return table_rows(pd.read_excel(book, sheet_name=note["sheet"], dtype=str, keep_default_na=False))


def read_parquet(source: RawFile, note: Note) -> list[Row]:
    import pandas as pd

    note["format"] = "Parquet"
    content = source.bytes()
    try:
        table = pd.read_parquet(content)
    except ImportError as error:
        raise FinetuneError(
            f"{source.path}: reading Parquet needs the package pyarrow.", "Install it: pip install -e '.[parquet]'"
        ) from error
    except (ValueError, OSError) as error:  # pyarrow's errors are subclasses of either
        raise FinetuneError(f"{source.path} is not Parquet: {error}", "Save it as Parquet again.") from error
    return [{str(key): json_value(value) for key, value in row.items()} for row in table.to_dict("records")]


def json_value(value: Any) -> Any:
    """Return a cell of Parquet as a value that JSON has: arrays as lists, missing values as null."""
    if hasattr(value, "tolist"):
        value = value.tolist()
    if isinstance(value, list):
        return [json_value(item) for item in value]
    if isinstance(value, dict):
        return {str(key): json_value(item) for key, item in value.items()}
    missing = value is None or (isinstance(value, float) and value != value)
    return None if missing else value if isinstance(value, (str, bool, int, float)) else str(value)


def table_rows(table: Any) -> list[Row]:
    return [{str(key): value for key, value in row.items()} for row in table.to_dict("records")]
