"""The types of the messages of chat requests and of training files: each key is used or refused by its name."""

from collections.abc import Sequence
from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, TypeAdapter
from pydantic_core import from_json

from finetune.engine.tool_calls import NAME

MAX_TOOLS = 128


def as_text(content: object) -> object:
    """Return the text of content parts; anything else stays as it is. Raises ValueError for parts that are no text."""
    if not isinstance(content, list):
        return content
    texts = []
    for index, part in enumerate(content):
        kind = part.get("type") if isinstance(part, dict) else None
        if kind != "text":
            raise ValueError(f"has a part {index} of type {kind!r}: this server reads text only")
        if set(part) != {"type", "text"} or not isinstance(part["text"], str):
            raise ValueError(f"has a part {index} that is not exactly a type and a text")
        texts.append(part["text"])
    if not texts:
        raise ValueError("has no parts")
    return "\n".join(texts)


def json_object(text: str) -> str:
    """Return the text of a JSON object. Raises ValueError for anything else."""
    try:
        found = from_json(text, allow_inf_nan=False)
    except ValueError as error:
        raise ValueError(f"must be a JSON object as a string: {error}") from error
    if not isinstance(found, dict):
        raise ValueError("must be a JSON object as a string")
    return text


def must_be_null(value: object) -> object:
    if value is not None and value != []:
        raise ValueError("must be null: this server has no use for it")
    return None


def one_or_many(value: object) -> object:
    """Return None for an empty list, as some servers send with each answer."""
    return None if value == [] else value


class Strict(BaseModel):
    """A JSON object with exact types and no other keys."""

    model_config = ConfigDict(strict=True, extra="forbid", frozen=True)


Text = Annotated[str, BeforeValidator(as_text), Field(description="a string, or an array of parts of type 'text'")]
Name = Annotated[str, Field(pattern=r"^[^\s<|\\/>]{1,64}$")]
FunctionName = Annotated[str, Field(pattern=f"^{NAME}$")]
Null = Annotated[None, BeforeValidator(must_be_null)]
JsonObject = Annotated[str, Field(description="a JSON object as a string")]


class FunctionOfCall(Strict):
    name: FunctionName
    arguments: Annotated[JsonObject, BeforeValidator(lambda text: json_object(text) if isinstance(text, str) else text)]


class CallOfTool(Strict):
    id: Annotated[str, Field(min_length=1)]
    type: Literal["function"]
    function: FunctionOfCall


class SystemMessage(Strict):
    role: Literal["system"]
    content: Text
    name: Name | None = None


class DeveloperMessage(Strict):
    role: Literal["developer"]
    content: Text
    name: Name | None = None


class UserMessage(Strict):
    role: Literal["user"]
    content: Text
    name: Name | None = None


class AssistantMessage(Strict):
    """An answer. The keys that must be null are those of this server's and of OpenAI's own answers."""

    role: Literal["assistant"]
    content: Annotated[str | None, BeforeValidator(as_text)] = None
    name: Name | None = None
    tool_calls: Annotated[list[CallOfTool] | None, BeforeValidator(one_or_many)] = None
    function_call: FunctionOfCall | None = None
    refusal: Null = None
    audio: Null = None
    annotations: Null = None


class TrainedAssistantMessage(AssistantMessage):
    weight: Annotated[int, Field(ge=0, le=1)] = 1


class ToolMessage(Strict):
    role: Literal["tool"]
    content: Text
    tool_call_id: Annotated[str, Field(min_length=1)]
    name: Name | None = None


class FunctionMessage(Strict):
    """The result of a `function_call`: OpenAI's former form."""

    role: Literal["function"]
    content: Text
    name: FunctionName


ChatMessage = Annotated[
    SystemMessage | DeveloperMessage | UserMessage | AssistantMessage | ToolMessage | FunctionMessage,
    Field(discriminator="role"),
]
TrainedMessage = Annotated[
    SystemMessage | DeveloperMessage | UserMessage | TrainedAssistantMessage | ToolMessage | FunctionMessage,
    Field(discriminator="role"),
]


class Function(Strict):
    """The signature of a function, with a JSON Schema of its parameters."""

    name: FunctionName
    description: str | None = None
    parameters: dict[str, Any] | None = None
    strict: bool | None = None


class Tool(Strict):
    type: Literal["function"]
    function: Function


class TrainedChat(Strict):
    """A line of a training file in chat format."""

    messages: Annotated[list[TrainedMessage], Field(min_length=1)]
    tools: Annotated[list[Tool], Field(min_length=1, max_length=MAX_TOOLS)] | None = None
    parallel_tool_calls: bool | None = None
    functions: Annotated[list[Function], Field(min_length=1, max_length=MAX_TOOLS)] | None = None


TRAINED_CHAT = TypeAdapter(TrainedChat)


def tools_of(functions: Sequence[Function]) -> list[dict[str, Any]]:
    """Return functions as the tools that chat templates take, with their keys in one order.

    `strict` is left out: it concerns how an answer is decoded, and not the prompt.
    """
    keys = ("name", "description", "parameters")
    given = [{key: getattr(function, key) for key in keys} for function in functions]
    return [
        {"type": "function", "function": {key: value for key, value in one.items() if value is not None}}
        for one in given
    ]
