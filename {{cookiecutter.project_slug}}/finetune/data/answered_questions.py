"""The questions of a prepared split as one text each, with their right answers."""

from itertools import islice
from pathlib import Path
from typing import NamedTuple

from finetune.core.disk import count_lines, each_jsonl
from finetune.core.errors import FinetuneError
from finetune.core.records.prepared import Example, PreparedExample
from finetune.data.completion_format import CompletionFormat, from_completion
from finetune.data.examples import as_chat, right_answer
from finetune.data.identity import question_of


class AnsweredQuestion(NamedTuple):
    """A question with what the model is given before it, such as a system prompt, and its right answer."""

    context: str
    asked: str
    answer: str

    def text(self) -> str:
        return "\n".join(filter(None, (self.context, self.asked)))


def answered_questions(path: Path, marks: CompletionFormat | None, most: int | None = None) -> list[AnsweredQuestion]:
    """Return the questions of a split; at most `most`, evenly spaced.

    The file may be larger than memory. `marks` are those of prompts and completions, None for chat.
    """
    step = max(1, -(-count_lines(path) // most)) if most else 1
    found = list[AnsweredQuestion]()
    for example in islice(each_jsonl(path, "prepare", PreparedExample), 0, None, step):
        if not example.keys() & PreparedExample.__annotations__.keys():
            raise FinetuneError(f"{example.place} is no example.", example.remedy)
        given = question_of(example)
        asked, answer = from_completion(example, marks) if marks else (given.asked, answer_in(example))
        found.append(AnsweredQuestion(given.context, asked, answer))
    return found


def answer_in(example: Example) -> str:
    """Return the right answer of a chat example, and of a preference the preferred one; "" if it has none."""
    last = as_chat(example)["messages"][-1]
    return right_answer(last) if last.get("role") == "assistant" else ""
