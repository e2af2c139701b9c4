"""The stage prepare: which split each row gets, that it keeps it, and that the output is always the same bytes."""

import json
import random
import re
from collections import Counter
from itertools import combinations
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from finetune.core.disk import read_csv
from finetune.core.errors import FinetuneError
from finetune.core.params import Params
from finetune.core.paths import COMMON_PIECES, LEFT_OUT, PREPARED, PREPARED_REPORT
from finetune.core.sections.data import Data, Split
from finetune.data import split_examples
from finetune.data.checks.across_files import check, check_leaks
from finetune.data.checks.check_file import check_file
from finetune.data.common_pieces import common_pieces_from
from finetune.data.identity import question_of
from finetune.data.near_duplicates import near_duplicates_of
from finetune.stages import prepare
from finetune.terminal.summaries import prepare_summary

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
    rows = [example(distinct_question(n)) for n in range(400)]
    near = [example(row["messages"][0]["content"][:-1] + "z") for row in rows[:60]]
    done = split([*rows, *near])
    assert done["report"]["near_duplicates_left_out"] == 460 - sum(len(done[name]) for name in SHARES) > 0
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


@pytest.mark.slow
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


@pytest.mark.parametrize("form", ["auto", "preference"])
def test_preferences_are_divided_by_their_prompts(form: str) -> None:
    rows = [{"prompt": distinct_question(n // 2), "chosen": f"yes {n}", "rejected": "no"} for n in range(60)]
    done = split(rows, format=form)
    asked = {name: {one["input"]["messages"][-1]["content"] for one in done[name]} for name in SHARES}
    assert sum(len(done[name]) for name in SHARES) == 60
    assert not asked["train"] & asked["test"]
    assert done["train"][0]["preferred_output"][0]["content"].startswith("yes")
    assert done["train"][0]["non_preferred_output"] == [{"role": "assistant", "content": "no"}]


@pytest.mark.parametrize("form", ["auto", "preference"])
def test_preferences_without_a_prompt_are_refused(form: str) -> None:
    with pytest.raises(FinetuneError, match=r"raw\.jsonl: rows that cannot .*there is no prompt"):
        split([{"chosen": "yes", "rejected": "no"}] * 20, format=form)


def test_the_number_of_workers_changes_no_byte() -> None:
    rows = [example(distinct_question(n % 600).replace("a", "b" if n > 600 else "a", 1)) for n in range(680)]
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


def chats_by_turns(count: int) -> list[dict[str, Any]]:
    """Return conversations of one to nine turns about few subjects."""
    draw = random.Random(4)
    turns = [range(n * 10, n * 10 + draw.choice([1, 1, 2, 9])) for n in range(count)]
    return [{"messages": [m for k in talk for m in example(distinct_question(k))["messages"]]} for talk in turns]


def warnings_of(rows: list[dict[str, Any]], **data: Any) -> list[str]:
    """Return the warnings of prepare about the splits of some rows."""
    said: list[str] = []
    write(Path("data/raw/raw.jsonl"), rows)
    values = {"file": "data/raw/raw.jsonl", "split": {"train": 0.6, "valid": 0.15, "test": 0.25}, **data}
    prepare.run(cast("Params", SimpleNamespace(data=Data.model_validate(values))), say=said.append)
    return said


@pytest.mark.parametrize("data", [{}, {"turns": "each"}, {"group": "customer"}])
def test_the_seed_that_prepare_names_gives_the_shares_that_it_names(data: dict[str, Any]) -> None:
    Path("data/raw").mkdir(parents=True)
    rows = [{**row, "customer": f"c{n * n % 17}"} for n, row in enumerate(chats_by_turns(60))]
    for first in range(9):  # seeds that differ much from the shares
        shares = {"train": 0.6, "valid": 0.15, "test": 0.25, "seed": first}
        said = warnings_of(rows, split=shares, **data)
        if any("`seed:" in one for one in said):
            break
    named = re.search(r"`seed: (\d+)` under data.split .* have ([\d, /]+) rows", "\n".join(said))
    assert named
    assert any("fewer than 50" in one for one in said)
    after = warnings_of(rows, split={**shares, "seed": int(named[1])}, **data)
    counts = [len((PREPARED / f"{name}.jsonl").read_bytes().splitlines()) for name in SHARES]
    assert counts == [int(count) for count in named[2].split(" / ")]
    assert not any("`seed:" in one for one in after)
    assert all(abs(count / sum(counts) - share) < 0.07 for count, share in zip(counts, (0.6, 0.15, 0.25), strict=True))


@pytest.mark.parametrize("data", [{"group": "customer"}, {"turns": "each"}])
def test_many_rows_that_ask_what_later_splits_ask_are_warned_of(data: dict[str, Any]) -> None:
    """No seed keeps these rows, so the shares of another seed are not promised."""
    Path("data/raw").mkdir(parents=True)
    asked = [distinct_question(n) for n in range(200)]
    rows: list[dict[str, Any]] = [
        {"messages": [*example("Hello", f"{n}")["messages"], *example(asked[n])["messages"]]} for n in range(60)
    ]
    if "group" in data:
        rows = [{**example(asked[k], f"{n} {k}"), "customer": f"c{n}"} for n in range(60) for k in range(3)]
    said = "\n".join(warnings_of(rows, **data))
    cause = "groups ask the same" if "group" in data else "conversations begin alike"
    assert re.search(rf"[\d,]+ of [\d,]+ training rows \(\d+%\) are left out, .*: {cause}\. To keep them, ", said)
    named = re.search(r"the splits have ([\d, /]+) rows(.*?)\. It moves", said)
    assert not named or named[2] == ", before similar rows are left out"


def test_no_seed_is_proposed_where_all_rows_ask_the_same() -> None:
    Path("data/raw").mkdir(parents=True)
    said = warnings_of([example("Hello", f"{n}") for n in range(40)])
    assert any("Equal questions stay together" in one for one in said)
    assert not any("`seed:" in one for one in said)


def test_data_near_is_no_remedy_for_the_same_question() -> None:
    rows = [{**example(distinct_question(n)), "part": ("train", "valid", "test")[n % 3]} for n in range(30)]
    for text, is_same in ((distinct_question(0).upper(), True), (distinct_question(0) + "!", False)):
        with pytest.raises(FinetuneError, match="share questions") as refused:
            split([*rows, {**example(text), "part": "test"}], split={"column": "part"})
        assert ("data.near" not in (refused.value.remedy or "")) == is_same


def test_large_data_are_not_warned_of_and_the_first_seed_changes_nothing() -> None:
    Path("data/raw").mkdir(parents=True)
    rows = [example(distinct_question(n)) for n in range(600)]
    assert warnings_of(rows) == []
    before = (PREPARED / "train.jsonl").read_bytes()
    shares = {"train": 0.6, "valid": 0.15, "test": 0.25}
    warnings_of(rows, split={**shares, "seed": 0})
    assert (PREPARED / "train.jsonl").read_bytes() == before
    warnings_of(rows, split={**shares, "seed": 1})
    assert (PREPARED / "train.jsonl").read_bytes() != before


def test_small_given_splits_are_warned_of_without_a_seed() -> None:
    Path("data/raw").mkdir(parents=True)
    rows = [{**example(distinct_question(n)), "part": "train" if n < 90 else "test"} for n in range(100)]
    [said] = warnings_of(rows, split={"column": "part"})
    assert said == "warning: only 10 test rows (fewer than 50): their scores are uncertain. Add data."


def left_out_rows() -> list[dict[str, str]]:
    return read_csv(LEFT_OUT)


def test_every_row_is_accounted_for_and_what_is_left_out_is_listed() -> None:
    rows = [example(distinct_question(n)) for n in range(300)]
    copies = rows[:7]
    near = [example(row["messages"][0]["content"][:-1] + "z") for row in rows[50:90]]
    same = [{**example(rows[n]["messages"][0]["content"], "no"), "customer": f"d{n}"} for n in range(100, 130)]
    done = split(
        [{"customer": f"c{n}", **row} for n, row in enumerate([*rows, *copies, *near, *same])], group="customer"
    )
    account = done["report"]["account"]
    assert account["rows"] == account["examples"] == 377
    assert account["duplicate"] == done["report"]["duplicates"] == 7
    assert account["same_question"] > 0
    assert account["near_duplicate"] > 0
    assert account["same_question"] + account["near_duplicate"] == done["report"]["near_duplicates_left_out"]
    kept = sum(account[name] for name in SHARES)
    assert kept + account["duplicate"] + account["same_question"] + account["near_duplicate"] == 377
    assert done["report"]["shares"] == {name: round(account[name] / kept, 4) for name in SHARES}
    listed = left_out_rows()
    assert Counter(one["reason"] for one in listed) == {
        reason: account[reason] for reason in ("duplicate", "same_question", "near_duplicate")
    }
    offsets = {"duplicate": 300, "near_duplicate": 257, "same_question": 247}
    for one in listed:
        assert abs(int(one["row"]) - int(one["other_row"])) == offsets[one["reason"]]
        assert one["reason"] != "near_duplicate" or 0.8 <= float(one["similarity"]) < 1
    summary = prepare_summary(done["report"], Data(file="raw.jsonl", split=Split.model_validate(SHARES)))
    assert "377 rows read = " in summary
    assert f"+ 7 duplicates + {account['same_question']} with the question of a later split" in summary


def test_blank_rows_are_accounted_for_and_an_empty_answer_stays_an_error() -> None:
    lines = [f"{distinct_question(n)};no" for n in range(40)]
    text = "question;answer\r\n" + "\r\n".join([*lines[:9], ";", *lines[9:], ";", ";", ";;"]) + "\r\n"
    Path("raw.csv").write_text(text, encoding="utf-8", newline="")
    prompt = {"user": "{question}", "assistant": "{answer}"}
    data = Data.model_validate({"file": "raw.csv", "split": SHARES, "prompt": prompt})
    report = prepare.run(cast("Params", SimpleNamespace(data=data)))
    account: Any = report["account"]
    left_out = account["duplicate"] + account["same_question"] + account["near_duplicate"]
    assert (account["rows"], account["blank"], account["examples"]) == (44, 4, 40)
    assert account["rows"] == sum(account[name] for name in SHARES) + left_out + account["blank"]
    summary = prepare_summary(report, data)
    assert "44 rows read = " in summary
    assert " + 4 blank\n" in summary + "\n"
    Path("raw.csv").write_text(text.replace(lines[20], lines[20].removesuffix("no")), encoding="utf-8", newline="")
    with pytest.raises(FinetuneError, match=r"line 23, row 21 \(the cell 'answer' is empty"):
        prepare.run(cast("Params", SimpleNamespace(data=data)))


def test_rows_without_an_answer_to_train_on_are_accounted_for() -> None:
    rows: list[dict[str, Any]] = chats_by_turns(30)
    for n in (3, 4, 29):
        for message in rows[n]["messages"]:
            message.update({"weight": 0} if message["role"] == "assistant" else {})
    done = split(rows, turns="each")
    account = done["report"]["account"]
    assert account["rows"] == 30
    assert account["without_answer"] == 3
    assert account["examples"] == sum(account[name] for name in SHARES) == sum(len(done[name]) for name in SHARES)
    summary = prepare_summary(done["report"], Data(file="raw.jsonl", split=Split.model_validate(SHARES)))
    assert "30 rows read = 27 conversations + 3 rows without an answer to train on" in summary


def test_a_lost_row_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(split_examples, "without_duplicates", lambda rows: rows[np.argsort(rows["digest"])][1:])
    with pytest.raises(RuntimeError, match="prepare lost rows: 30 examples were read, 0 left out"):
        split([example(distinct_question(n)) for n in range(30)])


def test_many_near_duplicates_stop_prepare_and_data_near_decides() -> None:
    rows = [example(distinct_question(n)) for n in range(100)]
    near = [example(row["messages"][0]["content"][:-1] + "z") for row in rows[:60]]
    with pytest.raises(FinetuneError, match=r"training rows \(\d+%\) are near duplicates") as refused:
        split([*rows, *near])
    assert re.search(r"row \d+ is like row \d+: 0\.[89]", refused.value.what)
    assert "data.near" in (refused.value.remedy or "")
    assert len(left_out_rows()) > 10
    for near_setting in ("off", False, 1):
        done = split([*rows, *near], near=near_setting)
        assert sum(len(done[name]) for name in SHARES) == 160
        assert done["report"]["near_duplicates_left_out"] == 0


@pytest.mark.parametrize("near", ["on", True, 0.2, 1.5, None])
def test_another_value_of_near_is_refused(near: Any) -> None:
    with pytest.raises(ValueError, match=r"0\.7|less than or equal to 1"):
        Data.model_validate({"file": "a", "split": SHARES, "near": near})


def test_an_instruction_before_every_message_leaves_out_no_row() -> None:
    instruction = " ".join(distinct_question(n) for n in range(9))
    rows = [example(f"{instruction}\n\n{distinct_question(n)}") for n in range(100, 300)]
    done = split(rows)
    assert sum(len(done[name]) for name in SHARES) == 200
    findings = check([PREPARED / "train.jsonl"], [PREPARED / "test.jsonl"])["findings"]
    assert not [found for found in findings if "leak" in found["code"]]


@pytest.mark.parametrize("seed", range(3))
def test_validate_finds_no_leak_in_what_prepare_wrote(seed: int) -> None:
    """Pieces are common in prepare and not in what it kept, or the other way around: both must compare alike."""
    rows = [
        example(f"{distinct_question(-1 - n % 7) if n % 3 else ''} {distinct_question(n)[: 20 + n % 40]}")
        for n in range(seed * 1000, seed * 1000 + 400)
    ]
    near = [example(row["messages"][0]["content"][:-1] + "z") for row in rows[:25]]
    split([*rows, *near])
    common = common_pieces_from(json.loads(COMMON_PIECES.read_text(encoding="utf-8")))
    files = {name: check_file(PREPARED / f"{name}.jsonl", training=False) for name in SHARES}
    for one, other in combinations(files.values(), 2):
        check_leaks(one, other, 0.8, common)
        assert not [found for found in one.findings if "leak" in found.code]


def test_conversations_without_any_answer_leave_empty_splits() -> None:
    rows = [{"messages": [{"role": "user", "content": distinct_question(n)}]} for n in range(12)]
    done = split(rows, turns="each")
    assert done["report"]["account"]["without_answer"] == 12
    assert done["report"]["account"]["examples"] == 0
