"""Raw data as a table of texts: CSV and JSONL."""

import json
from pathlib import Path

from finetune.errors import FinetuneError

Row = dict[str, str]


def read_rows(path: Path) -> list[Row]:
    """The rows of a CSV or JSONL file in their order, every cell as text.

    Raises FinetuneError naming the file, and the line where one line is at fault.
    """
    if not path.is_file():
        raise FinetuneError(f"There is no file {path}.", "Put your data there, or change data.file in params.yaml.")
    readers = {".csv": read_csv, ".jsonl": read_jsonl}
    if path.suffix.lower() not in readers:
        raise FinetuneError(f"{path}: only {' and '.join(readers)} are read.", "Convert it, or rename it.")
    try:
        rows = readers[path.suffix.lower()](path)
    except UnicodeDecodeError as error:
        raise FinetuneError(
            f"{path} is not UTF-8: {error.reason} at byte {error.start}.", "Save it as UTF-8."
        ) from error
    if not rows:
        raise FinetuneError(f"{path} has no rows.", "Put data in it, or change data.file in params.yaml.")
    return rows


def read_csv(path: Path) -> list[Row]:
    import pandas as pd

    try:
        table = pd.read_csv(path, dtype=str, keep_default_na=False, encoding="utf-8-sig")
    except pd.errors.EmptyDataError:
        return []
    except pd.errors.ParserError as error:
        raise FinetuneError(f"{path}: {str(error).strip()}", "Mend that line: a quote or a comma is amiss.") from error
    return [{str(key): value for key, value in row.items()} for row in table.to_dict("records")]


def read_jsonl(path: Path) -> list[Row]:
    rows = []
    with open(path, encoding="utf-8-sig") as lines:
        for number, line in enumerate(lines, 1):
            if not line.strip():
                continue
            try:
                row = json.loads(line)
            except ValueError as error:
                raise FinetuneError(f"{path}, line {number}: not valid JSON: {error}", "Mend that line.") from error
            if not isinstance(row, dict):
                raise FinetuneError(
                    f"{path}, line {number}: not a JSON object.", 'Each line is a row: {"column": "cell"}.'
                )
            rows.append({str(key): text_of(value) for key, value in row.items()})
    return rows


def text_of(value: object) -> str:
    """A cell as text: texts as they are, null as nothing, all else as JSON."""
    if value is None:
        return ""
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
