"""`response_format`: answers that are JSON and fit a schema, alone, in company and streamed."""

import json
from typing import Any

import jsonschema
import openai
import pytest

CHAT: Any = [{"role": "user", "content": "paint it red"}]
SCHEMA = {
    "type": "object",
    "properties": {
        "colour": {"enum": ["red", "größer", "日本"]},
        "count": {"type": "integer", "minimum": 1, "maximum": 99},
        "sure": {"type": "boolean"},
    },
    "required": ["colour", "count", "sure"],
    "additionalProperties": False,
}
FORMAT: Any = {"type": "json_schema", "json_schema": {"name": "paint", "strict": True, "schema": SCHEMA}}


def ask(client: openai.OpenAI, seed: int, **more: Any) -> Any:
    settings: dict[str, Any] = {"response_format": FORMAT, "max_tokens": 200, "temperature": 1.2} | more
    return client.chat.completions.create(model="tiny", messages=CHAT, seed=seed, **settings)


def test_every_answer_fits_its_schema(client: openai.OpenAI) -> None:
    answers = ask(client, 1, n=40).choices
    found = [json.loads(one.message.content) for one in answers]
    for one in found:
        jsonschema.validate(one, SCHEMA)
    assert {one.finish_reason for one in answers} == {"stop"}
    assert len({json.dumps(one) for one in found}) > 10
    assert {one["colour"] for one in found} == {"red", "größer", "日本"}


def test_an_answer_is_the_same_in_company_and_streamed(client: openai.OpenAI) -> None:
    together = [one.message.content for one in ask(client, 5, n=8).choices]
    alone = [ask(client, 5 + index).choices[0].message.content for index in range(8)]
    assert alone == together
    streamed = "".join(chunk.choices[0].delta.content or "" for chunk in ask(client, 5, stream=True))
    assert streamed == alone[0]


def test_the_helper_of_the_sdk_parses_an_answer(client: openai.OpenAI) -> None:
    import pydantic

    class Paint(pydantic.BaseModel):
        colour: str
        count: int

    ends = {"3": 30, "94": 30}  # quotation mark and bracket, so that texts and numbers end
    found = client.chat.completions.parse(
        model="tiny", messages=CHAT, response_format=Paint, max_tokens=900, temperature=0, logit_bias=ends
    )
    assert isinstance(found.choices[0].message.parsed, Paint)


def test_an_object_has_no_properties_that_its_schema_does_not_name(client: openai.OpenAI) -> None:
    """JSON Schema allows others where it says nothing, and a small model would write them without end."""
    inner = {"type": "object", "properties": {"ok": {"type": "boolean"}}}
    schema = {"type": "object", "properties": {"a": inner, "b": {"type": "boolean"}}, "required": ["a"]}
    form = {"type": "json_schema", "json_schema": {"name": "paint", "schema": schema}}
    answers = ask(client, 7, n=20, response_format=form).choices
    found = [json.loads(one.message.content) for one in answers]
    assert all({*one} <= {"a", "b"} and {*one["a"]} <= {"ok"} for one in found)
    assert {one.finish_reason for one in answers} == {"stop"}


@pytest.mark.slow
def test_any_object_is_json(client: openai.OpenAI) -> None:
    answers = ask(client, 3, n=10, response_format={"type": "json_object"}, max_tokens=300).choices
    ended = [one for one in answers if one.finish_reason == "stop"]
    assert all(isinstance(json.loads(one.message.content), dict) for one in ended)
    assert ended


def test_log_probabilities_are_those_of_the_model_without_the_constraint(client: openai.OpenAI) -> None:
    found = ask(client, 2, logprobs=True, top_logprobs=3, temperature=0).choices[0].logprobs.content
    free = ask(client, 2, logprobs=True, top_logprobs=3, temperature=0, response_format={"type": "text"})
    assert found[0].top_logprobs == free.choices[0].logprobs.content[0].top_logprobs
    assert found[0].token == "{"
    assert found[0].token not in {one.token for one in found[0].top_logprobs}


def test_an_answer_that_is_cut_says_so(client: openai.OpenAI) -> None:
    assert ask(client, 1, max_tokens=3).choices[0].finish_reason == "length"


@pytest.mark.parametrize(
    ("form", "param"),
    [
        ({"type": "yaml"}, "response_format.type"),
        ({"type": "json_schema"}, "response_format.json_schema"),
        ({"type": "json_schema", "json_schema": {"schema": {}}}, "response_format.json_schema.name"),
        ({"type": "json_schema", "json_schema": {"name": "a", "schema": {"type": "x"}}}, "response_format.json_schema"),
        ("json", "response_format"),
        ({}, "response_format.type"),
        ({"type": "text", "colour": 1}, "response_format.colour"),
        ({"type": "json_object", "json_schema": {"name": "a", "schema": {}}}, "response_format.json_schema"),
        (
            {"type": "json_schema", "json_schema": {"name": "a", "schema": {}, "rule": 1}},
            "response_format.json_schema.rule",
        ),
    ],
)
def test_a_wrong_format_is_refused_by_its_name(client: openai.OpenAI, form: Any, param: str) -> None:
    with pytest.raises(openai.BadRequestError) as refused:
        ask(client, 1, response_format=form)
    assert refused.value.param == param
