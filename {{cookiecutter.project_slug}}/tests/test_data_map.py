"""`data.map` and paths: renamed cells, lettered lists and nested values, in training and in questions."""

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
from hypothesis import given
from hypothesis import strategies as st
from test_params import written

from finetune.core.errors import FinetuneError
from finetune.core.params import Params, load_params
from finetune.core.paths import PREPARED, TEST_ROWS
from finetune.core.sections.data import Data
from finetune.data.cell_map import cell_map_of, map_cells
from finetune.data.cell_paths import cell_of, root_of
from finetune.data.prompts import fingerprint_of
from finetune.stages import prepare

SHARES = {"train": 0.6, "valid": 0.2, "test": 0.2}
PROMPT = {"user": "{q}\n\n{choices}", "assistant": "{answer}"}
LETTERS = {0: "A", 1: "B", 2: "C"}


@pytest.fixture(autouse=True)
def _in_an_empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def prepared(file: str, content: str, **data: Any) -> set[tuple[str, str]]:
    """Run prepare on a file, and return all questions with their answers."""
    Path(file).write_text(content, encoding="utf-8")
    section = Data.model_validate({"file": file, "split": SHARES, **data})
    prepare.run(cast("Params", SimpleNamespace(data=section)))
    lines = [json.loads(line) for name in SHARES for line in (PREPARED / f"{name}.jsonl").read_bytes().splitlines()]
    return {tuple(message["content"] for message in line["messages"]) for line in lines}


def jsonl(*rows: dict[str, Any]) -> str:
    return "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)


def test_answers_are_renamed_and_lists_become_lettered_lines() -> None:
    rows = [
        {"q": "Which is a cheese?", "choices": ["브리", "oak"], "answer": 0},
        {"q": "Which is a tree?", "choices": ["Brie", "oak"], "answer": 1},
    ]
    cells = {"map": {"answer": LETTERS, "choices": "lettered"}, "prompt": PROMPT}
    expected = {
        ("Which is a cheese?\n\nA. 브리\nB. oak", "A"),
        ("Which is a tree?\n\nA. Brie\nB. oak", "B"),
    }
    assert prepared("a.jsonl", jsonl(*rows), **cells) == expected
    table = 'q,choices,answer\nWhich is a cheese?,"[""브리"", ""oak""]",0\nWhich is a tree?,"[""Brie"", ""oak""]",1.0\n'
    assert prepared("a.csv", table, **cells) == expected


def test_answers_of_other_formats_are_renamed_too() -> None:
    rows = jsonl({"instruction": "Is 2 even?", "output": True}, {"instruction": "Is 3 even?", "output": "False"})
    assert prepared("a.jsonl", rows, map={"output": {True: "yes", False: "no"}}) == {
        ("Is 2 even?", "yes"),
        ("Is 3 even?", "no"),
    }


@pytest.mark.parametrize(
    ("cell", "renames"),
    [(0, {0: "A"}), ("0", {0: "A"}), (0.0, {0: "A"}), ("0.0", {0: "A"}), (0, {"0": "A"}), (" 0 ", {0: "A"}),
     (1.5, {1.5: "A"}), (True, {True: "A"}), ("TRUE", {True: "A"}), ("はい", {"はい": "A"}), (7, {7.0: "A"})],
)  # fmt: skip
def test_a_value_is_found_as_any_file_writes_it(cell: object, renames: dict[Any, str]) -> None:
    assert map_cells({"x": cell}, cell_map_of({"x": renames})) == {"x": "A"}


def test_a_value_without_a_new_name_is_refused_with_its_rows() -> None:
    rows = [{"q": f"question {n}", "choices": ["a"], "answer": n % 4} for n in range(12)]
    with pytest.raises(FinetuneError, match=r"a\.jsonl: .*rows 4, 8, 12 \(data\.map\.answer does not list .*'3'\)"):
        prepared("a.jsonl", jsonl(*rows), map={"answer": LETTERS}, prompt=PROMPT)
    rows = [{"q": f"question {n}", "choices": "a or b" if n else ["a"], "answer": 0} for n in range(3)]
    with pytest.raises(FinetuneError, match=r"rows 2, 3 \(choices is not a list"):
        prepared("a.jsonl", jsonl(*rows), map={"choices": "lettered"}, prompt=PROMPT)
    with pytest.raises(
        FinetuneError, match=r"data\.map in params\.yaml names the column 'choice', which a\.jsonl lacks"
    ):
        prepared("a.jsonl", jsonl({"q": "a", "choices": "b", "answer": "c"}), map={"choice": "lettered"}, prompt=PROMPT)


@pytest.mark.parametrize("items", [["a"] * 27, [["a"]], [{"text": "a"}], "['a', 'b']"])
def test_a_list_that_has_no_letters_is_refused(items: object) -> None:
    with pytest.raises(ValueError, match=r"^x "):
        map_cells({"x": items}, {"x": "lettered"})


def test_nested_values_are_reached_by_their_path() -> None:
    rows = [
        {
            "question": {"text": f"Who is {n}?", "by": [{"name": "Ana"}]},
            "answers": {"text": [f"number {n}", "x"], "start": [1]},
            "choices": {"label": ["A", "B"], "text": ["이", "오"]},
        }
        for n in range(3)
    ]
    prompt = {"user": "{question.by[0].name}: {question.text}\n{choices.text}", "assistant": "{answers.text[0]}"}
    found = prepared("a.jsonl", jsonl(*rows), map={"choices.text": "lettered"}, prompt=prompt)
    assert found == {(f"Ana: Who is {n}?\nA. 이\nB. 오", f"number {n}") for n in range(3)}
    with pytest.raises(FinetuneError, match=r"data\.prompt\.user .*'question\.txt', which a\.jsonl lacks"):
        prepared("a.jsonl", jsonl(*rows), prompt={**prompt, "user": "{question.txt}"})


def test_a_column_with_the_name_of_a_path_comes_first() -> None:
    row = {"a.b": "column", "a": {"b": "path", "c": '{"d": ["x", "y"]}', "n": 0}}
    found = {name: cell_of(row, name) for name in ("a.b", "a.c.d[-1]", "a.c.d[2]", "a.n", "a.b.c", "a[0]", "b", "a..b")}
    assert found == {"a.b": "column", "a.c.d[-1]": "y", "a.c.d[2]": None, "a.n": 0} | dict.fromkeys(
        ("a.b.c", "a[0]", "b", "a..b")
    )
    assert root_of("a.b[0]") == "a"
    assert root_of("Größe (cm)") == "Größe (cm)"


def test_a_path_may_begin_with_a_column_that_has_dots() -> None:
    row = {"a.b": '{"c": ["x"]}', "a": {"b": {"c": ["z"], "d": 1}}, "label.responses": ["yes"]}
    assert [cell_of(row, name) for name in ("a.b.c[0]", "a.b.d", "label.responses[0]")] == ["x", 1, "yes"]
    rows: list[dict[str, Any]] = [
        {"text": f"question {n**5:x}", "label.responses": [f"answer {n}"], "of.x": {"by": f"t{n}"}} for n in range(30)
    ]
    prompt = {"user": "{text}", "assistant": "{label.responses[0]}"}
    found = prepared("a.jsonl", jsonl(*rows), prompt=prompt, by="of.x.by")
    assert found == {(row["text"], row["label.responses"][0]) for row in rows}
    tested = [json.loads(line) for line in TEST_ROWS.read_text(encoding="utf-8").splitlines()]
    assert {row["by"] for row in tested} <= {f"t{n}" for n in range(30)}


NAMES = st.text(max_size=6) | st.sampled_from(["a[0]", "a.b", "[0]", "a.", ".a", "a[x]", "a[0][1]", "a[99999]"])


@pytest.mark.slow
@given(st.dictionaries(NAMES, st.recursive(st.none() | st.text(max_size=4), st.lists)), NAMES)
def test_any_name_is_looked_up_without_an_error(row: dict[str, Any], name: str) -> None:
    if name in row:
        assert cell_of(row, name) == row[name]
    else:
        cell_of(row, name)


def test_contexts_by_path_get_unanswerable_copies() -> None:
    words = [f"{n**5:x} {n**7:x} {n**9:x}" for n in range(40)]
    rows = [{"doc": {"text": f"text {word}"}, "q": f"what of {word}?", "answer": word} for word in words]
    abstain = {"answer": "No idea.", "context": "doc.text", "share": 1.0}
    prompt = {"user": "{doc.text}\n{q}", "assistant": "{answer}"}
    found = prepared("a.jsonl", jsonl(*rows), prompt=prompt, abstain=abstain)
    assert len({asked for asked, answer in found if answer == "No idea."}) > 20


def test_other_parameters_take_paths_too() -> None:
    rows = [
        {"q": f"{n**5:x} {n**7:x}?", "a": "yes", "meta": {"team": f"t{n % 3}", "of": f"c{n % 9}", "mark": n < 5}}
        for n in range(60)
    ]
    prompt = {"user": "{q}", "assistant": "{a}"}
    abstain = {"answer": "No idea.", "column": "meta.mark"}
    found = prepared("a.jsonl", jsonl(*rows), prompt=prompt, by="meta.team", group="meta.of", abstain=abstain)
    assert sum(answer == "No idea." for _, answer in found) == 5
    tested = [json.loads(line) for line in TEST_ROWS.read_text(encoding="utf-8").splitlines()]
    assert {row["by"] for row in tested} <= {"t0", "t1", "t2"}
    names = ["train"] * 40 + ["valid"] * 10 + ["test"] * 10
    rows = [{**row, "meta": {"part": name}} for row, name in zip(rows, names, strict=True)]
    prepared("a.jsonl", jsonl(*rows), prompt=prompt, split={"column": "meta.part"})
    assert len((PREPARED / "test.jsonl").read_bytes().splitlines()) == 10
    with pytest.raises(FinetuneError, match=r"data\.by .*'meta\.teem', which a\.jsonl lacks"):
        prepared("a.jsonl", jsonl(*rows), prompt=prompt, by="meta.teem")


@pytest.mark.parametrize(
    "change", [{"label": "letters"}, {"label": {0: 1}}, {"label": ["A"]}, {"label": {None: "A"}}, {"label": None}]
)
def test_an_invalid_map_is_refused_in_one_sentence(tmp_path: Path, change: dict[str, Any]) -> None:
    with pytest.raises(FinetuneError, match=r"params\.yaml: 'data\.map': give for each column lettered, or .*not \{"):
        load_params(written(tmp_path, {"data.map": change}))


def test_a_value_that_is_listed_twice_is_refused() -> None:
    with pytest.raises(FinetuneError, match=r"data\.map\.label .* '0' twice"):
        cell_map_of({"label": {0: "A", "0": "B"}})


def test_a_map_of_the_file_is_read_with_its_kinds_of_keys(tmp_path: Path) -> None:
    path = written(tmp_path, {"data.map": {"label": {0: "A", True: "B", 1.5: "C"}, "choices": "lettered"}})
    assert load_params(path).data.map == {"label": {0: "A", True: "B", 1.5: "C"}, "choices": "lettered"}


def test_the_prompt_of_a_model_has_another_fingerprint_with_another_map() -> None:
    template = {"user": "{a}", "assistant": "{b}"}
    assert fingerprint_of(template, {}) == fingerprint_of(template)
    maps: list[Any] = [{}, {"a": "lettered"}, {"a": {0: "x"}}, {"a": {0: "y", "z": "w"}}]
    assert len({fingerprint_of(template, cell_map_of(one)) for one in maps}) == 4
