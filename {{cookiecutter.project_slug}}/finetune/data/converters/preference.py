"""Convert rows of a question with a preferred and a rejected answer."""

from typing import Any

from finetune.core.records.prepared import Example
from finetune.data.converters.completion import messages_in
from finetune.data.converters.turns import Message, chat_example, messages_of_turns
from finetune.data.converters.values import answer_text, has_value, nonempty_list, plain_text
from finetune.data.examples import OUTPUTS
from finetune.data.raw_file import Row

CONVERSATIONS = ("messages", "conversations")


def from_preference(row: Row) -> Example:
    """Return a question with its two answers, from OpenAI's keys, or from `chosen` and `rejected`."""
    if "input" in row and has_value(row.get(OUTPUTS[0])):
        return {key: row[key] for key in ("input", *OUTPUTS)}
    chosen, rejected = (answers_in(row[key], key) for key in ("chosen", "rejected"))
    asked = asked_in(row)
    if asked is None:
        asked = common_beginning(chosen, rejected)
        if not asked:
            raise ValueError("there is no prompt, and chosen and rejected have no common beginning")
    outputs = [without_beginning(answers, asked) for answers in (chosen, rejected)]
    return {"input": chat_example(row, asked), OUTPUTS[0]: outputs[0], OUTPUTS[1]: outputs[1]}


def asked_in(row: Row) -> list[Message] | None:
    """Return the messages of the prompt; None where the row has none beside its answers."""
    for key in CONVERSATIONS:
        if has_value(row.get(key)):
            return messages_of_turns(nonempty_list(row[key], key), key)
    if not has_value(row.get("prompt")):
        return None
    asked = messages_in(row["prompt"], "prompt")
    return [{"role": "user", "content": plain_text(row["prompt"], "prompt")}] if asked is None else asked


def answers_in(value: Any, name: str) -> list[Message]:
    """Return an answer as messages: a text, one message, or a list of them."""
    if not has_value(value):
        raise ValueError(f"{name} is empty")
    found = messages_in(value, name)
    return [{"role": "assistant", "content": answer_text(value, name)}] if found is None else found


def common_beginning(one: list[Message], other: list[Message]) -> list[Message]:
    """Return the messages with which both conversations begin."""
    length = 0
    while length < min(len(one), len(other)) and one[length] == other[length]:
        length += 1
    return one[:length]


def without_beginning(answers: list[Message], asked: list[Message]) -> list[Message]:
    """Return an answer without the prompt, where it is a whole conversation."""
    rest = answers[len(asked) :] if answers[: len(asked)] == asked else answers
    if not rest or any(message.get("role") == "user" for message in rest):
        raise ValueError("chosen and rejected are conversations that do not begin with the prompt and end with answers")
    return rest
