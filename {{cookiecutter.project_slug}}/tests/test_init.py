"""`finetune init`: from a file of one's own to prepared and checked data, with the comments of params.yaml kept."""

import csv
import gzip
import json
from pathlib import Path
from typing import Any

import pytest
from init_project import Rows, done, lines, messages, project, run, table, texts, values
from ruamel.yaml import YAML

from finetune.commands.init_dialogue import shortened
from finetune.core.errors import FinetuneError
from finetune.core.params import load_params
from finetune.core.yaml_edit import edit_yaml

__all__ = ["project"]
JAPANESE = "荷物 注文 請求 返金 画面 住所 窓 机 椅子 配送 支払い 領収書 電話 今日 明日 市 庭 川 橋 山"
KOREAN = "배송 주문 청구 환불 화면 로그인 주소 창문 책상 의자 오늘 내일 전화 영수증 결제 도시 거리 정원"


def comments(text: str) -> list[str]:
    return [line.strip() for line in text.splitlines() if line.strip().startswith("#")]


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
    assert "warning: the classes 'Billing' and 'billing' differ only in case" in run(file, "--yes").stderr
    assert values()["data"]["labels"] == ["Billing", "billing", "delivery"]
    report = json.loads(Path("reports/prepare.json").read_text(encoding="utf-8"))
    assert report["labels_trimmed"] == 40


@pytest.mark.parametrize("names", [("2", "2.0"), ("1", "01")])
def test_two_spellings_of_a_number_are_said_by_init_and_counted_by_validate(
    project: Path, tmp_path: Path, names: tuple[str, str]
) -> None:
    rows = [{"text": text, "label": (*names, "other")[n % 3]} for n, text in enumerate(texts(160))]
    result = run(table(tmp_path / "mine.csv", rows), "--yes")
    assert f"warning: the classes {names[0]!r} and {names[1]!r} differ only in" in result.stderr
    assert "1 class_spelling" in result.stdout


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


TEAMS = [("sales", "billing", "delivery")[n % 3] for n in range(40)]
SENTENCE = "where can I find the work that you offer"
SURVEY = "In your own words, what is your question to our team?"


@pytest.mark.parametrize(
    ("names", "columns", "warns"),
    [
        ((SENTENCE, "careers"), (texts(40), TEAMS), True),  # a class of one row
        (("ticket", SENTENCE, "careers"), ([f"T-{n}" for n in range(40)], texts(40), TEAMS), False),
        (("where is it?", "careers"), ([f"{text}?" for text in texts(40)], TEAMS), True),
        (("where is it?", "careers"), (texts(40), TEAMS), False),
        (("2026-01-02", SENTENCE, "careers"), ([f"2026-02-{n % 20 + 1}" for n in range(40)], texts(40), TEAMS), True),
        (("荷物13が届きません。早くお願いします", "採用"), (texts(40, JAPANESE), TEAMS), True),
        (("lamp", "high", "careers"), (texts(40), ["high", "low"] * 20, TEAMS), True),
        (("Timestamp", SURVEY, "area"), ([f"2026-02-{n % 20 + 1}" for n in range(40)], texts(40), TEAMS), False),
        ((SURVEY, "Area"), (texts(40), TEAMS), False),  # the classes begin with small letters
        ((SURVEY, "Which team answers?"), (texts(40), TEAMS), False),
        ((SURVEY, "area"), (texts(40, length=5), TEAMS), False),  # longer than each cell
        ((SURVEY, "label"), (texts(40), TEAMS), False),
        (("message", "Sales, if you bought something from us"), (texts(40), texts(40, length=12)), False),
        (("text", "2019", "area"), (texts(40), [str(n * 7 % 50) for n in range(40)], TEAMS), False),
        (("0", "1"), (texts(40), TEAMS), False),  # as pandas names columns
    ],
)
def test_one_name_like_a_cell_is_enough_where_no_other_is_surely_a_name(
    project: Path, tmp_path: Path, names: tuple[str, ...], columns: tuple[list[str], ...], warns: bool
) -> None:
    rows = [dict(zip(names, cells, strict=True)) for cells in zip(*columns, strict=True)]
    result = run(table(tmp_path / "mine.csv", rows), "--answer", names[-1], "--dry-run")
    assert result.exit_code == 0, result.exception
    assert ("looks like a row, not like the names of its columns" in result.stderr) == warns


@pytest.mark.parametrize(
    ("name", "ids", "refused"),
    [
        ("T-0000", [f"T-{n:04}" for n in range(1, 41)], True),
        ("T-9", [f"T-{n}" for n in range(10, 50)], True),
        ("a1b2", [f"{n:04x}" for n in range(0x1234, 0x1234 + 40)], True),
        ("0", [str(n) for n in range(1, 41)], True),
        ("2019", [str(n) for n in range(1, 41)], False),
        ("id", [str(n) for n in range(1, 41)], False),
        ("order2", [f"T-{n:04}" for n in range(1, 41)], False),
    ],
)
def test_a_name_that_goes_on_with_the_ids_is_refused(
    project: Path, tmp_path: Path, name: str, ids: list[str], refused: bool
) -> None:
    cells = zip(ids, texts(40), TEAMS, strict=True)
    rows = [{name: one, "Where is it": text, "careers": team} for one, text, team in cells]
    file = table(tmp_path / "mine.csv", rows)
    error = run(file, "--dry-run").exception
    words = f"mine.csv has no line with the names of its columns: {name!r} in the first line is like the cells below"
    assert (words in str(error)) == refused
    assert run(file, "--answer", "careers", "--dry-run").exit_code == 0


def set_reading(**keys: str) -> None:
    own = values()
    own["data"] |= keys
    YAML().dump(own, Path("params.yaml"))


def caret_table(path: Path, rows: Rows) -> Path:
    cells = [[*rows[0]], *([*row.values()] for row in rows)]
    path.write_text("".join("^".join(map(str, row)) + "\n" for row in cells), encoding="utf-8")
    return path


def test_an_unknown_delimiter_is_named_and_then_read(project: Path, tmp_path: Path) -> None:
    rows = messages()
    file = caret_table(tmp_path / "mine.csv", rows)
    words = "if another character separates the cells, set data.delimiter in params.yaml to it"
    assert words in str(run(file, "--yes").exception)
    with_commas = caret_table(tmp_path / "commas.csv", [{**row, "message": f"{row['message']}, now"} for row in rows])
    with_commas.write_text(with_commas.read_text(encoding="utf-8") + "lamp^sales\n", encoding="utf-8")
    assert words.capitalize() in str(run(with_commas, "--yes").exception)
    set_reading(delimiter="^")
    assert f"init: {file} is read with what params.yaml says: data.delimiter '^'." in done(file)
    assert (values()["data"]["delimiter"], values()["data"]["labels"]) == ("^", ["sales", "billing"])
    assert "is read with what params.yaml says" not in done(Path("data/raw/mine.csv"))
    assert values()["data"]["delimiter"] == "^"
    set_reading(delimiter="^^")
    assert "'data.delimiter': string should have at most 1 character, not '^^'" in str(run(file, "--yes").exception)


def test_quoting_and_encoding_of_params_are_used(
    project: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("finetune.commands.init.prepare_and_validate", lambda: None)
    rows = [(f'"{text}"', ("café", "naïf")[n % 2]) for n, text in enumerate(texts(120))]
    file = tmp_path / "mine.csv"
    file.write_text("message,team\n" + "".join(f"{text},{team}\n" for text, team in rows), encoding="cp1252")
    set_reading(quoting="none", encoding="cp1252")
    assert shortened(rows[0][0]) in done(file)  # with its quotes
    assert values()["data"]["labels"] == ["café", "naïf"]
    assert (values()["data"]["quoting"], values()["data"]["encoding"]) == ("none", "cp1252")


def test_utf8_is_not_read_in_the_encoding_of_a_former_file(
    project: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("finetune.commands.init.prepare_and_validate", lambda: None)
    set_reading(encoding="cp1252", delimiter=",")
    rows = [{**row, "team": ("café", "naïf")[n % 2]} for n, row in enumerate(messages())]
    done(table(tmp_path / "mine.csv", rows))
    data = values()["data"]
    assert (data["labels"], data["delimiter"], "encoding" in data) == (["café", "naïf"], ",", False)
    set_reading(encoding="cp1252")  # for this file, it holds
    assert "CSV, encoding cp1252" in done(Path("data/raw/mine.csv"))
    done(lines(tmp_path / "mine.jsonl", rows))
    assert not {"delimiter", "quoting"} & set(values()["data"])


def test_the_sheets_of_a_workbook_are_named_where_the_first_one_has_no_data(project: Path, tmp_path: Path) -> None:
    import pandas as pd

    file = tmp_path / "book.xlsx"
    with pd.ExcelWriter(file) as book:
        pd.DataFrame({"read": ["me"]}).to_excel(book, sheet_name="about", index=False)
        pd.DataFrame(messages()).to_excel(book, sheet_name="data", index=False)
    assert "choose another sheet with --sheet NAME: data." in str(run(file, "--yes").exception)


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
