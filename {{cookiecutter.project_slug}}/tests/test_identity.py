"""What makes two questions the same: all that a model is given, in `check` as in `prepare`."""

import base64
import json
import random
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from finetune.core.params import Params
from finetune.core.paths import PREPARED
from finetune.core.records.prepared import Example
from finetune.core.sections.data import Data
from finetune.data.checks.across_files import check
from finetune.data.checks.check_file import Method
from finetune.data.checks.check_lines import read_line
from finetune.data.identity import answer_of, asked_hash, question_hash, question_of, text_hash
from finetune.data.question import Question
from finetune.stages import prepare

SHARES = {"train": 0.6, "valid": 0.15, "test": 0.25}
ASKED = "What is this cheese?"
Make = Callable[..., Example]


def chat(*turns: tuple[str, Any], **more: Any) -> Example:
    return {"messages": [{"role": role, "content": content} for role, content in turns], **more}


def with_image(n: int, text: str = ASKED, answer: str = "brie") -> Example:
    image = {"type": "image_url", "image_url": {"url": f"https://example.com/{n}.jpg"}}
    return chat(("user", [{"type": "text", "text": text}, image]), ("assistant", answer))


def document(n: int) -> str:
    """Return a text that is not near to that of any other number."""
    draw = random.Random(n)
    return f"{n}: " + " ".join("".join(draw.choices("abcdefghijklmnop", k=6)) for _ in range(12))


def with_system(n: int, answer: str = "yes") -> Example:
    return chat(("system", f"Answer from this text: {document(n)}"), ("user", "Is it true?"), ("assistant", answer))


def with_tool(n: int, answer: str = "yes") -> Example:
    call = {"id": f"c{n}", "type": "function", "function": {"name": "read", "arguments": "{}"}}
    messages = [
        {"role": "user", "content": "What does the page say?"},
        {"role": "assistant", "tool_calls": [call]},
        {"role": "tool", "tool_call_id": f"c{n}", "content": document(n)},
        {"role": "assistant", "content": answer},
    ]
    return {"messages": messages, "tools": [{"type": "function", "function": {"name": "read"}}]}


def with_tools(n: int, answer: str = "yes") -> Example:
    tools = [{"type": "function", "function": {"name": f"{word}_{n}"}} for word in document(n).split()[:4]]
    return chat(("user", "Do what is needed."), ("assistant", answer), tools=tools)


def with_audio(n: int, answer: str = "yes") -> Example:
    audio = {"type": "input_audio", "input_audio": {"data": base64.b64encode(b"%d" % n).decode(), "format": "wav"}}
    return chat(("user", [audio]), ("assistant", answer))


def with_history(n: int, answer: str = "yes") -> Example:
    return chat(("user", "Tell me more."), ("assistant", document(n)), ("user", "Go on."), ("assistant", answer))


def without_answer(n: int, answer: str = "") -> Example:
    return {"messages": [{"role": "user", "content": document(n)}], "reference": answer}


def with_call(n: int, answer: str = "yes") -> Example:
    """Return an example whose earlier call differs, without the key `content`, which may be left out beside calls."""
    function = {"name": "look_up", "arguments": json.dumps({"title": document(n)})}
    messages = [
        {"role": "user", "content": "Is it in stock?"},
        {"role": "assistant", "tool_calls": [{"id": f"c{answer}", "type": "function", "function": function}]},
        {"role": "tool", "tool_call_id": f"c{answer}", "content": "found"},
        {"role": "assistant", "content": answer},
    ]
    return {"messages": messages}


def with_custom_call(n: int, answer: str = "yes") -> Example:
    example = with_call(n, answer)
    custom = {"name": "look_up", "input": document(n)}
    example["messages"][1]["tool_calls"] = [{"id": f"c{answer}", "type": "custom", "custom": custom}]
    return example


def with_refusal(n: int, answer: str = "yes") -> Example:
    example = chat(("user", "Tell me."), ("assistant", None), ("user", "Why not?"), ("assistant", answer))
    example["messages"][1] = {"role": "assistant", "refusal": f"No, for {document(n)}"}
    return example


MAKERS = [
    *(with_image, with_system, with_tool, with_tools, with_audio, with_history),
    *(with_call, with_custom_call, with_refusal),
]


def write(path: Path, rows: list[Example]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def prepared(rows: list[Example], **data: Any) -> dict[str, list[Example]]:
    write(Path("raw.jsonl"), rows)
    values = {"file": "raw.jsonl", "split": SHARES, **data}
    prepare.run(cast("Params", SimpleNamespace(data=Data.model_validate(values))))
    return {name: [json.loads(line) for line in open(PREPARED / f"{name}.jsonl", "rb")] for name in SHARES}


@pytest.fixture(autouse=True)
def _in_an_empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


@pytest.mark.parametrize("make", MAKERS)
def test_eighty_questions_that_differ_in_one_part_are_split_eighty_ways(make: Make) -> None:
    rows = [make(n) for n in range(80)]
    done = prepared(rows)
    assert sum(map(len, done.values())) == 80
    assert 36 <= len(done["train"]) <= 60
    assert 4 <= len(done["valid"]) <= 22
    assert 8 <= len(done["test"]) <= 32
    more = prepared([*rows[::-1], *(make(n) for n in range(80, 120))])
    assert all(row in more[name] for name in SHARES for row in done[name])
    findings = check([PREPARED / "train.jsonl"], [PREPARED / "test.jsonl", PREPARED / "valid.jsonl"])["findings"]
    assert not [found for found in findings if found["code"] in ("leak", "near_leak", "duplicate")]


@pytest.mark.parametrize("make", [*MAKERS, without_answer])
def test_check_finds_the_same_question_and_no_other(make: Make) -> None:
    """Rows 0 to 59 in one file and 50 to 79 in the other share 10 questions, with other answers."""
    method: Method | None = "reinforcement" if make is without_answer else None
    train = write(Path("train.jsonl"), [make(n, answer="yes") for n in range(60)])
    test = write(Path("test.jsonl"), [make(n, answer="no") for n in range(50, 80)])
    findings = check([train], [test], method=method)["findings"]
    assert [f["line"] for f in findings if f["code"] in ("leak", "near_leak")] == list(range(51, 61))
    write(train, [make(n // 2, answer=str(n)) for n in range(40)])
    codes = [f["code"] for f in check([train], method=method)["findings"]]
    wanted = "duplicate" if make is without_answer else "conflicting_answers"
    assert codes.count(wanted) == 20


@pytest.mark.parametrize("make", MAKERS)
def test_given_splits_are_refused_only_for_the_same_question(make: Make) -> None:
    write(Path("a.jsonl"), [make(n) for n in range(40)])
    write(Path("b.jsonl"), [make(n) for n in range(40, 60)])
    files = {"train": "a.jsonl", "test": "b.jsonl"}
    assert len(prepared([], file=None, split=None, files=files)["test"]) == 20
    write(Path("b.jsonl"), [make(n) for n in range(39, 60)])
    for near in (0.8, "off"):
        with pytest.raises(Exception, match=r"1 of train in test(.|\n)*a\.jsonl, row 40 .* b\.jsonl, row 1 "):
            prepared([], file=None, split=None, files=files, near=near)


def test_questions_on_one_long_document_are_different_questions() -> None:
    text = " ".join(document(n) for n in range(40))
    asked = ["Who wrote it?", "When was it printed?", "Which town is named first?", "How many ships came back?"]
    rows = [chat(("system", text), ("user", question), ("assistant", "yes")) for question in asked]
    train, test = write(Path("a.jsonl"), rows[:2]), write(Path("b.jsonl"), rows[2:])
    assert not [f for f in check([train], [test], training=False)["findings"] if "leak" in f["code"]]


def test_a_question_with_another_date_in_its_system_prompt_is_near() -> None:
    def row(n: int, day: int, extra: str = "") -> Example:
        system = f"You are the agent of a shop for lamps. Today is the {day}th of May. Be brief and friendly."
        return chat(("system", system), ("user", document(n) + extra), ("assistant", "yes"))

    train = write(Path("a.jsonl"), [row(n, n % 28) for n in range(60)])
    test = write(Path("b.jsonl"), [row(n, 3 + n % 25) for n in range(50, 80)])
    found = [f for f in check([train], [test])["findings"] if "leak" in f["code"]]
    assert [(f["code"], f["line"]) for f in found] == [("near_leak", line) for line in range(51, 61)]


def test_one_shared_system_prompt_moves_no_row() -> None:
    turns = [(("user", document(n)), ("assistant", "yes")) for n in range(80)]
    plain, framed = [chat(*two) for two in turns], [chat(("system", "Answer yes or no."), *two) for two in turns]
    texts = [
        {name: {row["messages"][-2]["content"] for row in rows} for name, rows in prepared(part).items()}
        for part in (plain, framed)
    ]
    assert texts[0] == texts[1]


def test_a_data_url_counts_by_its_content() -> None:
    def hash_of(url: str, detail: str = "auto") -> int:
        part = {"type": "image_url", "image_url": {"url": url, "detail": detail}}
        return question_hash(question_of(chat(("user", [part]), ("assistant", "yes"))))

    content = base64.b64encode(bytes(range(60))).decode()
    one = hash_of(f"data:image/png;base64,{content}")
    assert one == hash_of(f"data:image/x-png;base64,{content[:20]}\n{content[20:]}", "low")
    assert one != hash_of(f"data:image/png;base64,{content[:-4]}AAAA")
    assert hash_of("data:image/png;base64,%%") != hash_of("data:image/png;base64,%")


def test_roles_and_places_of_texts_count() -> None:
    asked = chat(("user", "a"), ("assistant", "b"), ("user", "c"))
    rows = [
        chat(("user", "a"), ("assistant", "b"), ("user", "c"), ("assistant", "d")),
        chat(("user", "a"), ("user", "b"), ("user", "c"), ("assistant", "d")),
        chat(("system", "a"), ("user", "b"), ("user", "c"), ("assistant", "d")),
        asked,
        {"input": asked, "preferred_output": [], "non_preferred_output": []},
    ]
    hashes = [question_hash(question_of(row)) for row in rows]
    assert len({*hashes[:3]}) == 3
    assert hashes[0] == hashes[3] == hashes[4]


def test_answers_with_other_calls_are_other_answers() -> None:
    def row(city: str) -> Example:
        call = {"id": city, "type": "function", "function": {"name": "weather", "arguments": f'{{"city": "{city}"}}'}}
        return {"messages": [{"role": "user", "content": "Weather?"}, {"role": "assistant", "tool_calls": [call]}]}

    assert answer_of(row("Oslo")) != answer_of(row("Rome"))
    assert answer_of(chat(("user", "Weather?"))) == ""


@pytest.mark.parametrize("system", [None, "Be brief.", "  BE brief. "])
def test_simple_chat_has_the_same_question_by_the_short_way(system: str | None) -> None:
    turns = [("user", "Where IS it?"), ("assistant", "What?"), ("user", "Parcel 7"), ("assistant", "delivery")]
    example = chat(*([("system", system.strip())] if system else []), *turns)
    _, texts, _ = read_line(json.dumps(example).encode(), "supervised", ())
    assert texts
    given = Question("\n".join(texts[0][:-1]), texts[1] or "")
    assert given == question_of(example)
    assert text_hash(given.asked) == asked_hash(given)
