"""Codes for classes: one token each, all different, and the same in each run."""

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from finetune.core.errors import FinetuneError
from finetune.core.params import Data, Params
from finetune.core.paths import PREPARED
from finetune.data.class_codes import codes_for
from finetune.data.token_counts import encoder
from finetune.stages import prepare

SHARES = {"train": 0.7, "valid": 0.1, "test": 0.2}
PROMPT = {"system": "Answer with a code: {codes}.", "user": "{question}", "assistant": "{label}"}


@pytest.mark.parametrize("encoding", ["o200k_base", "cl100k_base"])
@given(number=st.integers(1, 500))
@settings(max_examples=8, deadline=None)
def test_up_to_500_classes_get_codes_of_one_token_each(encoding: str, number: int) -> None:
    labels = [f"класс {n} クラス" for n in range(number)]
    codes = codes_for(labels, encoder(encoding))
    assert list(codes) == labels
    assert [len(encoder(encoding)(code)) for code in codes.values()] == [1] * number
    assert len(set(codes.values())) == number
    assert dict(list(codes.items())[:-1]) == (codes_for(labels[:-1], encoder(encoding)) if number > 1 else {})


def test_letters_follow_where_numbers_are_several_tokens() -> None:
    def digit_by_digit(text: str) -> list[int]:
        return [ord(letter) for letter in text] if text.isdigit() else [hash(text) % 2**40]

    codes = codes_for([f"c{n}" for n in range(70)], digit_by_digit)
    assert list(codes.values())[:12] == [*"0123456789", "A", "B"]
    with pytest.raises(FinetuneError, match="too few"):
        codes_for([f"c{n}" for n in range(11)], lambda text: [ord(text[0]) % 10] if text.isdigit() else [1, 2])


@pytest.mark.parametrize("labels", [[], ["a", "a"], [str(n) for n in range(501)]])
def test_invalid_lists_of_classes_are_refused(labels: list[str]) -> None:
    with pytest.raises(FinetuneError, match=r"data\.labels, each once"):
        codes_for(labels, encoder("o200k_base"))


def params(**data: Any) -> Params:
    section = Data.model_validate({"file": "raw.jsonl", "split": SHARES, "prompt": PROMPT, "codes": True, **data})
    provider, train = SimpleNamespace(name="openai"), SimpleNamespace(base="gpt-4.1-mini-2025-04-14")
    return cast("Params", SimpleNamespace(data=section, provider=provider, train=train))


def test_prepare_replaces_answers_by_codes_and_lists_them_in_the_prompt(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    rows = [{"question": f"問い {n}: {n * n}", "label": "配送" if n % 2 else "billing"} for n in range(20)]
    Path("raw.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    report = prepare.run(params(labels=["billing", "配送"]))
    assert report["codes"] == {"billing": "0", "配送": "1"}
    lines = (PREPARED / "train.jsonl").read_text(encoding="utf-8").splitlines()
    for line in lines:
        system, user, assistant = json.loads(line)["messages"]
        assert system["content"] == "Answer with a code: 0 = billing, 1 = 配送."
        assert assistant["content"] == str(int(user["content"].split()[1].rstrip(":")) % 2)
    with pytest.raises(FinetuneError, match=r"raw\.jsonl, row 2: the answer is not in data\.labels"):
        prepare.run(params(labels=["billing"]))


def test_an_answer_that_is_not_a_string_has_no_code(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    parts = [{"type": "text", "text": "billing"}]
    row = {"messages": [{"role": "user", "content": "a"}, {"role": "assistant", "content": parts}]}
    Path("raw.jsonl").write_text(json.dumps(row) + "\n", encoding="utf-8")
    with pytest.raises(FinetuneError, match="not in data"):
        prepare.run(params(labels=["billing"], prompt=None))
