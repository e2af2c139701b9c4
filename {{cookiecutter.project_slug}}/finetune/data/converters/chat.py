"""Convert rows that hold a conversation: `messages` of OpenAI, and `conversations` of ShareGPT."""

from finetune.core.records.prepared import Example
from finetune.data.converters.turns import chat_example, messages_of_turns
from finetune.data.converters.values import nonempty_list
from finetune.data.raw_file import Row


def from_messages(row: Row) -> Example:
    """Return chat as it is: messages, tools and the like, without other keys and without keys that are null."""
    return chat_example(row, messages_of_turns(nonempty_list(row["messages"], "messages"), "messages"))


def from_sharegpt(row: Row) -> Example:
    """Return turns with the keys `from` (the speaker) and `value` (the text) as messages."""
    turns = nonempty_list(row["conversations"], "conversations")
    return chat_example(row, messages_of_turns(turns, "conversations"))
