"""The stage prepare: which split each row gets, that it keeps it, and that the output is always the same bytes."""

import json
import random
from itertools import combinations
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from finetune.core.errors import FinetuneError
from finetune.core.params import Data, Params
from finetune.core.paths import PREPARED, PREPARED_REPORT
from finetune.data.identity import question_of
from finetune.data.near_duplicates import near_duplicates_of
from finetune.stages import prepare

SHARES = {"train": 0.7, "valid": 0.1, "test": 0.2}


def example(question: str, answer: str = "yes") -> dict[str, Any]:
    return {"messages": [{"role": "user", "content": question}, {"role": "assistant", "content": answer}]}


def write(path: Path, rows: list[dict[str, Any]]) -> None:
    path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8")


def prepared(workers: int | None = None, **data: Any) -> dict[str, Any]:
    """Run the stage in the current folder, and return its splits by name and its report."""
    report = prepare.run(cast("Params", SimpleNamespace(data=Data.model_validate(data))), workers)
    splits = {name: (PREPARED / f"{name}.jsonl").read_bytes().splitlines() for name in SHARES}
    return {"report": report} | {name: [json.loads(line) for line in lines] for name, lines in splits.items()}


def split(rows: list[dict[str, Any]], **data: Any) -> dict[str, Any]:
    write(Path("raw.jsonl"), rows)
    return prepared(**{"file": "raw.jsonl", "split": SHARES, **data})


@pytest.fixture(autouse=True)
def _in_an_empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def distinct_question(number: int) -> str:
    """Return a question that is not near to that of any other number."""
    draw = random.Random(number)
    return f"{number}: " + " ".join("".join(draw.choices("abcdefghijklmnop", k=6)) for _ in range(8))


def test_a_row_keeps_its_split_when_rows_are_added_and_reordered() -> None:
    rows = [example(distinct_question(n)) for n in range(300)]
    small, large = split(rows[:100]), split(rows[::-1])
    for name in SHARES:
        assert all(row in large[name] for row in small[name])
    assert sum(len(large[name]) for name in SHARES) == 300
    assert 180 <= len(large["train"]) <= 240


def test_two_spellings_of_a_question_share_a_split_and_only_exact_copies_are_left_out() -> None:
    done = split([example("Where  is it?"), example("where is IT?", "no"), example("Where  is it?")])
    assert sorted(len(done[name]) for name in SHARES) == [0, 0, 2]
    assert done["report"]["duplicates"] == 1


def test_near_duplicates_of_test_rows_are_left_out_of_training() -> None:
    rows = [
        example(f"{n}: my order of the {n * 7}th has not come, and nobody at the depot knows why") for n in range(40)
    ]
    near = [example(row["messages"][0]["content"].replace("nobody", "no one")) for row in rows]
    done = split([*rows, *near])
    assert done["report"]["near_duplicates_left_out"] == 80 - sum(len(done[name]) for name in SHARES) > 0
    asked = {name: [question_of(row).asked for row in done[name]] for name in SHARES}
    assert near_duplicates_of(asked["train"], asked["valid"] + asked["test"]) == {}
    assert near_duplicates_of(asked["valid"], asked["test"]) == {}


def test_a_group_is_in_one_split() -> None:
    rows = [{**example(f"customer {n % 30} asks number {n * n}"), "customer": f"c{n % 30}"} for n in range(120)]
    done = split(rows, group="customer")
    customers = [{m["messages"][0]["content"].split()[1] for m in done[name]} for name in SHARES]
    assert all(not one & other for one, other in combinations(customers, 2))
    assert done["report"]["source"]["rows"] == "messages"
    with pytest.raises(FinetuneError, match=r"raw\.jsonl, row 1: the column 'client' of data\.group is empty"):
        split(rows, group="client")


def test_a_question_of_two_groups_is_in_one_split_with_any_spaces() -> None:
    texts = [text for n in range(60) for text in (f"is {n} it", f"is{n}IT")]
    rows = [{**example(text, "yes"), "customer": f"c{n}"} for n, text in enumerate(texts)]
    done = split(rows, group="customer")
    asked = [{"".join(question_of(row).asked.casefold().split()) for row in done[name]} for name in SHARES]
    assert done["test"]
    assert all(not one & other for one, other in combinations(asked, 2))


def test_an_example_of_two_groups_is_kept_once_in_any_order() -> None:
    rows = [{**example(distinct_question(n % 40)), "customer": f"c{n}"} for n in range(80)]
    done = split(rows, group="customer")
    assert sum(len(done[name]) for name in SHARES) == 40
    assert {name: done[name] for name in SHARES} == {n: split(rows[::-1], group="customer")[n] for n in SHARES}


def test_the_turns_of_a_conversation_share_a_split() -> None:
    rows = [
        {"messages": [m for turn in range(3) for m in example(f"talk {n}: what of {turn + n * n}?")["messages"]]}
        for n in range(40)
    ]
    done = split(rows, turns="each")
    assert sum(len(done[name]) for name in SHARES) + done["report"]["near_duplicates_left_out"] == 120
    talks = [{e["messages"][0]["content"].split(":")[0] for e in done[name]} for name in SHARES]
    assert all(not one & other for one, other in combinations(talks, 2))


TEXT = st.text(st.characters(codec="utf-8"), min_size=1, max_size=30).filter(str.strip)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.tuples(TEXT, TEXT), min_size=1, max_size=12), st.randoms(use_true_random=False))
def test_the_same_rows_give_the_same_bytes_in_any_order(rows: list[tuple[str, str]], draw: random.Random) -> None:
    def contents() -> list[bytes]:
        return [(PREPARED / f"{name}.jsonl").read_bytes() for name in SHARES] + [PREPARED_REPORT.read_bytes()]

    split([example(*row) for row in rows])
    first = contents()
    draw.shuffle(rows)
    split([example(*row) for row in rows])
    assert contents() == first


def test_other_shapes_than_chat_have_no_turns_to_separate() -> None:
    rows = [{"prompt": distinct_question(n), "chosen": "yes", "rejected": "no"} for n in range(20)]
    done = split(rows, turns="each")
    assert sum(len(done[name]) for name in SHARES) == 20
    assert set(done["train"][0]) == {"input", "preferred_output", "non_preferred_output"}


def test_the_number_of_workers_changes_no_byte() -> None:
    rows = [example(distinct_question(n % 300).replace("a", "b" if n > 300 else "a", 1)) for n in range(600)]
    assert split(rows, workers=1) == split(rows, workers=2)


def test_given_splits_are_not_changed() -> None:
    rows = [example(distinct_question(n)) for n in range(30)]
    for name, part in (("a", rows[:20]), ("b", rows[20:25]), ("c", rows[25:])):
        write(Path(f"{name}.jsonl"), part)
    done = prepared(files={"train": "a.jsonl", "valid": "b.jsonl", "test": "c.jsonl"})
    assert [done[name] for name in SHARES] == [rows[:20], rows[20:25], rows[25:]]
    assert done["report"]["source"]["valid"]["format"] == "JSON Lines"
    names = ["train"] * 20 + ["Validation"] * 5 + ["test"] * 5
    by_column = split([{**row, "part": part} for row, part in zip(rows, names, strict=True)], split={"column": "part"})
    assert [by_column[name] for name in SHARES] == [rows[:20], rows[20:25], rows[25:]]
    with pytest.raises(FinetuneError, match=r"raw\.jsonl, row 1: the column 'part' of data\.split\.column has 'later'"):
        split([{**rows[0], "part": "later"}], split={"column": "part"})


def test_a_leak_between_given_splits_names_the_rows() -> None:
    rows = [example(distinct_question(n)) for n in range(12)]
    write(Path("a.jsonl"), rows)
    write(Path("c.jsonl"), [example("something else entirely"), example(distinct_question(7) + "!", "no")])
    with pytest.raises(FinetuneError, match=r"1 of train in test(.|\n)*a\.jsonl, row 8 .* c\.jsonl, row 2"):
        prepared(files={"train": "a.jsonl", "test": "c.jsonl"})


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ({}, "give either file, or files"),
        ({"file": "a", "files": {"train": "a", "test": "b"}}, "give either file, or files"),
        ({"file": "a"}, "give split with file"),
        ({"file": "a", "split": {"train": 0.8, "valid": 0.1, "test": 0.2}}, "add up to 1"),
        ({"file": "a", "split": {**SHARES, "column": "part"}}, "or only column"),
        ({"file": "a", "split": {"column": "part"}, "group": "g"}, "give group only with a split by shares"),
    ],
)
def test_parameters_that_contradict_each_other_are_refused(data: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Data.model_validate(data)
