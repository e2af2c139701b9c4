"""Codes for classes: one token each, all different, and the same in each run."""

import json
import math
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from finetune.asking.file_rows import columns_of
from finetune.core.errors import FinetuneError
from finetune.core.params import Params
from finetune.core.paths import PREPARED
from finetune.core.records.prepared import PrepareReport
from finetune.core.sections.data import Data
from finetune.core.sections.evaluate import Evaluate
from finetune.data.checks.check_file import check_file
from finetune.data.class_codes import codes_for
from finetune.data.token_counts import encoder
from finetune.provider.answer_parser import Answer
from finetune.scoring.class_masses import as_text, class_probabilities
from finetune.scoring.class_reading import label_of
from finetune.scoring.prediction_scores import class_of_code, score_predictions
from finetune.scoring.tasks import score
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


def token_of(text: str) -> list[int]:
    """Encode digits one by one, as many tokenizers do, and letters and pairs of letters as one token."""
    return [ord(letter) for letter in text] if text.isdigit() else [int.from_bytes(text.encode(), "big") + 1000]


@pytest.mark.parametrize("encode", [encoder("o200k_base"), token_of], ids=["numbers", "letters"])
@pytest.mark.parametrize("number", [36, 37, 77, 300])
def test_right_answers_score_1_and_probabilities_are_of_the_right_class(number: int, encode: Any) -> None:
    """A class's code may begin another code, and letters of both cases would be the same code for a tolerant reader."""
    labels = [f"class {n}" for n in range(number)]
    codes = codes_for(labels, encode)
    assert len({code.casefold() for code in codes.values()}) == number
    written = list(codes.values())
    prepared = cast("PrepareReport", {"codes": codes})
    rows: list[Any] = []
    for place, code in enumerate(written):
        likely = {code: 0.6, written[place - 1]: 0.25, written[place - 2]: 0.1}
        tops = [(code, math.log(0.6)), *((token, math.log(share)) for token, share in likely.items())]
        rows.append({"asked": "?", "expected": code, "answer": code, "logprobs": [tops]})
    scored = score_predictions(params(labels=labels), prepared, rows)
    assert scored.scores == [1.0] * number
    assert scored.predicted == labels
    assert (scored.metrics["accuracy"], scored.metrics["auroc"]) == (1.0, 1.0)
    assert scored.confidence == pytest.approx([0.6 / 0.95] * number, abs=1e-4)
    for place, row in enumerate(rows):
        masses = class_probabilities(as_text(row["logprobs"]), written, codes=True)
        assert masses[place] == pytest.approx(0.6)
        assert masses[place - 1] == pytest.approx(0.25)
        answer = Answer(f"{written[place]} ", logprobs=row["logprobs"])
        found = columns_of(answer, answer.text.strip(), class_of_code(prepared), codes=True)
        assert found == {"answer": labels[place], "error": "", "confidence": pytest.approx(0.6 / 0.95, abs=1e-4)}


def test_codes_of_up_to_36_classes_are_those_of_earlier_versions() -> None:
    """Other codes would train existing projects again."""
    assert list(codes_for([str(n) for n in range(36)], token_of).values()) == [*"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ"]


def test_answers_in_codes_of_earlier_versions_are_read_with_their_case() -> None:
    codes = [*"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz", "AA", "AB"]
    assert [label_of(code, codes, codes=True) for code in codes] == codes
    assert [label_of(f"**{code}**.", codes) for code in codes] == codes
    masses = [class_probabilities([[(code, 0.0)]], codes, codes=True) for code in codes]
    assert masses == [[float(one == code) for one in codes] for code in codes]


def test_codes_in_a_sentence_count_only_as_they_are_written() -> None:
    codes = [*"0123456789ABCDEFGHIJ"]
    assert label_of("a", codes, codes=True) == "A"
    assert label_of("The code is B.", codes, codes=True) == "B"
    assert label_of("This is a late parcel", codes, codes=True) is None
    assert label_of("I would say 7", codes, codes=True) is None  # I is a code too


def test_classes_that_differ_in_case_or_marks_are_told_apart() -> None:
    grades = ["A", "A*", "a", "B"]
    assert [label_of(answer, grades) for answer in ("A", "A*", "a", "b.", '"B"')] == ["A", "A*", "a", "B", "B"]
    found = score("classify", grades, grades, grades, logprobs=[[[(grade, -0.1)]] for grade in grades])
    assert found.scores == [1.0] * 4
    assert found.metrics["outside"] == pytest.approx(1 - math.exp(-0.1), abs=1e-3)


def test_codes_give_no_warning_of_two_spellings(tmp_path: Path) -> None:
    codes = list(codes_for([f"class {n}" for n in range(77)], token_of).values())
    rows = [
        {"messages": [{"role": "user", "content": f"{n}?"}, {"role": "assistant", "content": codes[n % 77]}]}
        for n in range(400)
    ]
    path = tmp_path / "a.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    assert {"class_spelling", "unknown_label"}.isdisjoint(f.code for f in check_file(path, labels=codes).findings)
    assert "class_spelling" not in {finding.code for finding in check_file(path).findings}


def params(**data: Any) -> Params:
    section = Data.model_validate({"file": "raw.jsonl", "split": SHARES, "prompt": PROMPT, "codes": True, **data})
    provider, train = SimpleNamespace(name="openai"), SimpleNamespace(base="gpt-4.1-mini-2025-04-14")
    evaluate = Evaluate(max_tokens=2, temperature=0.0, concurrency=1)
    return cast("Params", SimpleNamespace(data=section, provider=provider, train=train, evaluate=evaluate))


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


def test_with_each_turn_all_answers_are_trimmed_and_get_codes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)

    def row(n: int, first: str) -> dict[str, Any]:
        texts = (f"q{n} {n**5:x}", first, f"r{n} {n**7:x}", "billing ")
        roles = ("user", "assistant", "user", "assistant")
        return {"messages": [{"role": role, "content": text} for role, text in zip(roles, texts, strict=True)]}

    def write(first: str) -> None:
        rows = [json.dumps(row(n, first)) + "\n" for n in range(20)]
        Path("raw.jsonl").write_text("".join(rows), encoding="utf-8")

    write(" delivery")
    report = prepare.run(params(labels=["billing", "delivery"], prompt=None, turns="each"))
    assert (report["labels_trimmed"], report["account"]["examples"]) == (20, 40)
    assert "white_space_kept" not in report
    lines = "".join((PREPARED / f"{name}.jsonl").read_text(encoding="utf-8") for name in SHARES).splitlines()
    answers = [[turn["content"] for turn in json.loads(line)["messages"][1::2]] for line in lines]
    assert sorted(answers) == [["1"]] * 20 + [["1", "0"]] * 20
    write("hm")
    with pytest.raises(FinetuneError, match=r"row 1: the answer is not in data\.labels"):
        prepare.run(params(labels=["billing", "delivery"], prompt=None, turns="each"))


def test_an_answer_that_is_not_a_string_has_no_code(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    parts = [{"type": "text", "text": "billing"}]
    row = {"messages": [{"role": "user", "content": "a"}, {"role": "assistant", "content": parts}]}
    Path("raw.jsonl").write_text(json.dumps(row) + "\n", encoding="utf-8")
    with pytest.raises(FinetuneError, match="not in data"):
        prepare.run(params(labels=["billing"], prompt=None))


def test_a_column_that_is_called_codes_is_refused_where_the_prompt_has_the_table_of_codes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    rows = [{"question": f"q {n**5:x}", "label": "ab"[n % 2], "codes": "x"} for n in range(40)]
    Path("raw.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    values: dict[str, Any] = {"file": "raw.jsonl", "codes": True, "labels": ["a", "b"], "split": SHARES}
    params = SimpleNamespace(
        data=Data.model_validate({**values, "prompt": PROMPT}), train=SimpleNamespace(base="gpt-4o")
    )
    params.provider = SimpleNamespace(name="openai")
    with pytest.raises(FinetuneError, match=r"raw\.jsonl has a column 'codes'"):
        prepare.run(cast("Params", params))
    params.data = Data.model_validate({**values, "prompt": {**PROMPT, "system": "Answer with a code."}})
    prepare.run(cast("Params", params))
