"""Unanswerable questions: which rows get one, that they leak nothing, and how abstention is measured."""

import json
import random
from itertools import pairwise
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from finetune.core.errors import FinetuneError
from finetune.core.params import Params, load_params
from finetune.core.paths import PREPARED, PREPARED_REPORT, TEST_ROWS
from finetune.core.sections.data import Data
from finetune.data.checks.across_files import check
from finetune.scoring.abstention import abstained, abstention
from finetune.stages import prepare

SHARES = {"train": 0.6, "valid": 0.2, "test": 0.2}
PROMPT = {"system": "Answer from the passage.", "user": "{passage}\n\n{question}", "assistant": "{answer}"}
PHRASE = "I cannot tell from this."
MISMATCH = {"answer": PHRASE, "context": "passage", "share": 0.5}


@pytest.fixture(autouse=True)
def _in_an_empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def words(seed: str, count: int = 8) -> str:
    draw = random.Random(seed)
    return " ".join("".join(draw.choices("abcdefghijklmnop", k=6)) for _ in range(count))


def row(number: int, **cells: Any) -> dict[str, Any]:
    own = {"passage": f"passage {number}: {words(f'p{number}')}", "question": f"asks {number}: {words(f'q{number}')}?"}
    return {**own, "answer": f"answer {number}", **cells}


def write(name: str, rows: list[dict[str, Any]]) -> str:
    Path(name).write_text("".join(json.dumps(one, ensure_ascii=False) + "\n" for one in rows), encoding="utf-8")
    return name


def params(rows: list[dict[str, Any]] | None = None, **data: Any) -> Params:
    own = {"file": write("raw.jsonl", rows), "split": SHARES} if rows is not None else {}
    section = Data.model_validate({"prompt": PROMPT, **own, **data})
    provider, train = SimpleNamespace(name="compatible"), SimpleNamespace(base="gpt-4.1-mini-2025-04-14")
    return cast("Params", SimpleNamespace(data=section, provider=provider, train=train))


def prepared(rows: list[dict[str, Any]] | None = None, **data: Any) -> dict[str, Any]:
    """Run prepare, and return the report and each split's examples as pairs of question and answer."""
    return prepare.run(params(rows, **data)) | {name: pairs(name) for name in SHARES}


def pairs(split: str) -> list[tuple[str, str]]:
    lines = (PREPARED / f"{split}.jsonl").read_bytes().splitlines()
    examples = [json.loads(line)["messages"] for line in lines]
    return [(messages[-2]["content"], messages[-1]["content"]) for messages in examples]


def test_a_marked_row_gets_the_answer_even_where_its_own_is_empty() -> None:
    marks = [True, "Yes", "ｘ", 1, 1.0, "no", "", None, False, 0]
    rows = [row(n, unanswerable=mark, answer="" if n < 5 else "blue") for n, mark in enumerate(marks)]
    done = prepared(rows, abstain={"answer": PHRASE, "column": "unanswerable"})
    answers = {asked.split(":")[0]: answer for name in SHARES for asked, answer in done[name]}
    assert answers == {f"passage {n}": PHRASE if n < 5 else "blue" for n in range(10)}
    assert done["marked_unanswerable"] == 5
    assert done["abstain"] == PHRASE
    assert "mismatched" not in done


@pytest.mark.parametrize(
    ("marked", "other"),
    [
        ({"prompt": "a?", "completion": ""}, {"prompt": "b?", "completion": "b"}),
        ({"instruction": "a?", "output": None}, {"instruction": "b?", "output": "b"}),
        *(
            (
                {"messages": [{"role": "user", "content": "a?"}, *last]},
                {
                    "prompt": "b?",
                    "messages": [{"role": "user", "content": "b?"}, {"role": "assistant", "content": "b"}],
                },
            )
            for last in ([], [{"role": "assistant", "content": None}], [{"role": "assistant", "content": "guess"}])
        ),
        (
            {"conversations": [{"from": "human", "value": "a?"}, {"from": "gpt", "value": ""}]},
            {"conversations": [{"from": "human", "value": "b?"}, {"from": "gpt", "value": "b"}]},
        ),
    ],
)
def test_rows_of_every_format_with_one_answer_can_be_marked(marked: dict[str, Any], other: dict[str, Any]) -> None:
    rows = [{**marked, "mark": "x"}, {**other, "mark": ""}]
    done = prepared(rows, prompt=None, abstain={"answer": PHRASE, "column": "mark"})
    assert sorted(pair for name in SHARES for pair in done[name]) == [("a?", PHRASE), ("b?", "b")]


def test_marking_moves_no_row_to_another_split() -> None:
    rows = [row(n, mark="x" if n % 3 else "") for n in range(60)]
    plain, marked = prepared(rows), prepared(rows, abstain={"answer": PHRASE, "column": "mark"})
    for name in SHARES:
        assert sorted(asked for asked, _ in plain[name]) == sorted(asked for asked, _ in marked[name])
    assert plain["abstain"] is None
    assert "marked_unanswerable" not in plain


def numbers_in(asked: str) -> tuple[int, int]:
    """Return the number of the row that the passage is from, and of the one that the question is from."""
    passage, question = (int(part.split(":")[0].split()[1]) for part in asked.split("\n\n"))
    return passage, question


def test_a_share_of_the_answerable_rows_gets_a_copy_with_a_context_of_the_same_split() -> None:
    rows = [row(n, mark="x" if n % 4 == 0 else "") for n in range(400)]
    done = prepared(rows, abstain={**MISMATCH, "column": "mark"})
    home: dict[int, str] = {}
    made = 0
    for name in SHARES:
        for asked, answer in done[name]:
            passage, question = numbers_in(asked)
            assert home.setdefault(passage, name) == home.setdefault(question, name) == name
            assert (answer == PHRASE) == (passage != question or passage % 4 == 0)
            assert passage == question or question % 4
            made += passage != question
    assert made == done["mismatched"] == sum(len(done[name]) for name in SHARES) - 400
    assert 0.4 <= made / 300 <= 0.6
    assert done["marked_unanswerable"] == 100


def test_added_rows_change_no_other_rows() -> None:
    rows = [row(n) for n in range(120)]
    plain = prepared(rows)
    for share in (0, 0.3, 1):
        done = prepared(rows, abstain={**MISMATCH, "share": share})
        assert all([pair for pair in done[name] if pair[1] != PHRASE] == plain[name] for name in SHARES)
        assert (done["mismatched"] > 0) == (share > 0)
    assert done["mismatched"] == 120


def test_no_training_row_gets_a_context_of_a_test_row() -> None:
    # Each passage is asked about in several rows, which fall in several splits.
    rows = [row(n, passage=f"on {n % 40} {words(f'p{n % 40}', 3)}") for n in range(200)]
    done = prepared(rows, abstain={**MISMATCH, "share": 1})
    passages = {name: {asked.split("\n\n")[0] for asked, _ in done[name]} for name in SHARES}
    given = {name: {asked.split("\n\n")[0] for asked, answer in done[name] if answer == PHRASE} for name in SHARES}
    assert given["train"]
    assert passages["train"] & passages["test"]
    assert not given["train"] & (passages["valid"] | passages["test"])
    assert not given["valid"] & passages["test"]


def test_the_answer_may_be_a_code_or_a_completion() -> None:
    rows = [row(n, answer=("yes", "no")[n % 2], mark="x" if n % 5 == 0 else "") for n in range(60)]
    data: dict[str, Any] = {"labels": ["yes", "no", PHRASE], "codes": True, "abstain": {**MISMATCH, "column": "mark"}}
    done = prepared(rows, **data)
    assert done["mismatched"] > 0
    for name in SHARES:
        for asked, answer in done[name]:
            passage, question = numbers_in(asked)
            assert (answer == done["codes"][PHRASE]) == (passage != question or passage % 5 == 0)
    prepare.run(params(rows, **data, target="completion"))
    lines = [json.loads(line) for name in SHARES for line in (PREPARED / f"{name}.jsonl").read_bytes().splitlines()]
    assert sorted(line["completion"].strip() for line in lines) == sorted(a for name in SHARES for _, a in done[name])


def test_no_added_row_has_a_question_that_another_row_answers() -> None:
    rows = [row(n, question=["What is the total?", "what is  the TOTAL?", "Who pays?"][n % 3]) for n in range(90)]
    done = prepared(rows, abstain={**MISMATCH, "share": 1})
    answered = {n: "total" if n % 3 < 2 else "pays" for n in range(90)}
    made = [asked for name in SHARES for asked, answer in done[name] if answer == PHRASE]
    assert len(made) == done["mismatched"] > 40
    assert not [asked for asked in made if answered[int(asked.split(":")[0].split()[1])] in asked.lower()]


def test_no_split_has_a_question_of_another_even_if_contexts_are_near() -> None:
    draw = random.Random(1)  # rows that are near to several others are found in several rounds
    rows = [
        row(n, passage=f"The shop {draw.randrange(11)} is open.", question=f"Is it so in {words(str(place), 1)}?")
        for n, place in enumerate(draw.choices(range(29), k=240))
    ]
    done = prepared(rows, abstain={**MISMATCH, "share": 1})
    assert done["mismatched"] > 0
    for name, others in (("train", ["valid", "test"]), ("valid", ["test"])):
        findings = check([PREPARED / f"{name}.jsonl"], [PREPARED / f"{other}.jsonl" for other in others])["findings"]
        assert not [found for found in findings if found["code"] in ("leak", "near_leak")]


def contents() -> list[bytes]:
    splits = [PREPARED / f"{name}.jsonl" for name in SHARES]
    return [path.read_bytes() for path in (*splits, TEST_ROWS, PREPARED_REPORT)]


CELL = st.text(st.characters(codec="utf-8"), min_size=1, max_size=8).filter(str.strip)
ROW = st.fixed_dictionaries(
    {"passage": st.sampled_from(["", "a b", "A  b", "one", "two", "three"]) | CELL, "question": CELL, "answer": CELL}
    | {"mark": st.sampled_from(["x", ""]), "team": st.sampled_from("tu"), "part": st.sampled_from(list(SHARES))}
)


@pytest.mark.slow
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(ROW, min_size=2, max_size=12), st.randoms(use_true_random=False))
def test_the_same_rows_give_the_same_bytes_in_any_order(rows: list[dict[str, Any]], draw: random.Random) -> None:
    assume(len({"".join(one["passage"].split()).casefold() for one in rows}) > 2)
    data: dict[str, Any] = {"abstain": {**MISMATCH, "share": 0.8, "column": "mark"}, "by": "team"}
    try:
        prepared(rows, **data)
    except FinetuneError as error:  # all contexts alike, once what is near is left out
        assume("All rows have the same" not in error.what)
        raise
    first = contents()
    draw.shuffle(rows)
    prepared(rows, **data)
    assert contents() == first


def test_given_splits_get_their_own_copies_and_keep_the_order_of_rows() -> None:
    rows = [row(n) for n in range(90)]
    for n in range(0, 90, 2):  # a context that is spelled in two ways
        rows[n]["passage"] = rows[n + 1]["passage"].upper()
    parts = {"train": rows[:50], "valid": rows[50:70], "test": rows[70:]}
    files = {name: write(f"{name}.raw.jsonl", part) for name, part in parts.items()}
    done = prepared(files=files, abstain=MISMATCH)
    for name, part in parts.items():
        assert [answer for _, answer in done[name] if answer != PHRASE] == [one["answer"] for one in part]
        assert {asked.split("\n\n")[0] for asked, _ in done[name]} == {one["passage"] for one in part}
        for (before, _), (asked, answer) in pairwise(done[name]):
            assert answer != PHRASE or numbers_in(asked)[1] == numbers_in(before)[1]
        write(files[name], part[::-1])
    again = prepared(files=files, abstain=MISMATCH)
    assert [sorted(done[name]) for name in SHARES] == [sorted(again[name]) for name in SHARES]


def test_a_group_keeps_its_contexts_in_its_split() -> None:
    rows = [row(n, customer=f"c{n % 20}") for n in range(100)]
    done = prepared(rows, group="customer", abstain={**MISMATCH, "share": 1})
    customers = [{n % 20 for asked, _ in done[name] for n in numbers_in(asked)} for name in SHARES]
    assert done["mismatched"] == 100
    assert sum(map(len, customers)) == 20


MARK = {"answer": PHRASE, "column": "mark"}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"abstain": {**MARK, "column": "marks"}}, r"data\.abstain\.column .*'marks', which raw(.|\n)*are: .*mark,"),
        ({"abstain": {**MARK, "column": "answer"}}, r"raw\.jsonl, row 1: the column 'answer' .* says 'answer 0'"),
        ({"abstain": {**MISMATCH, "context": "text"}}, r"names 'text', which data\.prompt does not use"),
        ({"abstain": MISMATCH, "prompt": {**PROMPT, "user": "{passage}"}}, "uses only 'passage'"),
        (
            {
                "abstain": MISMATCH,
                "target": "completion",
                "prompt": {**PROMPT, "system": "{passage}", "user": "{mark}"},
            },
            "names 'passage', which",
        ),
        ({"abstain": MISMATCH, "rows": [row(n, passage="all the same") for n in range(9)]}, "have the same 'passage'"),
        ({"abstain": MISMATCH, "prompt": None, "format": "alpaca"}, r"data\.abstain\.share needs data\.prompt"),
        (
            {"abstain": MARK, "prompt": None, "rows": [{"prompt": "a", "chosen": "b", "rejected": "c", "mark": 1}]},
            "two answers, so data.abstain cannot replace",
        ),
        ({"abstain": MARK, "labels": ["yes", "no"], "codes": True}, r"answer is not in data\.labels"),
    ],
)
def test_errors_name_the_parameter(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(FinetuneError, match=message):
        prepared(**{"rows": [row(n, mark="no") for n in range(3)], **changes})


@pytest.mark.parametrize(
    ("abstain", "message"),
    [
        ("{answer: a, share: 0.2}", "give context and share together"),
        ("{answer: a, share: 1.2, context: c}", "less than or equal to 1"),
        ("{answer: ' '}", "at least 1 character"),
        ("{column: c}", "'data.abstain.answer' is missing"),
    ],
)
def test_incomplete_parameters_are_refused(abstain: str, message: str) -> None:
    Path("params.yaml").write_text(f"data: {{file: a, abstain: {abstain}}}", encoding="utf-8")
    with pytest.raises(FinetuneError, match=message):
        load_params()


@pytest.mark.parametrize(
    ("answer", "phrase", "abstains"),
    [
        ("i CANNOT tell from this", PHRASE, True),
        ("“I cannot tell  from this”, as the passage is of cats.", PHRASE, True),
        ("Ｉ ｃａｎｎｏｔ ｔｅｌｌ ｆｒｏｍ ｔｈｉｓ．", PHRASE, True),
        ("I can not tell from this", PHRASE, True),
        ("In 1912. I cannot tell from this.", PHRASE, False),
        ("I cannot tell", PHRASE, False),
        ("<think>Is it in 1912?</think>\n\nI cannot tell from this.", PHRASE, True),
        ("", PHRASE, False),
        ("Normally on Monday", "No", False),
        ("No.", "no", True),
        ("N/A", "n/a", True),
        ("分かりませんので、お問い合わせください。", "分かりません。", True),
        ("分かります", "分かりません。", False),
        ("—", "—", True),
        ("", "—", False),
    ],
)
def test_an_answer_abstains_when_it_begins_with_the_phrase(answer: str, phrase: str, abstains: bool) -> None:
    assert abstained(answer, phrase) is abstains


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize(
    ("expected", "answered", "metrics"),
    [
        ("nnyyy", "nynyy", (0.5, 0.5, 1, 2)),
        ("yyy", "yyy", (0.0, 0.0, 0, 0)),
        ("yyy", "nyy", (0.0, 0.0, 0, 0)),
        ("nny", "yyy", (0.0, 0.0, 2, 2)),
        ("nn", "nn", (1.0, 1.0, 0, 2)),
        ("n", "y", (0.0, 0.0, 1, 1)),
        ("", "", (0.0, 0.0, 0, 0)),
    ],
)
def test_abstention_has_numbers_for_any_answers(
    expected: str, answered: str, metrics: tuple[float, float, int, int]
) -> None:
    says = {"n": PHRASE, "y": "blue"}
    found = abstention([says[one] for one in expected], [says[one] for one in answered], PHRASE)
    keys = ["abstention_precision", "abstention_recall", "answered_when_it_should_not", "n_unanswerable"]
    assert found == dict(zip(keys, metrics, strict=True))
