"""replay: ask the base model the questions of a file, so that train.replay can train on its own answers.

A model forgets least where it is trained again on what it would say itself: the answers have the form and the knowledge
that it has already. Answers by people or by a larger model are another style to learn. (Pseudorehearsal: Robins 1995,
"Catastrophic forgetting, rehearsal and pseudorehearsal". Self-synthesized rehearsal: Huang et al. 2024, "Mitigating
catastrophic forgetting in large language models with self-synthesized rehearsal". Self-distillation: Yang et al. 2024,
"Self-distillation bridges distribution gap in language model fine-tuning".) `bench/forgetting.py` of the template
compares both.
"""

import re
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, cast

from finetune.asking.model_names import name_of_base
from finetune.core.disk import write_jsonl
from finetune.core.errors import FinetuneError
from finetune.core.params import Params
from finetune.core.records.prepared import Example
from finetune.core.sections.evaluate import Evaluate
from finetune.core.sections.train import Replay
from finetune.data.examples import declared_in
from finetune.data.identity import messages_before_answer
from finetune.data.replay import ANSWERED_BY, read_replay
from finetune.provider.answer_parser import Answer, was_cut
from finetune.provider.completions import answer_all
from finetune.provider.connect import connect
from finetune.terminal.progress import progress_bar, say

SENTENCE_END = re.compile(r"[.!?](?=\s|$)|[。！？]")


@dataclass(frozen=True)
class BaseAnswers:
    """How many questions were asked, and how many have an answer in the written file."""

    model: str
    asked: int
    written: int


def write_base_answers(params: Params, file: Path, output: Path, max_tokens: int) -> BaseAnswers:
    """Write the base's most likely answer to each question of a file, as chat examples in JSON Lines.

    An answer of `max_tokens` tokens is cut after its last sentence. Left out are answers without a whole sentence, and
    requests that the provider refuses. Raises FinetuneError if no answer is left, and for questions with tools: an
    answer in words to these would teach the model not to call them.
    """
    prompt = params.train.replay.prompt if params.train.replay else None
    with tempfile.TemporaryFile() as spool:
        gathered = read_replay(params, Replay(file=str(file), share=0.0, prompt=prompt), cast("BinaryIO", spool))
        examples = [gathered.example(row) for row in gathered.rows]
    if with_tools := sum(map(bool, map(declared_in, examples))):
        raise FinetuneError(f"{file}: {with_tools} rows declare tools, which replay cannot ask with.", "Remove them.")
    asked = [{**example, "messages": messages_before_answer(example)} for example in examples]
    asking = params.evaluate
    settings = Evaluate(max_tokens=max_tokens, temperature=0.0, concurrency=asking.concurrency, batch=asking.batch)
    model, prompts = name_of_base(params), [example["messages"] for example in asked]
    with connect(params.provider) as connection, progress_bar(f"ask {model}") as progress:
        answers = answer_all(connection, model, prompts, settings, params.train.seed, progress, say)
    texts = [whole_sentences(answer, max_tokens) for answer in answers]
    by = params.train.base
    found = [with_answer(example, text, by) for example, text in zip(asked, texts, strict=True) if text]
    if not found:
        raise FinetuneError(f"{model} gave no whole answer to any question of {file}.", "Set --max-tokens higher.")
    write_jsonl(output, found)
    return BaseAnswers(model, len(asked), len(found))


def whole_sentences(answer: Answer, max_tokens: int) -> str:
    """Return an answer's text, without the sentence in which it was cut; "" if nothing is left."""
    text = "" if answer.error else answer.text.strip()
    if not was_cut(answer, max_tokens):
        return text
    ends = [match.end() for match in SENTENCE_END.finditer(text)]
    return text[: ends[-1]] if ends else ""


def with_answer(example: Example, text: str, by: str) -> Example:
    return {**example, "messages": [*example["messages"], {"role": "assistant", "content": text}], ANSWERED_BY: by}
