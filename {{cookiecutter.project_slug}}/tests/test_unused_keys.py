"""Keys of the rows that are not used are counted in the report of prepare, and named on the screen."""

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
from hypothesis import given
from hypothesis import strategies as st

from finetune.core.params import Params
from finetune.core.paths import PREPARED
from finetune.core.sections.data import Data
from finetune.data.unused_keys import MOST_NAMES, UnusedKeys
from finetune.stages import prepare
from finetune.terminal.summaries import prepare_summary

SHARES = {"train": 0.6, "valid": 0.2, "test": 0.2}
PROMPT = {"user": "{question}", "assistant": "{answer}"}


@pytest.fixture(autouse=True)
def _in_an_empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def prepared(rows: list[dict[str, Any]], **data: Any) -> tuple[dict[str, Any], str]:
    """Run prepare, and return its report and what it says."""
    lines = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
    Path("raw.jsonl").write_text(lines, encoding="utf-8")
    section = Data.model_validate({"file": "raw.jsonl", "split": SHARES, **data})
    report = prepare.run(cast("Params", SimpleNamespace(data=section)))
    return cast("dict[str, Any]", report), prepare_summary(report, section)


def question(number: int) -> str:
    return f"{number**5:x} {number**7:x} what of {number}?"


def test_columns_that_the_template_does_not_use_are_counted_and_named() -> None:
    rows = [{"question": question(n), "answer": "a", "id": n, "日付": "5月"} for n in range(30)]
    report, said = prepared([*rows[:29], {**rows[29], "日付": None}], prompt=PROMPT)
    assert report["unused"] == {"id": 30, "日付": 29}
    assert "prepare: not used: id (30 rows), 日付 (29 rows)" in said.splitlines()


def test_columns_that_other_parameters_use_are_not_counted() -> None:
    rows = [{"q": {"text": question(n)}, "answer": "a", "team": "t", "group": n, "mark": ""} for n in range(30)]
    prompt = {"user": "{q.text}", "assistant": "{answer}"}
    abstain = {"answer": "No idea.", "column": "mark"}
    report, said = prepared(rows, prompt=prompt, by="team", group="group", abstain=abstain)
    assert report["unused"] == {}
    assert "not used" not in said
    names = ["train"] * 10 + ["valid"] * 10 + ["test"] * 10
    rows = [{"question": question(n), "answer": "a", "part": name} for n, name in enumerate(names)]
    assert prepared(rows, prompt=PROMPT, split={"column": "part"})[0]["unused"] == {}


def test_of_other_formats_only_keys_with_a_value_and_no_meaning_are_counted() -> None:
    messages = [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]
    row = {"messages": messages, "prompt": "a", "source": "x", "images": [], "label": True, "chosen": None, "meta": {}}
    assert prepared([row])[0]["unused"] == {"label": 1, "prompt": 1, "source": 1}
    turns = [{"from": "human", "value": "a", "id": 1}, {"from": "gpt", "value": "b", "id": 2, "rank": None}]
    assert prepared([{"conversations": turns, "id": "x"}])[0]["unused"] == {"conversations.id": 1, "id": 1}
    assert prepared([{"messages": turns}])[0]["unused"] == {"messages.id": 1}
    alpaca = {"instruction": "a", "input": "", "output": "b", "text": "all of it", "system": "s", "history": []}
    assert prepared([alpaca])[0]["unused"] == {"text": 1}


def test_white_space_at_the_ends_of_answers_is_kept_and_counted() -> None:
    answers = ["    y = x + 14", "done\n", "x"]
    rows = [{"question": question(n), "answer": answers[n % 3]} for n in range(30)]
    report, said = prepared(rows, prompt=PROMPT)
    assert report["white_space_kept"] == 20
    assert "20 rows have an answer that begins or ends with white space" in said
    lines = [json.loads(line) for name in SHARES for line in (PREPARED / f"{name}.jsonl").read_bytes().splitlines()]
    assert {line["messages"][-1]["content"] for line in lines} == set(answers)
    report, _ = prepared(rows, prompt=PROMPT, labels=["y = x + 14", "done", "x"])
    assert "white_space_kept" not in report
    assert report["labels_trimmed"] == 20


def test_many_keys_are_summed_up() -> None:
    rows = [{"question": question(n), "answer": "a", f"key {n:03}": 1} for n in range(MOST_NAMES + 5)]
    report, said = prepared(rows, prompt=PROMPT)
    assert report["unused"] == {f"key {n:03}": 1 for n in range(MOST_NAMES)}
    assert report["unused_others"] == 5
    assert said.splitlines()[2].endswith("key 099 (1 row), further keys (5 values)")


@given(st.lists(st.sets(st.integers(0, 2 * MOST_NAMES).map(str), max_size=150), max_size=6), st.randoms())
def test_the_counts_do_not_depend_on_the_order_of_the_rows(rows: list[set[str]], draw: Any) -> None:
    def counted() -> tuple[dict[str, int], int]:
        unused = UnusedKeys()
        for keys in rows:
            unused.add(keys)
        return dict(unused.rows), unused.others

    first = counted()
    draw.shuffle(rows)
    assert counted() == first
    assert sum(first[0].values()) + first[1] == sum(map(len, rows))
    assert all(n == sum(name in keys for keys in rows) for name, n in first[0].items())
