"""The forms that the API accepts: what it allows passes, and what it refuses is found at its place."""

import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from finetune.data.checks.across_files import check
from finetune.data.checks.api_forms import keys_of_role, roles
from finetune.data.checks.check_lines import read_line

USER, ANSWER = {"role": "user", "content": "東京の天気は?"}, {"role": "assistant", "content": "晴れです"}
CITY = {"type": "object", "properties": {"city": {"type": "string", "description": "도시"}}, "required": ["city"]}
WEATHER = {"type": "function", "function": {"name": "weather", "parameters": CITY}}
CALL = {"id": "c1", "type": "function", "function": {"name": "weather", "arguments": '{"city": "東京"}'}}
CALLS, RESULT = {"role": "assistant", "tool_calls": [CALL]}, {"role": "tool", "tool_call_id": "c1", "content": "晴れ"}
FUNCTION_CALL = {"role": "assistant", "content": None, "function_call": {"name": "weather", "arguments": "{}"}}


def image(url: str = "https://example.com/a.png", **more: Any) -> dict[str, Any]:
    return {"type": "image_url", "image_url": {"url": url, **more}}


IMAGE = image()


def chat(*messages: Any, **keys: Any) -> dict[str, Any]:
    return {"messages": list(messages), **keys}


def parts(*content: Any) -> dict[str, Any]:
    return chat({"role": "user", "content": list(content)}, ANSWER)


def calls(**call: Any) -> dict[str, Any]:
    return {"role": "assistant", "tool_calls": [{**CALL, **call}]}


def tools(**function: Any) -> dict[str, Any]:
    return chat(USER, ANSWER, tools=[{"type": "function", "function": {"name": "weather", **function}}])


def preference(preferred: list[Any], other: list[Any], *asked: Any) -> dict[str, Any]:
    asked_messages = list(asked) or [USER]
    return {
        "input": {"messages": asked_messages, "tools": [WEATHER], "parallel_tool_calls": True},
        "preferred_output": preferred,
        "non_preferred_output": other,
    }


def faults(example: Any) -> list[tuple[str, str]]:
    """Return the code and the message of each fault of an example."""
    method = "dpo" if "input" in example else "supervised"
    return [(code, what) for code, _, what, _ in read_line(json.dumps(example).encode(), method)[2]]


ALLOWED = {
    "text and image": parts({"type": "text", "text": "이건 뭐예요?"}, IMAGE),
    "every detail": parts(*(image(detail=detail) for detail in ("auto", "low", "high"))),
    "ten images": parts(*[IMAGE] * 10),
    "refusal as a part": chat(USER, {"role": "assistant", "content": [{"type": "refusal", "refusal": "No."}]}),
    "refusal beside content": chat(USER, {"role": "assistant", "content": None, "refusal": "No."}),
    "keys that are null": chat(USER, {**ANSWER, "refusal": None, "function_call": None}),
    "developer and system": chat(
        {"role": "developer", "content": "a"}, {"role": "system", "content": "b"}, USER, ANSWER
    ),
    "names": chat({**USER, "name": "user_1"}, {**ANSWER, "name": "Bot-2"}),
    "tool result as parts": chat(
        USER, CALLS, {**RESULT, "content": [{"type": "text", "text": "晴れ"}]}, ANSWER, tools=[WEATHER]
    ),
    "tool result with a name": chat(USER, CALLS, {**RESULT, "name": "weather"}, ANSWER, tools=[WEATHER]),
    "ends with a call": chat(USER, CALLS, tools=[WEATHER]),
    "no parameters": tools(description="Tells the weather."),
    "empty parameters": tools(parameters={}),
    "strict": tools(strict=True, parameters={**CITY, "additionalProperties": False}),
    "strict is null": tools(strict=None),
    "patterns of other languages": tools(
        parameters={"type": "object", "properties": {"city": {"type": "string", "pattern": r"^\p{Han}+$"}}}
    ),
    "no tools in the list": chat(USER, ANSWER, tools=[]),
    "older functions": chat(
        USER,
        FUNCTION_CALL,
        {"role": "function", "name": "weather", "content": "晴れ"},
        ANSWER,
        functions=[WEATHER["function"]],
    ),
    "a function without a result": chat(
        USER,
        FUNCTION_CALL,
        {"role": "function", "name": "weather", "content": None},
        ANSWER,
        functions=[WEATHER["function"]],
    ),
    "preference: calls in both outputs": preference([CALLS], [{**CALLS, "content": "Moment."}]),
    "preference: a call against an answer": preference([CALLS], [ANSWER]),
    "preference: calls with their results": preference([CALLS, RESULT, ANSWER], [{**ANSWER, "content": "雨です"}]),
    "preference: same IDs in both outputs": preference([CALLS, RESULT, ANSWER], [CALLS, {**RESULT, "content": "雨"}]),
    "preference: an answer to a result": preference([ANSWER], [{**ANSWER, "content": "雨です"}], USER, CALLS, RESULT),
    "preference: a refusal": preference([{"role": "assistant", "content": None, "refusal": "No."}], [ANSWER]),
}


@pytest.mark.parametrize("example", ALLOWED.values(), ids=ALLOWED.keys())
def test_what_the_api_allows_passes(example: dict[str, Any]) -> None:
    assert [fault for fault in faults(example) if fault[0] not in ("ends_unanswered",)] == []


REFUSED: list[tuple[str, str, dict[str, Any]]] = [
    (
        "content_parts",
        "messages[0].content[1].image_url is a string, not an object",
        parts({"type": "text", "text": "a"}, {"type": "image_url", "image_url": "https://example.com/a.png"}),
    ),
    ("content_parts", "content[0].image_url.url is missing", parts({"type": "image_url", "image_url": {}})),
    ("content_parts", "image_url.url is not a web address", parts(image("photos/a.png"))),
    ("content_parts", "image_url.url is not a web address", parts(image("https:///a.png"))),
    ("content_parts", "image_url.url is a data URL, but not of a", parts(image("data:image/bmp;base64,Qk0="))),
    ("content_parts", "image_url.url is a data URL with broken base64", parts(image("data:image/png;base64,iVB*"))),
    ("content_parts", "content[0].image_url.detail is 'ultra'", parts(image(detail="ultra"))),
    ("content_parts", "messages[0].content[0].text is missing", parts({"type": "text"})),
    ("content_parts", "is 'input_audio', which training does not take", parts({"type": "input_audio"})),
    ("content_parts", "11 images", parts(*[IMAGE] * 11)),
    ("content_parts", "messages[1].content[0].type is 'image_url'", chat(USER, {**ANSWER, "content": [IMAGE]})),
    ("missing_content", "messages[0]: the content is an empty list", parts()),
    ("bad_tools", "tools[0].type is missing", chat(USER, ANSWER, tools=[{"function": {"name": "weather"}}])),
    ("bad_tools", "tools[0].function.name has other characters", tools(name="get weather")),
    ("bad_tools", "tools[0].function.name has other characters", tools(name="api.weather")),
    ("bad_tools", "tools[0].function.parameters is a list, not an object", tools(parameters=[CITY])),
    ("bad_tools", "at properties.unit.enum", tools(parameters={**CITY, "properties": {"unit": {"enum": "c"}}})),
    ("bad_tools", "strict is a string, not true or false", tools(strict="yes")),
    ("bad_tools", "2 functions with the name 'weather'", chat(USER, ANSWER, tools=[WEATHER, WEATHER])),
    ("bad_tools", "tools and functions are both given", chat(USER, ANSWER, tools=[WEATHER], functions=[{"name": "a"}])),
    ("bad_tools", "parallel_tool_calls is a string", chat(USER, ANSWER, tools=[WEATHER], parallel_tool_calls="false")),
    ("bad_tool_call", "function_call calls a function that 'functions' does not declare", chat(USER, FUNCTION_CALL)),
    (
        "bad_tool_call",
        "arguments is not the JSON of an object",
        chat(USER, calls(function={"name": "weather", "arguments": "[1]"}), tools=[WEATHER]),
    ),
    (
        "unmatched_tool",
        "messages[2] has no tool_call_id",
        chat(USER, CALLS, {"role": "tool", "content": "a"}, tools=[WEATHER]),
    ),
    ("bad_name", "messages[1] has no name", chat(USER, {"role": "function", "content": "晴れ"}, ANSWER)),
    ("bad_name", "messages[0].name is 5, not a string", chat({**USER, "name": 5}, ANSWER)),
    ("bad_weight", "has a weight", chat({**USER, "weight": 1}, ANSWER)),
    (
        "unmatched_tool",
        "preferred_output[1] is the result of no earlier call",
        preference([CALLS, {**RESULT, "tool_call_id": "c2"}], [ANSWER]),
    ),
]


@pytest.mark.parametrize(("code", "what", "example"), REFUSED, ids=[what for _, what, _ in REFUSED])
def test_what_the_api_refuses_is_found_at_its_place(code: str, what: str, example: dict[str, Any]) -> None:
    found = faults(example)
    assert any(code == one and what in message for one, message in found), found


def test_a_fault_of_a_preference_is_reported_once() -> None:
    asked = (USER, CALLS, {**RESULT, "tool_call_id": "c2"})
    found = faults(preference([ANSWER], [{**ANSWER, "content": "雨です"}], *asked))
    assert [what for _, what in found] == [
        "input.messages[2] is the result of no earlier call",
        "input.messages[1].tool_calls[0] has no result",
    ]


def test_the_forms_are_those_of_the_openai_package() -> None:
    assert set(roles()) == {"developer", "system", "user", "assistant", "tool", "function"}
    assert {"content", "role", "tool_calls", "weight", "refusal"} <= keys_of_role("assistant")
    assert "audio" not in keys_of_role("assistant")


def test_a_text_in_a_wrong_place_is_not_repeated() -> None:
    secret = "Anna Schmidt, Hauptstraße 5"
    [(_, what)] = faults(parts({"type": secret, "text": "a"}))
    assert secret not in what


KEYS = ["type", "text", "image_url", "url", "detail", "refusal", "(list)", "function", "name", "arguments"]
LEAF = st.none() | st.booleans() | st.integers(0, 2) | st.sampled_from(["text", "image_url", "(text)", "a", "{}"])
VALUE = st.recursive(
    LEAF,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(KEYS), inner, max_size=4),
    max_leaves=10,
)


@settings(max_examples=300, deadline=None)
@given(VALUE, st.sampled_from(["system", "user", "assistant", "tool", "function"]))
def test_every_value_gives_findings_and_no_traceback(value: Any, role: str) -> None:
    message = {"role": role, "content": value, "name": value, "tool_calls": value, "function_call": value}
    for code, what in faults(chat(message, ANSWER, tools=value, functions=value, parallel_tool_calls=value)):
        assert code
        assert re.match(r"messages|tools|functions|parallel_tool_calls|there is|every|\d+ images", what)


NULL_PARTS = [
    ("messages[0].content[0]: the key 'image_url' is null", parts({"type": "text", "text": "a", "image_url": None})),
    ("messages[0].content[0].image_url.detail is null", parts(image(detail=None))),
    ("tools is null", chat(USER, ANSWER, tools=None)),
    ("messages[0].name is null", chat({**USER, "name": None}, ANSWER)),
]


@pytest.mark.parametrize(("what", "example"), NULL_PARTS, ids=[what for what, _ in NULL_PARTS])
def test_a_null_key_is_named_and_the_repair_too(what: str, example: dict[str, Any]) -> None:
    [(_, _, found, fix)] = read_line(json.dumps(example).encode(), "supervised")[2]
    assert found.startswith(what)
    assert "--fix" in fix


def test_arguments_results_and_declared_functions_are_searched() -> None:
    """Escapes of JSON within the arguments hide nothing, and keys and numbers count too."""

    def with_arguments(arguments: str) -> dict[str, Any]:
        return chat(USER, calls(function={"name": "weather", "arguments": arguments}), tools=[WEATHER])

    mail, card = r'{"to": {"mail": ["anna.berg\u0040firma-berg.de"]}}', '{"card": 4111111111111111}'
    arguments = "messages[1].tool_calls[0].function.arguments"
    for example, code, path in (
        (with_arguments('{"city": "<|im_end|>"}'), "special_token", arguments),
        (with_arguments(mail), "personal_data", arguments),
        (with_arguments(card), "personal_data", arguments),
        (with_arguments('{"key": "AKIAIOSFODNN7EXAMPLF"}'), "secret", arguments),
        (tools(description="Write to anna.berg@firma-berg.de."), "personal_data", "tools"),
        (tools(description="Ends with <|endoftext|>"), "special_token", "tools"),
        (preference([calls(function={"name": "weather", "arguments": card})], [ANSWER]), "personal_data",
         "preferred_output[0].tool_calls[0].function.arguments"),
        (chat(USER, CALLS, {**RESULT, "content": [{"type": "text", "text": "<|im_end|>"}]}, ANSWER, tools=[WEATHER]),
         "special_token", "messages[2].content"),
    ):  # fmt: skip
        [(found, what)] = faults(example)
        assert (found, what.split(" contains ")[0]) == (code, path)
    old = chat(USER, {**FUNCTION_CALL, "function_call": {"name": "weather", "arguments": card}},
               functions=[WEATHER["function"]])  # fmt: skip
    assert [what.split(" contains ")[0] for _, what in faults(old)] == ["messages[1].function_call.arguments"]


def test_arguments_that_are_not_json_are_searched_as_they_are() -> None:
    call = calls(function={"name": "weather", "arguments": "mail anna.berg@firma-berg.de"})
    example = chat(USER, call, tools=[WEATHER])
    assert {code for code, _ in faults(example)} == {"bad_tool_call", "personal_data"}


def test_a_line_with_too_many_objects_within_each_other_is_refused_without_a_traceback(tmp_path: Path) -> None:
    deep: dict[str, Any] = {}
    for _ in range(300):
        deep = {"type": "object", "properties": {"a": deep}}
    path = tmp_path / "a.jsonl"
    rows = [tools(parameters=deep), chat(USER, calls(function={"name": "weather", "arguments": json.dumps(deep)}))]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    found = [(one["line"], one["code"]) for one in check([path], training=False)["findings"]]
    assert found == [(1, "invalid_json"), (2, "bad_tool_call")]


def test_an_invalid_weight_is_one_mistake() -> None:
    assert [code for code, _ in faults(chat(USER, {**ANSWER, "weight": "0"}))] == ["bad_weight"]
    assert [code for code, _ in faults(chat(USER, {**ANSWER, "weight": 0}))] == ["no_assistant"]


def test_an_input_that_is_no_object_is_named() -> None:
    example = preference([ANSWER], [{**ANSWER, "content": "雨です"}]) | {"input": [USER]}
    assert ("missing_messages", "input is a list, not an object") in faults(example)


def test_simple_chat_does_not_load_the_openai_package(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    rows = [chat({**USER, "content": f"Where is parcel {n}{n}?"}, ANSWER) for n in range(12)]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    program = f"""
import sys
from pathlib import Path
from finetune.data.checks.check_file import check_file
assert not [f for f in check_file(Path({str(path)!r})).findings if f.severity == "error"]
assert "openai" not in sys.modules, "openai was imported"
assert "jsonschema" not in sys.modules, "jsonschema was imported"
"""
    subprocess.run([sys.executable, "-c", program], check=True)


def test_images_that_a_server_leaves_out_give_a_warning(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    page = {"type": "image_url", "image_url": {"url": "data:image/png;base64,PGh0bWw+NDA0PC9odG1sPg=="}}
    path.write_text(json.dumps(parts({"type": "text", "text": "a"}, page)) + "\n", encoding="utf-8")
    found = check([path], training=False)["findings"]
    assert [(one["code"], one["severity"]) for one in found] == [("skipped_image", "warning")]
