"""Cells of a workbook are read as the sheet shows them; rows have the sheet's own numbers."""

import datetime as dt
import zipfile
from pathlib import Path
from typing import Any

import pytest
from openpyxl import Workbook, load_workbook

from finetune.core.errors import FinetuneError
from finetune.data.cell_texts import number_text, time_text
from finetune.data.readers import read_rows

HEADER = ["message", "team"]


def sheet_file(folder: Path, rows: list[list[Any]], **cells: Any) -> Path:
    """Write a workbook. `cells` are formats of cells by name; `merge` is a list of areas to merge."""
    book = Workbook()
    sheet = book.active
    assert sheet is not None
    for row in rows:
        sheet.append(row)
    for area in cells.pop("merge", []):
        sheet.merge_cells(area)
    for name, form in cells.items():
        sheet[name].number_format = form
    book.save(folder / "a.xlsx")
    return folder / "a.xlsx"


def read(path: Path) -> tuple[list[dict[str, Any]], dict[str, str]]:
    rows, note = read_rows(path)
    return list(rows), note


def refusal(path: Path) -> str:
    with pytest.raises(FinetuneError) as caught:
        read(path)
    assert caught.value.remedy
    return str(caught.value)


@pytest.mark.parametrize(
    ("value", "form", "shown"),
    [
        ("007", "General", "007"),
        ("  y = x\n", "General", "  y = x\n"),
        ("=1+1 is two", "@", "=1+1 is two"),
        (7, "General", "7"),
        (7.0, "General", "7"),
        (0.1 + 0.2, "General", "0.3"),
        (1234567890123, "General", "1234567890123"),
        (7, "000", "007"),
        (19.9, "0.00", "19.90"),
        (1234.5, "#,##0.00", "1,234.50"),
        (0.25, "0%", "25%"),
        (True, "General", "TRUE"),
        (False, "General", "FALSE"),
        (dt.datetime(2026, 11, 26), "yyyy-mm-dd", "2026-11-26"),
        (dt.datetime(2026, 11, 26, 14, 30), "yyyy-mm-dd hh:mm", "2026-11-26 14:30:00"),
        (dt.time(9, 5), "hh:mm", "09:05:00"),
        (dt.timedelta(hours=30), "[hh]:mm:ss", "30:00:00"),
    ],
)
def test_a_cell_is_read_as_it_is_shown(tmp_path: Path, value: Any, form: str, shown: str) -> None:
    path = sheet_file(tmp_path, [HEADER, ["x", value]], B2=form)
    if isinstance(value, str) and value.startswith("="):
        path = sheet_file(tmp_path, [HEADER, ["x", "'" + value]])
        shown = "'" + shown
    assert read(path)[0] == [{"message": "x", "team": shown}]


def test_a_number_in_an_unknown_format_is_read_plainly_and_said(tmp_path: Path) -> None:
    rows, note = read(sheet_file(tmp_path, [HEADER, ["x", 5.5]], B2='"$"#,##0.00'))
    assert rows[0]["team"] == "5.5"
    assert note["number formats left out"] == 'column B: "$"#,##0.00'
    assert number_text(-7, "000") == "-007"
    assert number_text(7, "000-0000") is None
    assert time_text(dt.timedelta(seconds=-61)) == "-0:01:01"


def test_rows_have_the_numbers_of_the_sheet(tmp_path: Path) -> None:
    path = sheet_file(tmp_path, [[None, None], HEADER, ["a", "b"], [None, None], ["c", "d"], ["e", "f"]])
    rows, _ = read_rows(path)
    assert [row["message"] for row in rows] == ["a", "c", "e"]
    assert [rows.place(number) for number in (1, 2, 3)] == ["row 3", "row 5", "row 6"]
    assert rows.places.blank == 1


@pytest.mark.parametrize("merge", [[], ["A1:B1"]])
def test_a_title_row_is_refused(tmp_path: Path, merge: list[str]) -> None:
    what = refusal(sheet_file(tmp_path, [["Messages of May"], HEADER, ["a", "b"]], merge=merge))
    assert "row 1" in what
    assert "title" in what


def test_cells_merged_over_rows_are_filled_and_said(tmp_path: Path) -> None:
    path = sheet_file(tmp_path, [HEADER, ["a", "x"], ["b", None], ["c", None], ["d", "y"]], merge=["B2:B4"])
    rows, note = read(path)
    assert [row["team"] for row in rows] == ["x", "x", "x", "y"]
    assert note["merged cells filled"] == "B2:B4"


@pytest.mark.parametrize("area", ["A3:B3", "A1:A2"])
def test_other_merged_cells_are_refused(tmp_path: Path, area: str) -> None:
    what = refusal(sheet_file(tmp_path, [HEADER, ["a", "x"], ["Week 2", None], ["d", "y"]], merge=[area]))
    assert f"the cells {area} are merged" in what


def test_errors_and_formulas_without_a_value_are_named(tmp_path: Path) -> None:
    what = refusal(sheet_file(tmp_path, [HEADER, ["a", "#N/A"], ["b", "=1+1"]]))
    assert "B2 (#N/A), B3 (a formula without a value)" in what


def test_a_formula_may_give_an_empty_text(tmp_path: Path) -> None:
    path = sheet_file(tmp_path, [HEADER, ["a", '=""']])
    with zipfile.ZipFile(path) as archive:
        parts = {name: archive.read(name) for name in archive.namelist()}
    sheet = "xl/worksheets/sheet1.xml"
    parts[sheet] = parts[sheet].replace(b'<c r="B2">', b'<c r="B2" t="str">')
    assert b't="str"' in parts[sheet]
    with zipfile.ZipFile(path, "w") as archive:
        for name, part in parts.items():
            archive.writestr(name, part)
    assert read(path)[0] == [{"message": "a", "team": ""}]


def test_columns_of_one_name_and_cells_without_a_name_are_refused(tmp_path: Path) -> None:
    assert "row 1: columns 1 and 2 have the same name, 'team'" in refusal(
        sheet_file(tmp_path, [["team", "team "], ["a", "b"]])
    )
    what = refusal(sheet_file(tmp_path, [[*HEADER, "id"], ["a", "b", "1", "lost"], ["a", "b"]]))
    assert "column D has no name in row 1" in what
    assert "D2" in what


def test_the_header_of_a_joined_sheet_is_refused_with_its_row(tmp_path: Path) -> None:
    what = refusal(sheet_file(tmp_path, [HEADER, ["a", "x"], [], HEADER, ["b", "y"]]))
    assert "row 4: has the same cells as the header" in what


def test_hidden_rows_are_said(tmp_path: Path) -> None:
    path = sheet_file(tmp_path, [HEADER, *[["a", "x"]] * 30])
    book = load_workbook(path)
    first = book["Sheet"]
    first.title = "A & B"
    book.create_sheet("other").append(HEADER)
    for number in (3, 9):
        first.row_dimensions[number].hidden = True
    book.save(path)
    rows, note = read(path)
    assert (len(rows), note["hidden rows read"]) == (30, "2 (rows 3, 9)")
    for number in range(2, 20):
        first.row_dimensions[number].hidden = True
    book.save(path)
    assert read(path)[1]["hidden rows read"] == "18 (rows 2, 3, 4, 5, 6, 7, 8, 9, 10, 11 and 8 more)"


def test_the_first_sheet_that_is_not_hidden_is_read(tmp_path: Path) -> None:
    path = sheet_file(tmp_path, [HEADER, ["a", "x"]])
    book = load_workbook(path)
    book["Sheet"].sheet_state = "hidden"
    book.create_sheet("data").append(HEADER)
    book["data"].append(["b", "y"])
    book.active = 1
    book.save(path)
    rows, note = read(path)
    assert rows == [{"message": "b", "team": "y"}]
    assert (note["sheet"], note["other sheets"]) == ("data", "Sheet")
    assert list(read_rows(path, "Sheet")[0]) == [{"message": "a", "team": "x"}]


def test_a_sheet_without_rows_names_the_others(tmp_path: Path) -> None:
    path = sheet_file(tmp_path, [HEADER, ["a", "x"]])
    book = load_workbook(path)
    book.create_sheet("notes", 0)
    book.save(path)
    what = refusal(path)
    assert "the sheet 'notes' has no rows" in what
    assert "another one: Sheet." in what


@pytest.mark.parametrize(
    ("value", "form", "shown"),
    [
        (2.5, "0", "3"),
        (-2.5, "0", "-3"),
        (0.125, "0.00", "0.13"),
        (1.005, "0.00", "1.01"),
        (0.125, "0%", "13%"),
        (2.5, "000", "003"),
        (1234.565, "#,##0.00", "1,234.57"),
        (1e15, "0", "1000000000000000"),
    ],
)
def test_a_half_is_rounded_as_a_spreadsheet_does(value: float, form: str, shown: str) -> None:
    assert number_text(value, form) == shown


@pytest.mark.parametrize(
    ("content", "part"),
    [
        (bytes.fromhex("d0cf11e0a1b11ae1") + bytes(600), "an old workbook (XLS), or one with a password"),
        (b"<html><table><tr><td>a</td></tr></table></html>", "an HTML page"),
        (b"message,team\na,x\n", "is not a workbook"),
        (b"", "is not a workbook"),
    ],
)
def test_a_file_that_is_named_as_a_workbook_is_refused(tmp_path: Path, content: bytes, part: str) -> None:
    (tmp_path / "a.xlsx").write_bytes(content)
    assert part in refusal(tmp_path / "a.xlsx")
