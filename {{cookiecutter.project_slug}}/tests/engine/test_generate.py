"""Generation gives the same bits alone and in any batch; labels are on the assistant's turns only."""

import json
import random
import shutil
import time
from collections import Counter
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import openai
import pytest
from conftest import start_job, wait
from tiny import WINDOW, make_tiny_base, random_model

from finetune.engine import bases
from finetune.engine.api_errors import ApiError, JobError
from finetune.engine.chat_template import render
from finetune.engine.context_length import context_length_of
from finetune.engine.conversation import Message
from finetune.engine.devices import best_dtype
from finetune.engine.fingerprint import fingerprint_of
from finetune.engine.inference import loaded_model
from finetune.engine.inference.batch_invariance import CANDIDATE_SIZES
from finetune.engine.inference.generation_types import GeneratedAnswer, GenerationRequest
from finetune.engine.inference.generator import Generator
from finetune.engine.inference.loaded_model import MAX_LOGITS, LoadedModel, Part
from finetune.engine.inference.packed_products import is_packed, pack_products
from finetune.engine.inference.sampling import penalized, sample_token
from finetune.engine.store import Store
from finetune.engine.training.encoding import IGNORE_INDEX, encode, encode_file
from finetune.engine.training.training_file import InvalidExample

pytestmark = pytest.mark.usefixtures("forked_workers")


@pytest.fixture
def generator(home: Path) -> Iterator[Generator]:
    found = Generator(Store(home))
    yield found
    found.close()


@pytest.fixture(scope="module")
def wide(client: openai.OpenAI, home: Path) -> tuple[str, str]:
    """A base with SmolLM2's shapes, whose sums depend on the size of a batch, and a fine-tuned model of it."""
    make_tiny_base(home / "bases" / "wide", heads=9, shared_by=3, width=64)
    return "wide", str(wait(client, start_job(client, model="wide").id).fine_tuned_model)


@pytest.mark.parametrize("dtype", ["bfloat16", pytest.param("float32", marks=pytest.mark.slow)])
def test_an_answer_is_the_same_alone_and_in_any_batch(
    generator: Generator, wide: tuple[str, str], monkeypatch: pytest.MonkeyPatch, dtype: str
) -> None:
    monkeypatch.setattr(bases, "best_dtype", lambda: dtype)
    base, tuned = wide
    draw = random.Random(0)
    system: Message = {"role": "system", "content": "be brief"}
    turns: list[Message] = [{"role": "user", "content": "red"}, {"role": "assistant", "content": "blue"}]
    before_question: list[list[Message]] = [[], [system], [system, *turns]]
    requests = [
        GenerationRequest(
            model,
            [*before, {"role": "user", "content": "x" * draw.choice([draw.randint(1, 70), 400])}],
            draw.randint(1, 6),
            temperature,
            top_p,
            n,
            (),
            2,
        )
        for n in range(8)
        for before in before_question
        for model, temperature, top_p in ((base, 0, 1), (tuned, 0, 1), (tuned, 1.0, 1), (tuned, 1.0, 0.5))
    ]

    def answers(order: list[GenerationRequest]) -> dict[int, GeneratedAnswer]:
        futures = [(id(request), generator.submit(request)) for request in order]
        return {key: future.result(timeout=60) for key, future in futures}

    alone = {id(request): generator.submit(request).result(timeout=60) for request in requests}
    together = answers(requests)
    shuffled = answers(draw.sample(requests, len(requests)))
    assert alone == together == shuffled
    assert len({answer.text for answer in alone.values()}) > 5


@pytest.mark.slow
def test_a_new_job_has_the_memory_of_bases_that_nobody_uses(
    client: openai.OpenAI, generator: Generator, monkeypatch: pytest.MonkeyPatch
) -> None:
    request = GenerationRequest("tiny", "paint it", 4, 0, 1, 0, (), 2)
    before = generator.submit(request).result(timeout=60)
    assert generator.loaded
    with monkeypatch.context() as patch:
        own = Generator.before_training
        patch.setattr(Generator, "before_training", lambda _, job_id, base: own(generator, job_id, base))
        job = start_job(client)
    end = time.monotonic() + 60
    while generator.loaded:
        assert time.monotonic() < end
        time.sleep(0.02)
    assert generator.submit(request).result(timeout=60) == before
    wait(client, job.id)


@pytest.mark.slow
def test_a_base_is_loaded_ahead_when_its_job_has_succeeded(
    client: openai.OpenAI, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ahead = Generator(Store(home), ahead=True)
    with monkeypatch.context() as patch:
        before, after = Generator.before_training, Generator.after_training
        patch.setattr(Generator, "before_training", lambda _, job_id, base: before(ahead, job_id, base))
        patch.setattr(Generator, "after_training", lambda _, job_id, base: after(ahead, job_id, base))
        job = wait(client, start_job(client).id)
        end = time.monotonic() + 60
        while not (ahead.loaded and ahead.prompts.tokenizers):
            assert time.monotonic() < end
            time.sleep(0.02)
        loaded = dict(ahead.loaded)
        assert client.fine_tuning.jobs.retrieve(job.id).status == "succeeded"
    assert ahead.submit(GenerationRequest("tiny", "paint it", 4, 0, 1, 0, (), 2)).result(timeout=60).text
    assert ahead.loaded == loaded
    ahead.close()


@pytest.mark.parametrize("tokens", [1, 5, 16])
def test_attention_of_several_requests_at_once_has_the_bits_of_each_alone(home: Path, tokens: int) -> None:
    model = LoadedModel(home / "bases" / "tiny")
    assert model.has_groups
    size = len(model.tokenizer)
    prompts = [[(17 * number + place) % size for place in range(48 + tokens)] for number in range(7)]

    def logits(numbers: list[int]) -> list[Any]:
        caches = [model.new_cache() for _ in numbers]
        for start in (0, 16, 32, 48):
            parts = [
                Part(cache, prompts[number][start : start + 16], start)
                for cache, number in zip(caches, numbers, strict=True)
            ]
            found = model.compute(None, [parts])[0]
        return found

    together = logits(list(range(7)))
    for number in range(7):
        assert together[number].equal(logits([number])[0])


@pytest.mark.parametrize("bias", [True, False])
def test_products_with_packed_weights_are_the_usual_ones(bias: bool) -> None:
    import torch

    def products() -> list[torch.Tensor]:
        return [layers(rows[:, :size]) for size in CANDIDATE_SIZES]

    layers = torch.nn.Sequential(torch.nn.Linear(576, 192, bias), torch.nn.Linear(192, 1000, bias)).bfloat16()
    layers.dtype = torch.bfloat16  # type: ignore[assignment]
    rows = torch.randn(1, CANDIDATE_SIZES[-1], 576).bfloat16()
    with torch.inference_mode():
        before = products()
        pack_products(layers)
        for one, other in zip(products(), before, strict=True):
            assert float((one - other).float().norm()) < 0.01 * float(other.float().norm())
    if torch.backends.cpu.get_cpu_capability() == "AVX512" and best_dtype() == "bfloat16":
        assert all(map(is_packed, layers))


@pytest.mark.parametrize("most", [192, 160, 32])
def test_the_largest_passes_are_taken_whose_products_are_invariant(
    home: Path, monkeypatch: pytest.MonkeyPatch, most: int
) -> None:
    """Products of more rows have other bits, as those of some layers with AMX."""

    def product_like(_: Any, weight: Any) -> Any:
        return lambda states: states * (1 if states.shape[1] <= most else states.shape[1])

    monkeypatch.setattr(loaded_model, "product_like", product_like)
    model = LoadedModel(home / "bases" / "tiny")
    assert model.max_tokens == max(model.invariant_sizes) == most
    assert model.max_logits == min(MAX_LOGITS, most)


def test_requests_are_not_grouped_where_attention_in_company_has_other_bits(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import torch

    def attention(query: Any, *arguments: Any, **settings: Any) -> Any:
        return whole(query, *arguments, **settings) * (1 + len(query) / 100)

    whole = torch.nn.functional.scaled_dot_product_attention
    monkeypatch.setattr(torch.nn.functional, "scaled_dot_product_attention", attention)
    model = LoadedModel(home / "bases" / "tiny")
    assert model.invariant_sizes
    assert not model.has_groups


@pytest.mark.parametrize("influence", ["place", "other rows"])
def test_no_size_is_invariant_if_place_or_other_rows_change_a_row(
    home: Path, monkeypatch: pytest.MonkeyPatch, influence: str
) -> None:
    import torch

    def linear(states: Any, weight: Any, bias: Any = None) -> Any:
        results = whole(states, weight, bias)
        if influence == "place":
            results[:, -1] *= 1.01
        else:
            results += results[:, :1] / 100
        return results

    whole = torch.nn.functional.linear
    monkeypatch.setattr(loaded_model, "product_like", lambda _, weight: partial(linear, weight=weight))
    assert not LoadedModel(home / "bases" / "tiny").invariant_sizes


@pytest.mark.parametrize("value", ["nan", "inf"])
def test_an_error_names_the_model_whose_logits_are_not_finite(client: openai.OpenAI, home: Path, value: str) -> None:
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


def test_a_response_header_has_the_time_that_the_answer_took(client: openai.OpenAI) -> None:
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
def test_tokens_are_sampled_with_their_probabilities(temperature: float, top_p: float, expected: list[float]) -> None:
    import torch

    scores = torch.tensor([0.15, 0.5, 0.05, 0.3]).log()
    source = torch.Generator().manual_seed(0)
    counts = Counter(sample_token(scores, temperature, top_p, source) for _ in range(4000))
    assert [counts[token] / 4000 for token in range(4)] == pytest.approx(expected, abs=0.03)
    assert all(not counts[token] for token in range(4) if expected[token] == 0)


def test_a_token_without_probability_is_never_sampled(monkeypatch: pytest.MonkeyPatch) -> None:
    """Also when the random number is 0, as one of 16 million is."""
    import torch

    monkeypatch.setattr(torch, "rand", lambda *_, **__: torch.zeros(1))
    assert sample_token(torch.tensor([float("-inf"), 0.0, 1.0]), 1, 1, torch.Generator()) == 1


def test_known_blocks_of_a_prompt_change_no_bit(generator: Generator, wide: tuple[str, str]) -> None:
    """The same conversation computed as a whole, and with its beginning copied from another request."""
    system: Message = {"role": "system", "content": "be brief " * 9}

    def answer_to(text: str, top: int | None = 2) -> GeneratedAnswer:
        messages: list[Message] = [system, {"role": "user", "content": text}]
        return generator.submit(GenerationRequest(wide[1], messages, 5, 0, 1, 0, (), top)).result(timeout=60)

    whole = answer_to("what?")
    prefixes = generator.loaded[wide[0]][1].prefixes
    known = len(prefixes.blocks)
    assert known > 3
    assert answer_to("what?") == whole
    assert len(prefixes.blocks) == known
    answer_to("who?")
    assert known <= len(prefixes.blocks) <= known + 2
    prefixes.blocks.clear()
    answer_to("who?")
    assert answer_to("what?") == whole


@pytest.mark.parametrize("kind", ["Mistral", "Gemma2"])
@pytest.mark.parametrize("system", ["be brief", ""], ids=["system", "no system"])
def test_bases_with_a_sliding_window_answer_as_transformers_generate(
    generator: Generator, home: Path, monkeypatch: pytest.MonkeyPatch, kind: str, system: str
) -> None:
    """The window is shorter than the prompt's padding; Gemma2 has no fused attention."""
    import torch
    import transformers

    monkeypatch.setattr(bases, "best_dtype", lambda: "float32")
    folder = home / "bases" / kind
    make_tiny_base(folder)
    tokenizer: Any = transformers.AutoTokenizer.from_pretrained(folder)
    model = random_model(kind, **WINDOW)
    model.save_pretrained(folder)
    for length in (3, 60):
        messages: list[Message] = [{"role": "user", "content": "x" * length}]
        if system:
            messages.insert(0, {"role": "system", "content": system})
        request = GenerationRequest(kind, messages, 6, 0, 1, 0, (), 1)
        answer = generator.submit(request).result(timeout=60)
        ids = torch.tensor([render(tokenizer, messages, add_generation_prompt=True)])
        generated = model.generate(ids, max_new_tokens=6, do_sample=False)[0, ids.shape[1] :]
        assert answer.text == tokenizer.decode(generated, skip_special_tokens=True)


LONGROPE = {
    "rope_type": "longrope",
    "rope_theta": 10000.0,
    "short_factor": [1.0] * 8,
    "long_factor": [4.0] * 8,
    "original_max_position_embeddings": 100,
}


def test_a_base_with_longrope_ends_where_its_rotation_changes(generator: Generator, home: Path) -> None:
    """A long request would turn the positions of all requests in its pass by other angles."""
    folder = home / "bases" / "longrope"
    make_tiny_base(folder)
    random_model("Llama", rope_parameters=LONGROPE).save_pretrained(folder)

    def asked(length: int) -> Any:
        return generator.submit(
            GenerationRequest("longrope", [{"role": "user", "content": "x" * length}], 6, 0, 1, 0, (), 1)
        )

    alone = asked(3).result(timeout=60)
    long, short = asked(200), asked(3)
    assert short.result(timeout=60) == alone
    with pytest.raises(ApiError, match="maximum context length is 100 tokens"):
        long.result(timeout=60)


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ({}, 1024),
        ({"max_position_embeddings": None, "seq_length": 512}, 512),
        ({"max_position_embeddings": None}, 2048),
        ({"rope_parameters": LONGROPE}, 100),
        ({"rope_parameters": {"full_attention": LONGROPE, "sliding_attention": {"rope_type": "default"}}}, 100),
        ({"rope_parameters": {**LONGROPE, "rope_type": "yarn"}}, 1024),
        ({"rope_parameters": None}, 1024),
    ],
)
def test_how_many_tokens_a_base_computes(settings: dict[str, Any], expected: int) -> None:
    config = SimpleNamespace(**{"max_position_embeddings": 1024, **settings})
    assert context_length_of(config) == expected


class Characters:
    """A tokenizer with one token per character and a chat template similar to ChatML."""

    eos_token_id = ord("E")

    def __init__(self, rewrite: bool = False) -> None:
        self.rewrite = rewrite

    def get_chat_template(self, tools: None) -> str:
        return ""

    def apply_chat_template(self, turns: list[dict[str, str]], tokenize: bool, add_generation_prompt: bool) -> str:
        kept = turns[-2:] if self.rewrite else turns
        return "".join(f"{t['role'][0]}:{t['content']}E\n" for t in kept) + ("a:" if add_generation_prompt else "")

    def __call__(self, text: str, add_special_tokens: bool) -> Any:
        return {"input_ids": [ord(character) for character in text]}


CONVERSATION: list[Message] = [
    {"role": "user", "content": "hi"},
    {"role": "assistant", "content": "no", "weight": 0},
    {"role": "user", "content": "and"},
    {"role": "assistant", "content": "yes"},
]


def test_labels_are_on_trained_turns_and_the_end_of_turn() -> None:
    encoded = encode(Characters(), CONVERSATION, 100)
    assert "".join(map(chr, encoded.input_ids)) == "u:hiE\na:noE\nu:andE\na:yesE\n"
    assert "".join("." if label == IGNORE_INDEX else chr(label) for label in encoded.labels) == "." * 21 + "yesE."


def test_a_template_that_rewrites_turns_is_refused() -> None:
    with pytest.raises(InvalidExample, match="rewrites earlier turns"):
        encode(Characters(rewrite=True), CONVERSATION, 100)


def test_an_example_over_the_context_length_is_refused_with_its_line(tmp_path: Path) -> None:
    short: list[Message] = [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]
    path = tmp_path / "valid.jsonl"
    path.write_text("".join(json.dumps({"messages": m}) + "\n" for m in (short, CONVERSATION)), encoding="utf-8")
    assert len(encode_file(Characters(), path, 26, "validation_file")) == 2
    with pytest.raises(JobError, match=r"^Example 2 has 26 tokens; max_length is 25\. \(line 2\)$") as caught:
        encode_file(Characters(), path, 25, "validation_file")
    assert (caught.value.code, caught.value.param) == ("invalid_training_file", "validation_file")


def test_other_weights_under_the_same_name_have_another_fingerprint(client: openai.OpenAI, home: Path) -> None:
    """They are also loaded again while the server runs."""

    def ask() -> tuple[str | None, Any, Any]:
        answer = client.chat.completions.create(
            model="swap", messages=[{"role": "user", "content": "red"}], max_tokens=2, logprobs=True, temperature=0
        )
        content = answer.choices[0].logprobs
        return answer.system_fingerprint, client.models.retrieve("swap").to_dict()["system_fingerprint"], content

    make_tiny_base(home / "bases" / "swap")
    first, again = ask(), ask()
    assert first == again
    assert first[0] == first[1]
    shutil.rmtree(home / "bases" / "swap")
    make_tiny_base(home / "bases" / "swap", width=32)
    other = ask()
    assert other[0] == other[1] != first[0]
    assert other[2] != first[2]


def test_a_tuned_model_has_a_fingerprint_of_its_own(client: openai.OpenAI, wide: tuple[str, str]) -> None:
    fingerprints = [client.models.retrieve(model).to_dict()["system_fingerprint"] for model in wide]
    assert len(set(fingerprints)) == 2


@pytest.mark.parametrize("file", ["model.safetensors", "model.bin", "tokenizer.model", "vocab.txt", "config.json"])
def test_each_file_that_answers_depend_on_counts_for_the_fingerprint(tmp_path: Path, file: str) -> None:
    base = tmp_path / "bases" / "one"
    store = Store(tmp_path)
    base.mkdir(parents=True)
    (base / "config.json").write_text("{}", encoding="utf-8")
    (base / file).write_bytes(b"a")
    before = fingerprint_of(store, "one")
    (base / "README.md").write_text("nothing that is loaded", encoding="utf-8")
    assert fingerprint_of(store, "one") == before
    (base / file).write_bytes(b"b!")
    assert fingerprint_of(store, "one") != before


def test_a_base_of_the_hub_is_looked_up_there_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each request needs its folder, and the hub answers in tenths of a second."""
    import huggingface_hub

    looked: list[str] = []

    def snapshot(repository: str, **settings: Any) -> str:
        looked.append(repository)
        return str(tmp_path)

    monkeypatch.setattr(huggingface_hub, "snapshot_download", snapshot)
    for _ in range(3):
        assert bases.folder_of("someone/some-base@0123abc", tmp_path) == tmp_path
    assert looked == ["someone/some-base"]


def test_penalties_lower_the_logits_of_the_tokens_of_the_answer_so_far() -> None:
    import torch

    request = GenerationRequest("m", [], 9, 0, 1, 0, (), 2, presence_penalty=0.5, frequency_penalty=0.25)
    state: Any = SimpleNamespace(request=request, generated_ids=[3, 1, 3])
    logits = torch.tensor([1.0, 1.0, 1.0, 1.0])
    assert penalized(logits, state).tolist() == [1.0, 0.25, 1.0, 0.0]
    assert logits.tolist() == [1.0] * 4
    plain = GenerationRequest("m", [], 9, 0, 1, 0, (), 2)
    for unpenalized, ids in ((request, []), (plain, [1])):
        unchanged = SimpleNamespace(request=unpenalized, generated_ids=ids)
        assert penalized(logits, cast("Any", unchanged)) is logits


def test_a_penalty_ends_a_repetition(client: openai.OpenAI) -> None:
    def tokens(**more: Any) -> list[str]:
        answer = client.chat.completions.create(
            model="tiny",
            messages=[{"role": "user", "content": "again and again"}],
            max_tokens=40,
            temperature=0,
            logprobs=True,
            **more,
        ).choices[0]
        assert answer.logprobs
        return [one.token for one in answer.logprobs.content or []]

    assert len(set(tokens(frequency_penalty=2, presence_penalty=2))) > len(set(tokens()))
