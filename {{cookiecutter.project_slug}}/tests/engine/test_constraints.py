"""Constrained answers parse and fit their schema, whatever the model prefers; what cannot be enforced is refused."""

import ipaddress
import json
import time
import uuid
from collections import Counter
from collections.abc import Callable, Sequence
from datetime import date, datetime
from decimal import Decimal, localcontext
from pathlib import Path
from typing import Any
from zlib import crc32

import jsonschema
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tiny import make_tiny_base

from finetune.engine.api_errors import ApiError
from finetune.engine.inference.answer_grammar import grammar_of
from finetune.engine.inference.constraints import Constraint, Vocabulary, vocabulary_of
from finetune.engine.tool_format import ToolFormat

HERMES = ToolFormat()
SPECIAL = ToolFormat("<|call|>", "name", "parameters", "<|call|>", "<|end_of_call|>")  # its markers are special tokens
ADDED = ToolFormat("<fn>\n", "name", "arguments", "\n</fn>\n<fn>\n", "\n</fn>")  # added tokens that are no special ones
LIST = ToolFormat("[TOOL_CALLS] [", "name", "arguments", ", ", "]")
WEATHER = {
    "type": "object",
    "properties": {"city": {"$ref": "#/$defs/city"}, "days": {"type": "integer", "minimum": 1, "maximum": 7}},
    "required": ["city"],
    "additionalProperties": False,
    "$defs": {"city": {"enum": ["Zürich", "Genève", "東京"]}},
}
TOOLS = [
    {"type": "function", "function": {"name": "weather", "description": "…", "parameters": WEATHER, "strict": True}},
    {"type": "function", "function": {"name": "now"}},
]

# What a model prefers, as logits of the next token: other things than the schema wants.
Preference = Callable[[Sequence[int]], torch.Tensor]


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> tuple[Any, Any]:
    """Return the tokenizer and the model of the tiny base, in float32."""
    from transformers import AutoModelForCausalLM, AutoTokenizer

    folder = tmp_path_factory.mktemp("tiny")
    make_tiny_base(folder)
    return AutoTokenizer.from_pretrained(folder), AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)


@pytest.fixture(scope="module")
def letters(tiny: tuple[Any, Any]) -> Vocabulary:
    """Return the vocabulary of the tiny base, in which a token is a byte."""
    return vocabulary_of(tiny[0], {0})


@pytest.fixture(scope="module")
def words() -> Vocabulary:
    """Return a vocabulary with tokens of several letters, special tokens and two end tokens."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    tokenizer.decoder = decoders.ByteLevel()
    calls = [f"{HERMES.begin}{json.dumps({'name': name, 'arguments': {}})}{HERMES.end}" for name in ("weather", "now")]
    values = [json.dumps({"a": [[1, 2.5e3], {"b": "Zürich\n\\"}]}, indent=indent) for indent in (None, 1, 4)]
    trainer = trainers.BpeTrainer(
        vocab_size=700, special_tokens=["<|end|>", "<|stop|>"], initial_alphabet=pre_tokenizers.ByteLevel.alphabet()
    )
    tokenizer.train_from_iterator([*calls, *values, "}}\n", "\r\n    ", "<tool", "0000", '"}'] * 9, trainer)
    fast = PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token="<|end|>")  # type: ignore[no-untyped-call]
    fast.add_special_tokens({"additional_special_tokens": ["<|call|>", "<|end_of_call|>", "[TOOL_CALLS]"]})
    fast.add_tokens(["<fn>", "</fn>"])
    return vocabulary_of(fast, {0, 1})


def random_tokens(vocabulary: Vocabulary, seed: int) -> Preference:
    """Prefer other tokens at each step."""
    draw = torch.Generator().manual_seed(seed)
    size = vocabulary.tokenizer.vocab_size
    return lambda ids: 3 * torch.randn(size, generator=draw)


def same_tokens(vocabulary: Vocabulary, seed: int) -> Preference:
    """Prefer the same few tokens at each step, as a model in a loop does, until an answer is long."""
    draw = torch.Generator().manual_seed(seed)
    fixed = 6 * torch.randn(vocabulary.tokenizer.vocab_size, generator=draw)
    return lambda ids: fixed


def letters_first(vocabulary: Vocabulary, preferred: str) -> Preference:
    """Prefer the tokens of certain letters."""
    found = torch.zeros(vocabulary.tokenizer.vocab_size)
    for token in range(vocabulary.tokenizer.vocab_size):
        text = vocabulary.tokenizer.decode_bytes([token]).decode(errors="replace")
        found[token] = 20 * (bool(text) and set(text) <= set(preferred))
    return lambda ids: found


def answer(
    vocabulary: Vocabulary, grammar: str, preference: Preference, tokens: int = 300, seed: int = 0, start: str = ""
) -> tuple[str, str]:
    """Sample an answer at temperature 1; return its text ("" if it is cut) and its finish reason.

    `start` is what it begins with.
    """
    draw = torch.Generator().manual_seed(seed)
    constraint, ids = Constraint(vocabulary, grammar), vocabulary.tokenizer.tokenize_str(start, parse_special=True)
    for token in ids:
        constraint.accept(token)
    while len(ids) < tokens:
        probabilities = constraint.mask(preference(ids)).softmax(-1)
        token = int(torch.multinomial(probabilities, 1, generator=draw))
        assert not constraint.is_complete or token in vocabulary.end_token_ids
        if token in vocabulary.end_token_ids:
            return text_of(vocabulary, ids), "stop"
        ids.append(token)
        constraint.accept(token)
    return "", "length"


def text_of(vocabulary: Vocabulary, ids: list[int]) -> str:
    names = {index: text for text, index in vocabulary.special_tokens.items()}
    raw = [names[i].encode() if i in names else vocabulary.tokenizer.decode_bytes([i]) for i in ids]
    return b"".join(raw).decode()


def schema_format(schema: Any) -> dict[str, Any]:
    return {"type": "json_schema", "json_schema": {"name": "answer", "schema": schema, "strict": True}}


def grammar_of_schema(schema: Any) -> str:
    found = grammar_of(schema_format(schema))
    assert found
    return found


def refusal(*arguments: Any, **more: Any) -> ApiError:
    with pytest.raises(ApiError) as caught:
        grammar_of(*arguments, **more)
    assert caught.value.status == 400
    return caught.value


def exact(text: str) -> Any:
    """Return the value of JSON with exact decimals, so that `multipleOf` is not a matter of rounding."""

    def number(written: str) -> Decimal | float:
        exponent = written.lower().partition("e")[2]
        return Decimal(written) if len(exponent) < 4 else float(written)

    return json.loads(text, parse_float=number)


def check_fits(text: str, schema: Any) -> None:
    json.loads(text)
    with localcontext() as context:
        context.prec = 1000
        jsonschema.Draft202012Validator(exact(json.dumps(schema))).validate(exact(text))


# Schemas


def test_a_json_object_is_an_object_whatever_the_model_prefers(letters: Vocabulary, words: Vocabulary) -> None:
    grammar = grammar_of({"type": "json_object"})
    assert grammar
    ends = Counter[str]()
    for vocabulary in (letters, words):
        for seed in range(20):
            for preference in (random_tokens(vocabulary, seed), same_tokens(vocabulary, seed)):
                text, reason = answer(vocabulary, grammar, preference, seed=seed)
                ends[reason] += 1
                if reason == "stop":
                    assert isinstance(json.loads(text), dict)
    assert ends["stop"] > 20


NAMES = ["a", "b c", "é", 'q"\\']
small, number = st.integers(0, 3), st.integers(-50, 50)
fraction = st.sampled_from([-1.5, 0, 0.25, 3.75, 100, 12345.678])
value = st.none() | st.booleans() | number | fraction | st.text(max_size=4)
values = value | st.lists(value, max_size=2) | st.dictionaries(st.sampled_from(NAMES), value, max_size=2)


def keys(required: dict[str, Any], /, **optional: st.SearchStrategy[Any]) -> st.SearchStrategy[dict[str, Any]]:
    """Make schemas with these keywords; those that are no strategies are the same in all."""
    fixed = {key: one if isinstance(one, st.SearchStrategy) else st.just(one) for key, one in required.items()}
    return st.fixed_dictionaries(fixed, optional=optional)


leaf = st.one_of(
    keys({"type": st.sampled_from(["null", "boolean", "string", "number", "integer", "object", "array"])}),
    keys({"type": "integer"}, minimum=number, exclusiveMaximum=st.sampled_from([51, 60, 999])),
    keys({"type": "integer", "multipleOf": st.sampled_from([2, 7, 60])}, maximum=number),
    keys({"type": "number"}, exclusiveMinimum=fraction, maximum=st.sampled_from([12345.678, 20000, 1e6])),
    keys({"type": "number", "multipleOf": st.sampled_from([0.01, 0.5, 3])}, minimum=fraction),
    keys({"type": "string"}, minLength=small, maxLength=st.integers(3, 9)),
    keys(
        {"type": "string", "pattern": st.sampled_from(["^[a-z]+$", r"\d{2}", "^a|b$", r"^\w+@\w+$", "[^é]$", "^.?$"])}
    ),
    keys({"type": "string", "format": st.sampled_from(["date", "uuid", "ipv4", "email"])}),
    keys({"enum": st.lists(values, min_size=1, max_size=4)}),
    keys({"const": values}),
    keys({"type": st.sampled_from([["string", "null"], ["integer", "array"]])}, minimum=small, maxLength=small),
)


def with_parts(inner: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    """Make schemas that have other schemas as their parts."""
    names = st.sampled_from(NAMES)
    parts, closed = st.lists(inner, min_size=1, max_size=3), st.booleans() | inner
    properties = st.dictionaries(names, inner, max_size=3)
    required = st.lists(names, max_size=3, unique=True)
    return st.one_of(
        keys({"type": "object", "properties": properties}, required=required, additionalProperties=closed),
        keys({"type": "object", "additionalProperties": inner}, minProperties=st.integers(0, 1), maxProperties=small),
        keys({"patternProperties": st.dictionaries(st.sampled_from(["^x", "^y"]), inner)}, additionalProperties=closed),
        keys({"type": "array", "items": inner}, minItems=small, maxItems=small, uniqueItems=st.just(False)),
        keys({"type": "array", "prefixItems": parts}, items=closed, minItems=small),
        keys({"anyOf": parts}, title=st.text(max_size=3), type=st.sampled_from(["object", "string", "integer"])),
        keys({"allOf": parts}),
        keys({"oneOf": st.tuples(inner, leaf).map(list)}),
    )


@pytest.mark.slow
def test_answers_to_random_schemas_fit_or_are_cut(
    tiny: tuple[Any, Any], letters: Vocabulary, words: Vocabulary
) -> None:
    counts, why, model = Counter[str](), Counter[str](), tiny[1]

    def by_model(ids: Sequence[int]) -> torch.Tensor:
        with torch.inference_mode():
            return torch.as_tensor(model(torch.tensor([[1, *ids]])).logits[0, -1])

    @settings(max_examples=320, derandomize=True, deadline=None, database=None, suppress_health_check=[*HealthCheck])
    @given(st.recursive(leaf, with_parts, max_leaves=6))
    def check(schema: dict[str, Any]) -> None:
        refused = reason_to_refuse(schema)
        if refused:
            why[refused] += 1
            assert "nsatisfiable" not in refused or not any(is_valid(one, schema) for one in SOME_VALUES)
            return
        grammar, seed = grammar_of_schema(schema), crc32(json.dumps(schema).encode())
        counts["answered"] += 1
        for vocabulary, preference in (
            (letters, by_model),
            (letters, same_tokens(letters, seed)),
            (words, random_tokens(words, seed)),
        ):
            text, reason = answer(vocabulary, grammar, preference, tokens=60, seed=seed)
            counts[reason] += 1
            if reason == "stop":
                check_fits(text, schema)

    check()
    print(counts, json.dumps(why.most_common(), indent=1))  # shown by pytest -s
    assert counts["answered"] >= 200
    assert counts["stop"] > counts["length"]
    # The rest has no valid value, or alternatives of oneOf that may be valid together.
    assert sum(why[one] for one in why if "nsatisfiable" not in one and "oneOf" not in one) <= 10


SOME_VALUES: list[Any] = [
    *(
        None,
        True,
        False,
        0,
        1,
        7,
        -42,
        60,
        0.25,
        3.75,
        100,
        12345.678,
        "",
        "a",
        "abc",
        "12",
        "a@b",
        "é",
        [],
        [0],
        ["a"],
    ),
    *([None], [[]], [{}], {}, {"a": None}, {"a": 1}, {"a": "b"}, {"b c": 1}, {"x": None}, {"é": [], "a": {}}),
]


def reason_to_refuse(schema: Any) -> str | None:
    try:
        grammar_of_schema(schema)
    except ApiError as error:
        return error.message.split("'answer': ")[1]
    return None


def is_valid(value: Any, schema: Any) -> bool:
    validator = jsonschema.Draft202012Validator(schema, format_checker=jsonschema.FormatChecker())
    return bool(validator.is_valid(value))


NODE = {
    "$defs": {
        "node": {
            "type": "object",
            "properties": {
                "value": {"type": "integer"},
                "next": {"anyOf": [{"$ref": "#/$defs/node"}, {"type": "null"}]},
            },
            "required": ["value", "next"],
        }
    },
    "$ref": "#/$defs/node",
}
CAT = {"type": "object", "properties": {"kind": {"const": "cat"}, "lives": {"type": "integer"}}, "required": ["kind"]}
DOG = {"type": "object", "properties": {"kind": {"enum": ["dog"]}, "name": {"type": "string"}}, "required": ["kind"]}
SCHEMAS: list[Any] = [
    NODE,
    {"$defs": {"c/a~t": CAT, "dog": DOG}, "oneOf": [{"$ref": "#/$defs/c~1a~0t"}, {"$ref": "#/$defs/dog"}]},
    {"oneOf": [CAT, DOG], "discriminator": {"propertyName": "kind"}},
    {"$defs": {"cat": CAT}, "oneOf": [{"$ref": "#/$defs/cat"}, {"type": "null"}]},
    {"type": "string", "minLength": 2, "maxLength": 3},
    {"type": "string", "pattern": r"^(\+41|0)\d{2} \d{3}$"},
    {"enum": ["a\nb", "\u0000", "/", '"\\', "é", "\U0001f600", 1, 1.5, -0.001, None, True, {"a": [1, "x"]}, []]},
    {"const": {"b": 1, "a": {"c": [None, 0.1]}}},
    {"type": "integer", "multipleOf": 7, "minimum": -30, "exclusiveMaximum": 50},
    {"type": "number", "multipleOf": 0.01, "exclusiveMinimum": 0, "maximum": 3.5},
    {"type": "number", "maximum": -0.5},
    {"type": "object", "properties": {"a": {"exclusiveMinimum": 0}, "b": {"maximum": 0.5}}, "required": ["a", "b"]},
    {"type": "array", "prefixItems": [{"type": "integer"}, {"type": "string"}], "items": False, "minItems": 1},
    {"type": "object", "additionalProperties": {"type": "boolean"}, "minProperties": 1, "maxProperties": 2},
    {"type": "object", "patternProperties": {"^x": {"type": "null"}}, "additionalProperties": False},
    {"type": "object", "properties": {"a": {"const": 1}, 'a"\\b': {"const": 2}}, "required": ["b", "a"]},
    {"const": {"\u0004\n": "\u001f\u00a8\t"}},
    {"allOf": [{"type": "integer", "minimum": 3}, {"maximum": 5}], "title": "from 3 to 5"},
    {"type": ["integer", "string"], "maxLength": 2, "maximum": 9},
    {"properties": {"properties": {"type": "integer"}, "title": {"type": "null"}}, "type": "object"},
]


@pytest.mark.parametrize("schema", SCHEMAS, ids=lambda schema: json.dumps(schema)[:50])
def test_answers_fit_what_a_schema_can_say(letters: Vocabulary, words: Vocabulary, schema: Any) -> None:
    grammar = grammar_of_schema(schema)
    ends = Counter[str]()
    for vocabulary in (letters, words):
        for seed in range(15):
            for preference in (random_tokens(vocabulary, seed), same_tokens(vocabulary, seed)):
                text, reason = answer(vocabulary, grammar, preference, tokens=200, seed=seed)
                ends[reason] += 1
                if reason == "stop":
                    check_fits(text, schema)
    assert ends["stop"] > 0


@pytest.mark.parametrize(
    ("kind", "check"),
    [
        ("date", date.fromisoformat),
        ("date-time", lambda text: datetime.fromisoformat(text.upper().replace("Z", "+00:00").partition(".")[0][:19])),
        ("time", lambda text: datetime.fromisoformat(f"2024-01-01T{text[:8]}")),
        ("ipv4", ipaddress.IPv4Address),
        ("ipv6", ipaddress.IPv6Address),
        ("uuid", uuid.UUID),
    ],
)
def test_formats_are_those_that_other_programs_read(
    letters: Vocabulary, kind: str, check: Callable[[str], object]
) -> None:
    grammar = grammar_of_schema({"type": "string", "format": kind})
    for seed in range(60):
        preference = letters_first(letters, "0269") if seed % 2 else random_tokens(letters, seed)
        text, reason = answer(letters, grammar, preference, tokens=100, seed=seed)
        if reason == "stop":
            check(json.loads(text))


def test_integers_are_those_that_every_reader_has_exactly(letters: Vocabulary) -> None:
    text, reason = answer(letters, grammar_of_schema({"type": "integer"}), letters_first(letters, "9"))
    assert reason == "stop"
    assert abs(int(text)) < 2**53


@pytest.mark.parametrize("preferred", [" ", "\n", "\t", " \n\r\t"])
def test_white_space_has_an_end(letters: Vocabulary, words: Vocabulary, preferred: str) -> None:
    inner = {"type": "array", "items": {"type": "boolean"}, "maxItems": 2}
    schema = {"type": "object", "properties": {"a": inner}, "required": ["a"], "additionalProperties": False}
    for vocabulary in (letters, words):
        text, reason = answer(vocabulary, grammar_of_schema(schema), letters_first(vocabulary, preferred), tokens=900)
        assert reason == "stop"
        check_fits(text, schema)
    assert len(text) < 900


@pytest.mark.parametrize("written", [{"indent": None}, {"separators": (",", ":")}, {"indent": 2}, {"indent": 4}])
def test_json_may_be_written_as_a_model_learnt_it(words: Vocabulary, written: dict[str, Any]) -> None:
    value = {"a": [1, {"b": []}], "c": {}}
    constraint = Constraint(words, grammar_of({"type": "json_object"}) or "")
    for token in words.tokenizer.tokenize_str(json.dumps(value, **written)):
        constraint.accept(token)
    assert constraint.is_complete


REFUSED: list[tuple[Any, str]] = [
    ({"type": "array", "uniqueItems": True}, "'uniqueItems'"),
    ({"not": {"type": "null"}}, "'not'"),
    ({"if": {"type": "null"}, "then": False}, "'if'"),
    ({"type": "object", "propertyNames": {"pattern": "a"}}, "'propertyNames'"),
    ({"type": "object", "properties": {"a": {"contains": {}}}}, "In context=('properties', 'a'), 'contains'"),
    ({"type": "string", "contentEncoding": "base64"}, "'contentEncoding'"),
    ({"type": "string", "nullable": True}, "'nullable'"),
    ({"type": "string", "x-unknown": 1}, "'x-unknown'"),
    ({"type": "string", "format": "color"}, "'format' 'color'"),
    ({"type": "string", "format": "unknown"}, "'format' 'unknown'"),
    ({"type": "string", "pattern": "^(?=a)b"}, "'pattern'"),
    ({"type": "string", "pattern": "[a&&b]"}, "'pattern'"),
    ({"type": "string", "pattern": "[[a]b]"}, "'pattern'"),
    ({"type": "string", "pattern": r"\bword\b"}, "'pattern'"),
    ({"type": "string", "pattern": "("}, "cannot enforce"),
    ({"type": "string", "minLength": "3"}, "minLength"),
    ({"type": "text"}, "'text' is not valid"),
    ({"items": [{"type": "string"}]}, "In context=('items',)"),
    ({"$ref": "https://example.com/schema"}, "'$ref'"),
    ({"$ref": "#/$defs/missing"}, "'$ref'"),
    ({"$ref": "#/enum/0", "enum": [{"not": {}}]}, "'$ref'"),
    ({"oneOf": [{"type": "integer"}, {"type": "number", "minimum": 0}]}, "'oneOf'"),
    ({"oneOf": [CAT, {"properties": {"kind": {"type": "string"}}, "required": ["kind"]}]}, "'oneOf'"),
    ({"type": "integer", "minimum": 2**53}, "'minimum'"),
    ({"const": 12345678901234567890}, "'const'"),
    ({"enum": [[1e300]]}, "'enum'"),
    ({"const": -3628243.4588152613}, "15 digits"),
    ({"type": "integer", "multipleOf": 65537}, "'multipleOf'"),
    ({"type": "object", "properties": {"a\nb": {"const": 1}}}, "control characters"),
    ({"type": "number", "exclusiveMinimum": 3, "maximum": 3.75}, "'exclusiveMinimum' 3"),
    ({"allOf": [{"type": "number", "exclusiveMaximum": 0}, {"minimum": -0.5}]}, "'exclusiveMaximum' 0"),
    ({"type": "number", "minimum": 1e-30}, "20 decimals"),
    ({"type": "integer", "minimum": 3, "maximum": 2}, "cannot enforce"),
    ({"enum": []}, "cannot enforce"),
    (False, "must be an object"),
    ({"allOf": [{"multipleOf": 65537}, {"multipleOf": 65539}]}, "'multipleOf'"),
    ({"type": "object", "additionalProperties": True, "minProperties": 2}, "'minProperties'"),
    ({"type": "array", "maxItems": 10**9}, "'maxItems'"),
    ({"type": "string", "maxLength": 10**12}, "'maxLength'"),
    ({"enum": list(range(2000))}, "more than 1000 values"),
    ({"type": "string", "pattern": "a" * 501}, "'pattern'"),
]


@pytest.mark.parametrize(("schema", "named"), REFUSED, ids=lambda value: json.dumps(value)[:50])
def test_what_a_grammar_cannot_enforce_is_refused_by_name(schema: Any, named: str) -> None:
    error = refusal(schema_format(schema))
    assert (error.code, error.param) == ("invalid_json_schema", "response_format.json_schema")
    assert error.message.startswith("Invalid schema for response_format 'answer': ")
    assert named in error.message
    assert len(error.message) < 600


LENIENT = {
    "type": "object",
    "properties": {
        "link": {"type": "string", "format": "uri-reference"},
        "word": {"type": "string", "pattern": "^(?=a)", "maxLength": 4},
        "tags": {"type": "array", "items": {"enum": ["x", "y"]}, "uniqueItems": True, "maxItems": 2},
    },
    "required": ["link", "word", "tags"],
    "not": {"required": ["other"]},
}


def test_what_cannot_be_enforced_is_left_out_of_a_schema_that_is_not_strict(words: Vocabulary) -> None:
    """OpenAI does not promise that answers fit such a schema: clients send it without a thought to grammars."""
    enforced = {
        "type": "object",
        "properties": {
            "link": {"type": "string"},
            "word": {"type": "string", "maxLength": 4},
            "tags": {"type": "array", "items": {"enum": ["x", "y"]}, "maxItems": 2},
        },
        "required": ["link", "word", "tags"],
    }
    function = {"name": "save", "parameters": LENIENT}
    plain = grammar_of({"type": "json_schema", "json_schema": {"name": "answer", "schema": LENIENT}})
    call = grammar_of(None, [{"type": "function", "function": function}], "required", False, HERMES, {})
    assert plain
    assert call
    ended = 0
    for seed in range(20):
        text, reason = answer(words, plain, random_tokens(words, seed), seed=seed)
        if reason == "stop":
            jsonschema.validate(json.loads(text), enforced)
            ended += 1
        text, reason = answer(words, call, random_tokens(words, seed), seed=seed)
        if reason == "stop":
            jsonschema.validate(calls_of(text, HERMES)[1][0]["arguments"], enforced)
            ended += 1
    assert ended > 10
    error = refusal(None, [{"type": "function", "function": {**function, "strict": True}}], "required", False, HERMES)
    assert error.param == "tools[0].function.parameters"


@pytest.mark.parametrize(
    "schema",
    [
        {"type": "object", "oneOf": [{"required": ["a"]}, {"required": ["b"]}]},
        {"type": "object", "properties": {"a": {"$ref": "https://example.org/a"}}},
        {"type": "object", "properties": {"a": {"type": "integer", "minimum": 3, "maximum": 2}}, "required": ["a"]},
    ],
)
def test_without_strict_the_type_alone_is_enforced_where_the_rest_cannot_be(words: Vocabulary, schema: Any) -> None:
    grammar = grammar_of({"type": "json_schema", "json_schema": {"name": "answer", "schema": schema, "strict": False}})
    assert grammar
    texts = [answer(words, grammar, random_tokens(words, seed), seed=seed) for seed in range(10)]
    ended = [json.loads(text) for text, reason in texts if reason == "stop"]
    assert ended
    assert all(isinstance(one, dict) for one in ended)


def test_a_schema_that_is_none_is_refused_without_strict_too() -> None:
    wrong = {"type": "json_schema", "json_schema": {"name": "answer", "schema": {"type": "objekt"}}}
    assert refusal(wrong).code == "invalid_json_schema"


@pytest.mark.parametrize(
    ("response_format", "param"),
    [
        ({"type": "xml"}, "response_format.type"),
        ({"type": "json_schema"}, "response_format.json_schema"),
        ({"type": "json_schema", "json_schema": {"schema": {}}}, "response_format.json_schema.name"),
        ({"type": "json_schema", "json_schema": {"name": "a b"}}, "response_format.json_schema.name"),
        ({"type": "json_schema", "json_schema": {"name": "a" * 65}}, "response_format.json_schema.name"),
    ],
)
def test_a_wrong_response_format_is_refused(response_format: Any, param: str) -> None:
    assert refusal(response_format).param == param


def test_text_has_no_grammar() -> None:
    for response_format in (None, {"type": "text"}):
        assert grammar_of(response_format) is None
        assert grammar_of(response_format, [], "auto") is None
        assert grammar_of(response_format, TOOLS, "none") is None


def nested(levels: int, inner: Any, **more: Any) -> Any:
    for _ in range(levels):
        inner = {"type": "array", "items": inner, **more}
    return inner


HOSTILE: list[Any] = [
    nested(60, {"type": "null"}),
    nested(300, {"type": "null"}),
    nested(8, {"type": "null"}, minItems=900, maxItems=1000),
    {"enum": ["x" * 100 + str(n) for n in range(1000)]},
    {"type": "string", "pattern": "^(a{1,100}){1,100}$"},
    {"type": "string", "pattern": "^((a{0,99}){0,99}){0,99}$"},
    {"type": "string", "pattern": "^(a|b|ab)*c.{200}d.{200}$"},
    {"type": "string", "pattern": "(a|b)*a(a|b){18}"},
    {"allOf": [{"type": "string", "pattern": f"(a|b)*a(a|b){{{n}}}"} for n in range(14, 20)]},
    {"allOf": [{"anyOf": [{"type": "object", "required": [f"{n}-{k}"]} for k in range(12)]} for n in range(12)]},
    {"type": "object", "properties": {f"p{n}": {"type": "string", "minLength": 1} for n in range(5_000)}},
    {"$defs": {f"d{n}": {"type": "array", "prefixItems": [{"$ref": f"#/$defs/d{n + 1}"}] * 9} for n in range(40)}
     | {"d40": {"type": "null"}}, "$ref": "#/$defs/d0"},
    {"$ref": "#"},
    {"allOf": [{"$ref": "#"}]},
    {"$defs": {"a": {"$ref": "#/$defs/b"}, "b": {"$ref": "#/$defs/a"}}, "$ref": "#/$defs/a"},
    {"type": "string", "minLength": 10_000, "maxLength": 10_000},
    {"type": "string", "pattern": "^\\w{1,400}$", "format": "uri", "minLength": 300},
]  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize("schema", HOSTILE, ids=lambda schema: json.dumps(schema)[:50])
def test_a_hostile_schema_takes_a_bounded_time(words: Vocabulary, schema: Any) -> None:
    start, found = time.thread_time(), ApiError(400, "")
    try:
        answer(words, grammar_of_schema(schema), random_tokens(words, 0), tokens=50)
    except ApiError as error:
        found = error
    assert found.status == 400
    assert len(found.message) < 600
    assert "\n" not in found.message
    assert time.thread_time() - start < 10  # 3 s for 5,000 properties, under 0.5 s for the others


# Calls of tools


def calls_of(text: str, tool_format: ToolFormat) -> tuple[str, list[Any]]:
    """Return the text before the calls, and the calls."""
    content, begin, rest = text.partition(tool_format.begin)
    if not begin:
        return content, []
    assert rest.endswith(tool_format.end)
    decoder, calls, rest = json.JSONDecoder(), [], rest[: len(rest) - len(tool_format.end)]
    while True:
        call, end = decoder.raw_decode(rest)
        calls.append(call)
        rest = rest[end:]
        if not rest:
            return content, calls
        assert tool_format.separator
        assert rest.startswith(tool_format.separator)
        rest = rest.removeprefix(tool_format.separator)


def check_calls(calls: list[Any], tool_format: ToolFormat) -> None:
    for call in calls:
        assert list(call) == [tool_format.name, tool_format.arguments]
        schema = WEATHER if call[tool_format.name] == "weather" else {"type": "object", "maxProperties": 0}
        jsonschema.validate(call[tool_format.arguments], schema)


@pytest.mark.parametrize("tool_format", [HERMES, SPECIAL, ADDED, LIST], ids=["hermes", "special", "added", "list"])
@pytest.mark.parametrize("choice", ["required", {"type": "function", "function": {"name": "now"}}], ids=str)
@pytest.mark.parametrize("parallel", [False, None])
def test_a_required_call_is_a_call_of_a_tool_with_fitting_arguments(
    words: Vocabulary, tool_format: ToolFormat, choice: Any, parallel: bool | None
) -> None:
    grammar = grammar_of(None, TOOLS, choice, parallel, tool_format, words.special_tokens)
    assert grammar
    numbers = set()
    for seed in range(24):
        preference = random_tokens(words, seed) if seed % 2 else same_tokens(words, seed)
        text, reason = answer(words, grammar, preference, tokens=400, seed=seed)
        if reason == "stop":
            content, calls = calls_of(text, tool_format)
            assert content == ""
            check_calls(calls, tool_format)
            numbers.add(len(calls))
            assert choice == "required" or {call[tool_format.name] for call in calls} == {"now"}
    is_one = parallel is False or choice != "required"  # a named function is called once
    assert numbers == {1} if is_one else max(numbers) > 1 and 0 not in numbers


@pytest.mark.parametrize("tool_format", [HERMES, SPECIAL, ADDED, LIST], ids=["hermes", "special", "added", "list"])
@pytest.mark.parametrize("response_format", [None, {"type": "json_object"}], ids=["text", "json_object"])
def test_with_auto_an_answer_is_text_or_calls_after_text(
    words: Vocabulary, tool_format: ToolFormat, response_format: Any
) -> None:
    grammar = grammar_of(response_format, TOOLS, "auto", True, tool_format, words.special_tokens)
    assert grammar
    before = "" if response_format else 'Let me see <tool "é {'
    begin = tool_format.begin.rstrip()
    for start in ("", before + begin):
        kinds = Counter[str]()
        for seed in range(25):
            text, reason = answer(words, grammar, random_tokens(words, seed), seed=seed, start=start)
            kinds[reason] += 1
            if reason == "stop":
                content, calls = calls_of(text, tool_format)
                check_calls(calls, tool_format)
                kinds["calls" if calls else "text"] += 1
                if response_format and not calls:
                    assert isinstance(json.loads(content), dict)
        assert kinds["calls"] == kinds["stop"] > 0 if start else kinds["text"] > 0


def test_text_that_only_begins_as_a_call_does_stays_text(words: Vocabulary) -> None:
    grammar = grammar_of(None, TOOLS, "auto", True, HERMES, words.special_tokens)
    constraint = Constraint(words, grammar or "")
    for token in words.tokenizer.tokenize_str("<tool_cal, <tool_ and </tool_call> é"):
        constraint.accept(token)
    assert torch.isfinite(constraint.mask(torch.zeros(words.tokenizer.vocab_size))[words.end_token_ids]).all()


@pytest.mark.parametrize(
    ("tools", "choice", "param"),
    [
        ([{"type": "custom", "custom": {"name": "a"}}], "auto", "tools[0].type"),
        ([{"type": "function"}], "auto", "tools[0].function"),
        ([{"type": "function", "function": {}}], "auto", "tools[0].function.name"),
        ([{"type": "function", "function": {"name": "é"}}], "auto", "tools[0].function.name"),
        ([*TOOLS, TOOLS[0]], "auto", "tools[2].function.name"),
        (TOOLS * 65, "auto", "tools"),
        ([], "required", "tool_choice"),
        (TOOLS, "maybe", "tool_choice"),
        (TOOLS, {"type": "function", "function": {"name": "other"}}, "tool_choice"),
        (TOOLS, {"type": "custom", "custom": {"name": "now"}}, "tool_choice"),
        (
            [TOOLS[0], {"type": "function", "function": {"name": "b", "parameters": {"type": "string"}}}],
            "auto",
            "tools[1].function.parameters",
        ),
        (
            [
                {
                    "type": "function",
                    "function": {"name": "b", "parameters": {"type": "object", "not": {}}, "strict": True},
                }
            ],
            "auto",
            "tools[0].function.parameters",
        ),
    ],
)
def test_a_wrong_tool_or_choice_is_refused_by_its_place(tools: Any, choice: Any, param: str) -> None:
    error = refusal(None, tools, choice, True, HERMES)
    assert error.param == param
    assert error.code


def test_a_base_without_calls_refuses_tools() -> None:
    assert refusal(None, TOOLS, "auto").param == "tools"
    assert grammar_of(None, TOOLS, "none") is None


def test_allowed_tools_are_a_choice_among_the_tools(words: Vocabulary) -> None:
    now = {"type": "function", "function": {"name": "now"}}
    choice = {"type": "allowed_tools", "allowed_tools": {"mode": "required", "tools": [now]}}
    named = {"type": "function", "function": {"name": "now"}}
    assert grammar_of(None, TOOLS, choice, False, HERMES) == grammar_of(None, TOOLS, named, True, HERMES)


# Tokens


def test_each_end_token_may_follow_exactly_where_the_grammar_may_end(words: Vocabulary) -> None:
    constraint = Constraint(words, grammar_of_schema({"type": "array", "items": {"const": 1}, "maxItems": 1}))
    logits = torch.zeros(words.tokenizer.vocab_size + 40)  # a model's vocabulary is often padded
    for text, may_end in (("[", False), ("1", False), ("]", True)):
        assert not constraint.is_complete
        for token in words.tokenizer.tokenize_str(text):
            constraint.accept(token)
        allowed = constraint.mask(logits).isfinite()
        assert allowed[words.end_token_ids].tolist() == [may_end, may_end]
        assert not allowed[words.tokenizer.vocab_size :].any()
    assert constraint.is_complete
    assert constraint.mask(logits).isfinite().nonzero().flatten().tolist() == words.end_token_ids
    constraint.accept(1)


def test_a_mask_leaves_the_logits_and_the_allowed_values_as_they_are(words: Vocabulary) -> None:
    logits = torch.randn(words.tokenizer.vocab_size, generator=torch.Generator().manual_seed(0))
    before = logits.clone()
    masked = Constraint(words, grammar_of({"type": "json_object"}) or "").mask(logits)
    assert torch.equal(logits, before)
    allowed = masked.isfinite()
    assert torch.equal(masked[allowed], before[allowed])
    assert 0 < int(allowed.sum()) < len(logits)


def test_the_same_answer_comes_each_time_and_beside_others(words: Vocabulary) -> None:
    grammar = grammar_of_schema(NODE)
    alone = answer(words, grammar, random_tokens(words, 3), seed=3)
    for seed in range(5):
        answer(words, grammar, same_tokens(words, seed), seed=seed)
    assert answer(words, grammar, random_tokens(words, 3), seed=3) == alone


def test_a_schema_too_complex_to_go_on_with_is_an_error_and_no_end(
    words: Vocabulary, monkeypatch: pytest.MonkeyPatch
) -> None:
    constraint = Constraint(words, grammar_of({"type": "json_object"}) or "")
    with pytest.raises(ApiError) as caught:
        constraint.accept(words.tokenizer.tokenize_str("]")[0])
    assert caught.value.status == 500
    with pytest.raises(ApiError) as caught:
        constraint.mask(torch.zeros(words.tokenizer.vocab_size))
    assert caught.value.status == 400
    assert not constraint.is_complete


def test_a_mask_takes_less_than_a_millisecond(letters: Vocabulary) -> None:
    grammar, logits = grammar_of_schema(NODE), torch.zeros(letters.tokenizer.vocab_size)
    constraint = Constraint(letters, grammar)
    constraint.mask(logits)
    start = time.perf_counter()
    for _ in range(100):
        constraint.mask(logits)
    assert (time.perf_counter() - start) / 100 < 0.01


def test_no_library_is_imported_before_a_constraint_is_asked_for() -> None:
    import subprocess
    import sys

    code = "import sys, finetune.engine.inference.constraints as c, finetune.engine.inference.answer_grammar as g\n"
    code += "g.grammar_of(None)\nprint({'llguidance', 'torch', 'numpy', 'jsonschema'} & set(sys.modules))"
    root = Path(__file__).parents[2]
    assert subprocess.check_output([sys.executable, "-c", code], cwd=root, text=True).strip() == "set()"
