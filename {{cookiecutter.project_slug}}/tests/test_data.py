"""Raw rows to examples to splits."""

import gzip
import json
import tempfile
from importlib.util import find_spec
from itertools import combinations
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from finetune.data.near import nearest
from finetune.data.prompts import build_examples
from finetune.data.readers import READERS, read_rows
from finetune.data.rules import Example
from finetune.data.split import key_of, split_examples, without_duplicates, without_leaks
from finetune.data.tokens import counter
from finetune.errors import FinetuneError
from finetune.params import Data, Params
from finetune.stages import prepare

TEMPLATE = {"system": None, "user": "{question}", "assistant": "{answer}"}
SHARES = {"train": 0.7, "valid": 0.1, "test": 0.2}


def example(question: str, answer: str = "yes") -> dict[str, list[dict[str, str]]]:
    return {"messages": [{"role": "user", "content": question}, {"role": "assistant", "content": answer}]}


ROWS = [
    {"question": 'Is it, "so"?', "answer": "NA"},
    {"question": "荷物はどこにありますか。まだ届いていません", "answer": "配送"},
    {"question": "환불은 언제 받을 수 있나요? 아직 소식이 없어요", "answer": ""},
]


def write_as(path: Path) -> None:
    """The rows in the format that the path's name says, by pandas."""
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
def test_every_text_format_gives_the_same_rows(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    if name.isupper():
        write_as(tmp_path / name.lower())
        (tmp_path / name.lower()).rename(path)
    else:
        write_as(path)
    rows, note = read_rows(path)
    assert rows == ROWS
    assert note["encoding"] == "utf-8"
    assert note.get("compression") == ("gzip" if name.lower().endswith(".gz") else None)


def test_a_workbooks_sheet_is_read_by_its_name(tmp_path: Path) -> None:
    path = tmp_path / "a.xlsx"
    with pd.ExcelWriter(path) as book:
        pd.DataFrame({"question": ["other"]}).to_excel(book, sheet_name="Notes", index=False)
        pd.DataFrame(ROWS).to_excel(book, sheet_name="データ", index=False)
    rows, note = read_rows(path, "データ")
    assert rows == ROWS
    assert note == {"format": "XLSX", "sheet": "データ"}
    assert read_rows(path)[1]["other sheets"] == "データ"
    with pytest.raises(FinetuneError, match=r"no sheet 'x'(.|\n)*Notes, データ"):
        read_rows(path, "x")
    write_as(tmp_path / "a.csv")
    with pytest.raises(FinetuneError, match="has no sheets"):
        read_rows(tmp_path / "a.csv", "x")


def test_parquet_is_read_or_its_package_asked_for(tmp_path: Path) -> None:
    path = tmp_path / "a.parquet"
    if find_spec("pyarrow") is None:
        path.write_bytes(b"PAR1")
        with pytest.raises(FinetuneError, match=r"\[parquet\]"):
            read_rows(path)
    else:
        pd.DataFrame([{**row, "tags": ["a", "b"], "n": None} for row in ROWS]).to_parquet(path)
        assert read_rows(path)[0] == [{**row, "tags": ["a", "b"], "n": None} for row in ROWS]


def test_lines_of_a_text_are_rows(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("one\n\n둘\n", encoding="utf-8")
    assert read_rows(tmp_path / "a.txt")[0] == [{"text": "one"}, {"text": "둘"}]


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
def test_other_encodings_are_detected_and_said(tmp_path: Path, text: str, encoding: str) -> None:
    (tmp_path / "a.csv").write_bytes(text.encode(encoding))
    rows, note = read_rows(tmp_path / "a.csv")
    assert [",".join(row.values()) for row in rows] == text.splitlines()[1:]
    assert note["encoding"] != "utf-8"


def test_json_and_json_lines_are_told_apart_by_what_they_hold(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_text(json.dumps(ROWS, indent=2), encoding="utf-8")
    assert read_rows(tmp_path / "a.jsonl")[0] == ROWS
    assert read_rows(tmp_path / "a.jsonl")[1]["format"] == "JSON, named as JSON Lines"
    (tmp_path / "a.json").write_text("\n".join(map(json.dumps, ROWS)), encoding="utf-8")
    assert read_rows(tmp_path / "a.json")[0] == ROWS
    assert read_rows(tmp_path / "a.json")[1]["format"] == "JSON Lines, named as JSON"
    (tmp_path / "b.json").write_text(json.dumps({"version": 1, "data": ROWS}), encoding="utf-8")
    assert read_rows(tmp_path / "b.json")[0] == ROWS
    (tmp_path / "c.json").write_text(json.dumps(example("a")), encoding="utf-8")
    assert read_rows(tmp_path / "c.json")[0] == [example("a")]


@pytest.mark.parametrize(
    ("name", "content", "told"),
    [
        ("missing.csv", None, "no file"),
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
        ("no.xlsx", b"a,b\n1,2\n", "workbook"),
        ("half.csv", b"\xff\xfea", "UTF-16"),
        ("a.docx", b"x", ".csv"),
    ],
)
def test_bad_raw_files_are_named(tmp_path: Path, name: str, content: bytes | None, told: str) -> None:
    if content is not None:
        (tmp_path / name).write_bytes(content)
    with pytest.raises(FinetuneError) as caught:
        read_rows(tmp_path / name)
    assert name in str(caught.value)
    assert told in str(caught.value)


@settings(max_examples=100, deadline=None)
@given(st.binary(max_size=60), st.sampled_from(sorted({*READERS} - {".parquet"})), st.booleans())
def test_no_raw_file_ends_in_a_traceback(content: bytes, suffix: str, packed: bool) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / f"a{suffix}{'.gz' if packed else ''}"
        path.write_bytes(gzip.compress(content) if packed else content)
        try:
            rows, _ = read_rows(path)
        except FinetuneError:
            return
        assert all(isinstance(row, dict) for row in rows)


def test_cells_are_put_in_as_they_are() -> None:
    [built] = build_examples([{"question": "{answer} or {x}?", "answer": "a"}], TEMPLATE, "raw.csv")
    assert built["messages"][0]["content"] == "{answer} or {x}?"


def test_an_unknown_column_is_named_with_those_there_are() -> None:
    with pytest.raises(FinetuneError, match=r"'questoin'(.|\n)*question, answer"):
        build_examples([{"question": "a", "answer": "b"}], {**TEMPLATE, "user": "{questoin}"}, "raw.csv")


def test_rows_with_nothing_to_answer_are_counted() -> None:
    rows = [{"question": "a", "answer": "b"}, {"question": "a", "answer": " "}]
    with pytest.raises(FinetuneError, match=r"raw\.csv: rows .*: 2"):
        build_examples(rows, TEMPLATE, "raw.csv")


def split_by_question(examples: list[Example]) -> dict[str, list[Example]]:
    return split_examples([(key_of(one), one) for one in examples], SHARES)


def test_a_row_keeps_its_split_as_data_grow_and_move() -> None:
    rows = [example(f"question number {n}") for n in range(300)]
    small, large = split_by_question(rows[:100]), split_by_question(rows[::-1])
    for name in SHARES:
        assert all(row in large[name] for row in small[name])
    assert sum(map(len, large.values())) == 300
    assert 180 <= len(large["train"]) <= 240


def test_two_spellings_of_a_question_never_part() -> None:
    splits = split_by_question([example("Where  is it?"), example("where is IT?", "no")])
    assert sorted(map(len, splits.values())) == [0, 0, 2]


def test_only_exact_copies_are_dropped() -> None:
    assert len(without_duplicates([("k", example("a")), ("k", example("a")), ("k", example("a", "no"))])) == 2


def test_what_is_near_to_a_test_row_is_left_out_of_training() -> None:
    rows = [
        example(f"{n}: my order of the {n * 7}th has not come, and nobody at the depot knows why") for n in range(40)
    ]
    twins = [example(row["messages"][0]["content"].replace("nobody", "no one")) for row in rows]
    splits = split_by_question([*rows, *twins])
    kept, left_out = without_leaks(splits)
    assert kept["test"] == splits["test"]
    assert left_out == sum(map(len, splits.values())) - sum(map(len, kept.values())) > 0
    asked = {name: [key_of(row) for row in part] for name, part in kept.items()}
    assert nearest(asked["train"], asked["valid"] + asked["test"]) == {}
    assert nearest(asked["valid"], asked["test"]) == {}
    shuffled, _ = without_leaks(split_by_question([*twins, *rows][::-1]))
    assert {n: sorted(map(key_of, p)) for n, p in shuffled.items()} == {n: sorted(a) for n, a in asked.items()}


def test_tokens_are_those_of_the_bill() -> None:
    assert counter("o200k_base")(example("a")) == 11  # twice 3 and a role and a word, and one for the example


def prepared(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, rows: list[dict[str, Any]], **data: Any
) -> dict[str, Any]:
    """The splits that the stage makes of some rows, by name, and its report."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "raw.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    section = Data.model_validate({"file": "raw.jsonl", "split": SHARES, **data})
    report = prepare.run(cast("Params", SimpleNamespace(data=section)))
    splits = {name: (prepare.PREPARED / f"{name}.jsonl").read_text(encoding="utf-8").splitlines() for name in SHARES}
    return {"report": report} | {name: [json.loads(line) for line in lines] for name, lines in splits.items()}


def test_a_group_never_crosses_splits(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rows = [{**example(f"customer {n % 30} asks number {n * n}"), "customer": f"c{n % 30}"} for n in range(120)]
    done = prepared(tmp_path, monkeypatch, rows, group="customer")
    customers = [{m["messages"][0]["content"].split()[1] for m in done[name]} for name in SHARES]
    assert all(not one & other for one, other in combinations(customers, 2))
    assert done["report"]["source"]["rows"] == "messages"
    with pytest.raises(FinetuneError, match=r"data\.group names 'client'"):
        prepared(tmp_path, monkeypatch, rows, group="client")


def test_the_turns_of_a_conversation_stay_together(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rows = [
        {"messages": [m for turn in range(3) for m in example(f"talk {n}: what of {turn + n * n}?")["messages"]]}
        for n in range(40)
    ]
    done = prepared(tmp_path, monkeypatch, rows, turns="each")
    assert sum(len(done[name]) for name in SHARES) + done["report"]["near_duplicates_left_out"] == 120
    talks = [{e["messages"][0]["content"].split(":")[0] for e in done[name]} for name in SHARES]
    assert all(not one & other for one, other in combinations(talks, 2))
