"""`finetune check` in a project: it knows the labels, the splits and the base, and can read what `prepare` wrote."""

import json
import os
from pathlib import Path
from typing import Any

import pytest
from ruamel.yaml import YAML
from typer.testing import CliRunner, Result

from finetune.cli import app
from finetune.core.disk import write_json
from finetune.core.errors import FinetuneError
from finetune.core.paths import PREPARED, PREPARED_REPORT, REPLAY, TEST_ROWS, TRAIN_GROUPS
from finetune.data.checks.project_files import expand
from finetune.data.split import SPLITS

ROOT = Path(__file__).parents[1]
TEAMS = ["delivery", "billing"]
THINGS = ["lamp", "kettle", "ladder", "mirror", "candle", "bicycle", "carpet", "window", "table", "clock"]


def example(number: int, answer: str) -> dict[str, Any]:
    asked = f"Where is the {THINGS[number % 10]} {number * number * 7919} that I ordered in week {number}?"
    return {"messages": [{"role": "user", "content": asked}, {"role": "assistant", "content": answer}]}


def write(path: Path, examples: list[Any]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(one) + "\n" for one in examples), encoding="utf-8")
    return path


def check(*arguments: str, code: int = 0) -> Result:
    done = CliRunner().invoke(app, ["check", *arguments])
    assert done.exit_code == code, (done.output, done.exception)
    return done


@pytest.fixture(autouse=True)
def _folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def _project() -> None:
    """Write a project with prepared data, and the other files that stages write beside the splits."""
    auto = dict.fromkeys(("n_epochs", "batch_size", "learning_rate_multiplier"), "auto")
    shares = {"train": 0.7, "valid": 0.1, "test": 0.2}
    also = {"general": {"file": "data/also/general.jsonl", "task": "classify", "margin": 0.1}}
    values = {
        "data": {"file": "raw.csv", "split": shares, "labels": TEAMS},
        "provider": {"name": "openai"},
        "train": {"base": "gpt-4.1-mini-2025-04-14", "method": "supervised", "seed": 1, **auto},
        "evaluate": {"max_tokens": 6, "temperature": 0.0, "concurrency": 8, "also": also},
    }
    YAML().dump(values, Path("params.yaml"))
    write_json(PREPARED_REPORT, {"codes": {}, "completion": None, "abstain": "nobody"})
    for split, numbers in (("train", range(60)), ("valid", range(60, 66)), ("test", range(70, 78))):
        write(PREPARED / f"{split}.jsonl", [example(n, TEAMS[n % 2]) for n in numbers])
    write(PREPARED / "test_rows.jsonl", [{"group": n} for n in range(8)])
    for name in ("checked", "questions", "training"):
        write_json(PREPARED / f"{name}.json", {"server": name})
    write_json(PREPARED / "common_pieces.json", {"asked": [], "context": []})
    REPLAY.touch()  # no rows are mixed in


@pytest.mark.usefixtures("_project")
@pytest.mark.parametrize("arguments", [["data/prepared"], sorted(["test_rows.jsonl", "train.jsonl", "test.jsonl"])])
def test_files_beside_the_splits_are_left_out_by_name(arguments: list[str]) -> None:
    done = check(*(one if "/" in one else f"data/prepared/{one}" for one in arguments))
    assert "check: not checked, for no training file: " in done.stderr
    assert "data/prepared/test_rows.jsonl" in done.stderr
    assert "0 errors" in done.stdout
    assert "not_an_object" not in done.stdout
    assert ("74 examples" if arguments == ["data/prepared"] else "68 examples") in done.stdout


def test_every_file_that_the_stages_write_beside_the_splits_is_known() -> None:
    stages = YAML(typ="safe").load((ROOT / "dvc.yaml").read_text(encoding="utf-8"))["stages"].values()
    outs = [str(path) for stage in stages for path in stage.get("outs", ())]
    written = {Path(path).name for path in outs if path.startswith("data/prepared/")}
    others = written - {f"{split}.jsonl" for split in SPLITS} - {REPLAY.name}
    assert all(name in (TEST_ROWS.name, TRAIN_GROUPS.name) or name.endswith(".json") for name in others)


@pytest.mark.parametrize("command", ["check", "estimate", "doubtful"])
@pytest.mark.parametrize("name", ["mine.csv", "mine.TSV", "mine.xlsx"])
def test_a_table_is_refused_with_the_command_that_takes_it(command: str, name: str) -> None:
    Path(name).write_text("message,team\n", encoding="utf-8")
    arguments = [command, name, *(["--base", "gpt-4.1-mini-2025-04-14"] if command == "estimate" else [])]
    failed = CliRunner().invoke(app, arguments).exception
    assert isinstance(failed, FinetuneError)
    assert failed.what == f"{name} is a table, not a training file in JSON Lines."
    assert f"finetune init {name}" in failed.remedy


@pytest.mark.usefixtures("_project")
def test_only_other_files_is_an_error_that_names_them() -> None:
    failed = check("data/prepared/test_rows.jsonl", code=1).exception
    assert isinstance(failed, FinetuneError)
    assert "no training file: data/prepared/test_rows.jsonl." in failed.what
    Path("data/prepared/train.jsonl").unlink()
    Path("empty").mkdir()
    assert isinstance(check("empty", code=1).exception, FinetuneError)


@pytest.mark.usefixtures("_project")
def test_labels_base_method_and_splits_come_from_the_project() -> None:
    rows = [example(n, TEAMS[n % 2]) for n in range(60)]
    rows[3]["messages"][-1]["content"] = "sales"
    rows[4]["messages"][-1]["content"] = "nobody"  # the answer to unanswerable rows
    rows[5] = example(72, "billing")
    rows[6]["messages"][0]["content"] += " word" * 70_000
    write(PREPARED / "train.jsonl", rows)
    done = check("data/prepared/train.jsonl", "--format", "json", code=1)
    found = {(f["code"], f["line"]) for f in json.loads(done.stdout)["findings"] if f["severity"] == "error"}
    assert found == {("unknown_label", 4), ("leak", 6), ("too_long", 7)}
    said = (
        "from params.yaml: method supervised, base gpt-4.1-mini-2025-04-14, the classes of data.labels, data/prepared/"
    )
    assert said in done.stderr
    assert "train.jsonl compared with data/prepared/valid.jsonl and data/prepared/test.jsonl." in done.stderr
    other = write(Path("other.jsonl"), rows[:40])  # not a split: compared with nothing
    codes = {f["code"] for f in json.loads(check(str(other), "--format", "json", code=1).stdout)["findings"]}
    assert "unknown_label" in codes
    assert "leak" not in codes


@pytest.mark.usefixtures("_project")
@pytest.mark.parametrize("near", [0.95, "off"])
def test_splits_are_as_near_as_the_project_says(near: float | str) -> None:
    """As validate compares them."""
    rows = [example(n, TEAMS[n % 2]) for n in range(60)]
    rows[5] = example(72, "delivery")
    rows[5]["messages"][0]["content"] += " Thanks!"
    write(PREPARED / "train.jsonl", rows)
    assert "near_leak" in check("data/prepared", code=1).stdout
    values = YAML().load(Path("params.yaml"))
    values["data"]["near"] = near
    YAML().dump(values, Path("params.yaml"))
    assert "near_leak" not in check("data/prepared").stdout


@pytest.mark.usefixtures("_project")
def test_an_empty_validation_split_is_left_out() -> None:
    write(PREPARED / "valid.jsonl", [])
    done = check("data/prepared")
    assert "valid.jsonl (empty)" in done.stderr
    assert "each split compared with the others" in done.stderr
    assert "68 examples" in done.stdout


@pytest.mark.usefixtures("_project")
def test_a_leak_between_two_of_the_files_is_found_once() -> None:
    write(PREPARED / "train.jsonl", [example(n, TEAMS[n % 2]) for n in [*range(59), 72]])
    found = json.loads(check("data/prepared", "--format", "json", code=1).stdout)["findings"]
    assert [(f["file"], f["line"]) for f in found if f["code"] == "leak"] == [("data/prepared/train.jsonl", 60)]


@pytest.mark.usefixtures("_project")
def test_a_regression_set_has_answers_of_its_own() -> None:
    path = write(Path("data/also/general.jsonl"), [example(n, f"answer {n}") for n in range(12)])
    assert "unknown_label" not in check(str(path)).output


@pytest.mark.usefixtures("_project")
def test_codes_and_marks_of_completions_are_known() -> None:
    marks = {"separator": " ->", "lead": " ", "stop": " END"}
    write_json(PREPARED_REPORT, {"codes": {"delivery": "0", "billing": "1"}, "completion": marks})
    rows = [{"prompt": f"{THINGS[n % 10]} {n * n} ->", "completion": f" {n % 2} END"} for n in range(30)]
    write(PREPARED / "train.jsonl", rows)
    assert "unknown_label" not in check("data/prepared/train.jsonl").output
    rows[2]["completion"] = " 2 END"
    write(PREPARED / "train.jsonl", rows)
    assert "unknown_label" in check("data/prepared/train.jsonl", code=1).output
    own = write(Path("own.jsonl"), [example(n, TEAMS[n % 2]) for n in range(12)])
    assert "unknown_label" not in check(str(own)).output


@pytest.mark.usefixtures("_project")
def test_options_override_the_project_and_its_mistakes_are_named() -> None:
    done = check("data/prepared/train.jsonl", "--against", "data/prepared/test.jsonl", "--base", "gpt-4o-2024-08-06")
    assert "compared with data/prepared/test.jsonl." in done.stderr
    assert "base" not in done.stderr
    Path("params.yaml").write_text(Path("params.yaml").read_text(encoding="utf-8") + "nonsense: 1\n", encoding="utf-8")
    assert "unknown key 'nonsense'" in str(check("data/prepared/train.jsonl", code=1).exception)


def test_outside_a_project_nothing_is_known() -> None:
    Path("params.yaml").write_text("learning_rate: 0.1\n", encoding="utf-8")  # of another tool
    path = write(Path("train.jsonl"), [example(n, f"answer {n}") for n in range(12)])
    done = check(str(path))
    assert done.stderr == ""
    assert "unknown_label" not in done.output


@pytest.mark.parametrize("name", ["a.csv", "a.xlsx", "a.jsonl.gz"])
def test_a_table_is_no_training_file(name: str) -> None:
    with pytest.raises(FinetuneError, match=r"not a training file in JSON Lines\.") as caught:
        expand([Path(name)])
    assert f"finetune init {name}" in str(caught.value)


@pytest.mark.parametrize(
    ("name", "content", "what"),
    [
        ("packed.jsonl", b"\x1f\x8b\x08\x00", "compressed"),
        ("sheet.jsonl", b"PK\x03\x04\x14\x00\n\n", "a workbook"),
        ("parquet.jsonl", b"PAR1\x15\x04\n", "a Parquet file"),
    ],
)
def test_a_file_of_another_kind_is_one_mistake(name: str, content: bytes, what: str) -> None:
    Path(name).write_bytes(content)
    assert [one["message"] for one in json.loads(check(name, "--format", "json", code=1).stdout)["findings"]] == [
        f"the file is {what}, not JSON Lines"
    ]


def test_what_is_no_file_is_an_error_in_one_sentence(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    for name in ("-", "pipe"):
        assert str(check(name, code=1).exception).startswith(f"Cannot check {name}: it is not a file.")


def test_another_split_that_cannot_be_read_is_no_silent_pass() -> None:
    rows = [example(number, "yes") for number in range(30)]
    write(Path("train.jsonl"), rows)
    Path("list.json").write_text(json.dumps(rows), encoding="utf-8")
    assert "error not_compared" in check("train.jsonl", "--against", "list.json", code=1).stdout
    Path("part.jsonl").write_text('{"messages": [\n' + json.dumps(example(99, "no")) + "\n", encoding="utf-8")
    partly = check("train.jsonl", "--against", "part.jsonl").stdout
    assert "warning not_compared: not compared with 1 line of part.jsonl" in partly


def test_a_folder_can_be_the_other_split() -> None:
    Path("other").mkdir()
    for path in (Path("train.jsonl"), Path("other/test.jsonl")):
        write(path, [example(number, "yes") for number in range(30)])
    assert (
        "error leak: the same question as other/test.jsonl:1"
        in check("train.jsonl", "--against", "other", code=1).stdout
    )


def test_a_base_whose_context_is_not_known_is_said() -> None:
    write(Path("train.jsonl"), [example(number, "yes") for number in range(30)])
    assert "the training context of gpt-99 is not known" in check("train.jsonl", "--base", "gpt-99").stderr
    assert "is not known" not in check("train.jsonl", "--base", "gpt-4o-2024-08-06").stderr


def test_a_printed_dict_is_named() -> None:
    Path("a.jsonl").write_text("{'messages': []}\n", encoding="utf-8")
    assert "a dict as Python prints it, not JSON" in check("a.jsonl", code=1).stdout


@pytest.mark.usefixtures("_project")
def test_a_method_that_the_provider_does_not_train_is_refused_before_the_files_are_checked() -> None:
    values = YAML().load(Path("params.yaml").read_text(encoding="utf-8"))
    values["data"]["labels"], values["train"]["method"], values["provider"]["name"] = [], "dpo", "nebius"
    YAML().dump(values, Path("params.yaml"))
    done = CliRunner().invoke(app, ["check", "data/prepared/train.jsonl"])
    assert isinstance(done.exception, FinetuneError)
    assert "'nebius' does not support train.method 'dpo'" in str(done.exception)
