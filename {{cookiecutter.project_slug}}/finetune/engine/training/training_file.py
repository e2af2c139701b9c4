"""Read a training or validation file in chat format, and check each of its examples."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from typing_extensions import TypedDict

from finetune.engine.api_errors import JobError
from finetune.engine.chat_template import Message
from finetune.engine.jsonl import numbered_lines, parse_object
from finetune.engine.store import Store

ROLES = ("system", "user", "assistant", "developer")
MIN_EXAMPLES = 10


class Example(TypedDict):
    """A conversation, and its line in the file."""

    line: int
    messages: list[Message]


class InvalidExample(Exception):
    """What is wrong with one example; the sentence begins with the example's number, which `at_example` adds."""


@contextmanager
def at_example(number: int, line: int, param: str) -> Iterator[None]:
    """Turn an InvalidExample raised in the block into a JobError that names the example and its line.

    Examples and lines are counted from 1, as OpenAI counts them; `param` is the job's parameter that names the file.
    """
    try:
        yield
    except InvalidExample as error:
        raise JobError("invalid_training_file", f"Example {number} {error} (line {line})", param) from error


def file_of_job(store: Store, file_id: str, param: str) -> Path:
    """Return the path of a job's file; `param` is the job's parameter that names it.

    Raises JobError if the file was deleted after the job was created, or is not what was uploaded.
    """
    row, path = store.kept_file(file_id), store.file_path(file_id)
    if row is None or not path.is_file():
        what = f"{param} {file_id!r} was deleted. Upload the file again and create another job."
        raise JobError("invalid_file", what, param)
    if store.is_damaged(path):
        what = f"{param} {file_id!r} is damaged: its content on the server's disk is not what was uploaded."
        raise JobError("invalid_file", f"{what} Upload the file again and create another job.", param)
    return path


def read_examples(path: Path, param: str) -> Iterator[Example]:
    """Yield the conversations of a JSONL file in chat format; `param` is the job's parameter that names the file.

    They are not kept: a file may have 8 GB. Raises JobError, with OpenAI's codes, for an invalid example and, at the
    end, for too few examples.
    """
    count = 0
    for count, (line, content) in enumerate(numbered_lines(path), 1):
        with at_example(count, line, param):
            messages = checked_messages(content)
        yield {"line": line, "messages": messages}
    if param == "training_file" and count < MIN_EXAMPLES:
        raise JobError(
            "invalid_n_examples",
            f"Training file has {count} example(s), but must have at least {MIN_EXAMPLES} examples.",
            param,
        )
    if not count:
        raise JobError("invalid_n_examples", "Validation file has no examples.", param)


def count_examples(path: Path, param: str) -> int:
    """Return the number of examples of a file. Raises JobError for what `read_examples` refuses."""
    return sum(1 for _ in read_examples(path, param))


def checked_messages(line: bytes) -> list[Message]:
    """Return the messages of one line; raises InvalidExample if it is not a chat example with an answer to train on."""
    try:
        example = parse_object(line)
    except ValueError as error:
        raise InvalidExample(f"cannot be parsed. Error: line contains invalid json: {error}") from error
    if not isinstance(example.get("messages"), list):
        raise InvalidExample("is missing key 'messages'.")
    for key in sorted(set(example) - {"messages"}):
        raise InvalidExample(f'contains an extra "{key}", which this server does not train on.')
    for index, message in enumerate(example["messages"]):
        if not isinstance(message, dict) or message.get("role") not in ROLES:
            raise InvalidExample(f"has a message {index} whose role is none of {', '.join(ROLES)}.")
        if not isinstance(message.get("content"), str):
            raise InvalidExample(f"has a message {index} whose content is not a string.")
        if message.get("weight", 1) not in (0, 1):
            raise InvalidExample(f"has a message {index} whose weight is neither 0 nor 1.")
    if not any(is_trained(message) for message in example["messages"]):
        raise InvalidExample("has no assistant message to train on.")
    return list(example["messages"])


def is_trained(message: Message) -> bool:
    """Return whether the loss counts this message: the assistant's, unless its weight is 0."""
    return message["role"] == "assistant" and message.get("weight", 1) == 1
