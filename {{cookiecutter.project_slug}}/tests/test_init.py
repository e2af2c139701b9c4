"""`finetune init`: from a file of one's own to prepared and checked data, with the comments of params.yaml kept."""

import csv
import gzip
import json
import random
import shutil
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from ruamel.yaml import YAML
from typer.testing import CliRunner, Result

from finetune.cli import app
from finetune.commands.init import token_count
from finetune.core.errors import FinetuneError
from finetune.core.params import load_params
from finetune.core.yaml_edit import edit_yaml
from finetune.data.choose_columns import Choices
from finetune.data.column_words import ANSWERS, GROUPS, rank
from finetune.data.file_look import Column, look_at
from finetune.data.propose_settings import Proposal, propose

ROOT = Path(__file__).parents[1]
WORDS = """parcel order invoice refund screen login password address window lamp desk chair courier payment card
receipt account phone support week month today tomorrow city street house garden kitchen bridge river"""
JAPANESE = "荷物 注文 請求 返金 画面 住所 窓 机 椅子 配送 支払い 領収書 電話 今日 明日 市 庭 川 橋 山"
KOREAN = "배송 주문 청구 환불 화면 로그인 주소 창문 책상 의자 오늘 내일 전화 영수증 결제 도시 거리 정원"
Rows = list[dict[str, Any]]


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Change to a project with only what `init` needs, and return its folder; the user's files are beside it."""
    folder = tmp_path / "project"
    (folder / "data").mkdir(parents=True)
    for name in ("params.yaml", "dvc.yaml"):
        shutil.copy(ROOT / name, folder / name)
    for name in ("also", "replay"):
        shutil.copytree(ROOT / "data" / name, folder / "data" / name)
    monkeypatch.chdir(folder)
    return folder


def texts(rows: int, words: str = WORDS, length: int = 14, space: str = " ") -> list[str]:
    draw = random.Random(rows + length)
    return [space.join(draw.choice(words.split()) for _ in range(length)) for _ in range(rows)]


def table(path: Path, rows: Rows, encoding: str = "utf-8") -> Path:
    with open(path, "w", newline="", encoding=encoding) as out:
        writer = csv.DictWriter(out, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    return path


def lines(path: Path, rows: Rows) -> Path:
    path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8")
    return path


def messages(rows: int = 120) -> Rows:
    return [{"message": text, "team": ("sales", "billing", "sales")[n % 3]} for n, text in enumerate(texts(rows))]


def run(*arguments: object, typed: str | None = None) -> Result:
    return CliRunner().invoke(app, ["init", *map(str, arguments)], input=typed)


def done(*arguments: object) -> str:
    """Run init with --yes, and return what it printed. Its last line is the next command."""
    result = run(*arguments, "--yes")
    assert result.exit_code == 0, f"{result.output}\n{result.exception}"
    assert result.stdout.endswith("Next: dvc repro\n")
    return result.stdout


def values() -> dict[str, Any]:
    return dict(YAML(typ="safe").load(Path("params.yaml").read_text(encoding="utf-8")))


def comments(text: str) -> list[str]:
    return [line.strip() for line in text.splitlines() if line.strip().startswith("#")]


def proposed(rows: Rows, tmp_path: Path, **choices: Any) -> Proposal:
    chosen = Choices(**choices)
    return propose(look_at(lines(tmp_path / "rows.jsonl", rows), None, chosen.as_columns), chosen, len)


def test_a_csv_is_ready_for_dvc_repro_in_one_command(project: Path, tmp_path: Path) -> None:
    before = Path("params.yaml").read_text(encoding="utf-8")
    printed = done(table(tmp_path / "mine.csv", messages()))
    data, evaluate = values()["data"], values()["evaluate"]
    assert data["file"] == "data/raw/mine.csv"
    assert data["prompt"] == {
        "system": "Classify the message. Answer with one of: sales, billing.",
        "user": "{message}",
        "assistant": "{team}",
    }
    assert data["labels"] == ["sales", "billing"]
    assert evaluate["task"] == "classify"
    assert evaluate["max_tokens"] in (2, 3)  # with the tokenizer of a hosted base, and of the engine's base
    assert load_params().data.file == "data/raw/mine.csv"
    report = json.loads(Path("reports/validation.json").read_text(encoding="utf-8"))
    assert report["errors"] == 0
    assert sum(report["examples"].values()) == 120
    assert "test rows, a difference of" in printed
    assert f"init: copied {tmp_path / 'mine.csv'} to data/raw/mine.csv" in printed
    for row in messages()[:3]:
        assert row["message"][:20] in printed
    after = Path("params.yaml").read_text(encoding="utf-8")
    for section in ("provider:", "  few_shot:"):
        assert section in after
    assert set(comments(before)) - set(comments(after)) <= removed_comments(before)


def removed_comments(text: str) -> set[str]:
    """Return the comments that belong to keys that init may remove."""
    found, above = set(), []
    for line in text.splitlines():
        if line.strip().startswith("#"):
            above.append(line.strip())
        else:
            if line.strip().split(":")[0] in ("graders", "schema", "format", "turns", "prompt"):
                found |= set(above)
            above = []
    return found


def test_only_what_must_change_changes(project: Path, tmp_path: Path) -> None:
    before = values()
    done(table(tmp_path / "mine.csv", messages()))
    after = values()
    assert after["provider"] == before["provider"]
    assert {k: v for k, v in after["train"].items() if k != "n_epochs"} == {
        k: v for k, v in before["train"].items() if k != "n_epochs"
    }
    assert after["train"]["n_epochs"] == "auto"
    assert after["evaluate"]["also"] == before["evaluate"]["also"]
    assert after["evaluate"]["require"] == {
        "lift.accuracy_low": "> 0",
        "floors.majority.lift.accuracy_low": "> 0",
        "also.general.kept": "== 1",
    }


def test_settings_of_the_former_data_are_removed_and_named(project: Path, tmp_path: Path) -> None:
    own = values()
    own["data"] |= {"by": "city", "codes": True, "target": "chat", "group": "city", "turns": "each"}
    own["data"]["abstain"] = {"answer": "none", "column": "city"}
    own["evaluate"] |= {"schema": "data/also/x.json", "graders": {"a": {"type": "python", "source": "x"}}}
    YAML().dump(own, Path("params.yaml"))
    printed = done(table(tmp_path / "mine.csv", messages()))
    gone = ["data.by", "data.codes", "data.group", "data.turns", "data.abstain", "evaluate.schema", "evaluate.graders"]
    line = next(line for line in printed.splitlines() if line.startswith("init: removed"))
    assert all(key in line for key in gone)
    assert not set(gone) & {f"{name}.{key}" for name, section in values().items() for key in section}
    assert values()["data"]["target"] == "chat"


def test_a_second_run_for_the_same_file_keeps_what_was_set_since(project: Path, tmp_path: Path) -> None:
    rows = [{**row, "city": f"city {n % 4}"} for n, row in enumerate(messages())]
    file = table(tmp_path / "mine.csv", rows)
    done(file)
    text = Path("params.yaml").read_text(encoding="utf-8")
    text = text.replace("Classify the message.", "Which team answers?").replace("n_epochs: auto", "n_epochs: 5")
    text = text.replace("  labels:", "  by: city # mine\n  labels:")
    Path("params.yaml").write_text(text, encoding="utf-8")
    printed = done(Path("data/raw/mine.csv"))
    assert "init: wrote params.yaml: nothing has changed" in printed
    assert Path("params.yaml").read_text(encoding="utf-8") == text


def test_for_few_large_groups_the_seed_of_the_closest_splits_is_proposed(project: Path, tmp_path: Path) -> None:
    rows = [{**row, "customer": f"k{number % 9}"} for number, row in enumerate(messages(90))]
    said = done(table(tmp_path / "m.csv", rows), "--group", "customer", "--yes")
    split = values()["data"]["split"]
    assert f"data.split.seed {split['seed']}, whose splits" in said
    report = json.loads(Path("reports/prepare.json").read_text(encoding="utf-8"))
    asked = {name: split[name] for name in ("train", "valid", "test")}
    assert all(abs(report["shares"][name] - asked[name]) < 0.12 for name in asked)


def test_the_users_file_is_never_overwritten(project: Path, tmp_path: Path) -> None:
    file = table(tmp_path / "mine.csv", messages())
    done(file)
    done(file)  # the same content again
    table(file, messages(60))
    before = {path: path.read_bytes() for path in project.rglob("*") if path.is_file()}
    result = run(file, "--yes")
    assert isinstance(result.exception, FinetuneError)
    assert "data/raw/mine.csv exists already, with other content" in str(result.exception)
    assert {path: path.read_bytes() for path in project.rglob("*") if path.is_file()} == before


def test_a_dry_run_writes_nothing(project: Path, tmp_path: Path) -> None:
    before = {path: path.read_bytes() for path in project.rglob("*") if path.is_file()}
    result = run(table(tmp_path / "mine.csv", messages()), "--dry-run")
    assert result.exit_code == 0
    assert "classify" in result.stdout
    assert {path: path.read_bytes() for path in project.rglob("*") if path.is_file()} == before


def test_without_a_terminal_nothing_is_asked(project: Path, tmp_path: Path) -> None:
    result = run(table(tmp_path / "mine.csv", messages()))
    assert isinstance(result.exception, FinetuneError)
    assert "Add --yes" in str(result.exception)
    assert not Path("data/raw").exists()


def test_each_setting_is_asked_for_with_the_proposal_as_the_default(
    project: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("finetune.commands.init.is_terminal", lambda: True)
    rows = [{**row, "area": row["team"][:1], "user": f"u{n % 30}"} for n, row in enumerate(messages())]
    file = table(tmp_path / "mine.csv", rows)
    result = run(file, typed="aera\narea\n\n\nSort it.\nnone\ny\n")
    assert result.exit_code == 0, result.output
    assert "has no column 'aera' for the answer." in result.stderr
    data = values()["data"]
    assert data["prompt"] == {"system": "Sort it.", "user": "{message}", "assistant": "{area}"}
    assert data["labels"] == ["s", "b"]
    assert "group" not in data
    before = Path("params.yaml").read_bytes()
    assert run(file, typed="\n\n\n\nn\n").exit_code == 1  # the system prompt is that of params.yaml
    assert Path("params.yaml").read_bytes() == before


def test_data_that_validate_refuses_leave_params_written(project: Path, tmp_path: Path) -> None:
    result = run(table(tmp_path / "mine.csv", messages(12)), "--yes")
    assert isinstance(result.exception, FinetuneError)
    assert "too_few_examples" in str(result.exception)
    assert "params.yaml is written. After a correction, run: dvc repro validate" in str(result.exception)
    assert values()["data"]["file"] == "data/raw/mine.csv"


JA = [
    {"番号": n, "顧客ID": f"K{n % 40}", "質問": f"{q}ですか？", "回答": f"{a}です。"}
    for n, (q, a) in enumerate(zip(texts(160, JAPANESE, 9, ""), texts(160, JAPANESE, 12, ""), strict=True))
]
KO = [{"문의 내용": f"{text} {n}", "담당": ("배송팀", "결제팀")[n % 2]} for n, text in enumerate(texts(120, KOREAN))]
RECIPES = [
    {"recipe": text, "ingredients": json.dumps(sorted({text.split()[n % 9], "salt"}))}
    for n, text in enumerate(texts(120, length=24))
]


@pytest.mark.parametrize(
    ("rows", "task", "question", "answer", "group"),
    [
        (JA, "generate", "{質問}", "{回答}", "顧客ID"),
        (KO, "classify", "{문의 내용}", "{담당}", None),
        (RECIPES, "extract", "{recipe}", "{ingredients}", None),
    ],
    ids=["Japanese", "Korean", "lists"],
)
@pytest.mark.parametrize(
    "suffix",
    [".csv", ".xlsx", *(pytest.param(s, marks=pytest.mark.slow) for s in (".tsv", ".jsonl", ".json", ".csv.gz"))],
)
def test_files_of_every_type_and_language_are_taken(
    project: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    rows: Rows,
    task: str,
    question: str,
    answer: str,
    group: str | None,
    suffix: str,
) -> None:
    import pandas as pd

    if suffix != ".csv":  # one of them is enough to prepare and to validate
        monkeypatch.setattr("finetune.commands.init.prepare_and_validate", lambda: None)
    file = tmp_path / f"データ{suffix}"
    frame = pd.DataFrame(rows)
    if suffix == ".xlsx":
        frame.to_excel(file, index=False)
    elif suffix == ".tsv":
        frame.to_csv(file, index=False, sep="\t", quoting=csv.QUOTE_ALL)
    elif suffix == ".csv.gz":
        file.write_bytes(gzip.compress(frame.to_csv(index=False).encode()))
    elif suffix == ".csv":
        frame.to_csv(file, index=False)
    elif suffix == ".jsonl":
        lines(file, rows)
    else:
        file.write_text(json.dumps(rows, ensure_ascii=False), encoding="utf-8")
    done(file)
    data = values()["data"]
    assert values()["evaluate"]["task"] == task
    assert (data["prompt"]["user"], data["prompt"]["assistant"]) == (question, answer)
    assert data.get("group") == group


@pytest.mark.parametrize(
    ("rows", "task", "labels"),
    [
        (
            [
                {
                    "messages": [
                        {"role": "user", "content": text},
                        {"role": "assistant", "content": ("yes", "no")[n % 2]},
                    ]
                }
                for n, text in enumerate(texts(90))
            ],
            "classify",
            ["no", "yes"],
        ),
        (
            [
                {"conversations": [{"from": "human", "value": text}, {"from": "gpt", "value": text[::-1]}]}
                for text in texts(90)
            ],
            "generate",
            [],
        ),
        ([{"instruction": text, "input": "", "output": text.upper()[:70]} for text in texts(90)], "generate", []),
        (
            [{"prompt": text, "completion": ("good", "bad")[n % 2]} for n, text in enumerate(texts(90))],
            "classify",
            ["bad", "good"],
        ),
    ],
    ids=["messages", "sharegpt", "alpaca", "completion"],
)
def test_rows_of_a_known_format_need_no_prompt(
    project: Path, tmp_path: Path, rows: Rows, task: str, labels: list[str]
) -> None:
    done(lines(tmp_path / "chat.jsonl", rows))
    data = values()["data"]
    assert not {"prompt", "format"} & set(data)
    assert (values()["evaluate"]["task"], data["labels"]) == (task, labels)


def test_the_options_replace_parts_of_the_proposal(project: Path, tmp_path: Path) -> None:
    rows = [{"a": text, "b": text[::-1], "c": f"c{n % 2}", "d": f"x{n % 20}"} for n, text in enumerate(texts(100))]
    file = lines(tmp_path / "mine.jsonl", rows)
    done(
        file,
        "--question",
        "b",
        "--question",
        "a",
        "--answer",
        "c",
        "--task",
        "generate",
        "--group",
        "d",
        "--system",
        "",
    )
    data = values()["data"]
    assert data["prompt"] == {"user": "b: {b}\na: {a}", "assistant": "{c}"}
    assert (values()["evaluate"]["task"], data["group"], data["labels"]) == ("generate", "d", [])
    assert run(file, "--task", "sort", "--yes").exit_code == 2
    for options, words in (
        (("--answer", "e"), "has no column 'e' for the answer"),
        (("--question", "e"), "has no column 'e' for the question"),
        (("--question", "c", "--answer", "c"), "'c' is the answer"),
        (("--group", "e"), "has no column 'e' for the group"),
        (("--question", "a", "--question", "b", "--question", "c", "--question", "d"), "has no question and answer"),
        (("--answer", "a", "--question", "b", "--task", "classify"), None),
    ):
        result = run(file, *options, "--dry-run")
        if words:
            assert words in str(result.exception)
        else:
            assert result.exit_code == 0


def test_a_sheet_can_be_chosen(project: Path, tmp_path: Path) -> None:
    import pandas as pd

    file = tmp_path / "book.xlsx"
    with pd.ExcelWriter(file) as book:
        pd.DataFrame({"read": ["me"]}).to_excel(book, sheet_name="about", index=False)
        pd.DataFrame(messages()).to_excel(book, sheet_name="データ", index=False)
    done(file, "--sheet", "データ")
    assert values()["data"]["sheet"] == "データ"
    done(Path("data/raw/book.xlsx"))  # the sheet of params.yaml
    assert values()["data"]["sheet"] == "データ"


def test_a_file_of_one_column_is_refused(project: Path, tmp_path: Path) -> None:
    file = tmp_path / "lines.txt"
    file.write_text("\n".join(texts(30)), encoding="utf-8")
    result = run(file, "--yes")
    assert "has no question and answer: it is plain text" in str(result.exception)
    assert not Path("data/raw").exists()


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
    from finetune.core.params import Split
    from finetune.data.file_look import FileLook
    from finetune.data.propose_settings import split_of

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
    ],
)
def test_the_kind_of_a_column(cells: list[str], kind: str) -> None:
    column = Column("x")
    for cell in cells:
        column.add(cell)
    assert column.kind == kind


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


def test_marks_of_completions_are_no_part_of_classes(project: Path, tmp_path: Path) -> None:
    rows = [{"prompt": f"{row['message']} ->", "completion": f" {row['team']}\n"} for row in messages()]
    done(lines(tmp_path / "legacy.jsonl", rows))
    assert (values()["evaluate"]["task"], values()["data"]["labels"]) == ("classify", ["sales", "billing"])
    report = json.loads(Path("reports/prepare.json").read_text(encoding="utf-8"))
    assert report["found_marks"]["separator"] == " ->"


def test_classes_have_no_spaces_at_their_ends_and_two_spellings_are_said(project: Path, tmp_path: Path) -> None:
    names = ("Billing", "billing", "Billing ", "delivery")
    rows = [{"text": text, "label": names[n % 4]} for n, text in enumerate(texts(160))]
    file = table(tmp_path / "mine.csv", rows)
    assert "'Billing' and 'billing' differ only in case or width" in done(file)
    assert values()["data"]["labels"] == ["Billing", "billing", "delivery"]
    report = json.loads(Path("reports/prepare.json").read_text(encoding="utf-8"))
    assert report["labels_trimmed"] == 40


def trained_by(provider: str, base: str) -> None:
    """Set the provider and the base, which the project's template was asked for."""
    found = values()
    found["provider"] |= {"name": provider, "base_url": None}
    found["train"] |= {"base": base, "training_type": None}
    Path("params.yaml").write_text(
        edit_yaml(Path("params.yaml").read_text(encoding="utf-8"), found, {}), encoding="utf-8"
    )


def in_the_form_of_the_api(text: str) -> dict[str, Any]:
    return {
        "input": {"messages": [{"role": "user", "content": text}]},
        "preferred_output": [{"role": "assistant", "content": text[::-1]}],
        "non_preferred_output": [{"role": "assistant", "content": text[1:]}],
    }


def pairs_by_names(text: str) -> dict[str, Any]:
    return {"prompt": text, "chosen": text[::-1], "rejected": text[1:]}


@pytest.mark.parametrize("row_of", [in_the_form_of_the_api, pairs_by_names])
def test_preferences_are_proposed_for_dpo(project: Path, tmp_path: Path, row_of: Any) -> None:
    trained_by("local", "SmolLM2-135M-Instruct")
    printed = done(lines(tmp_path / "pairs.jsonl", [row_of(text) for text in texts(120)]))
    found = values()
    assert "each row has a preferred answer and another one" in printed
    assert found["train"]["method"] == "dpo"
    assert found["train"]["replay"] is None
    assert found["data"]["labels"] == []
    assert "prompt" not in found["data"]
    assert found["evaluate"]["task"] == "generate"
    assert found["evaluate"]["require"] == {"preferences.margin_low": "> 0", "also.general.kept": "== 1"}
    assert json.loads(Path("data/prepared/checked.json").read_text(encoding="utf-8"))["method"] == "dpo"
    done(table(tmp_path / "mine.csv", messages()))
    assert values()["train"]["method"] == "supervised"
    assert "lift.accuracy_low" in values()["evaluate"]["require"]


def test_preferences_are_refused_where_the_provider_cannot_train_on_them(project: Path, tmp_path: Path) -> None:
    trained_by("nebius", "meta-llama/Llama-3.1-8B-Instruct")
    before = Path("params.yaml").read_bytes()
    result = run(lines(tmp_path / "pairs.jsonl", [pairs_by_names(text) for text in texts(40)]), "--yes")
    assert "'nebius' does not support train.method 'dpo'" in str(result.exception)
    assert (Path("params.yaml").read_bytes(), Path("data/raw").exists()) == (before, False)


def test_preferences_are_no_classes(tmp_path: Path) -> None:
    rows = [{"prompt": text, "chosen": "yes", "rejected": "no"} for text in texts(40)]
    assert proposed(rows, tmp_path).task == "generate"
    with pytest.raises(FinetuneError, match="cannot have the task classify"):
        proposed(rows, tmp_path, task="classify")


def test_rows_without_an_answer_are_said_with_the_proposal(tmp_path: Path) -> None:
    rows = [{**row, "team": row["team"] if n % 10 else ""} for n, row in enumerate(messages())]
    assert proposed(rows, tmp_path).reasons["answer"] == "its name; 12 rows have no answer, which `prepare` refuses"


@pytest.mark.parametrize("count", [60, *(pytest.param(count, marks=pytest.mark.slow) for count in (150, 200, 300))])
def test_prepare_names_no_better_seed_after_init(project: Path, tmp_path: Path, count: int) -> None:
    result = run(table(tmp_path / "mine.csv", messages(count)), "--yes")
    assert result.exit_code == 0
    assert "with `seed:" not in result.stderr
    assert values()["data"]["split"].get("seed") != 0


def test_a_group_and_shares_of_params_stay_for_the_same_file(project: Path, tmp_path: Path) -> None:
    file = table(tmp_path / "mine.csv", [{**row, "city": f"city {n % 30}"} for n, row in enumerate(messages(200))])
    done(file, "--group", "city")
    text = Path("params.yaml").read_text(encoding="utf-8")
    split = values()["data"]["split"]
    text = text.replace(f"train: {split['train']:.2f}", "train: 0.60").replace(
        f"test: {split['test']:.2f}", "test: 0.30"
    )
    Path("params.yaml").write_text(text, encoding="utf-8")
    assert values()["data"]["split"] != split
    assert "nothing has changed" in done(Path("data/raw/mine.csv"))
    assert Path("params.yaml").read_text(encoding="utf-8") == text


def test_the_former_columns_and_texts_are_the_default_for_the_same_file(project: Path, tmp_path: Path) -> None:
    file = table(tmp_path / "mine.csv", [{**row, "mood": ("good", "bad")[n % 2]} for n, row in enumerate(messages())])
    done(file, "--answer", "mood")
    text = Path("params.yaml").read_text(encoding="utf-8").replace('user: "{message}"', 'user: "It says: {message}"')
    Path("params.yaml").write_text(text, encoding="utf-8")
    assert "nothing has changed" in done(Path("data/raw/mine.csv"))
    assert Path("params.yaml").read_text(encoding="utf-8") == text
    run(Path("data/raw/mine.csv"), "--question", "team", "--yes")
    prompt = values()["data"]["prompt"]
    assert (prompt["user"], prompt["system"]) == ("{team}", "Classify the team. Answer with one of: bad, good.")


def test_a_new_class_is_in_the_system_prompt_after_a_second_run(project: Path, tmp_path: Path) -> None:
    done(table(tmp_path / "mine.csv", messages()))
    more = [{"message": f"new {text}", "team": "legal"} for text in texts(20)]
    table(Path("data/raw/mine.csv"), messages() + more)
    done(Path("data/raw/mine.csv"))
    data = values()["data"]
    assert data["labels"] == ["sales", "billing", "legal"]
    assert data["prompt"]["system"] == "Classify the message. Answer with one of: sales, billing, legal."


def test_the_former_system_prompt_is_not_kept_for_another_answer(project: Path, tmp_path: Path) -> None:
    file = table(tmp_path / "mine.csv", [{**row, "mood": ("good", "bad")[n % 2]} for n, row in enumerate(messages())])
    done(file)
    assert values()["data"]["prompt"]["system"].endswith("sales, billing.")
    done(Path("data/raw/mine.csv"), "--answer", "mood")
    assert values()["data"]["prompt"]["system"] == "Classify the message. Answer with one of: bad, good."


def test_an_accepted_answer_stays_when_the_question_is_chosen(
    project: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("finetune.commands.init.is_terminal", lambda: True)
    rows = [{**row, "priority": f"p{n % 3}"} for n, row in enumerate(messages())]
    result = run(table(tmp_path / "mine.csv", rows), typed="\nmessage, team\nmessage\n\n\n\ny\n")
    assert "The column 'team' is the answer, so it cannot be in the question." in result.stderr
    assert values()["data"]["prompt"]["assistant"] == "{team}"


@pytest.mark.parametrize(("typed", "code"), [("\n", 130), ("\n\n\n\n\nn\n", 1)])
def test_a_dialogue_that_is_left_says_that_nothing_was_written(
    project: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, typed: str, code: int
) -> None:
    monkeypatch.setattr("finetune.commands.init.is_terminal", lambda: True)
    before = Path("params.yaml").read_bytes()
    result = run(table(tmp_path / "mine.csv", messages()), typed=typed)
    assert result.exit_code == code
    assert result.stdout.endswith("init: nothing was written\n")
    assert Path("params.yaml").read_bytes() == before


@pytest.mark.parametrize(
    ("names", "warns"),
    [
        (("the lamp came broken and the shop is shut.", "we are sorry to hear that."), True),
        (("今日の荷物はまだ届きません。", "申し訳ございません。"), True),
        (("What went wrong?", "What did we answer?"), False),
        (("question", "answer"), False),
    ],
)
def test_a_first_line_that_looks_like_a_row_is_said(
    project: Path, tmp_path: Path, names: tuple[str, str], warns: bool
) -> None:
    rows = [dict(zip(names, (text, text[::-1]), strict=True)) for text in texts(40)]
    result = run(table(tmp_path / "mine.csv", rows), "--dry-run")
    assert ("looks like a row, not like the names of its columns" in result.stderr) == warns


def test_the_sheets_of_a_workbook_are_named_where_the_first_one_has_no_data(project: Path, tmp_path: Path) -> None:
    import pandas as pd

    file = tmp_path / "book.xlsx"
    with pd.ExcelWriter(file) as book:
        pd.DataFrame({"read": ["me"]}).to_excel(book, sheet_name="about", index=False)
        pd.DataFrame(messages()).to_excel(book, sheet_name="data", index=False)
    assert "choose another sheet with --sheet NAME: data." in str(run(file, "--yes").exception)


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


YAML_TEXT = """\
# top
a: # beside a
  # above x
  x: 1 # beside x

  # above y
  y: >-
    two
    lines
  # above z
  z: [1, 2]
  # at the end of a

b: {q: 1, r: "<= 2"} # beside b
# the end
"""


def test_yaml_is_changed_line_by_line() -> None:
    own = YAML(typ="safe").load(YAML_TEXT)
    assert edit_yaml(YAML_TEXT, own) == YAML_TEXT
    own["a"] = {"x": 2, "new": None, "z": ["은", "yes", "1"]}
    own["b"] = {"q": 5}
    assert edit_yaml(YAML_TEXT, own, {"a.new": "about new"}).splitlines() == [
        "# top",
        "a: # beside a",
        "  # above x",
        "  x: 2  # beside x",
        "  # about new",
        "  new: null",
        "",
        "  # above z",
        '  z: [은, "yes", "1"]',
        "  # at the end of a",
        "",
        "b: {q: 5}  # beside b",
        "# the end",
    ]


def test_yaml_that_cannot_be_changed_line_by_line_is_refused() -> None:
    with pytest.raises(FinetuneError, match="cannot be changed"):
        edit_yaml("a: &x {b: 1}\nc:\n  <<: *x\n  d: 1\n", {"a": 3, "c": {"d": 2}})


VALUE = st.recursive(
    st.none() | st.booleans() | st.integers(-9, 9) | st.text(st.characters(codec="utf-8", exclude_categories=["C"])),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from("pqrs"), inner, max_size=3),
    max_leaves=6,
)
SECTIONS = st.dictionaries(
    st.sampled_from("abcd"), st.dictionaries(st.sampled_from("klmn"), VALUE, min_size=1), min_size=1
)


@settings(deadline=None, max_examples=150)
@given(SECTIONS, SECTIONS)
def test_edited_yaml_has_the_new_values_and_the_comments_of_the_keys_that_stay(
    old: dict[str, Any], new: dict[str, Any]
) -> None:
    text = "".join(
        f"# about {name}\n{name}:\n"
        + "".join(f"  # about {name}.{key}\n  {key}: {json.dumps(v)}\n" for key, v in part.items())
        for name, part in old.items()
    )
    edited = edit_yaml(text, new)
    assert YAML(typ="safe").load(edited) == new
    for name, part in old.items():
        assert (f"# about {name}\n" in edited) == (name in new)
        for key in part:
            assert (f"# about {name}.{key}\n" in edited) == (key in new.get(name, {}))


ODD = ("message, text", "message.text", "message: text", "# message", "message\ntext", 'message\'s "text"', "[message]")


@pytest.mark.parametrize("name", [ODD[0], *(pytest.param(one, marks=pytest.mark.slow) for one in ODD[1:])])
def test_columns_may_have_any_name_without_braces(project: Path, tmp_path: Path, name: str) -> None:
    rows = [{"id": f"x{n}", name: text, "te.am, x": ("sales", "billing")[n % 2]} for n, text in enumerate(texts(100))]
    file = table(tmp_path / "odd.csv", rows)
    done(file, "--question", name, "--answer", "te.am, x")
    data = load_params().data
    assert data.prompt is not None
    assert (data.prompt.user, data.prompt.assistant) == (f"{{{name}}}", "{te.am, x}")
    written = (project / "data" / "prepared" / "train.jsonl").read_text(encoding="utf-8").splitlines()
    asked = {json.loads(line)["messages"][-2]["content"] for line in written}
    assert asked <= {row[name] for row in rows}


def test_names_with_commas_can_be_typed(project: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("finetune.commands.init.is_terminal", lambda: True)
    rows = [{"a, b": text, "c": text[::-1], "team": ("x", "y")[n % 2]} for n, text in enumerate(texts(100))]
    result = run(table(tmp_path / "mine.csv", rows), typed="team\nc,a, b\n\n\n\ny\n")
    assert result.exit_code == 0, result.output
    data = load_params().data
    assert data.prompt is not None
    assert data.prompt.user == "c: {c}\na, b: {a, b}"


def test_a_column_with_braces_is_refused_by_its_name(project: Path, tmp_path: Path) -> None:
    rows = [{"{message}": text, "team": ("x", "y")[n % 2]} for n, text in enumerate(texts(100))]
    refused = run(table(tmp_path / "mine.csv", rows), "--yes")
    assert "cannot name the column '{message}'" in str(refused.exception)
