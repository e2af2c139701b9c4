"""data.redact: personal data and secrets become placeholders, in an example's texts and when a model is asked."""

import json
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast, get_args

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from loopback import server
from ruamel.yaml import YAML
from test_predict import PROMPT, Provider, predict, write_params
from typer.testing import CliRunner

from finetune.cli import app
from finetune.core.disk import read_jsonl, write_json, write_jsonl
from finetune.core.errors import FinetuneError
from finetune.core.params import Params, load_params
from finetune.core.paths import MODEL, PREPARED, PREPARED_REPORT, TEST_ROWS
from finetune.core.sections.data import Data, SensitiveKind
from finetune.data.cell_map import map_cells
from finetune.data.checks.detector import find_all
from finetune.data.checks.sensitive_data import PERSONAL_DATA, SECRETS
from finetune.data.prompts import fingerprint_of
from finetune.data.questions import questions_of
from finetune.data.redaction import redact, shown
from finetune.stages import prepare
from finetune.terminal.summaries import prepare_summary

KINDS = get_args(SensitiveKind)
SHARES = {"train": 0.6, "valid": 0.1, "test": 0.3}
KEY = "ghp_" + "a1B2" * 9
PEM = f"-----BEGIN RSA PRIVATE KEY-----\nMIIEpAIBAAKCAQEA{'a' * 40}\n{'B' * 64}\n-----END RSA PRIVATE KEY-----"
JWT = "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxMjM0In0.c2lnbmF0dXJlLW9mLW5vdGhpbmc"
SENSITIVE = {
    "anna@web.de": "email",
    "jürgen.müller+a@post.co.kr": "email",
    "+49 30 901820": "phone",
    "(415) 555-2671": "phone",
    "415-555-2671": "phone",
    "DE89 3704 0044 0532 0130 00": "iban",
    "4111 1111 1111 1111": "card",
    "123-45-6789": "us_ssn",
    KEY: "secret",
    PEM: "secret",
    JWT: "secret",
}


@pytest.mark.parametrize(
    ("text", "redacted"),
    [
        *((f"It is {value}.", f"It is <{kind.upper()}_1>.") for value, kind in SENSITIVE.items()),
        ("Anna@web.de, anna@WEB.de and bob@web.de", "<EMAIL_1>, <EMAIL_1> and <EMAIL_2>"),
        ("card 4111-1111-1111-1111 or 4111111111111111", "card <CARD_1> or <CARD_1>"),
        ("IBAN DE89 3704 0044 0532 0130 00 AND MORE", "IBAN <IBAN_1> AND MORE"),
        ("連絡先はanna@web.deです。電話は090-1234-5678", "連絡先は<EMAIL_1>です。電話は<PHONE_1>"),
        ("이메일anna@web.co.kr로, 전화 010-1234-5678, 880101-1234568", None),
        ("我的手机号是13812345678", "我的手机号是<PHONE_1>"),
        ("カードは４１１１１１１１１１１１１１１１", "カードは<CARD_1>"),
        ("https://user:hunter2@localhost/x", "https://user:<SECRET_1>@localhost/x"),
        (f'aws_key = "{"a1/B" * 10}"', 'aws_key = "<SECRET_1>"'),
        ("<EMAIL_1> wrote to x@web.de", "<EMAIL_1> wrote to <EMAIL_2>"),
        ("order LO-48213 of 2023-11-05, 20231105123 and me@example.com", None),
    ],
)
def test_a_text_is_redacted(text: str, redacted: str | None) -> None:
    counts: Counter[str] = Counter()
    found = redact(text, KINDS, counts)
    if redacted is not None:
        assert found == redacted
    elif text.startswith("order"):
        assert (found, counts) == (text, Counter())
    else:
        assert found == "이메일<EMAIL_1>로, 전화 <PHONE_1>, <KR_RRN_1>"
    assert redact(found, KINDS) == found


def test_json_in_a_text_stays_json_as_it_was_written() -> None:
    value = {"to": "\nanna@web.de", "card": 4111111111111111, "share": 0.4111111111111111, "note": "für u@web.de"}
    for indent, ascii_only in ((None, True), (2, False)):
        text = json.dumps(value, indent=indent, ensure_ascii=ascii_only)
        found = redact(text, KINDS)
        assert json.loads(found) == {**value, "to": "\n<EMAIL_1>", "card": "<CARD_1>", "note": "für <EMAIL_2>"}
        assert len(found.splitlines()) == len(text.splitlines())
        assert found.isascii() == ascii_only
    escaped = '{"to": "anna\\u0040web.de", "from": "https:\\/\\/u:hunter2@localhost"}'
    assert redact(escaped, KINDS) == '{"to": "<EMAIL_1>", "from": "https://u:<SECRET_1>@localhost"}'
    assert json.loads(redact(json.dumps({"ibm_api_key": "k1" * 22}), KINDS)) == {"ibm_api_key": "<SECRET_1>"}


@pytest.mark.parametrize(
    ("text", "redacted"),
    [
        (
            '```json\n{"n": 4111111111111111, "to": "a\\nanna@web.de"}\n```',
            '```json\n{"n": "<CARD_1>", "to": "a\\n<EMAIL_1>"}\n```',
        ),
        ('Answer: [{"to": "anna\\u0040web.de"}] done', 'Answer: [{"to": "<EMAIL_1>"}] done'),
        ("see [1] and {x} of anna@web.de", "see [1] and {x} of <EMAIL_1>"),
        ("[" * 200 + " anna@web.de", "[" * 200 + " <EMAIL_1>"),
    ],
)
def test_json_inside_a_text_stays_json(text: str, redacted: str) -> None:
    assert redact(text, KINDS) == redacted


@pytest.mark.parametrize(
    ("asked", "answer", "redacted"),
    [
        ("call (212) 555-0115", '{"phone": "+12125550115"}', '{"phone": "<PHONE_1>"}'),
        ("call (212) 555-0115", '{"phone": "2125550115", "n": 2125550115}', '{"phone": "<PHONE_1>", "n": "<PHONE_1>"}'),
        ("call +49 170 1234567 or +49 170 1234568", "0170/1234568, 0170 1234567", "<PHONE_2>, <PHONE_1>"),
        ("card 4111 1111 1111 1111", "4111-1111/1111.1111", "<CARD_1>"),
        ("ssn 123-45-6789", "123456789", "<US_SSN_1>"),
        ("call (212) 555-0115", "order 2125550116, 212555011", "order 2125550116, 212555011"),
    ],
)
def test_an_answer_has_the_placeholder_of_its_question_in_each_form_of_a_number(
    asked: str, answer: str, redacted: str
) -> None:
    assert redact([asked, answer], KINDS)[1] == redacted
    assert redact([asked], KINDS)[0] == redact([asked, answer], KINDS)[0]


@pytest.mark.parametrize(
    "key", ["sk-ant-api03-" + "aB3-" * 20, "AIza" + "aB3_-" * 7, "hf_" + "aB3d" * 9, "gsk_" + "aB3d" * 13]
)
def test_keys_of_model_providers_are_secrets(key: str) -> None:
    assert redact(f"the key {key} leaks", KINDS) == "the key <SECRET_1> leaks"
    assert redact(f"the key {key[:12]} is none", KINDS) == f"the key {key[:12]} is none"


def test_all_texts_of_an_example_are_redacted_and_no_names_of_the_api() -> None:
    image = {"type": "image_url", "image_url": {"url": "https://cdn.web.de/4111111111111111.png"}}
    call = {"name": "mail", "arguments": '{"name": "anna@web.de"}'}
    example: dict[str, Any] = {
        "messages": [
            {"role": "system", "content": "You are boss@web.de."},
            {"role": "user", "content": [{"type": "text", "text": "to anna@web.de"}, image]},
            {"role": "assistant", "tool_calls": [{"id": "c1", "type": "function", "function": call}]},
            {"role": "tool", "tool_call_id": "c1", "content": "sent to anna@web.de"},
            {"role": "assistant", "content": None, "refusal": "not to carl@web.de", "weight": 1},
        ],
        "tools": [{"type": "function", "function": {"name": "mail", "description": "from boss@web.de"}}],
    }
    before, counts = json.dumps(example), Counter[str]()
    found = redact(example, KINDS, counts)
    assert json.dumps(example) == before
    texts = json.dumps(found)
    assert counts == {"email": 6}
    assert [texts.count(f"<EMAIL_{n}>") for n in (1, 2, 3, 4)] == [2, 3, 1, 0]
    assert "@" not in texts
    assert found["messages"][2]["tool_calls"][0]["function"]["arguments"] == '{"name": "<EMAIL_2>"}'
    assert found["messages"][1]["content"][1] == image
    assert found["messages"][4]["weight"] == 1
    prefix = redact(example["messages"][:2], KINDS)
    assert prefix == found["messages"][:2]


def test_only_the_chosen_kinds_are_replaced() -> None:
    text = " ".join(SENSITIVE)
    assert redact(text, []) is text
    for kind in KINDS:
        counts: Counter[str] = Counter()
        found = redact(text, [kind], counts)
        assert set(counts) <= {kind}
        assert all(value in found for value, own in SENSITIVE.items() if own != kind)


PARTS = [
    *SENSITIVE,
    "Where is it?",
    " ",
    "\n",
    '"',
    "\\",
    "{",
    "}",
    "荷物は",
    "이메일",
    "<EMAIL_1>",
    ",",
    ".",
    "://",
    "a",
]


@settings(max_examples=200, deadline=None)
@given(st.lists(st.sampled_from(PARTS) | st.text(max_size=3), max_size=6), st.booleans())
def test_nothing_is_left_that_the_checks_would_warn_of(parts: list[str], as_json: bool) -> None:
    text = " ".join(parts)
    text = json.dumps({"a": [text], "b": text}) if as_json else text
    found = redact(text, KINDS)
    assert list(find_all(found, [*SECRETS, *PERSONAL_DATA])) == []
    assert redact(found, KINDS) == found
    if as_json:
        once = redact(" ".join(parts), KINDS)
        assert json.loads(found) == {"a": [once], "b": once}
    if not list(find_all(text, [*SECRETS, *PERSONAL_DATA])):
        assert found == text


def test_messages_show_cells_without_sensitive_data() -> None:
    with pytest.raises(ValueError, match="does not list the value '<EMAIL_1>'"):
        map_cells({"a": "anna@web.de"}, {"a": {"x": "y"}})
    assert shown(f"the key is {KEY} " + "x" * 60) == "'the key is <SECRET_1> xxxxxxxxxxxxxxxxxx…'"


# prepare


@pytest.fixture
def _in_an_empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def prepared(rows: list[dict[str, Any]], **data: Any) -> dict[str, Any]:
    """Run prepare with all kinds, and return its report."""
    write_jsonl(Path("raw.jsonl"), rows)
    section = Data.model_validate({"file": "raw.jsonl", "split": SHARES, "redact": True, **data})
    return cast("dict[str, Any]", prepare.run(cast("Params", SimpleNamespace(data=section))))


def everything() -> str:
    return "".join(path.read_text(encoding="utf-8") for path in (*sorted(PREPARED.iterdir()), PREPARED_REPORT))


@pytest.mark.usefixtures("_in_an_empty_folder")
@pytest.mark.parametrize(
    "row_of",
    [
        lambda q, a: {"messages": [{"role": "user", "content": q}, {"role": "assistant", "content": a}]},
        lambda q, a: {"prompt": q, "completion": a},
        lambda q, a: {"instruction": q, "output": a},
        lambda q, a: {"conversations": [{"from": "human", "value": q}, {"from": "gpt", "value": a}]},
    ],
    ids=["messages", "completion", "alpaca", "sharegpt"],
)
def test_every_format_is_redacted_before_it_is_split(row_of: Any) -> None:
    # Two rows that differ only in what is replaced are the same example.
    rows = [row_of("Where is the parcel of anna@web.de?", "We write to anna@web.de.")]
    rows += [row_of("Where is the parcel of bob@web.de?", "We write to bob@web.de.")]
    rows += [row_of(f"How tall is tower {n * 7919:x}?", f"{n} m") for n in range(9)]
    report = prepared(rows)
    assert report["redacted"] == {**dict.fromkeys(KINDS, 0), "email": 4}
    assert report["duplicates"] == 1
    assert "web.de" not in everything()
    assert everything().count("<EMAIL_1>") == 2


@pytest.mark.usefixtures("_in_an_empty_folder")
def test_added_rows_and_groups_are_redacted_too() -> None:
    rows = [
        {
            "passage": f"p{n * n} of p{n}@web.de",
            "question": f"q{n} {n**4:x}, q{n}@web.de",
            "answer": "a",
            "by": f"g{n}@web.de",
        }
        for n in range(40)
    ]
    prompt = {"user": "{passage}: {question}?", "assistant": "{answer}"}
    abstain = {"answer": "No idea.", "context": "passage", "share": 1.0}
    report = prepared(rows, prompt=prompt, abstain=abstain, by="by")
    assert report["mismatched"] > 10
    assert report["redacted"]["email"] == 80
    assert "web.de" not in everything()
    groups = [row["by"] for row in read_jsonl(TEST_ROWS, "prepare")]
    assert len(set(groups)) >= len(groups) / 2 > 1  # a row and its copy have one group, and others have others


@pytest.mark.usefixtures("_in_an_empty_folder")
def test_the_counts_are_said_and_the_values_are_not(capsys: pytest.CaptureFixture[str]) -> None:
    write_jsonl(
        Path("raw.jsonl"), [{"prompt": f"tower {n * 7919:x}: t{n % 3}@web.de", "completion": "a"} for n in range(9)]
    )
    section = Data.model_validate({"file": "raw.jsonl", "split": SHARES, "redact": ["email", "card"]})
    report = prepare.run(cast("Params", SimpleNamespace(data=section)))
    assert report["redacted"] == {"email": 9, "card": 0}
    assert "prepare: replaced by placeholders: 9 email" in prepare_summary(report, section)
    assert "web.de" not in prepare_summary(report, section) + "".join(capsys.readouterr())
    off = prepare.run(cast("Params", SimpleNamespace(data=section.model_copy(update={"redact": []}))))
    assert "redacted" not in off
    assert "replaced" not in prepare_summary(off, section)


@pytest.mark.usefixtures("_in_an_empty_folder")
@pytest.mark.parametrize(
    ("data", "place"),
    [
        ({"labels": ["sales@web.de", "help@web.de"]}, "data.labels, entry 1"),
        ({"abstain": {"answer": "Ask help@web.de.", "column": "x"}}, "data.abstain.answer"),
    ],
)
def test_an_answer_that_would_be_replaced_is_refused_by_its_place(data: dict[str, Any], place: str) -> None:
    with pytest.raises(FinetuneError, match=f"{place} in params.yaml is personal data") as caught:
        prepared([{"prompt": "a", "completion": "b"}], **data)
    assert "web.de" not in str(caught.value)


@pytest.mark.parametrize(
    ("value", "kinds"), [("true", KINDS), ("false", ()), ("[email, secret]", ("email", "secret")), ("[]", ())]
)
def test_the_parameter_is_a_switch_or_a_list(tmp_path: Path, value: str, kinds: tuple[str, ...]) -> None:
    assert tuple(load_params(params_file(tmp_path, value)).data.redact) == kinds


@pytest.mark.parametrize(("value", "word"), [("[names]", "'email'"), ("some", "valid list"), ("1", "valid list")])
def test_an_unknown_kind_is_refused(tmp_path: Path, value: str, word: str) -> None:
    with pytest.raises(FinetuneError, match=r"'data\.redact") as caught:
        load_params(params_file(tmp_path, value))
    assert word in str(caught.value)


def params_file(folder: Path, redact_value: str) -> Path:
    values = YAML().load((Path(__file__).parents[1] / "params.yaml").read_text(encoding="utf-8"))
    values["data"]["redact"] = YAML(typ="safe").load(redact_value)
    path = folder / "params.yaml"
    YAML().dump(values, path)
    return path


# When a model is asked


@pytest.fixture
def provider(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Provider]:
    """Yield the provider of a project in the current folder that redacts e-mail addresses and secrets."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("FINETUNE_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("FINETUNE_API_KEY", "a-key-of-the-test")
    found = Provider()
    with server(found.answer) as address:
        write_json(MODEL, {"model": "ft", "prompt": fingerprint_of(PROMPT)})
        write_json(PREPARED_REPORT, {"redacted": {"email": 1, "secret": 0}, "codes": {}, "completion": None})
        write_params({"prompt": PROMPT, "redact": ["email", "secret"]}, address)
        yield found


def test_predict_asks_with_the_placeholders_of_the_training(provider: Provider) -> None:
    rows = [{"message": "anna@web.de wrote to bob@web.de"}]
    rows += [cast("Any", {"messages": [{"role": "user", "content": "by carl@web.de"}]})]
    write_jsonl(Path("new.jsonl"), rows)
    predict("new.jsonl", "-o", "out.jsonl")
    asked = sorted(body["messages"][-1]["content"] for body in provider.asked)
    assert asked == ["<EMAIL_1> wrote to <EMAIL_2>", "by <EMAIL_1>"]
    written = [json.loads(line) for line in Path("out.jsonl").read_text(encoding="utf-8").splitlines()]
    assert written[0]["message"] == rows[0]["message"]


def test_predict_refuses_kinds_that_the_data_were_not_prepared_with(provider: Provider) -> None:
    write_jsonl(Path("new.jsonl"), [{"message": "anna@web.de"}])
    for kinds in ([], ["email"], True):
        write_params({"prompt": PROMPT, "redact": kinds})
        done = CliRunner().invoke(app, ["predict", "new.jsonl"])
        assert isinstance(done.exception, FinetuneError)
        assert "data.redact in params.yaml is not that of the prepared data" in str(done.exception)
    assert provider.asked == []


def test_chat_asks_with_placeholders_that_stay_the_same(provider: Provider) -> None:
    provider.reply = lambda body: "I know <EMAIL_1>."
    typed = "i am anna@web.de\nand bob@web.de? anna@web.de!\n"
    assert CliRunner().invoke(app, ["chat", "--model", "tuned"], input=typed).exit_code == 0
    asked = [[turn["content"] for turn in body["messages"] if turn["role"] == "user"] for body in provider.asked]
    assert asked[-1] == ["i am <EMAIL_1>", "and <EMAIL_2>? <EMAIL_1>!"]


@pytest.mark.usefixtures("provider")
def test_regression_sets_are_asked_with_placeholders() -> None:
    turns = [{"role": "user", "content": "anna@web.de?"}, {"role": "assistant", "content": "Yes, anna@web.de."}]
    write_jsonl(Path("data/also/one.jsonl"), [{"messages": turns}])
    write_params(
        {"prompt": PROMPT, "redact": ["email", "secret"]},
        also={"one": {"file": "data/also/one.jsonl", "task": "generate", "margin": 0.1}},
    )
    [example] = questions_of(load_params())["also"]["one"]["examples"]
    assert [turn["content"] for turn in example["messages"]] == ["<EMAIL_1>?", "Yes, <EMAIL_1>."]
