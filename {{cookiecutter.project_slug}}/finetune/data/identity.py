"""What makes two questions the same: everything that a model is given before its answer."""

import base64
import hashlib
from collections.abc import Iterator
from contextlib import suppress
from functools import lru_cache
from typing import Any

import orjson

from finetune.core.records.prepared import Example
from finetune.data.examples import OUTPUTS, calls_of, text_of
from finetune.data.hashes import xxh3_64
from finetune.data.question import Question
from finetune.data.text_normalization import comparison_key

DEFINITIONS = ("tools", "functions")  # keys of an example that the model is given beside the messages
DATA_KEYS = ("url", "data", "file_data", "file_id")  # where a part has an image, audio or a file
GOLDEN_RATIO = 0x9E3779B97F4A7C15  # of 2**64: multiplying by it combines two hashes
BITS = 2**64 - 1


def question_of(example: Example) -> Question:
    """Return the question of an example. The answer is the last message if it is the assistant's.

    An example of reinforcement has no answer, so its question is the whole conversation. Of a preference, the question
    is the input.
    """
    if "prompt" in example or "completion" in example:
        return Question(str(example.get("prompt", "")))
    given = given_of(example)
    asked, context, media, roles = [], [], list[str](), ""
    for message in messages_before_answer(example):
        role, content = message.get("role"), message.get("content")
        text = content if type(content) is str else text_of(content)
        if role == "user" or role == "assistant":
            asked.append(text)
            roles += role[0]
        else:
            context.append(text)
        if len(message) > 2 or "content" not in message:  # keys beside role and content
            roles += str(message.get("name") or "")
            context += [calls_text(message), refusal_of(message)]
        if type(content) is list:
            media += media_of(content)
    context += [canonical_json(given[key]) for key in DEFINITIONS if given.get(key)]
    take_turns = ("au" * len(asked)).endswith(roles)
    return Question("\n".join(asked), "\n".join(filter(None, context)), " ".join(media), "" if take_turns else roles)


def given_of(example: Example) -> dict[str, Any]:
    """Return the object that has the messages and tools of an example's question."""
    given = example.get("input") if "input" in example else example
    return given if isinstance(given, dict) else {}


def messages_before_answer(example: Example) -> list[dict[str, Any]]:
    """Return the messages of an example's question that are objects."""
    messages = given_of(example).get("messages")
    found = [message for message in messages if isinstance(message, dict)] if isinstance(messages, list) else []
    return found[:-1] if found and found[-1].get("role") == "assistant" and "input" not in example else found


def answer_of(example: Example) -> str:
    """Return the text of an example's answer, with its tool calls; "" if it has none.

    Of a preference it is the preferred output.
    """
    if "prompt" in example or "completion" in example:
        return str(example.get("completion", ""))
    messages = example.get(OUTPUTS[0]) if "input" in example else example.get("messages")
    last = messages[-1] if isinstance(messages, list) and messages else None
    if not isinstance(last, dict) or last.get("role") != "assistant":
        return ""
    return "\n".join(filter(None, [text_of(last.get("content")), refusal_of(last), calls_text(last)]))


def refusal_of(message: dict[str, Any]) -> str:
    """Return the refusal of a message that has one beside its content; "" otherwise."""
    refusal = message.get("refusal")
    return refusal if isinstance(refusal, str) else ""


def calls_text(message: dict[str, Any]) -> str:
    """Return the tool calls of a message as text, without their IDs, which say nothing; "" if it has none."""
    calls: list[Any] = [call.get("function") or {**call, "id": None} for call in calls_of(message)]
    if message.get("function_call"):
        calls.append(message["function_call"])
    return "\n".join(map(canonical_json, calls))


def canonical_json(value: Any) -> str:
    """Return a value as JSON that does not depend on the order of keys."""
    options = orjson.OPT_SORT_KEYS | orjson.OPT_NON_STR_KEYS | orjson.OPT_SERIALIZE_NUMPY
    return orjson.dumps(value, default=plain_value, option=options).decode()


def plain_value(value: Any) -> float | str:
    """Return what orjson can write for a value that it cannot: a number without its spelling, anything else as text."""
    return float(value) if isinstance(value, float) else str(value)


def media_of(parts: list[Any]) -> Iterator[str]:
    """Yield the hash of each part of a message's content that is not text: an image, audio or a file."""
    for part in parts:
        if isinstance(part, dict) and part.get("type") != "text":
            yield hashlib.sha256(media_bytes(part)).hexdigest()[:16]


def media_bytes(part: dict[str, Any]) -> bytes:
    """Return what identifies an image, audio or a file: the content of a data URL, otherwise the URL or the ID.

    The same image at another `detail` is the same image. A part of an unknown form is identified by all its keys.
    """
    value = part.get(str(part.get("type")))
    data = next((value[key] for key in DATA_KEYS if value.get(key)), None) if isinstance(value, dict) else value
    if not isinstance(data, str):
        return canonical_json(part).encode()
    head, _, content = data.partition(",")
    if head.startswith("data:") and head.endswith(";base64"):
        with suppress(ValueError):
            return base64.b64decode("".join(content.split()), validate=True)
    return data.encode()


def text_hash(text: str) -> int:
    """Return the hash of a text without case, width and spaces."""
    return xxh3_64(comparison_key(text))


def asked_hash(question: Question, key: bytes | None = None) -> int:
    """Return the hash of a question without its context: its texts without case, width and spaces, media and roles.

    `key` is the comparison key of its texts where it is known.
    """
    key = comparison_key(question.asked) if key is None else key
    if question.media or question.roles:
        key += f"\0{question.media}\0{question.roles}".encode()
    return xxh3_64(key)


@lru_cache(1024)  # system prompts recur
def context_hash(context: str) -> int:
    """Return the hash of a context without case, width and spaces; 0 for no context."""
    key = comparison_key(context)
    return xxh3_64(key) if key else 0


def question_hash(question: Question, key: bytes | None = None) -> int:
    """Return the hash by which two questions are the same; `key` as in `asked_hash`."""
    return (asked_hash(question, key) * GOLDEN_RATIO + context_hash(question.context)) & BITS
