"""Reading raw data of every format and encoding."""

import gzip
import json
import tempfile
from importlib.util import find_spec
from pathlib import Path

import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from finetune.core.errors import FinetuneError
from finetune.data.raw_file import Note, Row
from finetune.data.readers import READERS, read_rows


def example(question: str, answer: str = "yes") -> dict[str, list[dict[str, str]]]:
    return {"messages": [{"role": "user", "content": question}, {"role": "assistant", "content": answer}]}


ROWS = [
    {"question": 'Is it, "so"?', "answer": "NA"},
    {"question": "荷物はどこにありますか。まだ届いていません", "answer": "配送"},
    {"question": "환불은 언제 받을 수 있나요? 아직 소식이 없어요", "answer": ""},
]


def read(path: Path, sheet: str | None = None) -> tuple[list[Row], Note]:
    rows, note = read_rows(path, sheet)
    return list(rows), note


def write_as(path: Path) -> None:
    """Write the rows in the format of the path's suffix, by pandas."""
    table = pd.DataFrame(ROWS)
    name = path.name.removesuffix(".gz")
    text = {
        ".csv": lambda: table.to_csv(index=False),
        ".tsv": lambda: table.to_csv(index=False, sep="\t"),
        ".json": lambda: table.to_json(orient="records", force_ascii=False),
        ".jsonl": lambda: table.to_json(orient="records", lines=True, force_ascii=False),
    }[Path(name).suffix]().encode()
    path.write_bytes(gzip.compress(text) if path.suffix == ".gz" else text)


@pytest.mark.parametrize("name", ["a.csv", "a.tsv", "a.json", "a.jsonl", "a.csv.gz", "a.jsonl.gz", "A.JSON.GZ"])
def test_all_text_formats_give_the_same_rows(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    if name.isupper():
        write_as(tmp_path / name.lower())
        (tmp_path / name.lower()).rename(path)
    else:
        write_as(path)
    rows, note = read(path)
    assert rows == ROWS
    assert note["encoding"] == "utf-8"
    assert note.get("compression") == ("gzip" if name.lower().endswith(".gz") else None)


def test_a_sheet_of_a_workbook_is_read_by_name(tmp_path: Path) -> None:
    path = tmp_path / "a.xlsx"
    with pd.ExcelWriter(path) as book:
        pd.DataFrame({"question": ["other"]}).to_excel(book, sheet_name="Notes", index=False)
        pd.DataFrame(ROWS).to_excel(book, sheet_name="データ", index=False)
    rows, note = read(path, "データ")
    assert rows == ROWS
    assert note == {"format": "XLSX", "sheet": "データ"}
    assert read(path)[1]["other sheets"] == "データ"
    with pytest.raises(FinetuneError, match=r"no sheet 'x'(.|\n)*Notes, データ"):
        read(path, "x")
    write_as(tmp_path / "a.csv")
    with pytest.raises(FinetuneError, match="has no sheets"):
        read(tmp_path / "a.csv", "x")


def test_parquet_is_read_or_the_missing_package_is_named(tmp_path: Path) -> None:
    path = tmp_path / "a.parquet"
    if find_spec("pyarrow") is None:
        path.write_bytes(b"PAR1")
        with pytest.raises(FinetuneError, match=r"\[parquet\]"):
            read(path)
    else:
        pd.DataFrame([{**row, "tags": ["a", "b"], "n": None} for row in ROWS]).to_parquet(path)
        assert read(path)[0] == [{**row, "tags": ["a", "b"], "n": None} for row in ROWS]


def test_each_line_of_a_text_file_is_a_row(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("one\n\n둘\n", encoding="utf-8")
    assert read(tmp_path / "a.txt")[0] == [{"text": "one"}, {"text": "둘"}]


JAPANESE = (
    "message,team\n"
    + "先週注文した商品がまだ届いていません。いつ届きますか,配送\n領収書の宛名を変更してください,経理\n" * 3
)
KOREAN = (
    "message,team\n" + "지난주에 주문한 상품이 아직 도착하지 않았습니다,배송\n환불은 언제 받을 수 있나요,결제\n" * 3
)
GERMAN = "message,team\n" + "Können Sie die Rechnung für März ändern? Größe stimmt nicht,Rückgabe\n" * 3


@pytest.mark.parametrize(
    ("text", "encoding"),
    [
        (JAPANESE, "utf-8-sig"),
        (JAPANESE, "utf-16"),
        (JAPANESE, "shift_jis"),
        (JAPANESE, "euc_jp"),
        (KOREAN, "euc_kr"),
        (KOREAN, "cp949"),
        (KOREAN.replace("환불", "똠방각하 펲시"), "cp949"),
        (KOREAN, "utf-32"),
        (GERMAN, "latin_1"),
        (GERMAN, "cp1252"),
    ],
)
def test_other_encodings_are_detected_and_reported(tmp_path: Path, text: str, encoding: str) -> None:
    (tmp_path / "a.csv").write_bytes(text.encode(encoding))
    rows, note = read(tmp_path / "a.csv")
    assert [",".join(row.values()) for row in rows] == text.splitlines()[1:]
    assert note["encoding"] != "utf-8"


def test_the_content_decides_between_json_and_json_lines(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_text(json.dumps(ROWS, indent=2), encoding="utf-8")
    assert read(tmp_path / "a.jsonl")[0] == ROWS
    assert read(tmp_path / "a.jsonl")[1]["format"] == "JSON, named as JSON Lines"
    (tmp_path / "a.json").write_text("\n".join(map(json.dumps, ROWS)), encoding="utf-8")
    assert read(tmp_path / "a.json")[0] == ROWS
    assert read(tmp_path / "a.json")[1]["format"] == "JSON Lines, named as JSON"
    (tmp_path / "b.json").write_text(json.dumps({"version": 1, "data": ROWS}), encoding="utf-8")
    assert read(tmp_path / "b.json")[0] == ROWS
    (tmp_path / "c.json").write_text(json.dumps(example("a")), encoding="utf-8")
    assert read(tmp_path / "c.json")[0] == [example("a")]


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("missing.csv", None, "no file"),
        ("missing.xlsx", None, "no file"),
        ("missing.parquet", None, "no file"),
        ("empty.csv", b"", "no rows"),
        ("head.csv", b"question,answer\n", "no rows"),
        ("empty.jsonl", b"", "no rows"),
        ("broken.jsonl", b'{"question": "a"}\n{"question": \n', "line 2"),
        ("broken.json", b'[{"question": "a"},\n{"question": ]', "line 2"),
        ("list.jsonl", b"[1]\n", "item 1"),
        ("number.jsonl", b'{"a": 1}\n7\n', "line 2"),
        ("ragged.csv", b"a,b\n1,2\n1,2,3\n", "line 3"),
        ("half.csv.gz", gzip.compress(b"a,b\n1,2\n" * 99)[:20], "gzip"),
        ("no.csv.gz", b"a,b\n1,2\n", "gzip"),
        ("no.xlsx.gz", b"a,b\n1,2\n", "gzip"),
        ("no.xlsx", b"a,b\n1,2\n", "workbook"),
        ("half.csv", b"\xff\xfea", "UTF-16"),
        ("a.docx", b"x", ".csv"),
    ],
)
def test_errors_name_the_file(tmp_path: Path, name: str, content: bytes | None, message: str) -> None:
    if content is not None:
        (tmp_path / name).write_bytes(content)
    with pytest.raises(FinetuneError) as caught:
        read(tmp_path / name)
    assert name in str(caught.value)
    assert message in str(caught.value)


@settings(max_examples=100, deadline=None)
@given(st.binary(max_size=60), st.sampled_from(sorted({*READERS} - {".parquet"})), st.booleans())
def test_no_raw_file_causes_a_traceback(content: bytes, suffix: str, packed: bool) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / f"a{suffix}{'.gz' if packed else ''}"
        path.write_bytes(gzip.compress(content) if packed else content)
        try:
            rows, _ = read(path)
        except FinetuneError:
            return
        assert all(isinstance(row, dict) for row in rows)
