"""Answers and masks: the same bits in any company, and a loss on what the assistant says alone."""

import random
import shutil
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import openai
import pytest
from conftest import start_job, wait
from tiny import make_tiny_base

from finetune.engine import bases
from finetune.engine.api_errors import JobError
from finetune.engine.inference.generation_types import Answer, Request
from finetune.engine.inference.generator import Generator
from finetune.engine.inference.loaded_model import Loaded
from finetune.engine.inference.sampling import drawn
from finetune.engine.store import Store
from finetune.engine.training.encoding import IGNORED, encode, render


@pytest.fixture
def generator(home: Path) -> Iterator[Generator]:
    found = Generator(Store(home))
    yield found
    found.close()


@pytest.fixture(scope="module")
def wide(client: openai.OpenAI, home: Path) -> tuple[str, str]:
    """A base of SmolLM2's shapes: its sums come out otherwise in others; and a fine-tune of it."""
    make_tiny_base(home / "bases" / "wide", heads=9, shared_by=3, width=64)
    return "wide", str(wait(client, start_job(client, model="wide").id).fine_tuned_model)


@pytest.mark.parametrize("dtype", ["bfloat16", "float32"])
def test_an_answer_is_the_same_alone_and_in_any_batch(
    generator: Generator, wide: tuple[str, str], monkeypatch: pytest.MonkeyPatch, dtype: str
) -> None:
    monkeypatch.setattr(bases, "best_dtype", lambda: dtype)
    monkeypatch.setattr("finetune.engine.inference.generator.LONGEST", 500)  # of the lengths below, one is over it
    base, tuned = wide
    draw = random.Random(0)
    openings: list[list[dict[str, Any]]] = [[], [{"role": "system", "content": "be brief"}]]
    requests = [
        Request(
            model,
            [*opening, {"role": "user", "content": "x" * draw.choice([draw.randint(1, 70), 400])}],
            draw.randint(1, 6),
            temperature,
            top_p,
            n,
            (),
            2,
        )
        for n in range(8)
        for opening in openings
        for model, temperature, top_p in ((base, 0, 1), (tuned, 0, 1), (tuned, 1.0, 1), (tuned, 1.0, 0.5))
    ]

    def answers(order: list[Request]) -> dict[int, Answer]:
        futures = [(id(request), generator.submit(request)) for request in order]
        return {key: future.result(timeout=60) for key, future in futures}

    alone = {id(request): generator.submit(request).result(timeout=60) for request in requests}
    together = answers(requests)
    shuffled = answers(draw.sample(requests, len(requests)))
    assert alone == together == shuffled
    assert len({answer.text for answer in alone.values()}) > 5


@pytest.mark.parametrize("mixing", ["by place", "by company"])
def test_where_rows_mix_each_request_runs_alone(home: Path, monkeypatch: pytest.MonkeyPatch, mixing: str) -> None:
    import torch

    def linear(states: Any, weight: Any) -> Any:
        results = whole(states, weight)
        if mixing == "by place":
            results[-1] *= 1.01
        else:
            results += results[0] / 100
        return results

    whole = torch.nn.functional.linear
    monkeypatch.setattr(torch.nn.functional, "linear", linear)
    assert not Loaded(home / "bases" / "tiny").sizes


@pytest.mark.parametrize("value", ["nan", "inf"])
def test_a_broken_model_is_refused_by_name(client: openai.OpenAI, home: Path, value: str) -> None:
    from transformers import AutoModelForCausalLM

    folder = home / "bases" / f"broken-{value}"
    shutil.copytree(home / "bases" / "tiny", folder)
    model = AutoModelForCausalLM.from_pretrained(folder)
    model.lm_head.weight.data[9, 9] = float(value)
    model.save_pretrained(folder)
    settings: list[dict[str, Any]] = [{}, {"temperature": 0}, {"logprobs": True, "top_logprobs": 2}]
    for more in settings:
        with pytest.raises(openai.InternalServerError, match=f"`broken-{value}` is broken: its logits") as refused:
            client.chat.completions.create(model=folder.name, messages=[{"role": "user", "content": "a"}], **more)
        assert refused.value.type == "server_error"


def test_the_time_that_an_answer_took_is_told(client: openai.OpenAI) -> None:
    raw = client.chat.completions.with_raw_response.create(
        model="tiny", messages=[{"role": "user", "content": "a"}], max_tokens=20, n=2
    )
    assert 0 < int(raw.headers["openai-processing-ms"]) <= 1000 * raw.elapsed.total_seconds()


@pytest.mark.parametrize(
    ("temperature", "top_p", "expected"),
    [
        (1, 1, [0.15, 0.5, 0.05, 0.3]),
        (0.5, 1, [0.0616, 0.6849, 0.0068, 0.2466]),
        (1, 0.7, [0, 0.625, 0, 0.375]),
        (1, 0, [0, 1, 0, 0]),
    ],
)
def test_tokens_are_drawn_as_often_as_they_are_likely(temperature: float, top_p: float, expected: list[float]) -> None:
    import torch

    scores = torch.tensor([0.15, 0.5, 0.05, 0.3]).log()
    source = torch.Generator().manual_seed(0)
    counts = Counter(drawn(scores, temperature, top_p, source) for _ in range(4000))
    assert [counts[token] / 4000 for token in range(4)] == pytest.approx(expected, abs=0.03)
    assert all(not counts[token] for token in range(4) if expected[token] == 0)


def test_a_kept_opening_changes_no_answer(generator: Generator, monkeypatch: pytest.MonkeyPatch) -> None:
    """The same conversation with its system prompt computed apart, and with all of it in one piece."""
    messages = [{"role": "system", "content": "be brief"}, {"role": "user", "content": "what?"}]
    request = Request("tiny", messages, 5, 0, 1, 0, (), 2)
    apart = generator.submit(request).result(timeout=60)
    monkeypatch.setattr("finetune.engine.inference.generator.opening_of", lambda *_: ())
    whole = generator.submit(request).result(timeout=60)
    assert (apart.text, apart.prompt_tokens) == (whole.text, whole.prompt_tokens)
    for one, other in zip(apart.tokens, whole.tokens, strict=True):
        assert one.logprob == pytest.approx(other.logprob, abs=0.05)


@pytest.mark.parametrize("kind", ["Mistral", "Gemma2"])
@pytest.mark.parametrize("system", ["be brief", ""], ids=["system", "no system"])
def test_bases_with_a_sliding_window_answer_as_in_transformers(
    generator: Generator, home: Path, monkeypatch: pytest.MonkeyPatch, kind: str, system: str
) -> None:
    """A window shorter than the prompt's padding, and (Gemma2) a base that has no fused attention."""
    import torch
    import transformers

    monkeypatch.setattr(bases, "best_dtype", lambda: "float32")
    folder = home / "bases" / kind
    make_tiny_base(folder)
    tokenizer: Any = transformers.AutoTokenizer.from_pretrained(folder)
    sizes: dict[str, Any] = {"hidden_size": 64, "intermediate_size": 128, "num_attention_heads": 4, "head_dim": 16}
    ends: dict[str, Any] = {"eos_token_id": 0, "pad_token_id": 0, "bos_token_id": 1}
    config = getattr(transformers, f"{kind}Config")(
        vocab_size=258, num_hidden_layers=4, num_key_value_heads=2, sliding_window=40, max_position_embeddings=1024,
        initializer_range=0.3, **sizes, **ends
    )  # fmt: skip
    torch.manual_seed(0)
    model: Any = getattr(transformers, f"{kind}ForCausalLM")(config).eval()
    model.save_pretrained(folder)
    for length in (3, 60):
        messages = [{"role": "system", "content": system}] * bool(system) + [{"role": "user", "content": "x" * length}]
        answer = generator.submit(Request(kind, messages, 6, 0, 1, 0, (), 1)).result(timeout=60)
        ids = torch.tensor([render(tokenizer, messages, prompt=True)])
        made = model.generate(ids, max_new_tokens=6, do_sample=False)[0, ids.shape[1] :]
        assert answer.text == tokenizer.decode(made, skip_special_tokens=True)


class Characters:
    """A tokenizer of one token per character, with a template in ChatML's manner."""

    eos_token_id = ord("E")

    def __init__(self, rewrite: bool = False) -> None:
        self.rewrite = rewrite

    def apply_chat_template(self, turns: list[dict[str, str]], tokenize: bool, add_generation_prompt: bool) -> str:
        kept = turns[-2:] if self.rewrite else turns
        return "".join(f"{t['role'][0]}:{t['content']}E\n" for t in kept) + ("a:" if add_generation_prompt else "")

    def __call__(self, text: str, add_special_tokens: bool) -> Any:
        return {"input_ids": [ord(character) for character in text]}


CONVERSATION: list[dict[str, Any]] = [
    {"role": "user", "content": "hi"},
    {"role": "assistant", "content": "no", "weight": 0},
    {"role": "user", "content": "and"},
    {"role": "assistant", "content": "yes"},
]


def test_labels_are_on_trained_turns_and_the_end_of_turn() -> None:
    done = encode(Characters(), CONVERSATION, 100)
    assert "".join(map(chr, done.input_ids)) == "u:hiE\na:noE\nu:andE\na:yesE\n"
    assert "".join("." if label == IGNORED else chr(label) for label in done.labels) == "." * 21 + "yesE."


def test_a_template_that_rewrites_turns_is_refused() -> None:
    with pytest.raises(JobError, match="rewrites earlier turns"):
        encode(Characters(rewrite=True), CONVERSATION, 100)


def test_an_example_over_the_context_is_refused_not_cut() -> None:
    with pytest.raises(JobError, match="has 26 tokens, over the base's 25"):
        encode(Characters(), CONVERSATION, 25)
