"""The token IDs of prompts: those that the model was measured with, and those of what was exported.

A chat template that differs by one token gives other answers, so all rows are compared before a model is asked.
"""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from finetune.core.errors import FinetuneError
from finetune.core.records import AnswerSettings, Example, Prediction
from finetune.data.questions import prompt_of

Prompt = str | list[dict[str, Any]]
Encode = Callable[[Prompt], list[int]]
ANSWER = "Answer-7531"  # a text that no chat template has
TEMPLATE_REMEDY = "Use the tokenizer and the chat template of the base for all: dvc repro -f -s export"


def prompts_of(questions: AnswerSettings, examples: Sequence[Example]) -> list[Prompt]:
    """Return what each row asks: a conversation, or a text to complete."""
    if questions["completion"]:
        return [example["prompt"] for example in examples]
    return [prompt_of(example["messages"][:-1], []) for example in examples]


def system_prompt(prompts: Sequence[Prompt]) -> str | None:
    """Return the system message that all conversations begin with; None if they have different ones, or none."""
    first = [None if isinstance(prompt, str) else prompt[0] for prompt in prompts]
    found = {one["content"] if one and one["role"] == "system" else None for one in first}
    return found.pop() if len(found) == 1 else None


def encoder(tokenizer: Any) -> Encode:
    """Return the function that makes token IDs of a prompt with a tokenizer and its chat template."""

    def encode(prompt: Prompt) -> list[int]:
        if isinstance(prompt, str):
            return list(tokenizer(prompt)["input_ids"])
        text = tokenizer.apply_chat_template(prompt, tokenize=False, add_generation_prompt=True)
        return list(tokenizer(text, add_special_tokens=False)["input_ids"])

    return encode


def measured_prompts(tokenizer: Any, prompts: Sequence[Prompt], rows: Sequence[Prediction]) -> list[list[int]]:
    """Return the token IDs that the measured model was asked with, by the base's tokenizer.

    Raises FinetuneError if the provider has counted other numbers of tokens: then its template is another one.
    """
    encode = encoder(tokenizer)
    found = [encode(prompt) for prompt in prompts]
    for number, (ids, row) in enumerate(zip(found, rows, strict=True), 1):
        if row["prompt_tokens"] not in (None, len(ids)) and not row.get("error"):
            raise FinetuneError(
                f"Test row {number}: the tuned model was measured with a prompt of {row['prompt_tokens']} tokens, and"
                f" the base's chat template makes {len(ids)}: the provider uses another template, or the row has a text"
                " of a control token, which it has taken as ordinary text.",
                "Set export.base in params.yaml to a folder with the tokenizer and the template of the training.",
            )
    return found


def refuse_other_prompts(
    name: str, expected: Sequence[Sequence[int]], prompts: Sequence[Prompt], encode: Encode, text_of: Any
) -> None:
    """Raise FinetuneError naming the first token of the first row that an exported format encodes otherwise.

    `text_of` returns the text of a token ID.
    """
    for number, (wanted, prompt) in enumerate(zip(expected, prompts, strict=True), 1):
        found = encode(prompt)
        if found == list(wanted):
            continue
        place = next((at for at, (a, b) in enumerate(zip(wanted, found, strict=False)) if a != b), None)
        if place is None:
            place = min(len(wanted), len(found))
        one, other = (text_of(ids[place]) if place < len(ids) else "the end" for ids in (found, wanted))
        raise FinetuneError(
            f"{name}, test row {number}: token {place + 1} of the prompt is {one}; the tuned model was measured with"
            f" {other}: the chat template or the tokenizer is another one.",
            TEMPLATE_REMEDY,
        )


def token_text(tokenizer: Any) -> Callable[[int], str]:
    """Return the function that shows a token ID with its text."""
    return lambda token: f"{tokenizer.decode([token])!r} ({token})"


def end_tokens(folder: Path, tokenizer: Any) -> set[int]:
    """Return the tokens that end an answer of a folder's model, by its configurations."""
    from transformers import AutoConfig, GenerationConfig

    has_own = (folder / "generation_config.json").is_file()
    config = GenerationConfig.from_pretrained(folder) if has_own else AutoConfig.from_pretrained(folder)
    found = config.eos_token_id
    ends = found if isinstance(found, list) else [found]
    return {int(end) for end in (tokenizer.eos_token_id, *ends) if end is not None}


def end_of_turn(tokenizer: Any, questions: AnswerSettings) -> int:
    """Return the token that ends an answer of the training: what the chat template writes after it.

    Texts to complete end with the tokenizer's own.
    """
    if questions["completion"]:
        return int(tokenizer.eos_token_id)
    turns = [{"role": "user", "content": "Question"}, {"role": "assistant", "content": ANSWER}]
    rest = tokenizer.apply_chat_template(turns, tokenize=False).rpartition(ANSWER)[2]
    ids = tokenizer(rest, add_special_tokens=False)["input_ids"]
    return int(ids[0]) if ids else int(tokenizer.eos_token_id)


def refuse_missing_end(name: str, end: int, ends: set[int], text_of: Any) -> None:
    """Raise FinetuneError if what was exported does not stop at the token that ends the answers of the training."""
    if end not in ends:
        listed = ", ".join(text_of(one) for one in sorted(ends)) or "no token"
        raise FinetuneError(
            f"{name} stops at {listed}, and not at {text_of(end)}, which ends each answer of the training: its answers"
            " would go on up to the maximum length.",
            "Add that token to eos_token_id in generation_config.json of the base, then: dvc repro -f -s export",
        )
