"""A tokenizer like Llama 2's leaves out the first space of a text: an answer that follows a prompt keeps its own."""

from functools import cache
from pathlib import Path
from typing import Any

import openai
import pytest
from tiny import make_tiny_base
from tokenizers_of_tests import like_llama2

PROMPT = "Is it?"


@cache
def tokenizer() -> Any:
    """Return a tokenizer like Llama 2's that puts `<s>` before each text, as that one does."""
    from tokenizers.processors import TemplateProcessing

    found = like_llama2.__wrapped__()
    found._tokenizer.post_processor = TemplateProcessing(single="<s> $A", special_tokens=[("<s>", 1)])
    return found


@pytest.fixture(scope="module")
def settings(home: Path) -> dict[str, Any]:
    """Return settings with which the answer is the token ` yes`, twice."""
    make_tiny_base(home / "bases" / "spaced", tokenizer=tokenizer())
    yes = tokenizer().convert_tokens_to_ids("▁yes")
    return {"model": "spaced", "max_tokens": 2, "logit_bias": {str(yes): 100}, "temperature": 0}


@pytest.fixture(name="client")
def lenient_client(client: openai.OpenAI) -> openai.OpenAI:
    """Return a client that accepts null for the log-probability of a prompt's first token, as OpenAI sends it."""
    return openai.OpenAI(base_url=client.base_url, api_key=client.api_key, max_retries=0)


def test_a_completion_keeps_its_first_space(client: openai.OpenAI, settings: dict[str, Any]) -> None:
    choice = client.completions.create(prompt=PROMPT, logprobs=1, **settings).choices[0]
    assert choice.text == " yes yes"
    assert choice.logprobs
    assert choice.logprobs.tokens == [" yes", " yes"]
    assert choice.logprobs.text_offset == [len(PROMPT), len(PROMPT + " yes")]


@pytest.mark.parametrize("as_ids", [False, True])
def test_each_offset_is_the_place_of_its_token(client: openai.OpenAI, settings: dict[str, Any], as_ids: bool) -> None:
    prompt: Any = tokenizer()(PROMPT)["input_ids"] if as_ids else PROMPT
    choice = client.completions.create(prompt=prompt, logprobs=2, echo=True, **settings).choices[0]
    assert choice.text.endswith(f"{PROMPT} yes yes")
    assert choice.logprobs
    assert choice.logprobs.tokens
    assert choice.logprobs.text_offset
    assert choice.logprobs.top_logprobs
    assert choice.logprobs.tokens[0] == "<s>"
    places = list(zip(choice.logprobs.text_offset, choice.logprobs.tokens, strict=True))
    for place, token in places if as_ids else places[1:]:  # the token that begins a text is not in the text
        assert choice.text[place : place + len(token)] == token
    for token, top in zip(choice.logprobs.tokens[1:], choice.logprobs.top_logprobs[1:], strict=True):
        assert token in (top or {})


def test_a_stop_sequence_may_begin_with_the_first_space(client: openai.OpenAI, settings: dict[str, Any]) -> None:
    choice = client.completions.create(prompt=PROMPT, stop=" yes", **settings).choices[0]
    assert (choice.text, choice.finish_reason) == ("", "stop")


def test_a_stream_has_the_same_text(client: openai.OpenAI, settings: dict[str, Any]) -> None:
    chunks = client.completions.create(prompt=PROMPT, stream=True, **settings)
    assert "".join(chunk.choices[0].text for chunk in chunks) == " yes yes"


def test_an_answer_of_a_chat_is_a_text_without_that_space(client: openai.OpenAI, settings: dict[str, Any]) -> None:
    """The chat template writes it before each answer that the model is trained on."""
    choice = client.chat.completions.create(
        messages=[{"role": "user", "content": PROMPT}], logprobs=True, top_logprobs=1, **settings
    ).choices[0]
    assert choice.message.content == "yes yes"
    assert choice.logprobs
    tokens = choice.logprobs.content or []
    assert "".join(one.token for one in tokens) == "yes yes"
