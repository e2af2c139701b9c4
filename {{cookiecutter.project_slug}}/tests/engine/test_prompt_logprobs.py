"""The log-probabilities of given answers: vLLM's `prompt_logprobs`, equal to a direct computation by Transformers."""

from pathlib import Path
from typing import Any

import openai
import pytest
from conftest import start_job, wait
from tiny import WINDOW, make_tiny_base, random_model

from finetune.engine import bases
from finetune.engine.chat_template import render
from finetune.engine.conversation import Message
from finetune.engine.fingerprint import base_and_adapter
from finetune.engine.inference.loaded_model import PASS_TOKENS
from finetune.engine.store import Store

QUESTION: Message = {"role": "user", "content": "paint it … " + "x" * PASS_TOKENS[0]}  # computed in parts
CHAT: list[Message] = [QUESTION, {"role": "assistant", "content": "red"}]


def ask(client: openai.OpenAI, model: str = "tiny", messages: Any = CHAT, **more: Any) -> dict[str, Any]:
    """Return the answer to a request for log-probabilities as JSON."""
    keys = {"prompt_logprobs": 0, "add_generation_prompt": False} | more
    raw = client.chat.completions.with_raw_response.create(
        model=model, messages=messages, max_tokens=1, temperature=0, extra_body=keys
    )
    found: dict[str, Any] = raw.http_response.json()
    return found


def own_tokens(answer: dict[str, Any]) -> list[tuple[int, float, int]]:
    """Return the ID, the log-probability and the rank of each token of the prompt that has them."""
    first = [next(iter(place.items())) for place in answer["prompt_logprobs"][1:]]
    return [(int(token), values["logprob"], values["rank"]) for token, values in first]


def direct(folder: Path, ids: list[int], adapter: Path | None = None) -> list[tuple[int, float, int]]:
    """Compute the same by Transformers, in one pass over the whole prompt."""
    import torch
    from peft import PeftModel
    from transformers import AutoModelForCausalLM

    model: Any = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    model = PeftModel.from_pretrained(model, adapter) if adapter else model
    with torch.inference_mode():
        logprobs = model.eval()(torch.tensor([ids])).logits[0, :-1].log_softmax(-1)
    own = [(token, float(logprobs[place, token])) for place, token in enumerate(ids[1:])]
    return [(token, logprob, int((logprobs[place] >= logprob).sum())) for place, (token, logprob) in enumerate(own)]


def make_base(kind: str, home: Path) -> Path:
    """Make a base; one with a sliding window that is shorter than the prompt, and Gemma2, which caps its logits."""
    folder = home / "bases" / f"scored-{kind}"
    make_tiny_base(folder)
    if kind != "Llama":
        random_model(kind, **WINDOW).save_pretrained(folder)
    return folder


@pytest.mark.parametrize("kind", ["Llama", "Mistral", "Gemma2"])
def test_they_equal_a_direct_computation(
    client: openai.OpenAI, home: Path, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    from transformers import AutoTokenizer

    monkeypatch.setattr(bases, "best_dtype", lambda: "float32")
    folder = make_base(kind, home)
    tokenizer: Any = AutoTokenizer.from_pretrained(folder)
    ids = render(tokenizer, CHAT, add_generation_prompt=False)
    assert len(ids) > PASS_TOKENS[0] + 1
    answer = ask(client, folder.name)
    found, expected = own_tokens(answer), direct(folder, ids)
    assert answer["prompt_logprobs"][0] is None
    assert [token for token, _, _ in found] == ids[1:]
    assert [logprob for _, logprob, _ in found] == pytest.approx([logprob for _, logprob, _ in expected], abs=2e-3)
    assert sum(logprob for _, logprob, _ in found) == pytest.approx(sum(one[1] for one in expected), rel=1e-4)
    assert sum(one == other for (*_, one), (*_, other) in zip(found, expected, strict=True)) > 0.97 * len(found)
    assert answer["usage"]["prompt_tokens"] == len(ids)
    texts = [next(iter(place.values()))["decoded_token"] for place in answer["prompt_logprobs"][-6:]]
    assert texts == ["\n", *"red", "<|im_end|>", "\n"]


@pytest.mark.slow
def test_a_tuned_model_has_its_own(client: openai.OpenAI, home: Path) -> None:
    from transformers import AutoTokenizer

    tuned = str(wait(client, start_job(client).id).fine_tuned_model)
    adapter = base_and_adapter(Store(home), tuned)[1]
    folder = home / "bases" / "tiny"
    ids = render(AutoTokenizer.from_pretrained(folder), CHAT, add_generation_prompt=False)
    found, base = (own_tokens(ask(client, model)) for model in (tuned, "tiny"))
    expected = direct(folder, ids, adapter)
    assert sum(one[1] for one in found) == pytest.approx(sum(one[1] for one in expected), rel=1e-2)  # in bfloat16
    assert sum(one[1] for one in base) < sum(one[1] for one in found)


def test_the_likeliest_tokens_follow_the_own_one_and_the_answer_stays_the_same(client: openai.OpenAI) -> None:
    answer = ask(
        client, messages=[{"role": "user", "content": "hi"}], prompt_logprobs=2, add_generation_prompt=True, n=2
    )
    for place in answer["prompt_logprobs"][1:]:
        own, *top = place.values()
        assert len(place) == (3 if own["rank"] > 2 else 2)
        assert {values["rank"] for values in place.values()} >= {1, 2}
        assert own["logprob"] <= max(values["logprob"] for values in top)
    plain = client.chat.completions.create(
        model="tiny", messages=[{"role": "user", "content": "hi"}], max_tokens=1, temperature=0
    )
    assert {choice["message"]["content"] for choice in answer["choices"]} == {plain.choices[0].message.content}
    assert plain.usage
    assert answer["usage"]["prompt_tokens"] == plain.usage.prompt_tokens
    assert "prompt_logprobs" not in plain.model_dump()


@pytest.mark.parametrize("value", [-1, 21, True, "2", 1.5])
def test_wrong_numbers_are_refused(client: openai.OpenAI, value: Any) -> None:
    with pytest.raises(openai.BadRequestError, match="'prompt_logprobs'") as refused:
        ask(client, prompt_logprobs=value)
    assert refused.value.param == "prompt_logprobs"
    with pytest.raises(openai.BadRequestError, match="'add_generation_prompt'"):
        ask(client, add_generation_prompt="no")


def test_what_has_no_room_is_refused(client: openai.OpenAI) -> None:
    with pytest.raises(openai.BadRequestError, match="maximum context length is 1024"):
        ask(client, messages=[{"role": "user", "content": "x" * 1024}])
