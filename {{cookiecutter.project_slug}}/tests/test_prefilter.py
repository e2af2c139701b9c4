"""What the screen leaves out finds nothing: the same findings with it and without, whatever the texts hold."""

import json
import re
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from finetune.data.checks.check_lines import read_line
from finetune.data.checks.prefilter import ON_TEXTS, RULES_OF, plain, rules_for
from finetune.data.checks.sensitive_data import may_hold_secret, secret_patterns
from finetune.data.examples import said_in

PIECES = [
    "Where is my order?", "荷物はどこですか", "환불은요?", "Grüße", "ΑΒΓΔΕ", "ＡＢＣ", "SHOUTING AT YOU, LOUDLY", "shh",
    "<|endoftext|>", "<|", "|>", "\x00", "\x08", "\x0c", "\x7f", "\ufffd", "e\u0301", "か\u3099", "\u3000", "\u2028",
    "anna@web.de", "me@example.com", "4111 1111 1111 1111", "４１１１１１１１１１１１１１１１", "+49 30 901820",
    "090-1234-5678", "DE89 3704 0044 0532 0130 00", "123-45-6789", "12 34 56 7", "1/2/3/4/5/6/7", "①②③④⑤⑥⑦⑧",
    "https://user:hunter2@host.com", "AKIA" + "A" * 16, "ghp_" + "a" * 36, "BEGIN RSA PRIVATE KEY", "\\", '"', "\n",
    "\t", "/", "\\u0041", " ", "x" * 25, "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxMjM0In0.c2lnbmF0dXJlLW9mLW5vdGhpbmc",
]  # fmt: skip
TEXT = st.lists(st.sampled_from(PIECES) | st.text(st.characters(codec="utf-8"), max_size=4), max_size=4).map("".join)
MESSAGE = st.fixed_dictionaries(
    {"role": st.sampled_from(["system", "developer", "user", "assistant"]), "content": TEXT},
    optional={"weight": st.sampled_from([0, 1, True, 2]), "name": st.just("a")},
)
EXAMPLE: Any = st.fixed_dictionaries({"messages": st.lists(MESSAGE, max_size=4)}, optional={"tools": st.just([])})


@settings(max_examples=400, deadline=None)
@given(st.lists(st.tuples(EXAMPLE, st.booleans()), min_size=1, max_size=4))
def test_the_findings_are_the_same_with_the_screen_and_without(examples: list[tuple[dict[str, Any], bool]]) -> None:
    lines = [json.dumps(example, ensure_ascii=ascii_only).encode() for example, ascii_only in examples]
    for line, rules in zip(lines, rules_for(b"\n".join(lines), lines), strict=True):
        screened, whole = read_line(line, "supervised", rules), read_line(line, "supervised")
        assert screened[2] == whole[2]
        assert whole[0] is not None
        assert screened[1] in (None, said_in(whole[0]))


def test_a_good_example_is_asked_nothing() -> None:
    example = {
        "messages": [
            {"role": "system", "content": "Be brief.\nAnswer in one word."},
            {"role": "user", "content": 'Where is order 4711? It says "soon". 荷物はどこですか'},
            {"role": "assistant", "content": "delivery", "weight": 1},
        ]
    }
    assert plain(example)
    line = json.dumps(example, ensure_ascii=False).encode()
    assert rules_for(line, [line]) == [[]]


def test_the_rules_on_texts_are_all_there() -> None:
    assert sorted(rule.code for rule in RULES_OF[-1]) == sorted(ON_TEXTS)
    assert all(rule.find_in for rule in RULES_OF[-1])


# What these patterns of secrets take may be shorter than any real one: the screen asks for twenty letters in a row.
MAY_BE_SHORT = {"JSON Web Token", "Slack Token", "NPM tokens"}


@pytest.mark.parametrize(("kind", "pattern"), secret_patterns(), ids=[f"{n}" for n in range(len(secret_patterns()))])
def test_no_secret_slips_through_the_screen(kind: str, pattern: re.Pattern[str]) -> None:
    @settings(max_examples=25, deadline=None)
    @given(st.from_regex(pattern))
    def slips(text: str) -> None:
        assert kind in MAY_BE_SHORT or may_hold_secret(text)

    slips()
