"""Raw rows to examples to splits."""

from pathlib import Path

import pytest

from finetune.data.near import nearest
from finetune.data.prompts import build_examples
from finetune.data.readers import read_rows
from finetune.data.split import key_of, split_examples, without_duplicates, without_leaks
from finetune.data.tokens import counter
from finetune.errors import FinetuneError

TEMPLATE = {"system": None, "user": "{question}", "assistant": "{answer}"}
SHARES = {"train": 0.7, "valid": 0.1, "test": 0.2}


def example(question: str, answer: str = "yes") -> dict[str, list[dict[str, str]]]:
    return {"messages": [{"role": "user", "content": question}, {"role": "assistant", "content": answer}]}


def test_csv_and_jsonl_give_the_same_rows(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text('question,answer\n"Is it, ""so""?",NA\n', encoding="utf-8-sig")
    (tmp_path / "a.jsonl").write_text('{"question": "Is it, \\"so\\"?", "answer": "NA"}\n\n', encoding="utf-8")
    rows = [{"question": 'Is it, "so"?', "answer": "NA"}]
    assert read_rows(tmp_path / "a.csv") == read_rows(tmp_path / "a.jsonl") == rows


@pytest.mark.parametrize(
    ("name", "content", "told"),
    [
        ("missing.csv", None, "no file"),
        ("empty.csv", b"", "no rows"),
        ("head.csv", b"question,answer\n", "no rows"),
        ("empty.jsonl", b"", "no rows"),
        ("broken.jsonl", b'{"question": "a"}\n{"question": \n', "line 2"),
        ("list.jsonl", b"[1]\n", "line 1"),
        ("latin.csv", "question\ncafé\n".encode("latin-1"), "not UTF-8"),
        ("ragged.csv", b"a,b\n1,2\n1,2,3\n", "line 3"),
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


def test_a_row_keeps_its_split_as_data_grow_and_move() -> None:
    rows = [example(f"question number {n}") for n in range(300)]
    small, large = split_examples(rows[:100], SHARES), split_examples(rows[::-1], SHARES)
    for name in SHARES:
        assert all(row in large[name] for row in small[name])
    assert sum(map(len, large.values())) == 300
    assert 180 <= len(large["train"]) <= 240


def test_two_spellings_of_a_question_never_part() -> None:
    splits = split_examples([example("Where  is it?"), example("where is IT?", "no")], SHARES)
    assert sorted(map(len, splits.values())) == [0, 0, 2]


def test_only_exact_copies_are_dropped() -> None:
    assert len(without_duplicates([example("a"), example("a"), example("a", "no")])) == 2


def test_what_is_near_to_a_test_row_is_left_out_of_training() -> None:
    rows = [
        example(f"{n}: my order of the {n * 7}th has not come, and nobody at the depot knows why") for n in range(40)
    ]
    twins = [example(row["messages"][0]["content"].replace("nobody", "no one")) for row in rows]
    splits = split_examples([*rows, *twins], SHARES)
    kept, left_out = without_leaks(splits)
    assert kept["test"] == splits["test"]
    assert left_out == sum(map(len, splits.values())) - sum(map(len, kept.values())) > 0
    asked = {name: [key_of(row) for row in part] for name, part in kept.items()}
    assert nearest(asked["train"], asked["valid"] + asked["test"]) == {}
    assert nearest(asked["valid"], asked["test"]) == {}
    shuffled, _ = without_leaks(split_examples([*twins, *rows][::-1], SHARES))
    assert {n: sorted(map(key_of, p)) for n, p in shuffled.items()} == {n: sorted(a) for n, a in asked.items()}


def test_tokens_are_those_of_the_bill() -> None:
    assert counter("o200k_base")(example("a")) == 11  # twice 3 and a role and a word, and one for the example
