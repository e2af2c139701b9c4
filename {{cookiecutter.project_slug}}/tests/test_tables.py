"""Tables are read cell by cell as they are, or refused with the line."""

import csv
import io
import tempfile
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from finetune.core.errors import FinetuneError
from finetune.core.sections.data import Data
from finetune.data.raw_examples import ReadingNotes, raw_examples
from finetune.data.raw_file import Note, Row
from finetune.data.readers import read_rows

TEAMS = ("delivery", "billing", "technical")


def read(path: Path, **options: Any) -> tuple[list[Row], Note]:
    rows, note = read_rows(path, **options)
    return list(rows), note


def write(folder: Path, name: str, text: str, encoding: str = "utf-8") -> Path:
    path = folder / name
    path.write_bytes(text.encode(encoding))
    return path


def refusal(path: Path, **options: Any) -> str:
    with pytest.raises(FinetuneError) as caught:
        read(path, **options)
    assert caught.value.remedy
    return str(caught.value)


def csv_text(rows: list[list[str]], **form: Any) -> str:
    text = io.StringIO()
    csv.writer(text, **form).writerows([["message", "team"], *rows])
    return text.getvalue()


# Records of another length than the header


def test_an_unquoted_comma_is_refused_with_its_lines(tmp_path: Path) -> None:
    path = write(tmp_path, "a.csv", "message,team\n" + "Hello, where is parcel 7?,delivery\n" * 30)
    what = refusal(path)
    assert "the header has 2 cells, but 30 records have another number" in what
    assert "line 2 (3 cells), line 3 (3 cells)" in what
    assert "line 11 (3 cells) and 20 more" in what
    assert "line 12" not in what
    assert "Quote cells that contain a comma." in what


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("a,b\n1,2\n1,2,3\n1,2\n", ["line 3: 3 cells, but the header has 2"]),
        ("a,b\n1,2\n1\n", ["line 3: 1 cells, but the header has 2"]),
        ("a,b\n1,2,\n3,4,\n", ["line 2 (3 cells), line 3 (3 cells)", "Remove the comma at the end of each line"]),
        ("a,b,\n1,2\n3,4\n", ["the header has 3 cells", "Remove the comma at the end of the header"]),
        ("a,b\n\n\n1,2\n1,2,3\n", ["line 5: 3 cells"]),
        ('a,b\n"1\n2",2\n1,2,3\n', ["line 4: 3 cells"]),
        ("Messages of May\na,b\n1,2\n3,4\n", ["the header has 1 cell,", "line 1 is a title"]),
        ("# exported\na;b\n1;2\n3;4\n5;6\n", ["a title"]),
        ("Messages of May,,\na,b,c\n1,2,3\n", ["column 2 has no name", "line 2, line 3", "line 1 is a title"]),
        ("a,b,\n1,2,\n1,where is it,2\n", ["column 3 has no name", "line 3"]),
        (",,\n1,2,3\n", ["line 1: the columns have no names"]),
    ],
)
def test_records_that_do_not_fit_the_header_are_refused(tmp_path: Path, text: str, parts: list[str]) -> None:
    what = refusal(write(tmp_path, "a.csv", text))
    for part in parts:
        assert part in what


def test_columns_without_a_name_may_be_empty_and_the_first_may_be_an_index(tmp_path: Path) -> None:
    rows, _ = read(write(tmp_path, "a.csv", ",a,b,\n0,x,y,\n1,z,,\n"))
    assert rows == [
        {"column 1": "0", "a": "x", "b": "y", "column 4": ""},
        {"column 1": "1", "a": "z", "b": "", "column 4": ""},
    ]


@pytest.mark.parametrize("header", ["team,message,team", "team,message, team "])
def test_two_columns_of_one_name_are_refused(tmp_path: Path, header: str) -> None:
    what = refusal(write(tmp_path, "a.csv", header + "\na,b,c\n"))
    assert "line 1: columns 1 and 3 have the same name, 'team'" in what


def test_json_objects_with_a_key_twice_are_refused(tmp_path: Path) -> None:
    lines = '{"a": "1", "b": "2"}\n{"a": "1", "b": "\\"a\\": 1", "a": "3"}\n'
    assert "line 2: an object has the key 'a' twice" in refusal(write(tmp_path, "a.jsonl", lines))
    assert "an object has the key 'a' twice" in refusal(write(tmp_path, "a.json", '[{"a": 1, "a": 2}]'))
    fine = '{"role": "x", "turns": [{"role": "role"}, {"role": "b"}]}\n'
    assert read(write(tmp_path, "b.jsonl", fine))[0][0]["role"] == "x"


def test_long_integers_of_json_keep_their_digits(tmp_path: Path) -> None:
    number = "123456789012345678901234567890"
    assert read(write(tmp_path, "a.jsonl", f'{{"a": {number}}}\n'))[0] == [{"a": int(number)}]
    assert read(write(tmp_path, "a.json", f'[{{"a": {number}}}]'))[0] == [{"a": int(number)}]


@pytest.mark.parametrize("mark", ["", "\ufeff"])
@pytest.mark.parametrize("quoting", [csv.QUOTE_MINIMAL, csv.QUOTE_ALL])
def test_the_header_of_a_joined_file_is_refused_with_its_line(tmp_path: Path, mark: str, quoting: Any) -> None:
    part = mark + csv_text([[f"Where is parcel {n}?", TEAMS[n % 3]] for n in range(9)], quoting=quoting)
    what = refusal(write(tmp_path, "a.csv", part + part))
    assert "line 11: has the same cells as the header" in what
    assert read(write(tmp_path, "b.csv", "text\ntext\n"))[0] == [{"text": "text"}]


@pytest.mark.parametrize("text", ["a,b\n---,----\n1,2\n", "| a | b |\n|---|:-:|\n| 1 | 2 |\n"])
def test_a_line_of_dashes_below_the_header_is_refused(tmp_path: Path, text: str) -> None:
    assert "line 2: is a line of dashes" in refusal(write(tmp_path, "a.csv", text))
    assert len(read(write(tmp_path, "b.csv", "a,b\n1,2\n---,---\n"))[0]) == 2


def test_invisible_letters_are_no_part_of_a_name(tmp_path: Path) -> None:
    assert read(write(tmp_path, "a.csv", "\ufeff\ufeffa,\u200bb\n1,2\n"))[0] == [{"a": "1", "b": "2"}]


# Delimiters


@pytest.mark.parametrize(
    ("name", "delimiter", "said"),
    [
        ("a.csv", ";", "semicolon"),
        ("a.csv", "\t", "tab"),
        ("a.csv", "|", "pipe"),
        ("a.csv", ",", None),
        ("a.tsv", ",", "comma"),
        ("a.tsv", "\t", None),
    ],
)
def test_the_delimiter_is_detected_and_said(tmp_path: Path, name: str, delimiter: str, said: str | None) -> None:
    cells = [[f"Hello; it costs 1,340 | or {n}, right?", TEAMS[n % 3]] for n in range(20)]
    rows, note = read(write(tmp_path, name, csv_text(cells, delimiter=delimiter)))
    assert rows[3] == {"message": "Hello; it costs 1,340 | or 3, right?", "team": "delivery"}
    assert note.get("delimiter") == said


def test_the_first_line_may_name_the_delimiter_as_excel_does(tmp_path: Path) -> None:
    path = write(tmp_path, "a.csv", "sep=;\r\nmessage;team\r\nHello, you;billing\r\n")
    rows, note = read(path)
    assert (rows, note["delimiter"]) == ([{"message": "Hello, you", "team": "billing"}], "semicolon")


def test_a_delimiter_in_doubt_is_asked_for(tmp_path: Path) -> None:
    path = write(tmp_path, "a.csv", "a,b;c\n1,2;3\n4,5;6\n")
    assert "comma or semicolon" in refusal(path)
    assert read(path, delimiter=";")[0][0] == {"a,b": "1,2", "c": "3"}


def test_a_table_of_one_column_needs_no_delimiter(tmp_path: Path) -> None:
    assert read(write(tmp_path, "a.csv", "message\nHello\n\n  \nYou; there\n"))[0] == [
        {"message": "Hello"},
        {"message": "You; there"},
    ]


# Quotes


def test_an_unclosed_quote_that_takes_in_rows_is_refused_where_it_opens(tmp_path: Path) -> None:
    lines = [f"Where is parcel {n}?,{TEAMS[n % 3]}" for n in range(60)]
    lines[10] = '"Where is parcel 10?,billing'
    lines[46] = 'The screen has 15",technical'
    assert "line 12: the quote that opens a cell here takes in 36 more lines" in refusal(
        write(tmp_path, "a.csv", "message,team\n" + "\n".join(lines) + "\n")
    )
    lines[46] = '"The screen, you know,technical'
    what = refusal(write(tmp_path, "b.csv", "message,team\n" + "\n".join(lines) + "\n"))
    assert "line 12: a quote opens a cell here, which ends in line 48, where text follows" in what


def test_two_rows_made_one_by_stray_quotes_are_refused(tmp_path: Path) -> None:
    lines = [f"{n},Where is parcel {n}?,{TEAMS[n % 3]}" for n in range(30)]
    lines[10], lines[11] = '10,"Where is it?,billing', '11,The screen has 15",technical'
    assert "line 12: the quote" in refusal(write(tmp_path, "a.csv", "id,message,team\n" + "\n".join(lines)))
    lines[10], lines[11] = '10,Where is it?,"billing', '11,The screen,technical"'
    assert "line 12: the quote" in refusal(write(tmp_path, "a.csv", "id,message,team\n" + "\n".join(lines)))


def test_the_first_line_names_where_the_quote_opens_inside_a_record(tmp_path: Path) -> None:
    text = 'a,b\n"x\ny","1\n' + "3,4\n" * 30 + '5,6"\n' + "7,8\n" * 30
    assert "line 3: the quote that opens a cell here" in refusal(write(tmp_path, "a.csv", text))


@pytest.mark.parametrize(
    ("text", "part"),
    [
        ('a,b\n1,2\n3,"4\n5,6\n', "line 3: a quote opens a cell here, and no quote closes it"),
        ('a,b\n1,2\n"3" x,4\n', "line 3: text follows the quote"),
        ('a,b\n"5"" pipe",2\n"say \\"hi\\", ok",4\n', 'as "", not as \\".'),
        ('a,b\n1, "x, y"\n', "line 2: a space stands before the quote"),
        ("a,b\n1,\0\n", "line 2: contains a NUL"),
    ],
)
def test_wrong_quotes_are_refused_with_their_line(tmp_path: Path, text: str, part: str) -> None:
    assert part in refusal(write(tmp_path, "a.csv", text))


@pytest.mark.parametrize(
    ("name", "delimiter"), [("a.csv", ","), ("a.csv", ";"), ("a.csv", "\t"), ("a.tsv", "\t"), ("a.csv", "|")]
)
@pytest.mark.parametrize("doubles_backslashes", [True, False])
@pytest.mark.parametrize("encoding", ["utf-8", "utf-16"])
def test_quotes_escaped_by_a_backslash_are_read(
    tmp_path: Path, name: str, delimiter: str, doubles_backslashes: bool, encoding: str
) -> None:
    cells = [[f'He said "hi {n}", ok;\nand | "bye"\tfrom C:\\dir', '"x"'] for n in range(9)] + [["plain", "y"]]

    def written(cell: str) -> str:
        text = cell.replace("\\", "\\\\") if doubles_backslashes else cell
        return '"' + text.replace('"', '\\"') + '"'

    lines = [delimiter.join(map(written, row)) for row in [["message", "team"], *cells]]
    rows, note = read(write(tmp_path, name, "\n".join(lines) + "\n", encoding))
    assert [list(row.values()) for row in rows] == cells
    assert note["quoting"] == "backslash"


@pytest.mark.parametrize(
    ("cell", "part"),
    [
        ("C:\\\\x and C:\\y", "a backslash here may be text, or escape what follows"),
        ("make \\\n all", "a backslash here may be text, or escape what follows"),
        ('say ""yes""', "text follows the quote"),
    ],
)
def test_escapes_that_can_be_read_in_two_ways_are_refused(tmp_path: Path, cell: str, part: str) -> None:
    text = 'a,b\n"say \\"hi\\", ok",1\n' + f'"{cell}",2\n'
    assert part in refusal(write(tmp_path, "a.csv", text))


def test_a_backslash_before_a_quote_of_plain_text_stays(tmp_path: Path) -> None:
    text = 'code\tv\nprint(\\"hi\\")\tx\n"a \\"b\\" c"\tx\n'
    assert [row["code"] for row in read(write(tmp_path, "a.tsv", text))[0]] == ['print(\\"hi\\")', '"a \\"b\\" c"']
    text = "a,b\n" + '"{""k"": ""say \\""hi\\""""}",x\n' * 9
    assert read(write(tmp_path, "a.csv", text))[0][8] == {"a": '{"k": "say \\"hi\\""}', "b": "x"}


LETTER = "Hi Anna,\nthank you for your message, we are on it.\n\nBest regards, Tom\nSupport, Lumen & Oak"
CELLS = [
    LETTER,
    "Dear Sir, thanks\nBest regards Ann",
    "Dear Sir, thanks\r\nBest regards, Ann",
    "225g plain flour, 150g butter (cold, cubed), 75g sugar.\nRub together, press into the tin, prick",
    '5" pipe',
    'say "hi", ok',
    '"',
    "a,b\nc",
    "x = 1\ny = f(a, b)",
    "    y = x + 14\n",
    " , ",
    'print(\n    "hello"\n)',
    'def f(a,b):\n    """Add."""\n    return a, b\n',
    "billing",
]


@pytest.mark.parametrize("form", [{}, {"quoting": csv.QUOTE_ALL}, {"delimiter": ";"}, {"lineterminator": "\n"}])
@pytest.mark.parametrize("last", [False, True])
def test_quoted_cells_with_line_breaks_are_read_as_they_are(tmp_path: Path, form: dict[str, Any], last: bool) -> None:
    rows = [[cell, TEAMS[n % 3]] for n, cell in enumerate(CELLS * 3)]
    if last:
        rows = [[f"question {n}", cell] for n, cell in enumerate(CELLS * 3)]
    found, _ = read(write(tmp_path, "a.csv", csv_text(rows, **form)))
    assert [list(row.values()) for row in found] == rows


def test_cells_of_one_column_may_have_many_lines(tmp_path: Path) -> None:
    text = io.StringIO()
    csv.writer(text).writerows([["text"], *[[LETTER]] * 9])
    assert read(write(tmp_path, "a.csv", text.getvalue()))[0] == [{"text": LETTER}] * 9


def test_a_cell_that_holds_csv_is_right_if_the_parameters_say_so(tmp_path: Path) -> None:
    cell = "1,2\n3,4\n5,6\n7"
    path = write(tmp_path, "a.csv", csv_text([[cell, "x"], *[[f"question {n}", str(n)] for n in range(9)]]))
    assert "takes in 3 more lines, which look like rows" in refusal(path)
    assert read(path, quoting="standard")[0][0] == {"message": cell, "team": "x"}


def test_quotes_of_a_tsv_are_plain_characters(tmp_path: Path) -> None:
    lines = [f"Where is parcel {n}?\t{TEAMS[n % 3]}" for n in range(120)]
    lines[5], lines[50], lines[99] = '"Hello there\tbilling', 'A 15" screen\ttechnical', '"Hello," he said\tbilling'
    rows, note = read(write(tmp_path, "a.tsv", "message\tteam\n" + "\n".join(lines)))
    assert [f"{row['message']}\t{row['team']}" for row in rows] == lines
    assert note["format"] == "TSV"
    lines = ["Hello\tbilling"] * 9 + ['"Heroes"\ttechnical']
    assert read(write(tmp_path, "b.tsv", "message\tteam\n" + "\n".join(lines)))[0][9]["message"] == '"Heroes"'


@pytest.mark.parametrize("quoting", [csv.QUOTE_MINIMAL, csv.QUOTE_ALL])
@pytest.mark.parametrize("cells", [["a\tb", 'say "hi"'], ["a\nb", "x"], ['say "hi"', "x"]])
def test_a_tsv_that_is_clearly_quoted_is_read_so(tmp_path: Path, quoting: Any, cells: list[str]) -> None:
    rows = [[cell, "x"] for cell in cells * 5]
    path = write(tmp_path, "a.tsv", csv_text(rows, delimiter="\t", quoting=quoting))
    found, note = read(path)
    assert [list(row.values()) for row in found] == rows
    assert note["quoting"] == "standard"


@pytest.mark.parametrize(
    ("text", "line"),
    [('a\tb\n"x\t\n"\ty\n', 2), ('a\tb\n5"\t2\n"I said\tx\nno"\ty\n', 3), ('a\n"x\ny"\n', 2)],
)
def test_quotes_that_may_enclose_lines_of_a_tsv_are_asked_for(tmp_path: Path, text: str, line: int) -> None:
    path = write(tmp_path, "a.tsv", text)
    assert f"line {line}: a quote here may enclose a cell of several lines" in refusal(path)
    lines = text.count("\n") - 1
    assert len(read(path, quoting="none")[0]) == lines
    assert len(read(path, quoting="standard")[0]) == lines - 1


def test_a_tsv_whose_header_is_quoted_is_quoted(tmp_path: Path) -> None:
    path = write(tmp_path, "a.tsv", '"a"\t"b"\n"x\t\n"\t"y"\n')
    assert read(path)[0] == [{"a": "x\t\n", "b": "y"}]


def test_a_row_of_empty_quotes_in_a_tsv_has_no_text(tmp_path: Path) -> None:
    assert read(write(tmp_path, "a.tsv", 'a\tb\n""\t""\n1\t2\n'))[0] == [{"a": "1", "b": "2"}]


def test_the_parameters_decide_about_quotes(tmp_path: Path) -> None:
    path = write(tmp_path, "a.csv", 'a,b\n"Wow" he said,x\n')
    assert "data.quoting" in refusal(path)
    assert read(path, quoting="none")[0] == [{"a": '"Wow" he said', "b": "x"}]
    path = write(tmp_path, "a.tsv", 'a\tb\n"Heroes"\tx\n')
    assert read(path, quoting="standard")[0] == [{"a": "Heroes", "b": "x"}]


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("a,b\n1,2\n3,4\r\n", 3),
        ("a,b\n1\r1,2\n", 2),
        ("a,b\r1\n1,2\r", 2),
        ("a,b\r1,2\n\r", 2),
        ("a,b\r\n1,2\r\r\n", 2),
        ("a\r\n1\r", 2),
        ("a,b\n1,2\r", 2),
        ("a,b\r1,2\n", 2),
    ],
)
def test_line_breaks_of_another_kind_need_quotes(tmp_path: Path, text: str, line: int) -> None:
    assert f"line {line}" in refusal(write(tmp_path, "a.csv", text))


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
def test_lines_may_end_as_on_any_system(tmp_path: Path, end: str) -> None:
    text = f'a,b{end}1,"2\n3\r4\r\n5"{end}{end}6,7'
    rows = [{"a": "1", "b": "2\n3\r4\r\n5"}, {"a": "6", "b": "7"}]
    assert read(write(tmp_path, "a.csv", text))[0] == rows


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
def test_a_name_may_have_line_breaks_as_spreadsheets_write_them(tmp_path: Path, end: str) -> None:
    text = f'a,"b{chr(10)}(in cm)"{end}1,2{end}3,"4{chr(10)}5"{end}'
    assert read(write(tmp_path, "a.csv", text))[0] == [{"a": "1", "b\n(in cm)": "2"}, {"a": "3", "b\n(in cm)": "4\n5"}]


def test_a_cell_may_be_longer_than_the_csv_module_expects(tmp_path: Path) -> None:
    assert read(write(tmp_path, "a.csv", f"a,b\n{'x' * 200_000},y\n"))[0][0]["b"] == "y"


# Blank rows


def test_rows_without_text_are_counted_and_left_out(tmp_path: Path) -> None:
    blank = {
        ",": "a,b,c\n1,2,\n,,\n , ,\n3,,4\n,,\n,,\n,\n,,,,,\n",
        ";": "a;b;c\n1;2;\n;;\n ; ;\n3;;4\n;;\n;;\n;\n;;;;;\n",
        "\t": "a\tb\tc\n1\t2\t\n\t\t\n \t \t\n3\t\t4\n\t\t\n\t\t\n\t\n\t\t\t\t\t\n",
        '"': 'a,b,c\r\n1,2,\r\n,,\r\n"","",""\r\n3,,4\r\n,,\r\n,,\r\n,\r\n,,,,,\r\n',
    }
    for text in blank.values():
        rows, _ = read_rows(write(tmp_path, "a.csv", text))
        assert list(rows) == [{"a": "1", "b": "2", "c": ""}, {"a": "3", "b": "", "c": "4"}]
        assert rows.places.blank == 6
        assert [rows.place(1), rows.place(2)] == ["line 2, row 1", "line 5, row 2"]
    assert "has no rows" in refusal(write(tmp_path, "b.csv", "a,b\n,\n,\n"))
    rows, _ = read_rows(write(tmp_path, "a.csv", text), keep_all=True)  # as predict reads
    assert len(list(rows)) == 6
    assert rows.places.blank == 0


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("a.jsonl", '{"a": "1"}\n{"a": null, "b": ""}\n{}\n{"a": 0}\n'),
        ("a.json", '[{"a": "1"}, {"a": null, "b": " "}, {}, {"a": 0}]'),
        ("a.json", '{\n"a": "1"}\n{"a": null}\n{"b": []}\n{"a": 0}'),
    ],
)
def test_rows_of_json_without_text_are_counted_and_left_out(tmp_path: Path, name: str, text: str) -> None:
    rows, _ = read_rows(write(tmp_path, name, text))
    assert list(rows) == [{"a": "1"}, {"a": 0}]
    assert rows.places.blank == 2
    assert "4" in rows.place(2) or "5" in rows.place(2)


# Places


def test_rows_know_their_lines(tmp_path: Path) -> None:
    rows, _ = read_rows(write(tmp_path, "a.csv", 'a,b\n1,2\n"x\ny",3\n\n4,5\n6,7\n'))
    list(rows)
    assert [rows.place(n) for n in range(1, 5)] == [
        "line 2, row 1",
        "line 3, row 2",
        "line 6, row 3",
        "line 7, row 4",
    ]
    rows, _ = read_rows(write(tmp_path, "a.jsonl", '{"a": 1}\n\n{"a": 2}\n'))
    list(rows)
    assert [rows.place(1), rows.place(2)] == ["row 1", "line 3, row 2"]


# All tables

CELL = st.text(
    st.sampled_from(list('ab1é,;|\t"\' \n\r\\,\n"荷€')) | st.characters(codec="utf-8", exclude_characters="\0"),
    max_size=12,
)
ENCODINGS = st.sampled_from(["utf-8", "utf-8-sig", "utf-16", "utf-32", "utf-16-le"])


@settings(max_examples=400, deadline=None)
@given(st.data())
def test_each_cell_of_a_table_is_reproduced_or_the_file_is_refused(data: st.DataObject) -> None:
    width = data.draw(st.integers(1, 4))
    rows = data.draw(st.lists(st.lists(CELL, min_size=width, max_size=width), min_size=1, max_size=6))
    delimiter = data.draw(st.sampled_from(",;\t|"))
    quoting: Any = data.draw(st.sampled_from([csv.QUOTE_MINIMAL, csv.QUOTE_ALL, csv.QUOTE_NONNUMERIC]))
    end = data.draw(st.sampled_from(["\n", "\r\n", "\r"]))
    text = io.StringIO()
    names = [f"name{n}" for n in range(width)]
    csv.writer(text, delimiter=delimiter, quoting=quoting, lineterminator=end).writerows([names, *rows])
    with tempfile.TemporaryDirectory() as folder:
        suffix = data.draw(st.sampled_from([".csv", ".tsv"])) if width > 1 else ".tsv" if delimiter == "\t" else ".csv"
        path = Path(folder) / f"a{suffix}"
        path.write_bytes(text.getvalue().encode(data.draw(ENCODINGS)))
        are_given = data.draw(st.booleans())
        options = {"delimiter": delimiter, "quoting": "standard"} if are_given else {}
        with suppress(FinetuneError):
            found, _ = read(path, **options)
            assert [list(row.values()) for row in found] == [row for row in rows if any(map(str.strip, row))]
            return
        what = refusal(path, **options)
        assert "line " in what or "may be separated" in what or "has no rows" in what
        # Python's writer leaves cells with other line breaks than its own without quotes.
        if "has no rows" in what:
            assert not any(cell.strip() for row in rows for cell in row)
            return
        assert not are_given or "of another kind" in what or "another line break" in what or "NUL" in what


@settings(max_examples=200, deadline=None)
@given(st.data())
def test_a_row_of_another_length_is_refused_with_its_line(data: st.DataObject) -> None:
    plain = st.text(st.sampled_from("abc é荷"), min_size=1, max_size=5).filter(str.strip)
    width, count = data.draw(st.integers(2, 4)), data.draw(st.integers(2, 8))
    rows = [data.draw(st.lists(plain, min_size=width, max_size=width)) for _ in range(count)]
    wrong = data.draw(st.integers(0, count - 1))
    rows[wrong] = data.draw(st.lists(plain, min_size=1, max_size=6).filter(lambda cells: len(cells) != width))
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "a.csv"
        lines = [",".join(cells) for cells in [[f"name{n}" for n in range(width)], *rows]]
        path.write_text("\n".join(lines) + "\n", encoding="utf-8")
        assert f"line {wrong + 2}: {len(rows[wrong])} cells, but the header has {width}" in refusal(path)


@settings(max_examples=200, deadline=None)
@given(st.data())
def test_prepare_keeps_each_cell_or_names_the_line(data: st.DataObject) -> None:
    cells = CELL.filter(str.strip)
    rows = data.draw(st.lists(st.lists(cells, min_size=2, max_size=2), min_size=1, max_size=6))
    form: dict[str, Any] = {
        "delimiter": data.draw(st.sampled_from(",;\t|")),
        "quoting": data.draw(st.sampled_from([csv.QUOTE_MINIMAL, csv.QUOTE_ALL])),
        "lineterminator": data.draw(st.sampled_from(["\n", "\r\n"])),
    }
    encoding = data.draw(st.sampled_from(["utf-8", "utf-16", "cp1252", "cp932", "koi8-r", "gb18030"]))
    content = csv_text(rows, **form).encode(encoding, "replace")
    rows = [[cell.encode(encoding, "replace").decode(encoding) for cell in row] for row in rows]
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "a.csv").write_bytes(content)
        parameters = Data.model_validate(
            {
                "file": f"{folder}/a.csv",
                "encoding": encoding,
                "split": {"train": 0.8, "valid": 0.1, "test": 0.1},
                "prompt": {"user": "{message}", "assistant": "{team}"},
            }
        )
        template = {"user": "{message}", "assistant": "{team}"}
        try:
            found = [example for _, _, _, _, example, _ in raw_examples(parameters, template, {}, ReadingNotes())]
        except FinetuneError as error:
            what = str(error)
        else:
            assert [[message["content"] for message in example["messages"]] for example in found] == rows
            return
        assert "line " in what or "may be separated" in what
