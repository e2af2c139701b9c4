"""Answers and masks: the same bits in any company, and a loss on what the assistant says alone."""

import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import openai
import pytest
from conftest import start_job, wait

from finetune.engine.encode import IGNORED, encode
from finetune.engine.errors import JobError
from finetune.engine.generate import Answer, Generator, Request
from finetune.engine.store import Store


@pytest.fixture
def generator(home: Path) -> Iterator[Generator]:
    found = Generator(Store(home))
    yield found
    found.close()


@pytest.fixture(scope="module")
def tuned(client: openai.OpenAI) -> str:
    return str(wait(client, start_job(client).id).fine_tuned_model)


def test_an_answer_is_the_same_alone_and_in_any_batch(generator: Generator, tuned: str) -> None:
    draw = random.Random(0)
    openings: list[list[dict[str, Any]]] = [[], [{"role": "system", "content": "be brief"}]]
    requests = [
        Request(model, [*opening, {"role": "user", "content": "x" * draw.randint(1, 70)}], 5, temperature, 1, n, (), 2)
        for n in range(16)
        for opening in openings
        for model, temperature in (("tiny", 0), (tuned, 0), (tuned, 1.0))
    ]

    def answers(order: list[Request]) -> dict[int, Answer]:
        futures = [(id(request), generator.submit(request)) for request in order]
        return {key: future.result(timeout=60) for key, future in futures}

    alone = {id(request): generator.submit(request).result(timeout=60) for request in requests}
    together = answers(requests)
    shuffled = answers(draw.sample(requests, len(requests)))
    assert alone == together == shuffled
    assert len({answer.text for answer in alone.values()}) > 5


def test_a_kept_opening_changes_no_answer(generator: Generator, monkeypatch: pytest.MonkeyPatch) -> None:
    """The same conversation with its system prompt computed apart, and with all of it in one piece."""
    messages = [{"role": "system", "content": "be brief"}, {"role": "user", "content": "what?"}]
    request = Request("tiny", messages, 5, 0, 1, 0, (), 2)
    apart = generator.submit(request).result(timeout=60)
    monkeypatch.setattr("finetune.engine.generate.opening_of", lambda *_: ())
    whole = generator.submit(request).result(timeout=60)
    assert (apart.text, apart.prompt_tokens) == (whole.text, whole.prompt_tokens)
    for one, other in zip(apart.tokens, whole.tokens, strict=True):
        assert one.logprob == pytest.approx(other.logprob, abs=0.05)


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
