"""Rules on messages: their type, role, content, name and weight, and an answer to train on.

Sources: the types of the package `openai` (see api_forms.py), OpenAI's guide and API reference, and the errors that its
server gives for `Example N` of a file.
"""

from functools import cache
from typing import Any

from finetune.core.records.prepared import Example
from finetune.data.checks.api_forms import form_faults, keys_of_role, roles
from finetune.data.checks.rule import Found, describe, rule
from finetune.data.examples import has_call, is_trained, message_lists, messages_of

ANSWERS_ONLY = {"weight", "tool_calls", "function_call"}  # other roles must not have them; bad_weight, bad_tool_call


def role_of(message: Example) -> str | None:
    """Return a message's role, None for one that the API does not know."""
    role = message.get("role")
    return role if isinstance(role, str) and role in roles() else None


def value_faults(example: Example, *keys: str) -> Found:
    """Yield what is wrong with the values that messages have under these keys."""
    for path, message in messages_of(example):
        for key in keys:
            if key in message and (role := role_of(message)) and key in keys_of_role(role):
                yield from form_faults(role, key, message[key], f"{path}.{key}")


@rule("missing_messages", simple_chat_passes=True)
def messages_are_lists(example: Example) -> Found:
    for path, messages in message_lists(example):
        if not isinstance(messages, list) or not messages:
            if path == "input.messages" and not isinstance(example["input"], dict):
                what = f"input is {describe(example['input'])}, not an object"
                yield what, 'Write {"messages": [{"role": "user", "content": "…"}, …]}.'
                continue
            what = "an empty list" if messages == [] else describe(messages)
            yield f"{path} is {what}, not a list of messages", 'Write [{"role": "user", "content": "…"}, …].'


@rule("message_type", simple_chat_passes=True)
def messages_are_objects(example: Example) -> Found:
    for path, messages in message_lists(example):
        for index, message in enumerate(messages if isinstance(messages, list) else []):
            if not isinstance(message, dict):
                yield f"{path}[{index}] is {describe(message)}, not an object", 'Write {"role": "…", "content": "…"}.'
    yield from value_faults(example, "refusal", "tool_call_id")


@rule("unknown_message_key", simple_chat_passes=True)
def messages_have_known_keys(example: Example) -> Found:
    for path, message in messages_of(example):
        for key in sorted(set(message) - allowed_keys(message)):
            where = f" in a message with the role {message['role']!r}" if key in known_keys() else ""
            yield f"{path}: the key {key!r} is not allowed{where}", "Remove it."


def allowed_keys(message: Example) -> frozenset[str]:
    """Return the keys that a message may have by its role; those with rules of their own are among them."""
    role = role_of(message)
    return keys_of_role(role) | ANSWERS_ONLY if role else known_keys()


@cache
def known_keys() -> frozenset[str]:
    return frozenset[str]().union(*map(keys_of_role, roles()))


@rule("unknown_role", simple_chat_passes=True)
def roles_are_known(example: Example) -> Found:
    for path, message in messages_of(example):
        role = message.get("role")
        if role is None:
            yield f"{path} has no role", f"Use one of {', '.join(roles())}."
        elif role_of(message) is None:
            is_short = isinstance(role, str) and len(role) < 30
            what = f"has the role {role!r}" if is_short else f"has {describe(role)} as role"
            yield f"{path} {what}", f"Use one of {', '.join(roles())}."


@rule("bad_name", simple_chat_passes=True)
def names_are_valid(example: Example) -> Found:
    yield from value_faults(example, "name")
    for path, message in messages_of(example):
        if message.get("role") == "function" and "name" not in message:
            yield f"{path} has no name", "Add the name of the function whose result it is."


@rule("missing_content", simple_chat_passes=True)
def messages_have_content(example: Example) -> Found:
    for path, message in messages_of(example):
        content, role = message.get("content"), message.get("role")
        is_answer = role == "assistant" and not has_call(message) and not message.get("refusal")
        may_be_null = role == "assistant" or (role == "function" and "content" in message)
        if content is None and (is_answer or not may_be_null):
            yield f"{path} has no content", "Add a text. Only an assistant message with a tool call needs none."
        elif content == []:
            yield f"{path}: the content is an empty list", "Write a text."
        elif content is not None and not isinstance(content, (str, list)):
            yield f"{path}: the content is {describe(content)}", "Write a text."
        elif is_answer and not answer_of(content).strip():
            yield f"{path}: the assistant's answer is empty", "Write the answer, or remove the example."


def answer_of(content: Any) -> str:
    """Return all texts of a content, also those of refusals and of parts without a type."""
    parts = content if isinstance(content, list) else [content]
    texts = (part.get("refusal") or part.get("text") if isinstance(part, dict) else part for part in parts)
    return "".join(text for text in texts if isinstance(text, str))


@rule("content_parts", simple_chat_passes=True)
def content_parts_are_valid(example: Example) -> Found:
    for path, message in messages_of(example):
        content, role = message.get("content"), role_of(message)
        if isinstance(content, list) and content and role:
            yield from form_faults(role, "content", content, f"{path}.content")


@rule("bad_weight", simple_chat_passes=True)
def weights_are_valid(example: Example) -> Found:
    for path, message in messages_of(example):
        if "weight" not in message:
            continue
        weight = message["weight"]
        if isinstance(weight, bool) or weight not in (0, 1):
            yield f"{path}: the weight is {describe(weight)}", "Use 0 or 1."
        elif message.get("role") != "assistant":
            what = f"{path}: a message with the role {message.get('role')!r} has a weight"
            yield what, "Remove it: only assistant messages have a weight."


@rule("no_assistant", shapes=("chat",), simple_chat_passes=True)
def has_a_trained_message(example: Example) -> Found:
    messages = [message for _, message in messages_of(example)]
    weights = [message.get("weight", 1) for message in messages if message.get("role") == "assistant"]
    if not messages or any(weight != 0 for weight in weights):  # an invalid weight is a mistake of bad_weight
        return
    if weights:
        yield "every assistant message has weight 0, so nothing is trained", "Give one of them weight 1."
    else:
        yield "there is no assistant message to train on", "Add the answer."


@rule("ends_unanswered", "warning", shapes=("chat",), simple_chat_passes=True)
def ends_with_the_assistant(example: Example) -> Found:
    messages = [message for _, message in messages_of(example)]
    if any(is_trained(message) for message in messages) and messages[-1].get("role") != "assistant":
        yield "the messages after the last assistant message are not trained on", "End with the answer."
