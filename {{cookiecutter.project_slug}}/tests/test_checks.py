"""Checks of training files: good files pass, and no file causes a traceback."""

import json
import random
import tempfile
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from finetune.core.records.checks import CheckReport
from finetune.data.checks.across_files import check
from finetune.data.checks.check_file import check_file
from finetune.data.checks.findings import Finding, as_github, as_text, report_of
from finetune.data.checks.repair import as_utf8, repair, repaired_lines, split_lines
from finetune.data.checks.rules import RULES
from finetune.data.near_duplicates import NEAR, jaccard, near_duplicates_of, trigrams
from finetune.data.token_counts import counter

TOOLS = [{"type": "function", "function": {"name": "weather", "parameters": {"type": "object", "properties": {}}}}]
CALL = {"id": "c1", "type": "function", "function": {"name": "weather", "arguments": '{"city": "東京"}'}}
GOOD: list[dict[str, Any]] = [
    {"messages": [{"role": "user", "content": "荷物はどこですか"}, {"role": "assistant", "content": "配送"}]},
    {
        "messages": [
            {"role": "system", "content": "Be brief."},
            {"role": "user", "content": [{"type": "text", "text": "환불은요?"}]},
            {"role": "assistant", "content": "한 번 더 알려 주세요.", "weight": 0},
            {"role": "user", "content": "주문 취소"},
            {"role": "assistant", "content": "결제"},
        ]
    },
    {
        "messages": [
            {"role": "user", "content": "Weather?"},
            {"role": "assistant", "tool_calls": [CALL]},
            {"role": "tool", "tool_call_id": "c1", "content": "sunny"},
            {"role": "assistant", "content": "Sunny."},
        ],
        "tools": TOOLS,
        "parallel_tool_calls": False,
    },
    {
        "messages": [{"role": "user", "content": "And now?"}, {"role": "assistant", "tool_calls": [CALL]}],
        "tools": TOOLS,
    },
    {
        "messages": [
            {"role": "developer", "content": "Refuse."},
            {"role": "assistant", "content": None, "refusal": "No."},
        ]
    },
]
PREFERENCE = {
    "input": {"messages": [{"role": "user", "content": "Hello"}], "tools": TOOLS},
    "preferred_output": [{"role": "assistant", "content": "Hello!"}],
    "non_preferred_output": [{"role": "assistant", "content": "What?"}],
}


def write(path: Path, *examples: Any) -> Path:
    path.write_text("".join(json.dumps(e, ensure_ascii=False) + "\n" for e in examples), encoding="utf-8")
    return path


def codes(report: CheckReport) -> list[str]:
    return [finding["code"] for finding in report["findings"]]


@pytest.mark.parametrize("examples", [GOOD, [PREFERENCE], [{"prompt": "a ->", "completion": " b"}]])
def test_good_examples_of_every_shape_pass(tmp_path: Path, examples: list[dict[str, Any]]) -> None:
    assert codes(check([write(tmp_path / "a.jsonl", *examples)], training=False)) in ([], ["system_differs"])


def test_reinforcement_allows_other_keys_and_questions_without_an_answer(tmp_path: Path) -> None:
    path = write(tmp_path / "a.jsonl", {"messages": [{"role": "user", "content": "2 + 2?"}], "answer": 4})
    assert codes(check([path], training=False, method="reinforcement")) == []
    assert set(codes(check([path], training=False))) == {"unknown_key", "no_assistant"}
    assert codes(check([path], training=False, method="dpo")) == ["wrong_shape"]


def test_an_example_longer_than_the_context_is_found_with_its_tokens(tmp_path: Path) -> None:
    long = {"messages": [{"role": "user", "content": "word " * 49 + "word"}, {"role": "assistant", "content": "yes"}]}
    report = check([write(tmp_path / "a.jsonl", GOOD[0], long)], training=False, encoding="o200k_base", context=40)
    assert [(f["code"], f["line"]) for f in report["findings"]] == [("too_long", 2)]
    assert "60 tokens" in report["findings"][0]["message"]


def test_of_a_preference_only_one_output_has_to_fit_into_the_context(tmp_path: Path) -> None:
    long = {**PREFERENCE, "preferred_output": [{"role": "assistant", "content": "word " * 49 + "word"}]}
    path = write(tmp_path / "a.jsonl", long)
    shape: dict[str, Any] = {"training": False, "method": "dpo", "encoding": "o200k_base"}
    both = counter("o200k_base")(long)
    [found] = check([path], context=both // 2, **shape)["findings"]
    assert found["code"] == "too_long"
    size = int(found["message"].split()[0])
    assert both // 2 < size < both
    assert check([path], context=size, **shape)["findings"] == []


def test_azure_requires_the_byte_order_mark_that_others_refuse(tmp_path: Path) -> None:
    path = write(tmp_path / "a.jsonl", GOOD[0])
    assert codes(check([path], training=False, bom="required")) == ["bom"]
    path.write_bytes(b"\xef\xbb\xbf" + path.read_bytes())
    assert codes(check([path], training=False, bom="required")) == []
    assert codes(check([path], training=False)) == ["bom"]


def test_many_findings_of_a_code_are_counted_in_text_and_complete_in_other_formats(tmp_path: Path) -> None:
    examples = [{"messages": [{"role": "user", "content": f"{n}"}], "id": n} for n in range(30)]
    path = write(tmp_path / "a.jsonl", *examples)
    report = check([path])
    assert report["errors"] == 60
    text = as_text(report)
    assert text.count("unknown_key") == 21
    assert "… and 10 more of unknown_key" in text
    assert text.endswith("30 examples: 60 errors, 0 warnings")
    assert as_github(report).count("::error") == 60


def test_a_workflow_command_cannot_be_forged() -> None:
    report = report_of(1, [Finding("x", "error", "a,b:c", 0, "a\n::error::b%", "c")])
    assert as_github(report) == "::error file=a%2Cb%3Ac,line=1,title=x::a%0A::error::b%25 → c"


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=12,
)
KEY = st.sampled_from(
    [
        "messages",
        "role",
        "content",
        "weight",
        "tool_calls",
        "tools",
        "function",
        "name",
        "arguments",
        "id",
        "type",
        "text",
        "input",
        "preferred_output",
        "non_preferred_output",
        "prompt",
        "completion",
        "tool_call_id",
        "refusal",
    ]
)
VALUE = st.sampled_from(["user", "assistant", "tool", "system", "text", "function", "weather", "", "質問", 0, 1]) | JSON
BROKEN = st.recursive(
    VALUE,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(KEY, inner, max_size=6),
    max_leaves=24,
)


@settings(max_examples=100, deadline=None)
@given(st.dictionaries(KEY, BROKEN, max_size=5))
def test_no_rule_raises_for_any_example(example: dict[str, Any]) -> None:
    for rule in RULES:
        for what, fix in rule.find(example):
            assert what
            assert fix


@settings(max_examples=100, deadline=None)
@given(st.lists(st.binary(max_size=40) | BROKEN.map(lambda value: json.dumps(value).encode()), max_size=6))
def test_no_file_causes_a_traceback(lines: list[bytes]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "a.jsonl"
        path.write_bytes(b"\n".join(lines))
        checked = check_file(path, encoding="o200k_base")
        assert len(checked.rows) <= len(lines) + 40 * len(lines)
        assert len(checked.rows) or checked.findings


SENTENCES = [
    "My parcel has not arrived and the tracking page has said nothing new for a week",
    "Can I still change the delivery address of the order that I placed this morning?",
    "The invoice you sent has last year's VAT number on it, please send a new one",
    "先週注文した商品がまだ届いていないのですが、いつ頃届く予定か教えてください",
    "領収書の宛名を会社名に変更して、もう一度送っていただけますか",
    "지난주에 주문한 상품이 아직 도착하지 않았는데 언제쯤 받을 수 있을까요",
    "비밀번호를 바꾸려고 하는데 인증 메일이 오지 않아서 로그인을 못 하고 있어요",
]


def test_near_duplicates_are_found_and_others_are_not() -> None:
    """All copies with one letter removed, doubled or changed, or with other case, spaces and end are found."""
    draw = random.Random(1)
    copies, sources = [], []
    for index, sentence in enumerate(SENTENCES):
        for _ in range(30):
            at = draw.randrange(1, len(sentence) - 1)
            kinds = [sentence[:at] + sentence[at + 1 :], sentence[:at] + sentence[at] * 2 + sentence[at + 1 :]]
            kinds += [sentence[:at] + "x" + sentence[at + 1 :], sentence.upper() + "!", "  " + sentence + "。"]
            copies.append(draw.choice(kinds))
            sources.append(index)
    found = near_duplicates_of(copies, SENTENCES)
    exact = [i for i, s in enumerate(sources) if jaccard(trigrams(copies[i]), trigrams(SENTENCES[s])) >= NEAR]
    assert [found[i][0] for i in exact] == [sources[i] for i in exact]
    assert len(exact) / len(copies) > 0.95
    for index, sentence in enumerate(SENTENCES):
        assert near_duplicates_of([sentence], SENTENCES[:index] + SENTENCES[index + 1 :]) == {}


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(Exception, match="Cannot read"):
        check_file(tmp_path / "none.jsonl")


def test_a_repaired_copy_is_good_and_the_file_is_unchanged(tmp_path: Path) -> None:
    rows: list[Any] = [
        {"messages": [{"role": "user", "content": f"質問{n} "}, {"role": "assistant", "content": "はい" * n}]}
        for n in range(1, 12)
    ]
    rows[1]["id"] = 7
    rows[2]["messages"][0] |= {"weight": 1, "from": "human"}
    rows[3]["messages"][1]["weight"] = True
    rows[4]["messages"][0]["content"] = "か\u3099\u0000"
    path = tmp_path / "a.jsonl"
    path.write_text(json.dumps([*rows, rows[0]], ensure_ascii=False, indent=1), encoding="utf-16")
    before = path.read_bytes()
    target, changes = repair(path)
    assert target == tmp_path / "a.fixed.jsonl"
    assert path.read_bytes() == before
    text = "\n".join(what for _, what in changes)
    for what in ("utf-16 converted", "12 examples of a JSON", "'id' removed", "'from' removed", "the weight removed"):
        assert what in text
    assert (12, "removed: the same example as line 1") in changes
    report = check([target], training=False)
    assert report["findings"] == []
    assert report["examples"] == 11
    assert "が" in target.read_text(encoding="utf-8")
    assert repair(path)[0] == tmp_path / "a.fixed-2.jsonl"
    assert repair(target)[1] == []


def test_mistakes_without_one_possible_repair_stay(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_bytes(b'{"messages": [\n\n{"messages": [{"role": "user", "content": "a"}]}\n')
    target, changes = repair(path)
    assert changes == [(2, "blank line removed")]
    assert codes(check([target], training=False)) == ["invalid_json", "no_assistant"]


@settings(max_examples=100, deadline=None)
@given(st.lists(st.binary(max_size=40) | BROKEN.map(lambda value: json.dumps(value).encode()), max_size=6))
def test_no_repair_causes_a_traceback_and_a_second_repair_changes_nothing(lines: list[bytes]) -> None:
    changes: list[Any] = []
    once = list(repaired_lines(split_lines(as_utf8(b"\n".join(lines), changes), changes), changes))
    again: list[Any] = []
    assert list(repaired_lines(once, again)) == once
    assert again == []
