"""`/v1/completions`: prompts in all their forms, and log-probabilities that equal those of Transformers."""

from pathlib import Path
from typing import Any

import openai
import pytest

from finetune.engine import bases


@pytest.fixture(name="client")
def lenient_client(client: openai.OpenAI) -> openai.OpenAI:
    """Return a client that accepts null where OpenAI sends it although the SDK's types do not allow it.

    That is the end of a streamed choice before it has ended, and the log-probability of a prompt's first token.
    """
    return openai.OpenAI(base_url=client.base_url, api_key=client.api_key, max_retries=0)


@pytest.fixture(autouse=True)
def exact(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bases, "best_dtype", lambda: "float32")


def ids_of(text: str, home: Path) -> list[int]:
    from transformers import AutoTokenizer

    return list(AutoTokenizer.from_pretrained(home / "bases" / "tiny")(text)["input_ids"])


def test_all_forms_of_a_prompt_give_the_same_answers(client: openai.OpenAI, home: Path) -> None:
    settings: dict[str, Any] = {"model": "tiny", "max_tokens": 6, "temperature": 0}
    texts = ["red is", "größer"]
    ids = [ids_of(text, home) for text in texts]
    alone = [client.completions.create(prompt=text, **settings).choices[0].text for text in texts]
    for prompt in (texts, ids):
        found = client.completions.create(prompt=prompt, **settings)
        assert [choice.text for choice in found.choices] == alone
        assert [choice.index for choice in found.choices] == [0, 1]
        assert found.usage
        assert found.usage.prompt_tokens == sum(map(len, ids))
    assert client.completions.create(prompt=ids[0], **settings).choices[0].text == alone[0]
    assert found.object == "text_completion"


def test_without_max_tokens_an_answer_has_sixteen(client: openai.OpenAI) -> None:
    found = client.completions.create(model="tiny", prompt="a", temperature=0, logit_bias={"0": -100})
    assert found.usage
    assert found.usage.completion_tokens == 16


@pytest.mark.parametrize("prompt", ["paint it größer 日本 🎨 red" * 3, "a"])
def test_log_probabilities_equal_a_direct_computation(client: openai.OpenAI, home: Path, prompt: str) -> None:
    import torch
    from transformers import AutoModelForCausalLM

    found = client.completions.create(model="tiny", prompt=prompt, max_tokens=5, temperature=0, logprobs=3, echo=True)
    choice = found.choices[0]
    logprobs = choice.logprobs
    assert logprobs
    assert logprobs.token_logprobs
    assert logprobs.tokens
    assert logprobs.top_logprobs
    assert choice.text.startswith(prompt)
    ids = ids_of(prompt, home)
    model: Any = AutoModelForCausalLM.from_pretrained(home / "bases" / "tiny", dtype=torch.float32)
    model.eval()
    with torch.inference_mode():
        while len(ids) < len(logprobs.tokens):
            ids.append(int(model(torch.tensor([ids])).logits[0, -1].argmax()))
        direct = model(torch.tensor([ids])).logits[0].log_softmax(-1)
    expected = [float(direct[place, token]) for place, token in enumerate(ids[1:])]
    assert logprobs.token_logprobs[0] is None
    assert logprobs.top_logprobs[0] is None
    assert logprobs.token_logprobs[1:] == pytest.approx(expected, abs=1e-3)
    for place, top in enumerate(logprobs.top_logprobs[1:]):
        assert 3 <= len(top) <= 4
        assert sorted(top.values(), reverse=True)[:3] == pytest.approx(direct[place].topk(3).values.tolist(), abs=1e-3)
        assert top[logprobs.tokens[place + 1]] == logprobs.token_logprobs[place + 1]


def test_offsets_are_where_tokens_begin_in_the_prompt_and_the_answer(client: openai.OpenAI) -> None:
    prompt = "größer 🎨!"
    settings: dict[str, Any] = {"model": "tiny", "prompt": prompt, "max_tokens": 4, "temperature": 0, "logprobs": 1}
    echoed = client.completions.create(**settings, echo=True).choices[0]
    plain = client.completions.create(**settings).choices[0]
    assert echoed.logprobs
    assert plain.logprobs
    assert echoed.logprobs.text_offset
    # The tokens of the tiny base are bytes.
    expected = [place for place, letter in enumerate(prompt) for _ in letter.encode()]
    count = len(expected)
    assert echoed.logprobs.text_offset[:count] == expected
    assert echoed.logprobs.text_offset[count] == len(prompt)
    assert plain.logprobs.text_offset == echoed.logprobs.text_offset[count:]
    assert plain.logprobs.tokens == (echoed.logprobs.tokens or [])[count:]
    assert echoed.text == prompt + plain.text
    assert echoed.logprobs.tokens
    assert echoed.logprobs.tokens[2:4] == ["bytes:\\xc3", "bytes:\\xb6"]


def test_a_prompt_alone_is_scored(client: openai.OpenAI) -> None:
    found = client.completions.create(model="tiny", prompt="red", max_tokens=0, echo=True, logprobs=1)
    assert found.choices[0].text == "red"
    assert found.choices[0].logprobs
    assert len(found.choices[0].logprobs.tokens or []) == 3
    assert found.usage
    assert found.usage.completion_tokens == 0


def test_an_empty_prompt_begins_a_text(client: openai.OpenAI) -> None:
    found = client.completions.create(model="tiny", prompt="", max_tokens=3, temperature=0, logit_bias={"0": -100})
    assert found.usage
    assert (found.usage.prompt_tokens, found.usage.completion_tokens) == (1, 3)


def test_the_best_of_several_answers_has_the_likeliest_tokens(client: openai.OpenAI) -> None:
    settings: dict[str, Any] = {"model": "tiny", "prompt": "red", "max_tokens": 5, "temperature": 1.5, "seed": 3}
    settings |= {"logit_bias": {"0": -100}, "logprobs": 0}
    all_of_them = client.completions.create(**settings, n=6).choices
    best = client.completions.create(**settings, n=2, best_of=6)

    def mean(choice: Any) -> float:
        return float(sum(choice.logprobs.token_logprobs)) / len(choice.logprobs.token_logprobs)

    assert [one.text for one in best.choices] == [one.text for one in sorted(all_of_them, key=mean, reverse=True)[:2]]
    assert best.usage
    assert best.usage.completion_tokens == 30


@pytest.mark.parametrize("echo", [False, True])
def test_a_stream_has_the_same_text(client: openai.OpenAI, echo: bool) -> None:
    settings: dict[str, Any] = {"model": "tiny", "prompt": ["red", "größer"], "max_tokens": 9, "temperature": 1}
    settings |= {"seed": 4, "n": 2, "echo": echo}
    whole = client.completions.create(**settings)
    texts: dict[int, str] = {}
    for chunk in client.completions.create(**settings, stream=True):
        for choice in chunk.choices:
            texts[choice.index] = texts.get(choice.index, "") + choice.text
    assert [texts[index] for index in range(4)] == [choice.text for choice in whole.choices]


def test_offsets_of_a_stream_go_on(client: openai.OpenAI) -> None:
    settings: dict[str, Any] = {"model": "tiny", "prompt": "größer", "max_tokens": 9, "temperature": 0, "logprobs": 1}
    whole = client.completions.create(**settings).choices[0].logprobs
    parts = [chunk.choices[0].logprobs for chunk in client.completions.create(**settings, stream=True)]
    assert whole
    for name in ("tokens", "token_logprobs", "text_offset", "top_logprobs"):
        assert [one for part in parts if part for one in getattr(part, name)] == getattr(whole, name)


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("prompt", []), ("prompt", [[]]), ("prompt", [1, "a"]), ("prompt", [-1]), ("prompt", [999_999]), ("prompt", 5),
        ("prompt", None), ("suffix", "end"), ("logprobs", 6), ("logprobs", True), ("best_of", 0),
        ("max_tokens", -1), ("n", 0), ("stop", {"a": 1}), ("frequency", 1), ("stream_options", {"include_usage": True}),
        ("prompt", ["a"] * 2049), ("echo", 1),
    ],
)  # fmt: skip
def test_a_wrong_request_is_refused_by_the_name_of_its_parameter(
    client: openai.OpenAI, key: str, value: object
) -> None:
    body = {"model": "tiny", "prompt": "a", "max_tokens": 1, key: value}
    with pytest.raises(openai.BadRequestError) as refused:
        client.post("/completions", body=body, cast_to=object)
    assert key in str(refused.value.param)
