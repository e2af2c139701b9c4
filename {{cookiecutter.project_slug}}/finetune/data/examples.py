"""What an example is, and what it says, in each of the shapes that servers train on."""

from collections.abc import Iterator, Sequence
from typing import Any, Literal

Shape = Literal["chat", "completion", "preference"]
Example = dict[str, Any]
Said = tuple[list[str], str | None]  # what is asked and answered in its order, and the system prompt

OUTPUTS = ("preferred_output", "non_preferred_output")
KEYS: dict[Shape, frozenset[str]] = {
    "chat": frozenset({"messages", "tools", "parallel_tool_calls", "functions"}),
    "completion": frozenset({"prompt", "completion"}),
    "preference": frozenset({"input", *OUTPUTS}),
}


def shape_of(example: Example) -> Shape | None:
    """The shape that an example's keys speak for; None where they speak for none."""
    if "messages" in example:
        return "chat"
    if "input" in example or any(key in example for key in OUTPUTS):
        return "preference"
    return "completion" if "prompt" in example or "completion" in example else None


def message_lists(example: Example) -> Iterator[tuple[str, Any]]:
    """Each place that holds messages, by its path, with whatever is there."""
    if "messages" in example:
        yield "messages", example["messages"]
    if "input" in example:
        given = example["input"]
        yield "input.messages", given.get("messages") if isinstance(given, dict) else None
    yield from ((key, example[key]) for key in OUTPUTS if key in example)


def messages_of(example: Example) -> Iterator[tuple[str, dict[str, Any]]]:
    """Each message that is an object, by its path."""
    for path, messages in message_lists(example):
        if isinstance(messages, list):
            yield from ((f"{path}[{n}]", m) for n, m in enumerate(messages) if isinstance(m, dict))


def text_of(content: Any) -> str:
    """The text of a message's content, whether it is given whole or in parts; anything else has none."""
    if isinstance(content, str):
        return content
    parts = content if isinstance(content, list) else []
    texts = (part.get("text") for part in parts if isinstance(part, dict) and part.get("type") == "text")
    return "\n".join(text for text in texts if isinstance(text, str))


def texts_of(example: Example) -> Iterator[tuple[str, str]]:
    """Every text of an example, by its path."""
    for path, message in messages_of(example):
        yield f"{path}.content", text_of(message.get("content"))
    yield from ((key, example[key]) for key in ("prompt", "completion") if isinstance(example.get(key), str))


def calls_of(message: dict[str, Any]) -> list[dict[str, Any]]:
    calls = message.get("tool_calls")
    return [call for call in calls if isinstance(call, dict)] if isinstance(calls, list) else []


def has_call(message: dict[str, Any]) -> bool:
    return bool(message.get("tool_calls") or message.get("function_call"))


def is_trained(message: dict[str, Any]) -> bool:
    return message.get("role") == "assistant" and message.get("weight", 1) == 1


def said_in(example: Example) -> Said:
    """What is asked and answered in an example, the last being the answer, and its system prompt."""
    if "prompt" in example or "completion" in example:
        return [str(example.get("prompt", "")), str(example.get("completion", ""))], None
    texts, system = [], None
    for path, messages in message_lists(example):
        for message in messages if isinstance(messages, list) and path != OUTPUTS[1] else ():
            if isinstance(message, dict):
                text = text_of(message.get("content"))
                if message.get("role") not in ("system", "developer"):
                    texts.append(text)
                elif system is None:
                    system = text
    return texts, system


def question_of(example: Example) -> str:
    """All that an example says before its last answer: what makes it the same question as another."""
    return question_text(said_in(example)[0])


def question_text(texts: Sequence[str]) -> str:
    return "\n".join(texts[:-1])
