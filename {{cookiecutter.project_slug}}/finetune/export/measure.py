"""Check one exported format, and ask it the test rows."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, cast

from finetune.asking.split_answers import ask_examples, rows_of_answers
from finetune.core.errors import FinetuneError
from finetune.core.export_formats import ADAPTER, MERGED
from finetune.core.params import Params
from finetune.core.records.answers import Prediction
from finetune.core.records.exports import ExportedFile, ExportSpeed
from finetune.core.records.prepared import Example
from finetune.core.records.settings import AnswerSettings
from finetune.data.examples import declared_in
from finetune.export.adapter import check_adapter
from finetune.export.chat_template import tokenizer_of
from finetune.export.gguf import FILE
from finetune.export.llama_server import llama_server
from finetune.export.merge import AGAIN, check_merged
from finetune.export.prompts import (
    Prompt,
    encoder,
    end_of_turn,
    end_tokens,
    measured_prompts,
    prompts_of,
    refuse_missing_end,
    refuse_other_prompts,
    token_text,
)
from finetune.export.transformers_answers import answers_by_transformers, logprobs_of_answers
from finetune.project.export_manifest import check_files
from finetune.scoring.usage import latency
from finetune.terminal.progress import progress_bar


@dataclass(frozen=True)
class Measured:
    """The model that was measured: its base and adapter, what it was asked, and what it has answered."""

    params: Params
    questions: AnswerSettings
    examples: Sequence[Example]
    rows: Sequence[Prediction]
    name: str  # of the base
    base: Path
    adapter: Path

    @cached_property
    def tokenizer(self) -> Any:
        return tokenizer_of(self.base)

    @cached_property
    def prompts(self) -> list[Prompt]:
        return prompts_of(self.questions, self.examples)

    @cached_property
    def token_ids(self) -> list[list[int]]:
        """The token IDs of each prompt."""
        return measured_prompts(self.tokenizer, self.prompts, self.rows)

    @cached_property
    def end(self) -> int:
        """The token that ends the answers of the training."""
        return end_of_turn(self.tokenizer, self.questions)


def measure(name: str, folder: Path, files: dict[str, ExportedFile], model: Measured) -> list[Prediction]:
    """Return the answers of an exported format to the test rows, with the seconds that each took.

    Before anything is asked: its files are those that were written, its weights are those of the merge, and it encodes
    every prompt as the measured model did, and stops where the training's answers end. Raises FinetuneError else.
    """
    check_files(folder, files, AGAIN)
    if name == ADAPTER:
        check_adapter(folder, model.name)
        return by_transformers(name, model.base, folder, model)
    if name == MERGED:
        check_merged(folder, model.base, model.adapter)
        return by_transformers(name, folder, None, model)
    return by_llama(name, folder / FILE, model)


def by_transformers(name: str, folder: Path, adapter: Path | None, model: Measured) -> list[Prediction]:
    tokenizer = tokenizer_of(folder)
    ends, text_of = end_tokens(folder, tokenizer), token_text(model.tokenizer)
    refuse_other_prompts(name, model.token_ids, model.prompts, encoder(tokenizer), text_of)
    refuse_missing_end(name, model.end, ends, text_of)
    with progress_bar(f"ask {name}") as progress:
        answers = answers_by_transformers(folder, adapter, model.token_ids, ends, tokenizer, model.questions, progress)
    return rows_of_answers(model.questions, model.examples, answers)


def by_llama(name: str, file: Path, model: Measured) -> list[Prediction]:
    text_of = token_text(model.tokenizer)
    with llama_server(file, model.token_ids, model.questions["max_tokens"]) as server:
        refuse_other_prompts(name, model.token_ids, model.prompts, server.encode, text_of)
        ends = {model.tokenizer.convert_tokens_to_ids(server.end_text())} - {None}
        # A base may end its turns with another token than its texts; the file names one, and llama.cpp finds the other.
        if model.tokenizer.eos_token_id != model.end and server.stops_at(model.end):
            ends.add(model.end)
        refuse_missing_end(name, model.end, ends, text_of)
        # One at a time: in batches, and after other prompts, sums have another order and answers may differ.
        alone = {"concurrency": 1, "batch": False}
        params = model.params.model_copy(update={"evaluate": model.params.evaluate.model_copy(update=alone)})
        questions: AnswerSettings = {**model.questions, "top_logprobs": max(1, model.questions["top_logprobs"])}
        return ask_examples(server.connection, params, questions, name, model.examples)


def rows_with_logprobs(model: Measured) -> list[Prediction]:
    """Return the measured answers with their tokens' log-probabilities, computed here if nobody asked for them."""
    if any("logprobs" in row for row in model.rows):
        return [*model.rows]
    answers = [row["answer"] for row in model.rows]
    with progress_bar("log-probabilities of the measured answers") as progress:
        found = logprobs_of_answers(model.base, model.adapter, model.token_ids, answers, model.tokenizer, progress)
    return [{**row, "logprobs": one} for row, one in zip(model.rows, found, strict=True)]


def refuse_sampling(questions: AnswerSettings) -> None:
    """Raise FinetuneError where answers depend on chance, or on penalties that servers compute differently."""
    for key in ("temperature", "presence_penalty", "frequency_penalty"):
        if questions[key]:
            raise FinetuneError(
                f"evaluate.{key} is {questions[key]:g}, so equal models would not give equal answers.",
                f"Set evaluate.{key} to 0 in params.yaml; then the exports can be compared with the measured model.",
            )


def refuse_tools(examples: Sequence[Example]) -> None:
    """Raise FinetuneError where test rows declare tools: the calls in an export's answers are not read here."""
    if any(map(declared_in, examples)):
        raise FinetuneError(
            "The test rows declare tools, and an exported model's calls cannot be compared with the measured ones.",
            "Set export.formats to [], and use the adapter in models/weights: it has PEFT's format.",
        )


def speed_of(rows: Sequence[Prediction]) -> ExportSpeed:
    """Return how fast a format has answered; {} if that was not measured."""
    found = cast("ExportSpeed", latency(rows))
    seconds = sum(row.get("seconds", 0.0) for row in rows)
    if seconds and (tokens := sum(row["completion_tokens"] or 0 for row in rows)):
        found["tokens_per_second"] = round(tokens / seconds, 1)
    return found
