"""Read a training or validation file, and check each of its examples.

All are chats, or all prompts and completions; for the method dpo, all are preferences.
"""

from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

from pydantic import ValidationError
from typing_extensions import NotRequired, TypedDict, final

from finetune.engine.api_errors import JobError
from finetune.engine.chat_messages import TRAINED_CHAT, TrainedChat, tools_of
from finetune.engine.conversation import InvalidChat, Message, conversation, invalid_chat
from finetune.engine.jsonl import numbered_lines, parse_object
from finetune.engine.training.preference_example import KEYS, checked_preference

MIN_EXAMPLES = 10
CHECK_EVERY = 1000  # examples
PAIR = {"prompt", "completion"}


@final
class ChatExample(TypedDict):
    """A conversation, the tools that it can call, and its line in the file."""

    line: int
    messages: list[Message]
    tools: NotRequired[list[dict[str, Any]]]


@final
class PairExample(TypedDict):
    """A prompt and its completion, without chat template, and their line in the file."""

    line: int
    prompt: str
    completion: str


@final
class PreferenceExample(TypedDict):
    """A conversation with its preferred and its other answer, each of weight 1, the tools, and the line in the file."""

    line: int
    preferred: list[Message]
    other: list[Message]
    tools: NotRequired[list[dict[str, Any]]]


Example = ChatExample | PairExample | PreferenceExample


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


def nothing() -> None:
    """Do nothing, as a check that never ends the work."""


def read_examples(
    path: Path, param: str, method: str = "supervised", check: Callable[[], None] = nothing
) -> Iterator[Example]:
    """Yield the examples of a JSONL file for a method; `param` is the job's parameter that names the file.

    They are not kept: a file may have 8 GB. `check` is called now and then, and raises to end the work.
    Raises JobError, with OpenAI's codes, for an invalid example and, at the end, for too few examples.
    """
    count, first = 0, None
    for count, (line, content) in enumerate(numbered_lines(path), 1):
        if count % CHECK_EVERY == 0:
            check()
        with at_example(count, line, param):
            example = checked_example(content, line, first, method)
        first = first or example
        yield example
    if param == "training_file" and count < MIN_EXAMPLES:
        raise JobError(
            "invalid_n_examples",
            f"Training file has {count} example(s), but must have at least {MIN_EXAMPLES} examples.",
            param,
        )
    if not count:
        raise JobError("invalid_n_examples", "Validation file has no examples.", param)


class Counted(NamedTuple):
    """The number of examples of a file, and their kind."""

    examples: int
    kind: str


def count_examples(path: Path, param: str, method: str = "supervised", check: Callable[[], None] = nothing) -> Counted:
    """Count the examples of a file. Raises what `read_examples` raises."""
    counts = Counter(map(kind_of, read_examples(path, param, method, check)))
    ((kind, count),) = counts.items()
    return Counted(count, kind)


def check_same_kind(trained: str, validated: str) -> None:
    """Raise JobError unless both files hold chats, or both prompts and completions: their losses are compared."""
    if trained != validated:
        what = f"Validation file has {validated}, but training file has {trained}."
        raise JobError("invalid_training_file", what, "validation_file")


def kind_of(example: Example) -> str:
    if "preferred" in example:
        return "preferences"
    return "messages" if "messages" in example else "prompts and completions"


def checked_example(line: bytes, number: int, first: Example | None, method: str = "supervised") -> Example:
    """Return the example of a line, of the same kind as the file's first one. Raises InvalidExample if it is wrong."""
    try:
        found = parse_object(line)
    except ValueError as error:
        raise InvalidExample(f"cannot be parsed. Error: line contains invalid json: {error}") from error
    if method == "dpo":
        return checked_preferences(found, number)
    if "input" in found and "messages" not in found:
        raise InvalidExample("is missing key 'messages'. Preferences are trained on by the method 'dpo'.")
    is_pair = "prompt" in first if first else bool(PAIR & set(found)) and "messages" not in found
    other = "messages" in found if is_pair else set(found) >= PAIR
    if first and other:
        key, own = ("prompt", "messages") if is_pair else ("messages", "prompts and completions")
        before = f"The examples before it have {kind_of(first)}"
        raise InvalidExample(f"is missing key {key!r}. {before}, and this one {own}.")
    return checked_pair(found, number) if is_pair else checked_chat(found, number)


def checked_preferences(found: dict[str, Any], number: int) -> PreferenceExample:
    """Return a conversation with its two answers."""
    for key in KEYS:
        if key not in found:
            raise InvalidExample(f"is missing key {key!r}. The method 'dpo' trains on preferences: {', '.join(KEYS)}.")
    for key in sorted(set(found) - set(KEYS)):
        raise InvalidExample(f'contains an extra "{key}", which this server does not train on.')
    try:
        preferred, other, tools = checked_preference(found)
    except InvalidChat as error:
        raise InvalidExample(f"cannot be trained on: {error}.") from error
    example: PreferenceExample = {"line": number, "preferred": preferred, "other": other}
    if tools:
        example["tools"] = tools
    return example


def checked_pair(found: dict[str, Any], number: int) -> PairExample:
    """Return a prompt and its completion."""
    for key in sorted(set(found) - PAIR):
        raise InvalidExample(f'contains an extra "{key}", which this server does not train on.')
    for key in ("prompt", "completion"):
        if key not in found:
            raise InvalidExample(f"is missing key {key!r}.")
        if not isinstance(found[key], str):
            raise InvalidExample(f"has a {key} that is not a string.")
    if not found["completion"]:
        raise InvalidExample("has an empty completion: there is nothing to train on.")
    return {"line": number, "prompt": found["prompt"], "completion": found["completion"]}


def checked_chat(found: dict[str, Any], number: int) -> ChatExample:
    """Return a conversation with an answer to train on, and its tools."""
    if not isinstance(found.get("messages"), list):
        raise InvalidExample("is missing key 'messages'.")
    for key in sorted(set(found) - set(TrainedChat.model_fields)):
        raise InvalidExample(f'contains an extra "{key}", which this server does not train on.')
    try:
        chat = TRAINED_CHAT.validate_python(found)
        messages = conversation(chat.messages, ends_open=True)
    except ValidationError as error:
        raise InvalidExample(f"cannot be trained on: {invalid_chat(error)}.") from error
    except InvalidChat as error:
        raise InvalidExample(f"cannot be trained on: {error}.") from error
    if not any(is_trained(message) for message in messages):
        raise InvalidExample("has no assistant message to train on.")
    if chat.parallel_tool_calls is False and any(len(one.get("tool_calls", ())) > 1 for one in messages):
        raise InvalidExample("has an answer with several calls, but its 'parallel_tool_calls' is false.")
    if chat.tools and chat.functions:
        raise InvalidExample("has both 'tools' and 'functions', which is their former name.")
    example: ChatExample = {"line": number, "messages": messages}
    if chat.tools or chat.functions:
        example["tools"] = tools_of([tool.function for tool in chat.tools or ()] or chat.functions or ())
    return example


def is_trained(message: Message) -> bool:
    """Return whether the loss counts this message: the assistant's, unless its weight is 0."""
    return message["role"] == "assistant" and message.get("weight", 1) == 1
