"""Convert rows of a prompt and its completion, as texts or as lists of messages."""

from typing import Any

from finetune.core.records.prepared import Example
from finetune.data.converters.turns import Message, chat_example, messages_of_turns
from finetune.data.converters.values import answer_text, plain_text
from finetune.data.raw_file import Row

KEYS_OF_MESSAGE = ({"role", "content"}, {"role", "tool_calls"}, {"role", "refusal"}, {"from", "value"})


def from_completion(row: Row) -> Example:
    """Return a prompt and its completion as a conversation, of which only the completion is trained."""
    asked = messages_in(row["prompt"], "prompt")
    if asked is None:
        asked = [{"role": "user", "content": plain_text(row["prompt"], "prompt")}]
    answered = messages_in(row["completion"], "completion")
    if answered is None:
        answered = [{"role": "assistant", "content": answer_text(row["completion"], "completion")}]
    return chat_example(row, [*untrained(asked), *answered])


def messages_in(value: Any, name: str) -> list[Message] | None:
    """Return the messages of a list, or of one message; None where the value is neither."""
    turns = [value] if isinstance(value, dict) else value
    if not isinstance(turns, list) or not turns or not all(map(is_message, turns)):
        return None
    return messages_of_turns(turns, name)


def is_message(value: object) -> bool:
    return isinstance(value, dict) and any(keys <= value.keys() for keys in KEYS_OF_MESSAGE)


def untrained(messages: list[Message]) -> list[Message]:
    """Return messages of a prompt: the answers in it are not trained."""
    return [{**message, "weight": 0} if message.get("role") == "assistant" else message for message in messages]
