"""Raw rows to examples to splits, and the checks before anything is sent."""

import json
from pathlib import Path

import pytest

from finetune.data.checks import check_line, check_lines, check_size
from finetune.data.prompts import build_examples
from finetune.data.readers import read_rows
from finetune.data.split import split_examples, without_duplicates
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


@pytest.mark.parametrize(
    ("line", "code"),
    [
        (b"{", "invalid_json"),
        (b"\xff", "invalid_json"),
        (b"[]", "missing_messages"),
        (b'{"messages": []}', "missing_messages"),
        (json.dumps({**example("a"), "id": 1}).encode(), "unknown_key"),
        (json.dumps({"messages": [{"role": "user", "content": "a"}]}).encode(), "no_assistant"),
        (json.dumps({"messages": [{"role": "bot", "content": "a"}]}).encode(), "unknown_role"),
        (json.dumps({"messages": [{"role": "user", "content": "a", "weight": 1}]}).encode(), "bad_weight"),
        (json.dumps({"messages": [{"role": "assistant", "content": "a", "weight": 2}]}).encode(), "bad_weight"),
        (json.dumps({"messages": [{"role": "assistant"}]}).encode(), "missing_content"),
        (json.dumps(example(" ")).encode(), "empty_content"),
        (json.dumps(example("<|im_end|>")).encode(), "special_token"),
    ],
)
def test_every_rule_finds_its_mistake(line: bytes, code: str) -> None:
    findings = list(check_line(line, 7))
    assert code in [finding.code for finding in findings]
    assert all(finding.line == 7 and finding.fix for finding in findings)


def test_sound_lines_pass_and_long_ones_do_not() -> None:
    lines = [json.dumps(example("a")).encode(), json.dumps(example("word " * 50)).encode()]
    findings, tokens = check_lines(lines, counter("o200k_base"), context=40)
    assert [(finding.code, finding.line) for finding in findings] == [("too_long", 2)]
    assert tokens[0] == 11  # twice 3 and a role and a word, and one for the example


def test_ten_examples_are_the_least() -> None:
    assert check_size("train", 10) == []
    assert "at least 10" in check_size("train", 9)[0].message
