"""Rules on messages: their type, role, content and weight, and an answer to train on.

Sources: OpenAI's guide and API reference, and the errors that its server gives for `Example N` of a file.
"""

from finetune.core.records import Example
from finetune.data.checks.rule import Found, describe, rule
from finetune.data.examples import has_call, is_trained, message_lists, messages_of, text_of

ROLES = ("system", "developer", "user", "assistant", "tool", "function")
MESSAGE_KEYS = {"role", "content", "name", "weight", "tool_calls", "tool_call_id", "function_call", "refusal"}


@rule("missing_messages", simple_chat_passes=True)
def messages_are_lists(example: Example) -> Found:
    for path, messages in message_lists(example):
        if not isinstance(messages, list) or not messages:
            what = "an empty list" if messages == [] else describe(messages)
            yield f"{path} is {what}, not a list of messages", 'Write [{"role": "user", "content": "…"}, …].'


@rule("message_type", simple_chat_passes=True)
def messages_are_objects(example: Example) -> Found:
    for path, messages in message_lists(example):
        for index, message in enumerate(messages if isinstance(messages, list) else []):
            if not isinstance(message, dict):
                yield f"{path}[{index}] is {describe(message)}, not an object", 'Write {"role": "…", "content": "…"}.'


@rule("unknown_message_key", simple_chat_passes=True)
def messages_have_known_keys(example: Example) -> Found:
    for path, message in messages_of(example):
        for key in sorted(set(message) - MESSAGE_KEYS):
            yield f"{path}: the key {key!r} is not allowed", "Remove it."


@rule("unknown_role", simple_chat_passes=True)
def roles_are_known(example: Example) -> Found:
    for path, message in messages_of(example):
        role = message.get("role")
        if role is None:
            yield f"{path} has no role", f"Use one of {', '.join(ROLES)}."
        elif role not in ROLES:
            what = f"{role!r}" if isinstance(role, str) and len(role) < 30 else describe(role)
            yield f"{path} has the role {what}", f"Use one of {', '.join(ROLES)}."


@rule("missing_content", simple_chat_passes=True)
def messages_have_content(example: Example) -> Found:
    for path, message in messages_of(example):
        content = message.get("content")
        needs_none = message.get("role") == "assistant" and (has_call(message) or message.get("refusal"))
        if content is None and not needs_none:
            yield f"{path} has no content", "Add a text. Only an assistant message with a tool call needs none."
        elif content is not None and not isinstance(content, (str, list)):
            yield f"{path}: the content is {describe(content)}", "Write a text."
        elif message.get("role") == "assistant" and not needs_none and not text_of(content).strip():
            yield f"{path}: the assistant's answer is empty", "Write the answer, or remove the example."


@rule("content_parts", simple_chat_passes=True)
def content_parts_are_texts_or_images(example: Example) -> Found:
    for path, message in messages_of(example):
        content = message.get("content")
        for index, part in enumerate(content if isinstance(content, list) else []):
            kind = part.get("type") if isinstance(part, dict) else None
            if kind not in ("text", "image_url", "refusal"):
                yield f"{path}.content[{index}] is a part of an unknown type", "Use text or image_url."
            elif kind == "image_url" and message.get("role") != "user":
                what = f"{path}.content[{index}] is an image in a message with the role {message.get('role')!r}"
                yield what, "Move it to a user message, or remove it."


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
    if not messages or any(is_trained(message) for message in messages):
        return
    if any(message.get("role") == "assistant" for message in messages):
        yield "every assistant message has weight 0, so nothing is trained", "Give one of them weight 1."
    else:
        yield "there is no assistant message to train on", "Add the answer."


@rule("ends_unanswered", "warning", shapes=("chat",), simple_chat_passes=True)
def ends_with_the_assistant(example: Example) -> Found:
    messages = [message for _, message in messages_of(example)]
    if any(is_trained(message) for message in messages) and messages[-1].get("role") != "assistant":
        yield "the messages after the last assistant message are not trained on", "End with the answer."
