"""The prefilter skips only rules that find nothing: every rule that does not declare a cheap test is asked."""

import json
import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from finetune.core.records.prepared import Example
from finetune.data.checks import rules
from finetune.data.checks.check_file import check_file
from finetune.data.checks.check_lines import read_line
from finetune.data.checks.detector import Detector
from finetune.data.checks.detector import Found as FoundData
from finetune.data.checks.line_block import LineBlock
from finetune.data.checks.prefilter import rules_to_ask, simple_chat_texts
from finetune.data.checks.rule import RULES, Found, Rule, rule, text_rule
from finetune.data.checks.sensitive_data import PERSONAL_DATA, SECRETS, has_key, secret_patterns
from finetune.data.examples import turn_texts

PARTS = [
    "Where is my order?", "荷物はどこですか", "환불은요?", "Grüße", "ΑΒΓΔΕ", "ＡＢＣ", "SHOUTING AT YOU ALL, LOUDLY",
    "shh", "<|endoftext|>",
    "<|", "|>", "\x00", "\x08", "\x0c", "\x7f", "\ufffd", "e\u0301", "か\u3099", "\u3000", "\u2028",
    "anna@web.de", "me@example.com", "4111 1111 1111 1111", "４１１１１１１１１１１１１１１１", "+49 30 901820",
    "090-1234-5678", "DE89 3704 0044 0532 0130 00", "123-45-6789", "12 34 56 7", "1/2/3/4/5/6/7", "①②③④⑤⑥⑦⑧",
    "https://user:hunter2@host.com", "AKIA" + "A" * 16, "ghp_" + "a" * 36, "BEGIN RSA PRIVATE KEY", "\\", '"', "\n",
    "\t", "/", "\\u0041", " ", "x" * 25, "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxMjM0In0.c2lnbmF0dXJlLW9mLW5vdGhpbmc",
]  # fmt: skip
TEXT = st.lists(st.sampled_from(PARTS) | st.text(st.characters(codec="utf-8"), max_size=4), max_size=4).map("".join)
MESSAGE = st.fixed_dictionaries(
    {"role": st.sampled_from(["system", "developer", "user", "assistant"]), "content": TEXT},
    optional={"weight": st.sampled_from([0, 1, True, 2]), "name": st.just("a")},
)
EXAMPLE: Any = st.fixed_dictionaries({"messages": st.lists(MESSAGE, max_size=4)}, optional={"tools": st.just([])})


def chat(question: str, answer: str = "delivery", **system: str) -> Example:
    messages = [{"role": role, "content": text} for role, text in system.items()]
    return {"messages": [*messages, {"role": "user", "content": question}, {"role": "assistant", "content": answer}]}


def as_json(*examples: Example, ascii_only: bool = False) -> LineBlock:
    return LineBlock(b"\n".join(json.dumps(one, ensure_ascii=ascii_only).encode() for one in examples))


GOOD = chat('Where is order 4711? It says "soon". 荷物はどこですか', system="Be brief.\nAnswer in one word.")


@pytest.fixture(autouse=True)
def _rules_of_a_test_end_with_it() -> Iterator[None]:
    before = list(RULES)
    yield
    RULES[:] = before


def check_12_rows(folder: Path) -> list[tuple[str, int]]:
    """Return the code and line of each finding in 12 rows of simple chat in which the known rules find nothing."""
    path = folder / "train.jsonl"
    rows = [chat(f"Where is parcel {'abcdefghijkl'[n] * 3}?", f"answer {n}") for n in range(12)]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return [(finding.code, finding.line) for finding in check_file(path).findings]


def test_a_new_rule_on_examples_finds_its_rows(tmp_path: Path) -> None:
    assert check_12_rows(tmp_path) == []

    @rule("too_few_messages")
    def has_three_messages(example: Example) -> Found:
        if len(example["messages"]) < 3:
            yield "fewer than three messages", "Add some."

    assert check_12_rows(tmp_path) == [("too_few_messages", line) for line in range(1, 13)]


def test_a_new_rule_on_texts_finds_its_rows(tmp_path: Path) -> None:
    @text_rule("parcel", "warning")
    def does_not_mention_parcels(text: str) -> Found:
        if "parcel" in text:
            yield "mentions a parcel", "Write package."

    assert check_12_rows(tmp_path) == [("parcel", line) for line in range(1, 13)]


@pytest.mark.parametrize(("code", "detectors"), [("secret", SECRETS), ("personal_data", PERSONAL_DATA)])
def test_a_new_kind_of_sensitive_data_is_found(tmp_path: Path, code: str, detectors: list[Detector]) -> None:
    def find_parcel(text: str) -> Iterator[FoundData]:
        if (start := text.find("parcel")) >= 0:
            yield FoundData("parcel", "a parcel", start, start + len("parcel"))

    detectors.append(Detector(find_parcel))
    try:
        assert check_12_rows(tmp_path) == [(code, line) for line in range(1, 13)]
    finally:
        detectors.pop()


@pytest.mark.parametrize("known", [rule for rule in RULES if "chat" in rule.shapes], ids=lambda rule: rule.code)
def test_a_rule_without_a_declaration_is_asked_about_every_line(known: Rule) -> None:
    undeclared = replace(known, simple_chat_passes=False, lines_to_ask=None)
    assert simple_chat_texts(GOOD)
    assert known not in rules_to_ask(as_json(GOOD))[0]
    RULES[RULES.index(known)] = undeclared
    assert rules_to_ask(as_json(GOOD, GOOD)) == [[undeclared], [undeclared]]


def differs(block: LineBlock) -> bool:
    """Return whether any line of a block has other findings with the prefilter than without."""
    return any(
        read_line(line, "supervised", asked)[2] != read_line(line, "supervised")[2]
        for line, asked in zip(block.lines, rules_to_ask(block), strict=True)
    )


@pytest.mark.slow
@settings(max_examples=400, deadline=None)
@given(st.lists(st.tuples(EXAMPLE, st.booleans()), min_size=1, max_size=4))
def test_the_findings_are_the_same_with_the_prefilter_and_without(examples: list[tuple[Example, bool]]) -> None:
    block = LineBlock(b"\n".join(as_json(example, ascii_only=ascii_only).content for example, ascii_only in examples))
    assert not differs(block)
    for line, asked in zip(block.lines, rules_to_ask(block), strict=True):
        example, texts, _ = read_line(line, "supervised", asked)
        assert example is not None
        assert texts in (None, turn_texts(example))


@pytest.mark.parametrize("known", [rule for rule in RULES if rule.lines_to_ask], ids=lambda rule: rule.code)
def test_the_property_notices_a_declaration_that_skips_too_much(known: Rule) -> None:
    block = as_json(*(chat(f"Is it {part}?") for part in PARTS))
    assert not differs(block)
    RULES[RULES.index(known)] = replace(known, lines_to_ask=lambda block: ())
    assert differs(block)


def test_a_second_system_message_is_checked_too() -> None:
    example = chat("Where is it?", system="Be brief.", developer="Stop at <|endoftext|> always.")
    [asked] = rules_to_ask(as_json(example))
    [fault] = read_line(as_json(example).content, "supervised", asked)[2]
    assert fault[0] == "special_token"


def test_no_rule_is_asked_about_a_good_example() -> None:
    assert simple_chat_texts({"messages": [*GOOD["messages"][:-1], {**GOOD["messages"][-1], "weight": 1}]})
    assert rules_to_ask(as_json(GOOD)) == [[]]


def test_every_module_of_rules_is_loaded() -> None:
    names = {path.stem for path in Path(rules.__path__[0]).glob("*.py")} - {"__init__"}
    assert {(known.find_in or known.find).__module__ for known in RULES} == {f"{rules.__name__}.{n}" for n in names}


# These patterns of secrets also match texts shorter than any real secret; the prefilter needs 20 letters in a row.
MAY_BE_SHORT = {"JSON Web Token", "Slack Token", "NPM tokens"}


@pytest.mark.parametrize(("kind", "pattern"), secret_patterns(), ids=[f"{n}" for n in range(len(secret_patterns()))])
def test_no_secret_is_skipped(kind: str, pattern: re.Pattern[str]) -> None:
    @settings(max_examples=25, deadline=None)
    @given(st.from_regex(pattern))
    def has_clue(text: str) -> None:
        assert kind in MAY_BE_SHORT or has_key(text)

    has_clue()
