"""The shapes of training examples, and the texts in them."""

from collections.abc import Iterable, Iterator, Sequence
from functools import lru_cache
from typing import Any, Literal

import orjson

from finetune.core.records.prepared import Example
from finetune.core.tool_calls import calls_as_json

Shape = Literal["chat", "completion", "preference"]
TurnTexts = tuple[list[str], str | None]  # the texts of the turns, the answer last; and the system prompt

SYSTEM_ROLES = ("system", "developer")
DECLARED = ("tools", "functions", "parallel_tool_calls")  # what an example declares beside its messages
OUTPUTS = ("preferred_output", "non_preferred_output")
KEYS: dict[Shape, frozenset[str]] = {
    "chat": frozenset({"messages", *DECLARED}),
    "completion": frozenset({"prompt", "completion"}),
    "preference": frozenset({"input", *OUTPUTS}),
}


def shape_of(example: Example) -> Shape | None:
    """Return the shape that an example's keys belong to, None where they belong to none."""
    if "messages" in example:
        return "chat"
    if "input" in example or any(key in example for key in OUTPUTS):
        return "preference"
    return "completion" if "prompt" in example or "completion" in example else None


def as_chat(example: Example) -> Example:
    """Return an example as the chat example in which the answer is right: of a preference, the preferred output."""
    if shape_of(example) != "preference":
        return example
    return with_output(example, OUTPUTS[0])


def with_output(example: Example, output: str) -> Example:
    """Return a preference as a chat example with one of its outputs."""
    given = example["input"]
    return {**given, "messages": [*given["messages"], *example[output]]}


def message_lists(example: Example) -> Iterator[tuple[str, Any]]:
    """Yield the path and the value of each place for messages; the value may be of any type."""
    if "messages" in example:
        yield "messages", example["messages"]
    if "input" in example:
        given = example["input"]
        yield "input.messages", given.get("messages") if isinstance(given, dict) else None
    yield from ((key, example[key]) for key in OUTPUTS if key in example)


class ReadExample(dict[str, Any]):
    """An example that does not change, whose messages are listed once for all rules."""

    def __init__(self, example: Example) -> None:
        super().__init__(example)
        self.messages = list(find_messages(example))


def messages_of(example: Example) -> Iterable[tuple[str, dict[str, Any]]]:
    """Return the path and the value of each message that is an object."""
    return example.messages if isinstance(example, ReadExample) else find_messages(example)


def find_messages(example: Example) -> Iterator[tuple[str, dict[str, Any]]]:
    for path, messages in message_lists(example):
        if isinstance(messages, list):
            for number, message in enumerate(messages):  # a loop: rules call this often, and a generator is slower
                if isinstance(message, dict):
                    yield f"{path}[{number}]", message


def text_of(content: Any) -> str:
    """Return the text of a message's content, which is a string or a list of parts; "" for anything else."""
    if isinstance(content, str):
        return content
    parts = content if isinstance(content, list) else []
    texts = (part.get("text") for part in parts if isinstance(part, dict) and part.get("type") == "text")
    return "\n".join(text for text in texts if isinstance(text, str))


def right_answer(message: dict[str, Any]) -> str:
    """Return what a model should answer, by the last message of an example: its calls of tools, or its text."""
    return calls_as_json(message) or text_of(message.get("content")) or "".join(refusals_of(message))


def declared_in(example: Example) -> dict[str, Any]:
    """Return the tools that an example declares, as a request does; {} without any."""
    declared = {key: example[key] for key in DECLARED if example.get(key) not in (None, [])}
    if "tools" not in declared:  # servers refuse it alone
        declared.pop("parallel_tool_calls", None)
    return declared


def refusals_of(message: dict[str, Any]) -> list[str]:
    """Return the texts of a message that are refusals: under its own key, and in parts."""
    content = message.get("content")
    holders = [message, *content] if isinstance(content, list) else [message]
    texts = (holder["refusal"] for holder in holders if isinstance(holder, dict) and "refusal" in holder)
    return [text for text in texts if isinstance(text, str)]


def texts_of(example: Example) -> Iterator[tuple[str, str]]:
    """Yield the path and the value of each text."""
    for path, message in messages_of(example):
        yield f"{path}.content", text_of(message.get("content"))
        yield from ((f"{path}.refusal", text) for text in refusals_of(message))
    yield from ((key, example[key]) for key in ("prompt", "completion") if isinstance(example.get(key), str))


def texts_of_functions(example: Example) -> Iterator[tuple[str, str]]:
    """Yield the path and the texts of each call's arguments, and of each list of declared functions."""
    for path, message in messages_of(example):
        if has_call(message):
            for name, function in called_functions(message):
                if isinstance(arguments := function.get("arguments"), str):
                    yield f"{path}.{name}.arguments", texts_in_json(arguments)
    given = example.get("input")
    for before, holder in (("", example), ("input.", given if isinstance(given, dict) else {})):
        for key in ("tools", "functions"):
            if holder.get(key):
                yield before + key, texts_of_declared(holder[key])


def called_functions(message: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield the path and the value of each function that a message calls."""
    for number, call in enumerate(calls_of(message)):
        if isinstance(call.get("function"), dict):
            yield f"tool_calls[{number}].function", call["function"]
    if isinstance(message.get("function_call"), dict):
        yield "function_call", message["function_call"]


def texts_of_declared(value: Any) -> str:
    try:
        return texts_in_json(orjson.dumps(value))
    except TypeError:  # a number of more than 64 bits
        return "\n".join(texts_in(value))


@lru_cache(1_000)  # most examples declare the same functions
def texts_in_json(document: str | bytes) -> str:
    """Return the texts and whole numbers of a JSON document, a line for each; a text that is not JSON as it is."""
    try:
        return "\n".join(texts_in(orjson.loads(document)))
    except (orjson.JSONDecodeError, RecursionError):
        return document if isinstance(document, str) else document.decode()


def texts_in(value: Any) -> Iterator[str]:
    """Yield the texts and whole numbers of a JSON value, keys included."""
    if isinstance(value, dict):
        for key, item in value.items():
            yield key
            yield from texts_in(item)
    elif isinstance(value, list):
        for item in value:
            yield from texts_in(item)
    elif isinstance(value, (str, int)):
        yield str(value)


def calls_of(message: dict[str, Any]) -> list[dict[str, Any]]:
    """Return the tool calls of a message that are objects."""
    calls = message.get("tool_calls")
    return [call for call in calls if isinstance(call, dict)] if isinstance(calls, list) else []


def has_call(message: dict[str, Any]) -> bool:
    return bool(message.get("tool_calls") or message.get("function_call"))


def is_trained(message: dict[str, Any]) -> bool:
    """Return whether a message counts in the loss."""
    return message.get("role") == "assistant" and message.get("weight", 1) == 1


def turn_texts(example: Example) -> TurnTexts:
    """Return the texts of an example's turns, the answer last, and its system prompt.

    Of a preference the preferred output is the answer.
    """
    if "prompt" in example or "completion" in example:
        return [str(example.get("prompt", "")), str(example.get("completion", ""))], None
    texts, system = [], None
    for path, messages in message_lists(example):
        for message in messages if isinstance(messages, list) and path != OUTPUTS[1] else ():
            if isinstance(message, dict):
                text = text_of(message.get("content"))
                if message.get("role") not in SYSTEM_ROLES:
                    texts.append(text)
                elif system is None:
                    system = text
    return texts, system


def join_question(texts: Sequence[str]) -> str:
    """Return the question of an example with these turn texts."""
    return "\n".join(texts[:-1])
