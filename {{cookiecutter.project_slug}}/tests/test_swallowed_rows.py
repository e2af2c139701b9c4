"""Rows that a stray pair of quotes makes one are refused with their line; cells of several lines are read."""

import random
import re
from pathlib import Path

import pytest

from finetune.core.errors import FinetuneError
from finetune.data.readers import read_rows

TEXT = """where is my parcel it should have come on the of and please tell me soon thanks screen broken box order late
refund money card paid twice login password address change name city street"""
WORDS = TEXT.split()
TEAMS = ("billing", "delivery", "technical")
CODE = [
    "for n in range(9):\n    total = f(n, 2)",
    "            start = 0\n        result = g(a,b)",
    "x = [1,2]\ny = 3",
    "if (a) {\n  return b;\n}",
    "a | b\ncat x",
]


def sentence(draw: random.Random) -> str:
    """Return a sentence, with a comma now and then."""
    words = draw.choices(WORDS, k=draw.randint(4, 14))
    words = [f"{word}," if draw.random() < 0.05 else word for word in words[:-1]] + words[-1:]
    return " ".join(words).capitalize() + draw.choice(".?!")


def row(form: str, number: int, draw: random.Random) -> list[str]:
    """Return a row with an index (i), free text (q, a) and a label (l)."""
    cells = {"i": str(number), "l": draw.choice(TEAMS)}
    return [cells[kind] if kind in cells else sentence(draw) for kind in form]


def quoted(cell: str, delimiter: str) -> str:
    return '"' + cell.replace('"', '""') + '"' if any(sign in cell for sign in (delimiter, '"', "\n")) else cell


def outcome(path: Path, lines: list[str], end: str) -> int | str:
    """Return the number of rows, or the refusal."""
    path.write_text(end.join(lines) + end, encoding="utf-8", newline="")
    try:
        return len(list(read_rows(path)[0]))
    except FinetuneError as error:
        return error.what


@pytest.mark.parametrize("form", ["ql", "lq", "iql", "qa", "iqa", "qal"])
@pytest.mark.parametrize("delimiter", [",", ";", "|"])
@pytest.mark.parametrize("more", [1, 2, 4])
def test_rows_between_two_stray_quotes_are_never_one_cell(tmp_path: Path, form: str, delimiter: str, more: int) -> None:
    for seed in range(8):
        draw = random.Random(f"{form}{delimiter}{more}{seed}")
        rows = [row(form, number, draw) for number in range(40)]
        column = draw.choice([place for place, kind in enumerate(form) if kind in "qa"])
        first = draw.randrange(3, 30)
        lines = [delimiter.join(f"column {kind}" for kind in form)]
        for number, cells in enumerate(rows):
            written = [quoted(cell, delimiter) for cell in cells]
            if number == first:
                written[column] = '"' + cells[column].replace(delimiter, "")
            if number == first + more:
                written[column] = cells[column].replace(delimiter, "") + '"'
            lines.append(delimiter.join(written))
        found = outcome(tmp_path / "a.csv", lines, draw.choice(["\n", "\r\n"]))
        assert isinstance(found, str), lines[first + 1 : first + more + 2]
        lines_named = {int(number) for number in re.findall(r"line (\d+)", found)}
        assert lines_named & set(range(first + 2, first + more + 3)), found


@pytest.mark.parametrize("form", ["ql", "lq", "iqa", "qa"])
@pytest.mark.parametrize("delimiter", [",", ";", "|"])
def test_cells_of_several_lines_are_no_false_alarm(tmp_path: Path, form: str, delimiter: str) -> None:
    for seed in range(20):
        draw = random.Random(f"{form}{delimiter}{seed}")
        rows = [row(form, number, draw) for number in range(60)]
        for cells in rows:
            for place, kind in enumerate(form):
                if kind in "qa" and draw.random() < 0.3:
                    text = "\n".join(sentence(draw) for _ in range(draw.choice([2, 2, 3, 5])))
                    cells[place] = draw.choice([text, text, *CODE])
        lines = [delimiter.join(form)] + [delimiter.join(quoted(cell, delimiter) for cell in cells) for cells in rows]
        assert outcome(tmp_path / "a.csv", lines, "\n") == 60


def test_two_rows_of_free_text_made_one_are_refused(tmp_path: Path) -> None:
    lines = ["question;answer", *(f"Where is parcel {n} of mine?;It is on its way, day {n}." for n in range(30))]
    lines[6] = '"Where is parcel 5 of mine?;It is on its way, day 5.'
    lines[7] = 'What is the screen of 15";A large one, as you see.'
    assert "line 7: the quote that opens a cell here takes in 1 more lines, which look like rows" in str(
        outcome(tmp_path / "a.csv", lines, "\n")
    )
