"""The messages of chat requests and of training files: their types, and the conversation that they make.

Keys are used or refused by name. What a base's chat template leaves out is found by `chat_template.check_used`.
"""

from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, TypeAdapter, ValidationError
from pydantic_core import from_json
from typing_extensions import NotRequired, TypedDict

from finetune.engine.field_errors import path_of, words_of
from finetune.engine.tool_format import NAME, ToolCall

MAX_TOOLS = 128


class Message(TypedDict):
    """One turn of a conversation; an assistant's turn of `weight` 0 is not trained on.

    Content that was null is "", parts of text are joined with line breaks, and calls of functions in OpenAI's former
    form (`function_call`) are calls of tools.
    """

    role: str
    content: str
    name: NotRequired[str]
    tool_calls: NotRequired[list[ToolCall]]
    tool_call_id: NotRequired[str]
    weight: NotRequired[int]


class InvalidChat(ValueError):
    """What is wrong with a conversation; `place` is the path to it, as `messages[2].tool_calls[0].id`."""

    def __init__(self, place: str, what: str) -> None:
        super().__init__(f"'{place}' {what}")
        self.place, self.what = place, what


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
RESULTS = (ToolMessage, FunctionMessage)
FORMER_ID = "function_call"  # of the one call in OpenAI's former form, which has none
NO_CALL = "is no result of a call in the answer before it"


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


def invalid_chat(error: ValidationError) -> InvalidChat:
    """Return the first error of a conversation that does not fit its type: unknown keys before wrong values."""
    errors = error.errors(include_url=False)
    first = next((one for one in errors if one["type"] == "extra_forbidden"), errors[0])
    return InvalidChat(path_of(first["loc"]), words_of(first))


def conversation(messages: Sequence[BaseModel], prefix: str = "messages", ends_open: bool = False) -> list[Message]:
    """Return checked messages as a conversation. `ends_open` allows the last message's calls to have no results.

    Raises InvalidChat if a result has no call or a call has no result, and if an answer has neither content nor calls.
    """
    found: list[Message] = []
    index = 0
    while index < len(messages):
        place = f"{prefix}[{index}]"
        if isinstance(messages[index], RESULTS):
            raise InvalidChat(place, NO_CALL)
        message = turn(messages[index].model_dump(exclude_none=True), place)
        end = index + 1
        while end < len(messages) and isinstance(messages[end], RESULTS):
            end += 1
        numbers = range(index + 1, end)
        results = {f"{prefix}[{number}]": messages[number].model_dump(exclude_none=True) for number in numbers}
        found.append(message)
        if message.get("tool_calls") and not (ends_open and end == len(messages) and not results):
            found += results_of(message["tool_calls"], results, place)
        elif results:
            raise InvalidChat(next(iter(results)), NO_CALL)
        index = end
    return found


def results_of(calls: Sequence[ToolCall], results: Mapping[str, Mapping[str, Any]], place: str) -> list[Message]:
    """Return the results of the calls at a place, in the order of the calls; `results` are by their own places.

    Templates that write no IDs say by the order which result belongs to which call.
    """
    names = {call["id"]: call["function"]["name"] for call in calls}
    found: dict[str, Message] = {}
    for own_place, result in results.items():
        call_id = result.get("tool_call_id", FORMER_ID)
        if call_id not in names or call_id in found:
            raise InvalidChat(own_place, NO_CALL)
        if result.get("name", names[call_id]) != names[call_id]:
            raise InvalidChat(f"{own_place}.name", f"is not the name of the called function, {names[call_id]!r}")
        found[call_id] = {
            "role": "tool",
            "content": result["content"],
            "name": names[call_id],
            "tool_call_id": call_id,
        }
    missing = [call_id for call_id in names if call_id not in found]
    if missing:
        raise InvalidChat(place, f"has calls without a result: {', '.join(missing)}")
    return [found[call_id] for call_id in names]


def turn(values: Mapping[str, Any], place: str) -> Message:
    """Return a message that is no result of a call."""
    message: Message = {"role": values["role"], "content": values.get("content", "")}
    if "name" in values:
        message["name"] = values["name"]
    if "weight" in values:
        message["weight"] = values["weight"]
    if values["role"] != "assistant":
        return message
    calls = list(values.get("tool_calls", []))
    if "function_call" in values:
        if calls:
            raise InvalidChat(f"{place}.function_call", "is the former form of 'tool_calls', and both are there")
        calls = [{"id": FORMER_ID, "type": "function", "function": values["function_call"]}]
    if len({call["id"] for call in calls}) < len(calls):
        raise InvalidChat(f"{place}.tool_calls", "has two calls with one ID")
    if calls:
        message["tool_calls"] = calls
    elif "content" not in values:
        raise InvalidChat(f"{place}.content", "is missing: a message of the assistant has content or calls")
    return message
