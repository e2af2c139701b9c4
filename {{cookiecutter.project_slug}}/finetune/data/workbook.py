"""Read a sheet of a workbook (XLSX): each cell as the text that the sheet shows."""

import re
import zipfile
from collections.abc import Iterator
from contextlib import suppress
from datetime import date, time, timedelta
from io import BytesIO
from typing import Any

from finetune.core.errors import FinetuneError
from finetune.data.cell_texts import number_text, plain_number, time_text
from finetune.data.column_names import column_names, is_header, listed, refuse_repeated_header, unnamed_columns
from finetune.data.raw_file import Note, RawFile, Row

NAMED = 10  # cells in an error
SHEET_FILE = re.compile(r"xl/worksheets/[^/]+\.xml", re.I)
CELL_STYLES = re.compile(rb"<cellXfs.*?</cellXfs>", re.S)
FORMAT = re.compile(rb'numFmtId="(\d+)"')
PLAIN_FORMATS = {0, 49, *range(14, 23), 45, 46, 47}  # general, text, dates and times
NEEDS_TYPES = re.compile(rb'<f[ >/]|<c [^>]*t="e"')  # formulas and errors, which calamine reads as ""
HIDDEN = re.compile(rb'<(?:\w+:)?row\b[^>]*\shidden="(?:1|true)"[^>]*>')
ROW_NUMBER = re.compile(rb'\sr="(\d+)"')
Grid = list[list[Any]]  # the cells of each row, from A1 on
Area = tuple[tuple[int, int], tuple[int, int]]  # row and column of the first and of the last cell, from 0


def read_workbook(source: RawFile, note: Note) -> Iterator[Row]:
    """Return the rows of a sheet, by default the first one that is not hidden.

    Notes the sheet's name, hidden rows, merged cells that were filled, and formats left out.

    Raises FinetuneError naming cells with errors and formulas without a value, merged cells over several columns,
    cells of columns without a name, and a row that repeats the header.
    """
    from python_calamine import CalamineError, CalamineWorkbook, SheetVisibleEnum

    note["format"] = "XLSX"
    content = source.bytes()
    try:
        book = CalamineWorkbook.from_filelike(content)
        names = book.sheet_names
        shown = [one.name for one in book.sheets_metadata if one.visible == SheetVisibleEnum.Visible]
        sheet = source.options.sheet
        if sheet is not None and sheet not in names:
            raise FinetuneError(f"{source.path} has no sheet {sheet!r}.", f"Its sheets are: {', '.join(names)}.")
        note["sheet"] = sheet or next(iter(shown), names[0])
        if sheet is None and len(names) > 1:
            note["other sheets"] = ", ".join(name for name in names if name != note["sheet"])
        table = book.get_sheet_by_name(note["sheet"])
        grid: Grid = table.to_python(skip_empty_area=False)
        merged: list[Area] = list(table.merged_cell_ranges or [])
    except (CalamineError, zipfile.BadZipFile, ValueError, OSError, IndexError) as error:
        raise FinetuneError(f"{source.path} is not a workbook: {error}", "Save it as .xlsx again.") from error
    write_as_shown(grid, source, note, content)
    if hidden := hidden_rows(content, note["sheet"]):
        word = "rows" if len(hidden) > 1 else "row"
        note["hidden rows read"] = f"{len(hidden)} ({word} {listed(hidden[:NAMED], len(hidden))})"
    header = next((number for number, cells in enumerate(grid) if any(map(str.strip, cells))), None)
    if header is None:
        return iter(())
    fill_merged(grid, merged, header, source, note)
    source.places.in_sheet = True
    return sheet_rows(grid, header, source)


def sheet_rows(grid: Grid, header: int, source: RawFile) -> Iterator[Row]:
    """Yield the rows below the header that are not blank."""
    width = max(number for number, cell in enumerate(grid[header], 1) if cell.strip())
    width = max([width, *(number for cells in grid for number, cell in enumerate(cells, 1) if cell.strip())])
    first = [*grid[header], *[""] * width][:width]
    names, unnamed = column_names(first, f"{source.path}, row {header + 1}"), unnamed_columns(first)
    refuse_unnamed(grid, header, unnamed, width, source)
    rows = 0
    for number, cells in enumerate(grid[header + 1 :], header + 2):
        if any(cells) and not source.leaves_out(not any(map(str.strip, cells))):
            filled = [*cells, *[""] * width][:width]
            if is_header(filled, first):
                refuse_repeated_header(f"{source.path}, row {number}")
            rows += 1
            source.places.add(rows, number)
            source.places.blank = number - header - 1 - rows  # empty rows below the last one do not count
            yield dict(zip(names, filled, strict=True))


def refuse_unnamed(grid: Grid, header: int, unnamed: list[int], width: int, source: RawFile) -> None:
    """Raise FinetuneError for cells in columns that have no name."""
    found = [
        cell_name(number, column)
        for number, cells in enumerate(grid[header + 1 :], header + 1)
        for column in unnamed
        if column < len(cells) and cells[column].strip()
    ]
    if found:
        title = f" If row {header + 1} is a title, remove it." if len(unnamed) == width - 1 else ""
        raise FinetuneError(
            f"{source.path}: column {cell_name(0, unnamed[0])[:-1]} has no name in row {header + 1},"
            f" but there are cells in such columns: {listed(found[:NAMED], len(found))}.",
            f"The names of the columns must be in the first row.{title}",
        )


def write_as_shown(grid: Grid, source: RawFile, note: Note, content: BytesIO) -> None:
    """Replace each value of the grid by the text that the sheet shows."""
    forms = number_formats(content, source, note["sheet"]) if needs_types(content) else {}
    others: dict[str, str] = {}
    for number, cells in enumerate(grid):
        for column, value in enumerate(cells):
            if not isinstance(value, str):
                form = forms.get((number, column), "")
                text = value_text(value, form)
                if text is None:
                    text = plain_number(value)
                    others.setdefault(cell_name(0, column)[:-1], form)
                cells[column] = text
    if others:
        note["number formats left out"] = ", ".join(f"column {column}: {form}" for column, form in others.items())


def value_text(value: Any, form: str) -> str | None:
    """Return a value as text. None for a number in a format that is not known here."""
    if isinstance(value, bool):
        return str(value).upper()
    if isinstance(value, (date, time, timedelta)):
        return time_text(value)
    return number_text(value, form)


def hidden_rows(content: BytesIO, sheet: str) -> list[str]:
    """Return the numbers of a sheet's hidden rows below the first one: those that a filter or a person hid."""
    from xml.etree import ElementTree

    with zipfile.ZipFile(content) as archive, suppress(KeyError, ElementTree.ParseError):
        sheets = ElementTree.fromstring(archive.read("xl/workbook.xml")).findall(".//{*}sheet")
        found = next((one for one in sheets if one.get("name") == sheet), None)
        target = None if found is None else next((value for key, value in found.items() if key.endswith("}id")), None)
        for relation in ElementTree.fromstring(archive.read("xl/_rels/workbook.xml.rels")):
            if relation.get("Id") == target:
                path = relation.get("Target", "")
                text = archive.read(path.lstrip("/") if path.startswith("/") else f"xl/{path}")
                return [number.decode() for row in HIDDEN.findall(text) for number in ROW_NUMBER.findall(row)]
    return []


def needs_types(content: BytesIO) -> bool:
    """Return whether a workbook has formulas, errors, or numbers in a format that calamine does not apply."""
    with zipfile.ZipFile(content) as archive:
        names = archive.namelist()
        styles = b"".join(archive.read(name) for name in names if name.lower() == "xl/styles.xml")
        used = CELL_STYLES.search(styles)
        if used and {int(form) for form in FORMAT.findall(used[0])} - PLAIN_FORMATS:
            return True
        return any(NEEDS_TYPES.search(archive.read(name)) for name in names if SHEET_FILE.fullmatch(name))


def number_formats(content: BytesIO, source: RawFile, sheet: str) -> dict[tuple[int, int], str]:
    """Return the formats of numbers by row and column, from 0.

    Raises FinetuneError naming the cells that show an error, and the formulas without a value.
    """
    import warnings

    from openpyxl import load_workbook

    forms: dict[tuple[int, int], str] = {}
    errors: list[str] = []
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of parts of a workbook that are not read
            values, formulas = (load_workbook(content, read_only=True, data_only=only)[sheet] for only in (True, False))
            for one in (values, formulas):
                one.reset_dimensions()  # some programs write wrong ones
            for cells, written in zip(values.iter_rows(), formulas.iter_rows(), strict=True):
                for cell, formula in zip(cells, written, strict=True):
                    if cell.data_type == "e":
                        errors.append(f"{cell.coordinate} ({cell.value})")
                    elif formula.data_type == "f" and cell.value is None and cell.data_type == "n":
                        errors.append(f"{cell.coordinate} (a formula without a value)")
                    elif cell.data_type == "n" and cell.value is not None and cell.number_format != "General":
                        forms[cell.row - 1, cell.column - 1] = cell.number_format
    except (ValueError, KeyError, TypeError, OSError, SyntaxError) as error:  # SyntaxError: of XML
        raise FinetuneError(
            f"{source.path}: cannot read the formats of numbers: {error}", "Save it as .xlsx again, or as CSV in UTF-8."
        ) from error
    if errors:
        raise FinetuneError(
            f"{source.path}, sheet {sheet}: cells without a value: {listed(errors[:NAMED], len(errors))}.",
            "Correct these cells. Formulas have a value after the workbook was opened and saved in a spreadsheet.",
        )
    return forms


def fill_merged(grid: Grid, merged: list[Area], header: int, source: RawFile, note: Note) -> None:
    """Write the value of merged cells into each row that they cover. Raises FinetuneError if they cover columns."""
    filled = []
    for (top, left), (bottom, right) in sorted(merged):
        name = f"{cell_name(top, left)}:{cell_name(bottom, right)}"
        if top < len(grid) and not (left < len(grid[top]) and grid[top][left].strip()):
            continue
        if left < right or top <= header < bottom:
            raise FinetuneError(
                f"{source.path}, row {top + 1}: the cells {name} are merged.",
                "Unmerge them. Each row needs its own cells, and the first row the names of the columns."
                + (" If that row is a title, remove it." if top <= header else ""),
            )
        for number in range(top + 1, min(bottom + 1, len(grid))):
            grid[number][left] = grid[top][left]
        filled.append(name)
    if filled:
        note["merged cells filled"] = listed(filled[:NAMED], len(filled))


def cell_name(row: int, column: int) -> str:
    """Return the name of a cell, such as B7."""
    letters, number = "", column + 1
    while number:
        number, rest = divmod(number - 1, 26)
        letters = chr(ord("A") + rest) + letters
    return f"{letters}{row + 1}"
