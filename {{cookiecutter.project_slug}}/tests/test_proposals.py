"""What `finetune init` proposes for a file: columns, task, classes, groups and shares."""

from pathlib import Path
from typing import Any

import pytest
from init_project import Rows, lines, messages, texts

from finetune.commands.init import token_count
from finetune.core.errors import FinetuneError
from finetune.data.choose_columns import Choices
from finetune.data.column_words import ANSWERS, GROUPS, rank
from finetune.data.file_look import Column, look_at
from finetune.data.propose_settings import Proposal, propose


def proposed(rows: Rows, tmp_path: Path, **choices: Any) -> Proposal:
    chosen = Choices(**choices)
    return propose(look_at(lines(tmp_path / "rows.jsonl", rows), None, chosen.as_columns), chosen, len)


def test_a_first_line_that_is_a_row_is_refused(tmp_path: Path) -> None:
    rows = [{"Where is it?": text, "sales": ("sales", "billing")[n % 2]} for n, text in enumerate(texts(60))]
    with pytest.raises(FinetuneError, match=r"no line with the names of its columns: 'sales'"):
        proposed(rows, tmp_path)


def test_a_column_that_says_the_split_is_used(tmp_path: Path) -> None:
    rows = [
        {**row, "set": ("train", "train", "dev", "test")[n % 4], "user": n % 30} for n, row in enumerate(messages())
    ]
    found = proposed(rows, tmp_path)
    assert (found.split, found.group) == ({"column": "set"}, None)
    assert proposed(rows, tmp_path, group="user").group == "user"
    without_test = [{**row, "set": "train" if n % 2 else "valid"} for n, row in enumerate(rows)]
    assert "column" not in proposed(without_test, tmp_path).split


@pytest.mark.parametrize(
    ("name", "cells", "group"),
    [
        ("user_id", [f"u{n % 40}" for n in range(120)], "user_id"),
        ("conversationId", [n // 3 for n in range(120)], "conversationId"),
        ("고객번호", [f"{n % 33}" for n in range(120)], "고객번호"),
        ("user_id", [f"u{n}" for n in range(120)], None),  # no two rows of one user
        ("user_id", [f"u{n % 40}" if n else "" for n in range(120)], None),  # a row without a user
        ("user_id", [f"u{n % 3}" for n in range(120)], None),  # three users cannot be divided
        ("colour", [f"c{n % 40}" for n in range(120)], None),
    ],
)
def test_the_group_is_a_column_of_persons_or_conversations_whose_rows_repeat(
    tmp_path: Path, name: str, cells: list[Any], group: str | None
) -> None:
    rows = [{**row, name: cell} for row, cell in zip(messages(), cells, strict=True)]
    assert proposed(rows, tmp_path).group == group


@pytest.mark.parametrize("rows", [30, 100, 250, 880, 5000, 1_000_000])
def test_the_shares_give_enough_test_rows_and_not_too_many(rows: int) -> None:
    from finetune.core.sections.data import Split
    from finetune.data.file_look import FileLook
    from finetune.data.propose_split import split_of

    shares, _ = split_of(FileLook(Path("x"), {}, "columns", rows, [], {}, Column("answer"), 0), Choices())
    assert sum(Split.model_validate(shares).shares) == pytest.approx(1)
    assert shares["train"] >= 0.55
    assert shares["test"] * rows >= min(50, 0.29 * rows)
    assert shares["test"] * rows <= max(1000, 0.2 * 5000)


@pytest.mark.parametrize(
    ("cells", "kind"),
    [
        (["", " "], "empty"),
        (["train", "train", "test", "test"], "split"),
        (["[1]", '{"a": 2}'], "json"),
        (["2026-01-02", "2026-01-03 10:30"], "date"),
        (["2026年1月2日", "2026年11月3日"], "date"),
        (["02.01.2026", "13/02/26"], "date"),
        (["A-1", "A-2", "A-3"], "id"),
        (["yes", "no", "yes", "no"], "label"),
        (["1", "2", "1", "2"], "label"),
        (["1.5", "2,000", "1e5", "-3"], "number"),
        (["Where is my parcel?", "What?"], "text"),
        (["[not JSON", "{neither"], "text"),
        (["荷物が届きません。注文番号は13番です", "返金してください。番号は2番です"], "text"),
        (["账单0有问题，请退款", "我的包裹1还没有到"], "text"),
        (["พัสดุหมายเลข13ยังไม่มาถึง", "ขอเงินคืนสำหรับคำสั่งซื้อ22"], "text"),
        (["환불해주세요13", "배송이늦어요22"], "text"),
        (["案件-001", "案件-002"], "id"),
        (["注文番号12", "注文番号13"], "id"),
    ],
)
def test_the_kind_of_a_column(cells: list[str], kind: str) -> None:
    column = Column("x")
    for cell in cells:
        column.add(cell)
    assert column.kind == kind


def test_a_column_that_is_named_as_a_text_is_one_where_no_other_is(tmp_path: Path) -> None:
    links = [{"text": f"https://example.org/{n}", "label": ("sales", "billing")[n % 2]} for n in range(60)]
    assert proposed(links, tmp_path).questions == ("text",)
    dates = [{"message": text, "answer": f"2026-01-{n % 28 + 1}"} for n, text in enumerate(texts(60))]
    assert proposed(dates, tmp_path).answer == "answer"
    ids = [{"message_id": f"T-{n}", "label": ("sales", "billing")[n % 2]} for n in range(60)]
    with pytest.raises(FinetuneError, match="has no question and answer"):
        proposed(ids, tmp_path)


def test_short_messages_without_spaces_are_the_question(tmp_path: Path) -> None:
    rows = [
        {"件名": f"返金してください。{n}番", "内容": f"請求書 {text}", "部署": ("配送", "請求")[n % 2]}
        for n, text in enumerate(texts(60))
    ]
    assert proposed(rows, tmp_path).questions == ("件名", "内容")
    rows = [{"内容": f"账单{n}有问题，请退款", "类别": ("账单", "物流")[n % 2]} for n in range(60)]
    found = proposed(rows, tmp_path)
    assert (found.questions, found.answer) == (("内容",), "类别")


def test_classes_with_commas_braces_or_too_many_are_written_so_that_they_can_be_told_apart(tmp_path: Path) -> None:
    def system(names: list[str]) -> str:
        rows = [{"text": text, "label": names[n % len(names)]} for n, text in enumerate(texts(4 * len(names)))]
        return proposed(rows, tmp_path).system or ""

    assert system(["b, c", "a"]).endswith("Answer with one of: a; b, c.")
    assert system(["{a}", "b"]) == "Classify the text. Answer with the label only."
    assert system([f"the class number {n}" for n in range(90)]) == "Classify the text. Answer with the label only."


def test_max_tokens_has_room_for_the_longest_answer(tmp_path: Path) -> None:
    rows = [{"question": text, "answer": text[n % 40 :]} for n, text in enumerate(texts(90))]
    assert proposed(rows, tmp_path).max_tokens > max(len(row["answer"]) for row in rows)


@pytest.mark.parametrize(
    ("text", "tokens"),  # of SmolLM2
    [("delivery", 1), ("Rückgabe", 5), ("إرجاع", 7), ("返品", 5), ("배송팀", 9), ("возврат", 6), ("12345678", 8)],
)
def test_max_tokens_has_room_for_the_engines_tokenizer(text: str, tokens: int) -> None:
    count = token_count({"provider": {"name": "local"}, "train": {"base": "SmolLM2-135M-Instruct"}})
    assert tokens <= count(text) <= 2 * len(text.encode())


def test_a_score_beside_two_texts_is_not_the_answer(tmp_path: Path) -> None:
    both = [{"a": text, "b": text[::-1], "stars": n % 5 + 1} for n, text in enumerate(texts(60))]
    assert proposed(both, tmp_path).answer == "b"
    one = [{"a": row["a"], "stars": row["stars"]} for row in both]
    assert (proposed(one, tmp_path).answer, proposed(one, tmp_path).labels) == ("stars", ["1", "2", "3", "4", "5"])


@pytest.mark.parametrize(
    ("columns", "questions", "answer"),
    [
        ({"title": "text", "review_body": "text", "star_rating": 5}, ("title", "review_body"), "star_rating"),
        ({"description": "text", "price": "number"}, ("description",), "price"),
        (
            {"Timestamp": "date", "Email Address": "address", "What is it?": "text", "Team?": 4},
            ("What is it?",),
            "Team?",
        ),
        (
            {"question": "text", "A": "text", "B": "text", "C": "text", "answer": "ABC"},
            ("question", "A", "B", "C"),
            "answer",
        ),
        (
            {"context": "text", "answerA": "text", "answerB": "text", "answerC": "text", "correct": "ABC"},
            ("context", "answerA", "answerB", "answerC"),
            "correct",
        ),
        ({"sent1": "long", "ending0": "text", "ending1": "text", "label": 2}, ("sent1", "ending0", "ending1"), "label"),
        ({"text": "text", "reply_text": "text", "source": 1}, ("text",), "reply_text"),  # one source in all rows
        ({"user": "greeting", "assistant": "text"}, ("user",), "assistant"),
        ({"customer_message": "greeting", "agent_reply": "text"}, ("customer_message",), "agent_reply"),
    ],
)
def test_the_columns_of_common_exports_are_found(
    tmp_path: Path, columns: dict[str, Any], questions: tuple[str, ...], answer: str
) -> None:
    kinds: dict[Any, Any] = {
        "text": lambda n, text: text,
        "long": lambda n, text: f"{text} and {text}",
        "number": lambda n, text: f"{n * 7 % 1000 / 10}",
        "date": lambda n, text: f"3/{n % 28 + 1}/2024 14:{n % 60:02}:09",
        "address": lambda n, text: f"u{n % 40}@example.org",
        "greeting": lambda n, text: "Where is it?" if n % 9 == 0 else text[:40],
        "ABC": lambda n, text: "ABC"[n % 3],
    }
    rows: Rows = [
        {
            name: kinds[kind](n, f"{name[-1]} {text}") if isinstance(kind, str) else str(n % kind)
            for name, kind in columns.items()
        }
        for n, text in enumerate(texts(120))
    ]
    found = proposed(rows, tmp_path)
    assert (found.questions, found.answer) == (questions, answer)


def test_a_column_of_addresses_is_a_group(tmp_path: Path) -> None:
    rows = [{**row, "Email Address": f"u{n % 40}@example.org"} for n, row in enumerate(messages())]
    assert proposed(rows, tmp_path).group == "Email Address"


def test_other_columns_that_could_be_the_answer_are_named(tmp_path: Path) -> None:
    rows = [{**row, "topic": f"t{n % 5}", "priority": f"p{n % 3}"} for n, row in enumerate(messages())]
    found = proposed(rows, tmp_path)
    assert (found.answer, found.reasons["answer"]) == ("team", "its name; it could also be topic")
    unnamed = [{"text": row["message"], "toxic": n % 2, "insult": n % 3 // 2} for n, row in enumerate(rows)]
    assert proposed(unnamed, tmp_path).reasons["answer"].endswith("; it could also be toxic")
    assert proposed(unnamed, tmp_path).system == "Classify the text. Answer with the insult, one of: 0, 1."


def test_the_texts_of_a_survey_are_no_answers_because_of_a_word_in_their_question(tmp_path: Path) -> None:
    asked = "What do you like about your team?"
    rows = [{asked: text, "Mood": f"m{n % 3}", "Comment": text[::-1]} for n, text in enumerate(texts(120))]
    assert proposed(rows, tmp_path).answer == "Mood"
    forms = [{"Message": text, "Which team is it for?": f"t{n % 3}"} for n, text in enumerate(texts(120))]
    assert proposed(forms, tmp_path).answer == "Which team is it for?"


def test_a_system_column_is_the_system_prompt(tmp_path: Path) -> None:
    rows = [{"system": "Be kind.", "user": text, "assistant": text[::-1]} for text in texts(60)]
    assert proposed(rows, tmp_path).system == "{system}"
    assert proposed([{**rows[0], "system": ""}, *rows], tmp_path).system == "Write the assistant for the user."


def test_the_reason_of_the_task_is_true(tmp_path: Path) -> None:
    long = [
        "your parcel is on its way and will arrive soon. " * 2,
        "we have refunded you in full, as you asked us. " * 2,
    ]
    rows = [{"mail": text, "macro": long[n % 2]} for n, text in enumerate(texts(60))]
    assert proposed(rows, tmp_path).reasons["task"] == "2 different answers in 60 rows, with up to 96 letters"


def test_one_answer_is_said_as_one(tmp_path: Path) -> None:
    rows = [{"mail": text, "team": "sales"} for text in texts(60)]
    assert proposed(rows, tmp_path).reasons["task"] == "the same answer in all 60 rows"
    rows = [{"mail": text, "macro": "we have refunded you in full, as you asked us. " * 2} for text in texts(60)]
    why = proposed(rows, tmp_path, answer="macro").reasons["task"]
    assert why == "the same answer in all 60 rows, with up to 94 letters"


def test_an_object_of_answers_by_their_questions_is_no_row(tmp_path: Path) -> None:
    for name in ("map.json", "map.jsonl"):
        lines(tmp_path / name, [dict.fromkeys(texts(60), "sales")])
        with pytest.raises(FinetuneError, match="has only one row, an object with 60 keys"):
            look_at(tmp_path / name, None, as_columns=False)


def test_preferences_are_no_classes(tmp_path: Path) -> None:
    rows = [{"prompt": text, "chosen": "yes", "rejected": "no"} for text in texts(40)]
    assert proposed(rows, tmp_path).task == "generate"
    with pytest.raises(FinetuneError, match="cannot have the task classify"):
        proposed(rows, tmp_path, task="classify")


def test_rows_without_an_answer_are_said_with_the_proposal(tmp_path: Path) -> None:
    rows = [{**row, "team": row["team"] if n % 10 else ""} for n, row in enumerate(messages())]
    assert proposed(rows, tmp_path).reasons["answer"] == "its name; 12 rows have no answer, which `prepare` refuses"


def test_the_braces_of_a_column_are_named(tmp_path: Path) -> None:
    rows = [
        {"message {en}": row["message"], "team": row["team"], "priority": n % 3} for n, row in enumerate(messages())
    ]
    with pytest.raises(FinetuneError, match=r"a prompt cannot name the column 'message \{en\}'"):
        proposed(rows, tmp_path)


def test_names_of_columns_are_words_and_not_letters() -> None:
    assert rank("customerId", GROUPS) is not None
    assert rank("USERS", GROUPS) is rank("superuserx", GROUPS) is None
    assert rank("正解ラベル", ANSWERS) is not None
    assert rank("Réponse", ANSWERS) is not None
