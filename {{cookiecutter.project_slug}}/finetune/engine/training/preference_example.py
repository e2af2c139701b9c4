"""Check a line of a preference file: a conversation, and the preferred and the other answer to it."""

from collections.abc import Mapping
from typing import Annotated, Any, NamedTuple

from pydantic import Field, TypeAdapter, ValidationError

from finetune.engine.chat_messages import (
    MAX_TOOLS,
    AssistantMessage,
    ChatMessage,
    Function,
    Strict,
    Tool,
    ToolMessage,
    tools_of,
)
from finetune.engine.conversation import InvalidChat, Message, conversation, invalid_chat

OUTPUTS = ("preferred_output", "non_preferred_output")
KEYS = ("input", *OUTPUTS)

Output = Annotated[list[Annotated[AssistantMessage | ToolMessage, Field(discriminator="role")]], Field(min_length=1)]


class Input(Strict):
    """What both answers are given to."""

    messages: Annotated[list[ChatMessage], Field(min_length=1)]
    tools: Annotated[list[Tool], Field(min_length=1, max_length=MAX_TOOLS)] | None = None
    parallel_tool_calls: bool | None = None
    functions: Annotated[list[Function], Field(min_length=1, max_length=MAX_TOOLS)] | None = None


class Preference(Strict):
    """A line of a training file of the method dpo."""

    input: Input
    preferred_output: Output
    non_preferred_output: Output


PREFERENCE = TypeAdapter(Preference)


class CheckedPreference(NamedTuple):
    """The conversation with each answer, in which only that answer is trained on, and the tools."""

    preferred: list[Message]
    other: list[Message]
    tools: list[dict[str, Any]]


def checked_preference(found: Mapping[str, Any]) -> CheckedPreference:
    """Return the two conversations of a preference. Raises InvalidChat for what is wrong with it."""
    try:
        given = PREFERENCE.validate_python(found)
    except ValidationError as error:
        raise invalid_chat(error) from error
    asked = given.input
    if asked.messages[-1].role == "assistant":
        raise InvalidChat("input.messages", "ends with an answer: it must end with what the outputs answer")
    if asked.tools and asked.functions:
        raise InvalidChat("input", "has both 'tools' and 'functions', which is their former name")
    length = len(conversation(asked.messages, "input.messages"))
    preferred, other = (
        answered(asked, getattr(given, name), length, name, given.input.parallel_tool_calls) for name in OUTPUTS
    )
    if preferred == other:
        raise InvalidChat(OUTPUTS[1], "is the same as 'preferred_output', so there is nothing to prefer")
    return CheckedPreference(
        preferred, other, tools_of([tool.function for tool in asked.tools or ()] or asked.functions or ())
    )


def answered(asked: Input, output: Output, length: int, name: str, parallel: bool | None) -> list[Message]:
    """Return the conversation with an answer. Its first `length` messages are not trained on."""
    if output[0].role != "assistant":
        raise InvalidChat(f"{name}[0]", "is no answer of the assistant")
    try:
        messages = conversation([*asked.messages, *output], "messages", ends_open=True)
    except InvalidChat as error:
        raise InvalidChat(name, f"cannot follow the input: '{error.place}' {error.what}") from error
    if parallel is False and any(len(one.get("tool_calls", ())) > 1 for one in messages[length:]):
        raise InvalidChat(name, "has an answer with several calls, but 'parallel_tool_calls' is false")
    for index, message in enumerate(messages):
        if message["role"] == "assistant":
            message["weight"] = int(index >= length)
    return messages
