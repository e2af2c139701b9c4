"""`finetune predict`: each row is written in its place, with the answer or the reason why there is none."""

import csv
import gzip
import json
from collections.abc import Callable, Iterator
from itertools import count
from pathlib import Path
from typing import Any

import pytest
from loopback import completion, refusal, server
from ruamel.yaml import YAML
from typer.testing import CliRunner, Result

from finetune.cli import app
from finetune.core.disk import write_json
from finetune.core.errors import FinetuneError
from finetune.core.params import load_params
from finetune.core.paths import MODEL, PREPARED, PREPARED_REPORT
from finetune.data.cell_map import cell_map_of
from finetune.data.completion_format import CompletionFormat
from finetune.data.prompts import fingerprint_of
from finetune.project.job_request import fingerprint_now

PROMPT = {"system": "One word.", "user": "{message}", "assistant": "{team}"}
ROWS = [{"message": f"message {number}", "note": 'a "b", c'} for number in range(30)]

Body = dict[str, Any]


class Provider:
    """A server that answers with `reply` (a text, or a status and a body), and the requests that it got."""

    def __init__(self) -> None:
        self.asked: list[Body] = []
        self.reply: Callable[[Body], Any] = lambda body: f" {question_of(body)}! "

    def answer(self, body: Body) -> tuple[int, Body, dict[str, str]]:
        self.asked.append(body)
        found = self.reply(body)
        return (200, completion(found), {}) if isinstance(found, str) else (*found, {})


def question_of(body: Body) -> str:
    return str(body["messages"][-1]["content"])


@pytest.fixture
def provider(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Provider]:
    """Yield the provider of a project in the current folder."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("FINETUNE_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("FINETUNE_API_KEY", "a-key-of-the-test")
    found = Provider()
    with server(found.answer) as address:
        write_json(MODEL, {"model": "ft", "prompt": fingerprint_of(PROMPT)})
        write_params(address=address)
        yield found


def write_params(data: dict[str, Any] | None = None, address: str = "", **evaluate: Any) -> None:
    """Write params.yaml; without an address, the former one is kept."""
    address = address or YAML().load(Path("params.yaml"))["provider"]["base_url"]
    shares = {"train": 0.7, "valid": 0.1, "test": 0.2}
    auto = dict.fromkeys(("n_epochs", "batch_size", "learning_rate_multiplier"), "auto")
    values = {
        "data": {"file": "raw.csv", "split": shares, **({"prompt": PROMPT} if data is None else data)},
        "provider": {"name": "compatible", "base_url": address},
        "train": {"base": "the-base", "method": "supervised", "seed": 1, **auto},
        "evaluate": {"task": "generate", "max_tokens": 6, "temperature": 0.0, "concurrency": 8, **evaluate},
    }
    YAML().dump(values, Path("params.yaml"))


def predict(*arguments: str, code: int = 0) -> Result:
    done = CliRunner().invoke(app, ["predict", *arguments])
    assert done.exit_code == code, (done.output, done.exception)
    return done


def write_rows(name: str, rows: list[dict[str, Any]]) -> None:
    """Write rows in the format of the file's suffix."""
    import pandas as pd

    path, table = Path(name), pd.DataFrame(rows)
    if path.suffix == ".xlsx":
        table.to_excel(path, index=False)
    elif path.suffix == ".json":
        path.write_text(json.dumps(rows), encoding="utf-8")
    elif path.suffix == ".jsonl":
        path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    else:
        text = table.to_csv(index=False, sep="\t" if ".tsv" in name else ",")
        path.write_bytes(gzip.compress(text.encode()) if path.suffix == ".gz" else text.encode())


def read_rows(name: str) -> list[dict[str, Any]]:
    if name.endswith(".jsonl"):
        return [json.loads(line) for line in Path(name).read_text(encoding="utf-8").splitlines()]
    with open(name, encoding="utf-8", newline="") as lines:
        return list(csv.DictReader(lines))


@pytest.mark.parametrize(
    ("name", "output"),
    [
        ("new.csv", "new.predicted.csv"),
        ("new.tsv.gz", "new.predicted.csv"),
        ("new.xlsx", "new.predicted.csv"),
        ("new.json", "new.predicted.jsonl"),
        ("new.jsonl", "new.predicted.jsonl"),
    ],
)
def test_rows_of_any_format_are_kept_in_order_with_their_answers(provider: Provider, name: str, output: str) -> None:
    write_rows(name, ROWS)
    assert f"30 answers of ft in {output}" in predict(name).output
    assert read_rows(output) == [{**row, "answer": row["message"] + "!", "error": ""} for row in ROWS]
    asked = next(body for body in provider.asked if question_of(body) == "message 3")
    assert asked["messages"] == [
        {"role": "system", "content": "One word."},
        {"role": "user", "content": "message 3"},
    ]
    assert {body["model"] for body in provider.asked} == {"ft"}


def test_any_model_can_be_asked_and_rows_can_be_written_to_standard_output(provider: Provider) -> None:
    write_rows("new.csv", ROWS[:2])
    done = predict("new.csv", "--output", "-", "--model", "base")
    assert [json.loads(line)["answer"] for line in done.stdout.splitlines()] == ["message 0!", "message 1!"]
    predict("new.csv", "--model", "another", "-o", "answers/all.jsonl")
    assert len(read_rows("answers/all.jsonl")) == 2
    assert [body["model"] for body in provider.asked] == ["the-base"] * 2 + ["another"] * 2
    predict("new.csv", "-o", "answers.xlsx", code=2)
    predict("new.csv", "-o", "./new.csv", code=2)
    predict("missing.csv", code=2)


def test_a_row_without_an_answer_has_the_reason(provider: Provider) -> None:
    provider.reply = lambda body: (400, refusal("content_filter", "Not this.")) if "2" in question_of(body) else "yes"
    write_rows("new.jsonl", [{"message": "1"}, {"message": " "}, {"message": "2"}, {"other": "x"}, {"message": "3"}])
    done = predict("new.jsonl")
    assert "3 of 5 rows have no answer. The first, row 2: no question: message is empty" in done.stderr
    rows = read_rows("new.predicted.jsonl")
    assert [row["answer"] for row in rows] == ["yes", "", "", "", "yes"]
    assert [row["error"] for row in rows] == [
        "",
        "no question: message is empty",
        "400 content_filter: Not this.",
        "no question: message is empty",
        "",
    ]


def test_numbers_are_asked_and_written_as_the_file_has_them(provider: Provider) -> None:
    Path("new.jsonl").write_text('{"message": 10.50, "more": [1e3, {"a": 1.0}]}\n', encoding="utf-8")
    predict("new.jsonl")
    assert question_of(provider.asked[0]) == "10.50"
    assert (
        Path("new.predicted.jsonl")
        .read_text(encoding="utf-8")
        .startswith('{"message": 10.50, "more": [1e3, {"a": 1.0}], "answer": ')
    )
    assert predict("new.jsonl", "-o", "-").stdout.startswith('{"message": 10.50, "more": [1e3, ')


def test_blank_rows_have_their_row_of_answers(provider: Provider) -> None:
    Path("new.csv").write_text("message,note\na,\n,\nb,\n,\n", encoding="utf-8")
    predict("new.csv")
    assert [row["answer"] for row in read_rows("new.predicted.csv")] == ["a!", "", "b!", ""]


def test_nothing_is_written_if_no_row_has_an_answer(provider: Provider) -> None:
    provider.reply = lambda body: (400, refusal("content_filter", "Not this."))
    write_rows("new.csv", ROWS[:3])
    assert "Not this." in str(predict("new.csv", code=1).exception)
    write_rows("other.csv", [{"text": "hello"}])
    mistake = str(predict("other.csv", code=1).exception)
    assert "'message', which other.csv lacks" in mistake
    assert "text" in mistake
    write_rows("empty.csv", [{"message": ""}])
    assert "row 1: no question: message is empty" in str(predict("empty.csv", code=1).exception)
    assert not list(Path().glob("*.predicted.*"))


def test_columns_of_the_file_are_never_overwritten(provider: Provider) -> None:
    write_rows("new.csv", [{"message": "hello", "answer": "the truth", "predicted_answer": "of last time"}])
    predict("new.csv")
    (row,) = read_rows("new.predicted.csv")
    assert row["answer"] == "the truth"
    assert row["predicted_answer"] == "of last time"
    assert row["predicted_predicted_answer"] == "hello!"
    assert row["error"] == ""


def test_a_stopped_run_continues_where_it_stopped(provider: Provider) -> None:
    write_rows("new.csv", ROWS)
    turn = count()
    provider.reply = lambda body: "yes" if next(turn) < 12 else (401, refusal("invalid_api_key"))
    predict("new.csv", code=1)
    assert not Path("new.predicted.csv").exists()
    provider.asked.clear()
    provider.reply = lambda body: "yes"
    predict("new.csv")
    assert 18 <= len(provider.asked) <= 18 + 8  # requests in flight at the stop may be sent again
    assert {row["answer"] for row in read_rows("new.predicted.csv")} == {"yes"}


@pytest.mark.parametrize(
    ("row", "asked"),
    [
        ({"messages": [{"role": "user", "content": "hi"}]}, ["hi"]),
        ({"messages": [{"role": "user", "content": "hi"}, {"role": "assistant", "content": "yes"}]}, ["hi"]),
        (
            {
                "messages": [
                    {"role": "system", "content": "be kind"},
                    {"role": "user", "content": "hi"},
                    {"role": "assistant", "content": "ho", "weight": 0},
                    {"role": "user", "content": "and?"},
                ]
            },
            ["be kind", "hi", "ho", "and?"],
        ),
        ({"conversations": [{"from": "human", "value": "hi"}, {"from": "gpt", "value": "ho"}]}, ["hi"]),
        ({"conversations": [{"from": "human", "value": "hi"}, {"from": "gpt", "value": ""}]}, ["hi"]),
        ({"instruction": "Translate.", "input": "chat"}, ["Translate.\n\nchat"]),
        ({"prompt": "hi"}, ["hi"]),
    ],
)
def test_a_row_may_have_its_own_conversation(provider: Provider, row: dict[str, Any], asked: list[str]) -> None:
    if "messages" not in row:
        write_params({})  # with a template, only rows with `messages` have their own prompt
    write_rows("new.jsonl", [row])
    predict("new.jsonl")
    assert [message["content"] for message in provider.asked[0]["messages"]] == asked
    assert all(message.keys() == {"role", "content"} for message in provider.asked[0]["messages"])
    (written,) = read_rows("new.predicted.jsonl")
    assert written == {**row, "answer": asked[-1] + "!", "error": ""}


def test_a_table_may_have_messages_in_its_cells(provider: Provider) -> None:
    write_params({})
    given = json.dumps([{"role": "user", "content": "hi"}])
    write_rows("new.csv", [{"messages": given}, {"messages": "[]"}, {"messages": '["hi"]'}])
    predict("new.csv")
    first, *others = read_rows("new.predicted.csv")
    assert first == {"messages": given, "answer": "hi!", "error": ""}
    assert all(row["error"] and not row["answer"] for row in others)


def test_cells_are_mapped_as_for_the_training(provider: Provider) -> None:
    prompt = {"user": "{question.text}\n{choices}\n{lang}", "assistant": "{answer}"}
    cell_map: dict[str, Any] = {"choices": "lettered", "lang": {"ko": "Korean"}, "answer": {0: "A", 1: "B"}}
    write_params({"prompt": prompt, "map": cell_map})
    write_json(MODEL, {"model": "ft", "prompt": fingerprint_of(prompt | {"system": None}, cell_map_of(cell_map))})
    rows: list[dict[str, Any]] = [
        {"question": {"text": "치즈?"}, "choices": ["브리", "oak"], "lang": "ko"},
        {"question": {"text": "치즈?"}, "choices": ["브리", "oak"], "lang": "en", "answer": 7},
        {"question": {"text": "치즈?"}, "choices": "브리", "lang": "ko"},
    ]
    write_rows("new.jsonl", rows)
    predict("new.jsonl")
    assert [question_of(body) for body in provider.asked] == ["치즈?\nA. 브리\nB. oak\nKorean"]
    found = read_rows("new.predicted.jsonl")
    assert [row["error"] for row in found] == [
        "",
        "data.map.lang does not list the value 'en'",
        "choices is not a list, nor JSON of one",
    ]
    assert [row["choices"] for row in found] == [row["choices"] for row in rows]
    write_params({"prompt": prompt, "map": {**cell_map, "lang": {"ko": "한국어"}}})
    assert "not the prompt that this model was trained with" in str(predict("new.jsonl", code=1).exception)


def test_a_row_that_cannot_be_asked_exactly_has_the_reason(provider: Provider) -> None:
    write_params({})
    turn = {"messages": [{"role": "user", "content": "hi"}]}
    write_rows("new.jsonl", [{**turn, "images": ["a.png"]}, {**turn, "label": False}, {**turn, "tool_choice": "none"}])
    predict("new.jsonl")
    errors = [row["error"] for row in read_rows("new.predicted.jsonl")]
    assert ["images" in errors[0], errors[1], "tool_choice" in errors[2]] == [True, "", True]


def test_answers_keep_their_white_space_if_those_of_the_training_have_some(provider: Provider) -> None:
    provider.reply = lambda body: "    return x\n"
    write_rows("new.jsonl", ROWS[:1])
    for report, answer in (({}, "return x"), ({"white_space_kept": 3}, "    return x\n")):
        write_json(PREPARED_REPORT, report)
        predict("new.jsonl")
        assert read_rows("new.predicted.jsonl")[0]["answer"] == answer


def test_classes_found_by_prepare_are_read_from_answers(provider: Provider) -> None:
    write_params({"prompt": PROMPT, "labels": "auto"}, task="classify")
    write_json(PREPARED_REPORT, {"labels": ["billing", "delivery"]})
    provider.reply = lambda body: " DELIVERY."
    write_rows("new.jsonl", ROWS[:1])
    predict("new.jsonl")
    assert read_rows("new.predicted.jsonl")[0]["answer"] == "delivery"
    write_json(PREPARED_REPORT, {})
    assert "dvc repro prepare" in str(predict("new.jsonl", code=1).exception)


def with_logprobs(text: str, shares: dict[str, float]) -> tuple[int, Body]:
    """Return an answer of one token with the log-probabilities of its alternatives."""
    tops = [{"token": token, "logprob": value, "bytes": None} for token, value in shares.items()]
    logprobs = {"content": [{"token": text, "logprob": shares[text], "bytes": None, "top_logprobs": tops}]}
    return 200, completion(text, logprobs=logprobs)


def test_classes_are_read_from_answers_and_written_with_their_confidence(provider: Provider) -> None:
    write_params({"prompt": PROMPT, "labels": ["delivery", "billing"]}, task="classify")
    answers = {"1": with_logprobs("Billing", {"Billing": -0.5, "delivery": -2.0}), "2": "DELIVERY.", "3": "who knows"}
    provider.reply = lambda body: answers[question_of(body)]
    write_rows("new.csv", [{"message": "1"}, {"message": "2"}, {"message": "3"}, {"message": ""}])
    predict("new.csv")
    rows = read_rows("new.predicted.csv")
    assert [row["answer"] for row in rows] == ["billing", "delivery", "who knows", ""]
    assert [row["confidence"] for row in rows] == ["0.8176", "", "", ""]  # 1 / (1 + exp(-1.5))
    assert list(rows[0]) == ["message", "answer", "confidence", "P(delivery)", "P(billing)", "outside", "error"]


def test_the_probability_of_each_class_is_a_column_and_the_rest_is_outside(provider: Provider) -> None:
    """As the degree of a sentiment: what the answer alone does not tell."""
    labels = ["negative", "positive", "outside"]
    write_params({"prompt": PROMPT, "labels": labels}, task="classify")
    provider.reply = lambda body: with_logprobs("positive", {"positive": -0.3, "negative": -1.8, "well": -3.0})
    write_rows("new.jsonl", [{"message": "fine", "P(positive)": "mine"}, {"message": ""}])
    done = predict("new.jsonl")
    row, failed = read_rows("new.predicted.jsonl")
    assert row["P(positive)"] == "mine"
    assert (row["predicted_P(positive)"], row["P(negative)"], row["P(outside)"]) == (0.7408, 0.1653, 0.0)
    assert row["outside"] == pytest.approx(1 - 0.7408 - 0.1653, abs=1e-4)  # also at most that of the unseen class
    assert row["confidence"] == pytest.approx(0.7408 / (0.7408 + 0.1653), abs=1e-3)
    assert (failed["predicted_P(positive)"], failed["outside"]) == (None, None)
    assert "P(…) has the probability of each class; on average, 9.4% is outside them" in done.stderr


def test_without_log_probabilities_there_are_no_columns_of_probabilities(provider: Provider) -> None:
    write_params({"prompt": PROMPT, "labels": ["a", "b"]}, task="classify", top_logprobs=0)
    provider.reply = lambda body: "a"
    write_rows("new.jsonl", ROWS[:1])
    done = predict("new.jsonl")
    assert read_rows("new.predicted.jsonl") == [{**ROWS[0], "answer": "a", "error": ""}]
    assert "P(" not in done.output


def test_codes_are_replaced_by_class_names(provider: Provider) -> None:
    prompt = {**PROMPT, "system": "Answer with a code: {codes}"}
    write_params({"prompt": prompt, "labels": ["delivery", "billing"], "codes": True}, task="classify")
    write_json(PREPARED_REPORT, {"codes": {"delivery": "0", "billing": "1"}})
    write_json(MODEL, {"model": "ft", "prompt": fingerprint_of(prompt)})
    provider.reply = lambda body: with_logprobs("1", {"1": -0.5, "0": -2.0})
    write_rows("new.csv", ROWS[:1])
    predict("new.csv")
    assert provider.asked[0]["messages"][0]["content"] == "Answer with a code: 0 = delivery, 1 = billing"
    (row,) = read_rows("new.predicted.csv")
    assert (row["answer"], row["confidence"]) == ("billing", "0.8176")
    assert (row["P(billing)"], row["P(delivery)"], row["outside"]) == ("0.6065", "0.1353", "0.2581")


def test_completions_are_asked_with_their_marks(provider: Provider) -> None:
    marks = CompletionFormat("\n\n###\n\n", " ", " END")
    write_params({"prompt": PROMPT, "target": "completion"})
    write_json(PREPARED_REPORT, {"completion": vars(marks)})
    provider.reply = lambda body: (200, {**completion(""), "choices": [{"index": 0, "text": " billing"}]})
    for row in ({"message": "hello"}, {"prompt": "as prepared" + marks.separator, "completion": " billing END"}):
        write_rows("new.jsonl", [row])
        predict("new.jsonl")
        assert read_rows("new.predicted.jsonl") == [{**row, "answer": "billing", "error": ""}]
    assert [body["prompt"] for body in provider.asked] == ["hello\n\n###\n\n", "as prepared\n\n###\n\n"]
    assert {body["stop"] for body in provider.asked} == {" END"}


def test_the_tuned_model_is_asked_only_with_the_prompt_of_its_training(provider: Provider) -> None:
    write_params({"prompt": {**PROMPT, "system": "Two words."}})
    write_rows("new.csv", ROWS[:1])
    mistake = predict("new.csv", code=1).exception
    assert isinstance(mistake, FinetuneError)
    assert "not the prompt that this model was trained with" in mistake.what
    predict("new.csv", "--model", "base")
    MODEL.unlink()
    assert "dvc repro train" in str(predict("new.csv", code=1).exception)


def test_a_renamed_column_is_the_same_prompt_if_the_examples_are_the_same(provider: Provider) -> None:
    """`dvc repro` trains nothing then, because the training file has the same bytes."""
    renamed = {role: text and text.replace("{message}", "{text}") for role, text in PROMPT.items()}
    write_params({"prompt": renamed})
    write_rows("new.csv", [{"text": "hello"}])
    assert "dvc repro" in str(predict("new.csv", code=1).exception)
    (PREPARED / "train.jsonl").parent.mkdir(parents=True, exist_ok=True)
    for split in ("train", "valid"):
        (PREPARED / f"{split}.jsonl").write_text('{"messages": []}\n', encoding="utf-8")
    write_json(PREPARED_REPORT, {"prompt": fingerprint_of(renamed)})
    record = {"model": "ft", "prompt": fingerprint_of(PROMPT), "fingerprint": fingerprint_now(load_params())}
    write_json(MODEL, record)
    predict("new.csv")
    (PREPARED / "train.jsonl").write_text('{"messages": [1]}\n', encoding="utf-8")
    assert "dvc repro" in str(predict("new.csv", code=1).exception)


def test_a_table_that_is_read_wrong_is_refused_with_its_lines(provider: Provider) -> None:
    Path("new.csv").write_text("message,note\nHello, where is parcel 7?,x\n", encoding="utf-8")
    assert "line 2: 3 cells, but the header has 2" in str(predict("new.csv", code=1).exception)
    assert provider.asked == []


def test_a_file_of_the_same_kind_is_read_as_the_parameters_say(provider: Provider) -> None:
    write_params({"prompt": PROMPT, "quoting": "none", "delimiter": ";", "encoding": "cp1252"})
    Path("new.csv").write_bytes('message;note\n"Hé" he said; x\n'.encode("cp1252"))
    predict("new.csv")
    assert question_of(provider.asked[-1]) == '"Hé" he said'
    Path("new.csv").write_text('message;note\n"Hé"; x\n', encoding="utf-8")  # UTF-8 is known for sure
    predict("new.csv")
    assert question_of(provider.asked[-1]) == '"Hé"'
    Path("new.tsv").write_text("message\tnote\n; hello ;\tx\n", encoding="utf-8")
    predict("new.tsv")
    assert question_of(provider.asked[-1]) == "; hello ;"


def test_a_row_of_a_sheet_is_named_by_its_number_there(provider: Provider) -> None:
    write_rows("new.xlsx", [{"message": "hello"}, {"message": " "}])
    assert "The first, row 3: no question" in predict("new.xlsx").stderr


def test_what_ends_an_answer_and_penalties_are_sent_where_they_are_set(provider: Provider) -> None:
    write_rows("new.csv", ROWS[:1])
    predict("new.csv")
    write_params(stop=["\n\n", "Regards"], frequency_penalty=0.5)
    predict("new.csv")
    write_params({"prompt": PROMPT, "target": "completion"}, stop=["\n\n"], presence_penalty=-1.0)
    write_json(PREPARED_REPORT, {"completion": {"separator": " ->", "lead": " ", "stop": "###"}})
    provider.reply = lambda body: (200, {**completion(""), "choices": [{"index": 0, "text": " billing"}]})
    predict("new.csv")
    plain, chat, text = provider.asked
    assert not {"stop", "frequency_penalty", "presence_penalty"} & plain.keys()
    assert (chat["stop"], chat["frequency_penalty"]) == (["\n\n", "Regards"], 0.5)
    assert "presence_penalty" not in chat
    assert (text["stop"], text["presence_penalty"]) == (["###", "\n\n"], -1.0)


def test_more_stops_than_a_request_takes_are_refused(provider: Provider) -> None:
    write_rows("new.csv", ROWS[:1])
    write_params(stop=list("abcde"))
    assert "'evaluate.stop': list should have at most 4" in str(predict("new.csv", code=1).exception)
    write_params({"prompt": PROMPT, "target": "completion"}, stop=list("abcd"))
    assert "evaluate.stop has 4 texts" in str(predict("new.csv", code=1).exception)
    assert provider.asked == []


def test_a_refusal_is_no_answer(provider: Provider) -> None:
    write_params({"prompt": PROMPT, "labels": ["no", "yes"]}, task="classify")
    write_json(PREPARED_REPORT, {"labels": ["no", "yes"]})
    write_rows("new.csv", ROWS[:2])

    def reply(body: Body) -> Any:
        found = completion("yes")
        if question_of(body) == "message 1":
            found["choices"][0]["message"] |= {"content": None, "refusal": "No, I cannot help with that."}
        return 200, found

    provider.reply = reply
    assert "1 of 2 rows have no answer. The first, line 3, row 2: the provider marks" in predict("new.csv").output
    assert [row["answer"] for row in read_rows("new.predicted.csv")] == ["yes", "No, I cannot help with that."]
