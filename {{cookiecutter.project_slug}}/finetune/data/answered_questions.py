"""The questions of a prepared split as one text each, with their right answers."""

from itertools import islice
from pathlib import Path

import orjson

from finetune.data.completion_format import CompletionFormat, from_completion
from finetune.data.identity import answer_of, question_of


def questions_and_answers(
    path: Path, marks: CompletionFormat | None, most: int | None = None
) -> tuple[list[str], list[str]]:
    """Return questions, with what the model is given before them, and answers; at most `most`, evenly spaced.

    The file may be larger than memory. `marks` are those of prompts and completions, None for chat.
    """
    with open(path, "rb") as lines:
        count = sum(1 for _ in lines)
    step = max(1, -(-count // most)) if most else 1
    questions, answers = list[str](), list[str]()
    with open(path, "rb") as lines:
        for line in islice(lines, 0, None, step):
            if not line.strip():
                continue
            example = orjson.loads(line)
            given = question_of(example)
            whole = "\n".join(filter(None, (given.context, given.asked)))
            question, answer = from_completion(example, marks) if marks else (whole, answer_of(example))
            questions.append(question)
            answers.append(answer)
    return questions, answers
