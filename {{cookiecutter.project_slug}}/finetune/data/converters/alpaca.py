"""Convert rows in the style of Alpaca: an instruction, an input that may be empty, and an output."""

from finetune.core.records.prepared import Example
from finetune.data.converters.turns import Message, chat_example
from finetune.data.converters.values import answer_text, as_list, has_value, nonempty_text
from finetune.data.prompts import cell_text
from finetune.data.raw_file import Row


def from_alpaca(row: Row) -> Example:
    """Return the history, and the instruction, followed by the input if there is one, with the output as its answer."""
    asked = nonempty_text(row["instruction"], "instruction")
    if has_value(row.get("input")):
        asked = f"{asked}\n\n{cell_text(row['input'])}"
    return chat_example(row, [*earlier_turns(row), *turn(asked, answer_text(row["output"], "output"))])


def earlier_turns(row: Row) -> list[Message]:
    """Return the messages of `history`, a list of questions with their answers."""
    pairs = as_list(row["history"], "history") if has_value(row.get("history")) else []
    if not all(isinstance(pair, list) and len(pair) == 2 for pair in pairs):
        raise ValueError("history is not a list of pairs, [question, answer]")
    return [
        message
        for question, answer in pairs
        for message in turn(nonempty_text(question, "history"), answer_text(answer, "history"))
    ]


def turn(question: str, answer: str) -> list[Message]:
    return [{"role": "user", "content": question}, {"role": "assistant", "content": answer}]
