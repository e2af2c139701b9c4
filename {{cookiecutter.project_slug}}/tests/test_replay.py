"""train.replay: which rows of general chat are taken, where they are mixed in, and what must not see them."""

import csv
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from loopback import completion, server
from ruamel.yaml import YAML
from typer.testing import CliRunner

from finetune.cli import app
from finetune.core.disk import read_jsonl, write_json, write_jsonl
from finetune.core.errors import FinetuneError
from finetune.core.params import Params, load_params
from finetune.core.paths import PREPARED, REPLAY
from finetune.core.profiles import PROFILES
from finetune.core.records.answers import Prediction
from finetune.core.records.checks import ValidationReport
from finetune.core.sections.evaluate import Also
from finetune.data.identity import question_of
from finetune.data.near_duplicates import near_duplicates_of
from finetune.project.job_request import fingerprint_now
from finetune.provider.training_file import source, source_of, uploaded_split
from finetune.report.lineage_facts import lineage_facts
from finetune.scoring.margin_checks import fewest_rows
from finetune.scoring.regression_sets import score_set
from finetune.stages import prepare, validate
from finetune.terminal.summaries import replay_lines

ROOT = Path(__file__).parents[1]
SHIPPED = ROOT / "data" / "replay" / "general.jsonl"
OWN_ANSWERS = ROOT / "data" / "replay" / "SmolLM2-135M-Instruct.jsonl"
THINGS = ["parcel", "kettle", "ladder", "carpet", "window", "mirror", "garden", "bottle", "camera", "pillow", "saddle"]
PLACES = ["Oslo", "Lima", "Kyoto", "Quito", "Perth", "Nairobi", "Busan", "Lyon", "Graz", "Porto", "Turku", "Malmo"]
TEAMS = ["delivery", "billing"]
ASKED_ALSO = "Which sea lies to the north of the long and sandy coast between the cities of Gdynia and Klaipeda?"


def chat(question: str, answer: str, system: str = "") -> dict[str, Any]:
    before = [{"role": "system", "content": system}] if system else []
    turns = [{"role": "user", "content": question}, {"role": "assistant", "content": answer}]
    return {"messages": [*before, *turns]}


def task_question(n: int) -> str:
    thing, other = THINGS[n % 11], THINGS[(n * 5 + n // 11) % 11]
    return f"{PLACES[n % 12]} order {n * 7919}: the {thing} came {n}{n} days late, the {other} is not in box {n * 31}"


def general(n: int) -> dict[str, Any]:
    words = f"{PLACES[n % 12]} {THINGS[(n * 3 + n // 12) % 11]} {n * n * 17} {PLACES[(n * 5 + n // 7) % 12]}"
    return chat(f"Please tell me a story about {words}", f"Once upon a time, {n} of them.")


@pytest.fixture(autouse=True)
def _project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Make a project with 120 rows of a task, a regression set, and 60 rows of general chat."""
    monkeypatch.chdir(tmp_path)
    rows = [{"message": task_question(n), "team": TEAMS[n % 2]} for n in range(120)]
    write_table(Path("data/raw/messages.csv"), rows)
    write_jsonl(Path("data/also/general.jsonl"), [chat(ASKED_ALSO, "Baltic", "One word.")])
    write_jsonl(Path("data/replay/own.jsonl"), [general(n) for n in range(60)])


def write_table(path: Path, rows: list[dict[str, str]]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with open(path, "w", encoding="utf-8", newline="") as out:
        writer = csv.DictWriter(out, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)


def params(
    replay: dict[str, Any] | None = None,
    provider: dict[str, Any] | None = None,
    base: str = "gpt-4.1-mini-2025-04-14",
    **data: Any,
) -> Params:
    """Write params.yaml, and return its values."""
    values = {
        "data": {
            "file": "data/raw/messages.csv",
            "prompt": {"system": "Name the team.", "user": "{message}", "assistant": "{team}"},
            "labels": TEAMS,
            "split": {"train": 0.7, "valid": 0.1, "test": 0.2},
            **data,
        },
        "provider": provider or {"name": "openai"},
        "train": {"base": base, "method": "supervised", "seed": 1, "n_epochs": 2}
        | dict.fromkeys(("batch_size", "learning_rate_multiplier"), "auto"),
        "evaluate": {"max_tokens": 5, "temperature": 0.0, "concurrency": 8}
        | {"also": {"general": {"file": "data/also/general.jsonl", "task": "classify", "margin": 0.1}}},
    }
    if replay is not None:
        values["train"]["replay"] = {"file": "data/replay/own.jsonl", **replay}
    YAML().dump(values, Path("params.yaml"))
    return load_params()


def run(replay: dict[str, Any] | None = None, say: Callable[[str], None] = print, **data: Any) -> ValidationReport:
    """Run prepare and validate, and return the report of validate."""
    values = params(replay, **data)
    prepare.run(values, workers=1)
    return validate.run(values, say=say)


def replayed() -> list[str]:
    return [question_of(row).asked for row in read_jsonl(REPLAY, "validate")]


def uploaded(name: str = "openai") -> bytes:
    with uploaded_split("train", PROFILES[name]) as path:
        return path.read_bytes()


def test_without_replay_the_training_file_is_uploaded_as_it_is() -> None:
    report = run()
    assert REPLAY.read_bytes() == b""
    assert "replay" not in report
    assert uploaded() == (PREPARED / "train.jsonl").read_bytes()
    before = fingerprint_now(load_params())
    REPLAY.unlink()  # a project of an earlier version
    assert fingerprint_now(load_params()) == before
    run({"share": 0.0})
    assert fingerprint_now(load_params()) == before


def test_the_share_is_that_of_the_uploaded_rows_and_every_example_is_accounted_for() -> None:
    report = run({"share": 0.2})
    found, train = report["replay"], report["examples"]["train"]
    assert found["rows"] == found["wanted"] == round(train / 4)
    assert found["share"] == pytest.approx(0.2, abs=0.01)
    assert found["examples"] == 60 == found["rows"] + found["not_needed"]
    lines = uploaded().splitlines()
    assert len(lines) == train + found["rows"]
    train_lines = (PREPARED / "train.jsonl").read_bytes().splitlines()
    assert [line for line in lines if line in set(train_lines)] == train_lines  # in their order
    assert sorted(set(lines) - set(train_lines)) == sorted(REPLAY.read_bytes().splitlines())
    assert uploaded("azure").startswith(b"\xef\xbb\xbf") is PROFILES["azure"].byte_order_mark


def test_the_same_seed_takes_the_same_rows_in_any_order_of_the_file() -> None:
    run({"share": 0.2})
    first, fingerprint = REPLAY.read_bytes(), fingerprint_now(load_params())
    run({"share": 0.2})
    assert (REPLAY.read_bytes(), fingerprint_now(load_params())) == (first, fingerprint)
    write_jsonl(Path("data/replay/own.jsonl"), [general(n) for n in reversed(range(60))])
    run({"share": 0.2})
    assert REPLAY.read_bytes() == first
    run({"share": 0.2, "seed": 1})
    assert REPLAY.read_bytes() != first
    assert fingerprint_now(load_params()) != fingerprint


def test_a_larger_share_keeps_the_rows_of_a_smaller_one() -> None:
    run({"share": 0.1})
    fewer = replayed()
    run({"share": 0.3})
    assert replayed()[: len(fewer)] == fewer


def test_replay_rows_stand_evenly_among_the_training_rows() -> None:
    places = [source(line, 8, 2) for line in range(1, 11)]
    assert [line for line, (path, _) in enumerate(places, 1) if path == REPLAY] == [5, 10]
    assert [number for path, number in places if path != REPLAY] == list(range(1, 9))
    run({"share": 0.2})
    files = {path: path.read_bytes().splitlines() for path in (PREPARED / "train.jsonl", REPLAY)}
    for number, line in enumerate(uploaded().splitlines(), 1):
        path, place = source_of(number)
        assert files[path][place - 1] == line  # so a line that the provider names is found


def test_the_account_is_told_and_too_few_rows_are_a_warning() -> None:
    report = run({"share": 0.6})
    found = report["replay"]
    assert (found["rows"], found["not_needed"]) == (60, 0)
    assert found["wanted"] > 60
    assert found["share"] < 0.6
    account, warning = replay_lines(report)
    assert account.startswith("validate: 60 examples of data/replay/own.jsonl = 60 replay rows (")
    assert f"train.replay.share needs {found['wanted']} rows" in warning


def test_copies_and_what_the_project_asks_are_left_out() -> None:
    run()
    test = question_of(read_jsonl(PREPARED / "test.jsonl", "prepare")[0]).asked
    train = question_of(read_jsonl(PREPARED / "train.jsonl", "prepare")[0]).asked
    own = [general(n) for n in range(60)]
    own += [general(3), chat(test, "x"), chat(test + "!!!", "x"), chat(train, "x")]
    own += [chat(ASKED_ALSO.upper(), "The Baltic Sea"), chat(ASKED_ALSO.replace("north", "West"), "x", "Be brief.")]
    write_jsonl(Path("data/replay/own.jsonl"), own)
    report = run({"share": 0.6})
    found = report["replay"]
    assert {key: found[key] for key in ("duplicate", "same_question", "near_duplicate", "rows")} == {
        "duplicate": 1,
        "same_question": 3,
        "near_duplicate": 2,
        "rows": 60,
    }
    assert {question_of(row).asked for row in own[61:]}.isdisjoint(replayed())
    run({"share": 0.6}, near="off")
    assert test + "!!!" in replayed()
    write_jsonl(Path("data/replay/own.jsonl"), [chat(test, "x")])
    with pytest.raises(FinetuneError, match="has no row that the project does not ask already"):
        run({"share": 0.2})


def test_the_task_does_not_see_the_replay_rows() -> None:
    """Splits, floors, classes, few-shot examples, doubtful answers and the tables stay as they are."""
    run()
    task_files = [*PREPARED.glob("*.jsonl"), Path("reports/labels.csv"), PREPARED / "questions.json"]
    before = {path: path.read_bytes() for path in task_files if path != REPLAY}
    warnings = run({"share": 0.3})["warnings"]
    assert {path: path.read_bytes() for path in before} == before
    assert "unknown_label" not in warnings
    assert "system_differs" not in warnings
    assert "replay" in Path("reports/tokens.csv").read_text(encoding="utf-8")
    assert "Once upon a time" not in Path("reports/data.html").read_text(encoding="utf-8")


def test_replay_rows_are_paid_for() -> None:
    alone, mixed = run(), run({"share": 0.3})
    assert mixed["train_tokens_per_epoch"] > alone["train_tokens_per_epoch"]
    assert mixed["planned"]["billed_tokens"] == 2 * mixed["train_tokens_per_epoch"]
    assert mixed["planned"]["train_usd"] > alone["planned"]["train_usd"]  # type: ignore[operator]
    assert mixed["evaluate_usd_at_most"] == alone["evaluate_usd_at_most"]


TABLE = [{"q": question_of(general(n)).asked, "a": f"answer {n}"} for n in range(40)]


@pytest.mark.parametrize("name", ["own.csv", "own.tsv", "own.xlsx", "alpaca.json", "sharegpt.jsonl", "latin.csv"])
def test_any_file_that_can_be_read_is_taken(name: str) -> None:
    path = Path("data/replay") / name
    prompt = {"user": "{q}", "assistant": "{a}"} if name.startswith(("own", "latin")) else None
    if name == "alpaca.json":
        path.write_text(json.dumps([{"instruction": r["q"], "output": r["a"]} for r in TABLE]), encoding="utf-8")
    elif name == "sharegpt.jsonl":
        turns = [[{"from": "human", "value": r["q"]}, {"from": "gpt", "value": r["a"]}] for r in TABLE]
        write_jsonl(path, [{"conversations": one} for one in turns])
    elif name == "own.xlsx":
        import openpyxl

        book = openpyxl.Workbook()
        for row in [list(TABLE[0]), *([*r.values()] for r in TABLE)]:
            book.active.append(row)
        book.save(path)
    else:
        lines = [";".join(TABLE[0]), *(";".join([r["q"] + " für Österreich", r["a"]]) for r in TABLE)]
        mark = "\t" if name == "own.tsv" else ";"
        encoding = "cp1252" if name == "latin.csv" else "utf-8"
        path.write_text("\n".join(lines).replace(";", mark), encoding=encoding)
    report = run({"file": str(path), "share": 0.2} | ({"prompt": prompt} if prompt else {}))
    assert report["replay"]["examples"] == 40
    assert len(replayed()) == report["replay"]["rows"] > 0
    assert all("Please tell me a story" in asked for asked in replayed())


def test_a_file_that_cannot_be_read_is_told_with_the_keys_of_replay() -> None:
    write_table(Path("data/replay/table.csv"), TABLE)
    with pytest.raises(FinetuneError, match="rows are of no known format; their keys are a, q") as raised:
        run({"file": "data/replay/table.csv", "share": 0.2})
    assert raised.value.remedy.startswith("Write a template under train.replay.prompt")
    with pytest.raises(FinetuneError, match=r"train\.replay: There is no file data/replay/none\.jsonl") as raised:
        run({"file": "data/replay/none.jsonl", "share": 0.2})
    assert "train.replay.file" in raised.value.remedy
    with pytest.raises(FinetuneError, match=r"train\.replay mixes in chat"):
        validate.run(params({"share": 0.2}, target="completion"))
    with pytest.raises(FinetuneError, match=r"train\.replay\.share"):
        params({"share": 1.0})


def test_a_file_elsewhere_is_a_warning_and_its_personal_data_are_replaced() -> None:
    rows = [chat(f"{question_of(general(n)).asked} for anna.meier{n}@lumen-oak.de", "Yes.") for n in range(40)]
    write_jsonl(Path("elsewhere.jsonl"), rows)
    said: list[str] = []
    run({"file": "elsewhere.jsonl", "share": 0.2}, said.append, redact=["email"])
    assert any("train.replay: elsewhere.jsonl is outside data/replay" in line for line in said)
    assert "lumen-oak.de" not in REPLAY.read_text(encoding="utf-8")


def test_check_and_the_lineage_know_the_replay_rows() -> None:
    run({"share": 0.2})
    done = CliRunner().invoke(app, ["check", "data/prepared"])
    assert done.exit_code == 0, done.output
    assert "replay.jsonl" not in done.stdout.replace("system_differs", "")
    write_json(Path("models/files.json"), {"train": {"id": "file-1", "sha256": "0", "replay": 21}})
    record: Any = {"model": "m", "base": "b", "job": "j", "hyperparameters": {}, "seed": 1, "fingerprint": "f"}
    prepared: Any = {"train": 84, "valid": 12, "test": 24}
    facts = lineage_facts(record, json.loads(Path("models/files.json").read_text(encoding="utf-8")), prepared)
    assert facts["examples"] == "84 train, 12 valid, 24 test, 21 replay"


def test_the_shipped_rows_are_of_many_kinds_and_ask_nothing_of_the_regression_set() -> None:
    rows = [json.loads(line) for line in SHIPPED.read_text(encoding="utf-8").splitlines()]
    also = (ROOT / "data/also/general.jsonl").read_text(encoding="utf-8").splitlines()
    asked = [question_of(row).asked for row in rows]
    assert 150 <= len(set(asked)) == len(rows) <= 300
    assert near_duplicates_of(asked, [question_of(json.loads(line)).asked for line in also], 0.7) == {}
    assert near_duplicates_of([a.lower() for a in asked], [row["messages"][-1]["content"] for row in rows]) == {}
    own = [json.loads(line) for line in OWN_ANSWERS.read_text(encoding="utf-8").splitlines()]
    assert {question_of(row) for row in own} < {question_of(row) for row in rows}
    assert len(own) > 200
    systems = {row["messages"][0]["content"] for row in rows if row["messages"][0]["role"] == "system"}
    assert "Answer with one word." not in systems  # that of the regression set
    assert sum(not text.isascii() for text in asked) > 50


ANSWERED: Prediction = {"asked": "", "expected": "a", "answer": "a", "prompt_tokens": 1, "completion_tokens": 1}


@pytest.mark.parametrize(("margin", "fewest"), [(0.1, 35), (0.05, 73), (0.5, 4)])
def test_fewer_rows_than_the_margin_needs_are_a_warning(margin: float, fewest: int) -> None:
    for rows, kept in ((fewest - 1, False), (fewest, True)):
        found: list[Prediction] = [ANSWERED for _ in range(rows)]
        settings = Also(file="data/also/general.jsonl", task="classify", margin=margin)
        assert bool(score_set(settings, found, found)["kept"]) is kept
        examples = [chat(f"Which of the {PLACES[n % 12]} towns is number {n * 77}?", "a") for n in range(rows)]
        write_jsonl(Path("data/also/general.jsonl"), examples)
        values = params()
        values.evaluate.also["general"] = settings
        said: list[str] = []
        prepare.run(values, workers=1)
        validate.run(values, say=said.append)
        told = [line for line in said if line.startswith("warning: evaluate.also.general")]
        assert len(told) == (not kept)
        assert all(f"has {rows} rows" in line and f"at least {fewest} rows" in line for line in told)


def test_a_margin_of_0_is_a_warning() -> None:
    assert fewest_rows(0.0) is None
    values, said = params(), list[str]()
    values.evaluate.also["general"] = Also(file="data/also/general.jsonl", task="classify", margin=0.0)
    prepare.run(values, workers=1)
    validate.run(values, say=said.append)
    assert any("evaluate.also.general.margin is 0" in line for line in said)


ANSWERS = {
    "Hello!": ("Hello! How can I", "length"),
    "Where is Oslo?": ("Oslo is in", "length"),
    "What is 2 + 2?": (" 4 ", "stop"),
    "東京は？": ("東京です。首都", "length"),
}


def test_the_bases_own_answers_are_written_in_whole_sentences(monkeypatch: pytest.MonkeyPatch) -> None:
    """They keep the system prompt of their question, and can be used as they are."""
    asked: list[dict[str, Any]] = []

    def reply(body: dict[str, Any]) -> Any:
        asked.append(body)
        text, reason = ANSWERS[body["messages"][-1]["content"]]
        return 200, completion(text, finish_reason=reason), {}

    write_jsonl(Path("data/replay/general.jsonl"), [chat(q, "by a person", "Be brief.") for q in ANSWERS])
    monkeypatch.setenv("FINETUNE_HOME", str(Path("home").resolve()))
    monkeypatch.setenv("FINETUNE_API_KEY", "a-key-of-the-test")
    with server(reply) as address:
        values = params(provider={"name": "compatible", "base_url": address})
        done = CliRunner().invoke(app, ["replay", "--max-tokens", "30"])
        assert done.exit_code == 0, done.output
        file = "data/replay/gpt-4.1-mini-2025-04-14.jsonl"
        assert f"replay: 3 answers of {values.train.base} to 4 questions in {file}" in done.stdout
        assert CliRunner().invoke(app, ["replay", "--max-tokens", "30"]).exit_code == 0
    assert len(asked) == 5  # one request finds out which model answers now
    assert {body["model"] for body in asked} == {values.train.base}
    assert all(body["temperature"] == 0 and len(body["messages"]) == 2 for body in asked)
    written = [one["messages"] for one in read_jsonl(Path(file), "replay")]
    assert [one[-1]["content"] for one in written] == ["Hello!", "4", "東京です。"]
    assert all(one[0] == {"role": "system", "content": "Be brief."} for one in written)
    with pytest.raises(FinetuneError, match=r"has the answers of gpt-4\.1-mini-.*, but train\.base is another-base"):
        run({"file": file, "share": 0.02}, base="another-base")
    said: list[str] = []
    run({"file": file, "share": 0.02}, said.append, base="another-base", provider={"name": "local"})
    assert any("warning: train.replay: " in line and "finetune replay" in line for line in said)
    assert run({"file": file, "share": 0.02})["replay"]["examples"] == 3
    assert "answered_by" not in REPLAY.read_text(encoding="utf-8")


def test_the_answers_never_replace_the_questions() -> None:
    params()
    write_jsonl(Path("data/replay/general.jsonl"), [general(1)])
    done = CliRunner().invoke(app, ["replay", "-o", "data/replay/general.jsonl"])
    assert done.exit_code == 2
    assert "another file than FILE" in done.output
