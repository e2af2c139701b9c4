"""`finetune ask`: one question, asked as `predict` asks it."""

import json
from typing import Any

from loopback import refusal
from test_predict import PROMPT, Provider, provider, question_of, with_logprobs, write_params
from typer.testing import CliRunner, Result

from finetune.cli import app
from finetune.core.disk import write_json, write_jsonl
from finetune.core.paths import MODEL, PREPARED, PREPARED_REPORT
from finetune.data.prompts import fingerprint_of

__all__ = ["provider"]  # the fixture


def ask(*arguments: str, typed: str | bytes = "", code: int = 0) -> Result:
    done = CliRunner().invoke(app, ["ask", *arguments], input=typed)
    assert done.exit_code == code, (done.output, done.exception)
    return done


def test_the_answer_alone_is_on_standard_output(provider: Provider) -> None:
    done = ask("Where is\nmy parcel?")
    assert done.stdout == "Where is\nmy parcel?!\n"
    assert [turn["content"] for turn in provider.asked[0]["messages"]] == ["One word.", "Where is\nmy parcel?"]
    assert provider.asked[0]["model"] == "ft"
    ask("Where is\nmy parcel?")
    assert len(provider.asked) == 2  # one request finds out which model answers under this name now


def test_the_question_may_come_from_standard_input(provider: Provider) -> None:
    assert ask("-", "--model", "base", "--max-tokens", "9", typed=b"Guten Tag,\n\nwo ist es?\n").exit_code == 0
    assert question_of(provider.asked[0]) == "Guten Tag,\n\nwo ist es?"
    assert (provider.asked[0]["model"], provider.asked[0]["max_tokens"]) == ("the-base", 9)
    ask("-", typed=b"caf\xe9")
    ask("-", typed=" \n", code=2)
    ask("", code=2)


def test_json_has_the_class_and_its_probabilities(provider: Provider) -> None:
    prompt = {**PROMPT, "system": "Codes: {codes}"}
    write_params({"prompt": prompt, "labels": ["delivery", "billing"], "codes": True}, task="classify")
    write_json(PREPARED_REPORT, {"codes": {"delivery": "0", "billing": "1"}})
    write_json(MODEL, {"model": "ft", "prompt": fingerprint_of(prompt)})
    provider.reply = lambda body: with_logprobs("1", {"1": -0.5, "0": -2.0})
    found = json.loads(ask("hello", "--json").stdout)
    assert found == {
        "model": "ft",
        "answer": "billing",
        "confidence": 0.8176,
        "P(delivery)": 0.1353,
        "P(billing)": 0.6065,
        "outside": 0.2581,
        "error": "",
    }
    assert ask("hello").stdout == "billing\n"


def test_a_prompt_of_several_columns_takes_a_json_object(provider: Provider) -> None:
    prompt = {"user": "{context}\n{question}", "assistant": "{answer}"}
    write_params({"prompt": prompt})
    write_json(MODEL, {"model": "ft", "prompt": fingerprint_of({"system": None, **prompt})})
    ask('{"context": "Bern is in Switzerland.", "question": "Where is Bern?"}')
    assert question_of(provider.asked[0]) == "Bern is in Switzerland.\nWhere is Bern?"
    mistake = ask("Where is Bern?", code=1).exception
    assert "2 columns: context, question" in str(mistake)
    assert '{"context":"…","question":"…"}' in str(mistake)
    assert "no question" in str(ask('{"context": "", "question": ""}', code=1).exception)


def test_without_a_template_the_system_prompt_of_the_training_comes_first(provider: Provider) -> None:
    write_params({})
    roles = {"system": "As trained.", "user": "x", "assistant": "y"}
    write_jsonl(PREPARED / "train.jsonl", [{"messages": [{"role": k, "content": v} for k, v in roles.items()]}])
    ask("hi", "--model", "m")
    assert [turn["content"] for turn in provider.asked[0]["messages"]] == ["As trained.", "hi"]


def test_a_refused_or_cut_answer_is_told(provider: Provider) -> None:
    cut: dict[str, Any] = {"choices": [{"message": {"content": "a long"}, "finish_reason": "length"}]}
    provider.reply = lambda body: (200, cut)
    done = ask("hello")
    assert (done.stdout, "was cut" in done.stderr) == ("a long\n", True)
    provider.reply = lambda body: (400, refusal("content_filter", "Not this."))
    assert "Not this." in str(ask("other", code=1).exception)


def test_the_tuned_model_is_asked_only_with_the_prompt_of_its_training(provider: Provider) -> None:
    write_params({"prompt": {**PROMPT, "system": "Two words."}})
    assert "not the prompt that this model was trained with" in str(ask("hello", code=1).exception)
    ask("hello", "--model", "base")
