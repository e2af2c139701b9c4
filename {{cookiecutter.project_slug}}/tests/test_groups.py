"""Groups of the test rows: the cell of the column `data.by` for each line of the test split."""

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from finetune.core.disk import read_jsonl
from finetune.core.errors import FinetuneError
from finetune.core.params import Params
from finetune.core.paths import PREPARED, TEST_ROWS
from finetune.core.sections.data import Data
from finetune.stages import prepare

SHARES = {"train": 0.6, "valid": 0.1, "test": 0.3}
PROMPT = {"user": "{passage}: {question}?", "assistant": "{answer}"}


@pytest.fixture(autouse=True)
def _in_an_empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def write(name: str, rows: list[dict[str, Any]]) -> str:
    Path(name).write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8")
    return name


def run(**data: Any) -> None:
    prepare.run(cast("Params", SimpleNamespace(data=Data.model_validate(data))))


def groups_of(**data: Any) -> list[tuple[str, str]]:
    """Run prepare, and return the last question and the group of each test row."""
    run(**data)
    lines = [json.loads(line) for line in (PREPARED / "test.jsonl").read_bytes().splitlines()]
    return list(zip([line["messages"][-2]["content"] for line in lines], column_of_test_rows("by"), strict=True))


def column_of_test_rows(key: str) -> list[Any]:
    """Return a value of each test row."""
    return [row[key] for row in read_jsonl(TEST_ROWS, "prepare")]


def talk(number: int, turns: int = 1) -> dict[str, Any]:
    words = [f"{number * 7919 + turn * 104729:x} {number**3:x} what of {number}" for turn in range(turns)]
    pairs = [({"role": "user", "content": text}, {"role": "assistant", "content": f"yes {text}"}) for text in words]
    return {"messages": [message for pair in pairs for message in pair], "team": f"チーム {number}"}


@pytest.mark.parametrize("turns", [1, 3])
def test_each_test_row_has_its_group(turns: int) -> None:
    found = groups_of(
        file=write("raw.jsonl", [talk(n, turns) for n in range(60)]), split=SHARES, by="team", turns="each"
    )
    assert len(found) >= 10 * turns
    assert all(asked.endswith(f"what of {group.removeprefix('チーム ')}") for asked, group in found)


def test_an_added_row_has_the_group_of_its_original() -> None:
    rows = [{"passage": f"p{n * n}", "question": f"q{n} {n**4:x}", "answer": "a", "team": f" {n}"} for n in range(90)]
    abstain = {"answer": "No idea.", "context": "passage", "share": 1.0}
    found = groups_of(file=write("raw.jsonl", rows), split=SHARES, prompt=PROMPT, by="team", abstain=abstain)
    assert len(found) >= 30
    assert all(f": q{group} " in asked for asked, group in found)
    assert any(not asked.startswith(f"p{int(group) ** 2}:") for asked, group in found)


def test_groups_of_given_files_are_those_of_the_test_file() -> None:
    train, test = [talk(n) for n in range(20)], [talk(n) for n in range(40, 44)]
    for row in train:
        del row["team"]
    test[1]["team"], test[2]["team"] = None, 7
    files = {"train": write("a.jsonl", train), "test": write("c.jsonl", test)}
    found = groups_of(files=files, by="team")
    assert [group for _, group in found] == ["チーム 40", "", "7", "チーム 43"]
    with pytest.raises(FinetuneError, match=r"data\.by .*'group', which c\.jsonl lacks(.|\n)*messages, team"):
        groups_of(files=files, by="group")


def test_without_groups_each_row_is_its_own() -> None:
    run(file=write("raw.jsonl", [talk(n) for n in range(20)]), split=SHARES)
    assert column_of_test_rows("group") == list(range(len(column_of_test_rows("group"))))
    assert all(row.keys() == {"question", "group"} for row in read_jsonl(TEST_ROWS, "prepare"))


def test_the_turns_of_a_conversation_are_a_group() -> None:
    asked = groups_of(file=write("raw.jsonl", [talk(n, 4) for n in range(40)]), split=SHARES, turns="each", by="team")
    pairs = {(number, team) for number, (_, team) in zip(column_of_test_rows("group"), asked, strict=True)}
    assert len(asked) == 4 * len(pairs) > 20


def test_the_rows_of_one_cell_and_those_that_ask_the_same_are_a_group() -> None:
    rows = [{**talk(n), "team": f"team {n % 9}"} for n in range(90)]
    found = groups_of(file=write("raw.jsonl", rows), split=SHARES, group="team", by="team")
    pairs = {(number, team) for number, (_, team) in zip(column_of_test_rows("group"), found, strict=True)}
    assert len(found) == 10 * len(pairs)
    same = [{"passage": "p", "question": f"q{n // 5} {(n // 5) ** 7:x}", "answer": f"a{n}"} for n in range(100)]
    run(file=write("raw.jsonl", same), split=SHARES, prompt=PROMPT)
    assert len(column_of_test_rows("group")) == 5 * len(set(column_of_test_rows("group"))) > 5
    # An added row belongs to its original.
    rows = [{"passage": f"p{n * n}", "question": f"q{n} {n**4:x}", "answer": "a", "team": f" {n}"} for n in range(90)]
    abstain = {"answer": "No idea.", "context": "passage", "share": 1.0}
    found = groups_of(file=write("raw.jsonl", rows), split=SHARES, prompt=PROMPT, by="team", abstain=abstain)
    pairs = {(number, team) for number, (_, team) in zip(column_of_test_rows("group"), found, strict=True)}
    assert len(found) > 1.5 * len(pairs)
    assert len(pairs) == len(set(column_of_test_rows("group")))


def test_a_row_of_two_groups_keeps_its_group_in_any_order() -> None:
    rows = [{**talk(n % 40), "team": f"team {n // 40}"} for n in range(80)]
    first = groups_of(file=write("raw.jsonl", rows), split=SHARES, by="team")
    assert groups_of(file=write("raw.jsonl", rows[::-1]), split=SHARES, by="team") == first
    assert first
