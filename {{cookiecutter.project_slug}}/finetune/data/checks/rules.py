"""What may be wrong with one example: each rule is a small function that yields (what, how to mend it).

Sources: OpenAI's guide and API reference for the shapes, the errors that its server gives for `Example N` of a file,
and its guide's advice for the warnings. A rule never raises, whatever the example holds; what another rule reports (a
message that is no object, say) it passes over.
"""

import json
import re
import unicodedata
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Literal

from finetune.data.checks.sensitive_data import personal_data_in, secrets_in
from finetune.data.examples import (
    KEYS,
    OUTPUTS,
    Example,
    Shape,
    calls_of,
    has_call,
    is_trained,
    message_lists,
    messages_of,
    shape_of,
    text_of,
    texts_of,
)

Severity = Literal["error", "warning"]
Found = Iterator[tuple[str, str]]

ROLES = ("system", "developer", "user", "assistant", "tool", "function")
MESSAGE_KEYS = {"role", "content", "name", "weight", "tool_calls", "tool_call_id", "function_call", "refusal"}
# What ends or divides a text for a model: inside a text, servers refuse it, or read it as what it says.
SPECIAL_TOKEN = re.compile(
    r"<\|(?:endoftext|endofprompt|im_start|im_end|im_sep|fim_prefix|fim_middle|fim_suffix|start|end|channel|message"
    r"|begin_of_text|end_of_text|start_header_id|end_header_id|eot_id)\|>"
)
CONTROL = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f]")
NO_CAPITAL, NO_SMALL = (bytes(set(range(256)) - set(letters)) for letters in (range(65, 91), range(97, 123)))
LONG_SHOUT = 20  # letters; shorter texts in capitals are names and abbreviations


@dataclass(frozen=True)
class Rule:
    code: str
    severity: Severity
    shapes: tuple[Shape, ...]
    find: Callable[[Example], Found]
    find_in: Callable[[str], Found] | None = None  # for rules that look at each text by itself


RULES: list[Rule] = []


def rule(
    code: str, severity: Severity = "error", shapes: tuple[Shape, ...] = ("chat", "preference")
) -> Callable[[Callable[[Example], Found]], Callable[[Example], Found]]:
    """Enter a function among the rules for examples of these shapes."""

    def enter(find: Callable[[Example], Found]) -> Callable[[Example], Found]:
        RULES.append(Rule(code, severity, shapes, find))
        return find

    return enter


def text_rule(
    code: str, severity: Severity = "error", shapes: tuple[Shape, ...] = ("chat", "completion", "preference")
) -> Callable[[Callable[[str], Found]], Callable[[str], Found]]:
    """Enter a function of one text among the rules; what it finds is said behind the text's path."""

    def enter(find_in: Callable[[str], Found]) -> Callable[[str], Found]:
        def find(example: Example) -> Found:
            for path, text in texts_of(example):
                for what, fix in find_in(text):
                    yield f"{path} {what}", fix

        RULES.append(Rule(code, severity, shapes, find, find_in))
        return find_in

    return enter


def shown(value: Any) -> str:
    """A value as it may stand in a message: short, and never what a text says."""
    return f"{value!r}" if isinstance(value, (bool, int, float, type(None))) else f"a {type(value).__name__}"


@rule("unknown_key", shapes=("chat", "completion", "preference"))
def no_key_is_unknown(example: Example) -> Found:
    shape = shape_of(example)
    for key in sorted(set(example) - KEYS[shape] if shape else ()):
        yield f"the key {key!r} is refused", "Remove it; to keep it for yourself, keep it in another file."
    if isinstance(example.get("input"), dict):
        for key in sorted(set(example["input"]) - KEYS["chat"]):
            yield f"the key 'input.{key}' is refused", "Remove it."


@rule("missing_key", shapes=("preference",))
def a_preference_is_whole(example: Example) -> Found:
    for key in ("input", *OUTPUTS):
        if key not in example:
            yield f"the key {key!r} is missing", "A preference has input, preferred_output and non_preferred_output."


@rule("missing_key", shapes=("completion",))
def a_completion_is_whole(example: Example) -> Found:
    for key in ("prompt", "completion"):
        if not isinstance(example.get(key), str):
            yield f"{key!r} is {shown(example.get(key))}, not a text", 'Write {"prompt": "…", "completion": "…"}.'


@rule("missing_messages")
def messages_are_lists(example: Example) -> Found:
    for path, messages in message_lists(example):
        if not isinstance(messages, list) or not messages:
            what = "an empty list" if messages == [] else shown(messages)
            yield f"{path} is {what}, not a list of messages", 'Write [{"role": "user", "content": "…"}, …].'


@rule("message_type")
def messages_are_objects(example: Example) -> Found:
    for path, messages in message_lists(example):
        for index, message in enumerate(messages if isinstance(messages, list) else []):
            if not isinstance(message, dict):
                yield f"{path}[{index}] is {shown(message)}, not an object", 'Write {"role": "…", "content": "…"}.'


@rule("unknown_message_key")
def no_key_of_a_message_is_unknown(example: Example) -> Found:
    for path, message in messages_of(example):
        for key in sorted(set(message) - MESSAGE_KEYS):
            yield f"{path}: the key {key!r} is refused", "Remove it."


@rule("unknown_role")
def roles_are_known(example: Example) -> Found:
    for path, message in messages_of(example):
        role = message.get("role")
        if role is None:
            yield f"{path} has no role", f"Use one of {', '.join(ROLES)}."
        elif role not in ROLES:
            what = f"{role!r}" if isinstance(role, str) and len(role) < 30 else shown(role)
            yield f"{path} has the role {what}", f"Use one of {', '.join(ROLES)}."


@rule("missing_content")
def messages_say_something(example: Example) -> Found:
    for path, message in messages_of(example):
        content = message.get("content")
        silent = message.get("role") == "assistant" and (has_call(message) or message.get("refusal"))
        if content is None and not silent:
            yield f"{path} has no content", "Give it a text; only an assistant that calls a tool may do without."
        elif content is not None and not isinstance(content, (str, list)):
            yield f"{path}: its content is {shown(content)}", "Give it a text."
        elif message.get("role") == "assistant" and not silent and not text_of(content).strip():
            yield f"{path}: the assistant answers nothing", "Give the answer, or remove the example."


@rule("content_parts")
def parts_are_text_or_images(example: Example) -> Found:
    for path, message in messages_of(example):
        content = message.get("content")
        for index, part in enumerate(content if isinstance(content, list) else []):
            kind = part.get("type") if isinstance(part, dict) else None
            if kind not in ("text", "image_url", "refusal"):
                yield f"{path}.content[{index}] is no part of a known type", "Use text or image_url."
            elif kind == "image_url" and message.get("role") != "user":
                yield f"{path}.content[{index}] is an image of the {message.get('role')}", "Only the user shows images."


@rule("bad_weight")
def weights_are_0_or_1_and_the_assistants(example: Example) -> Found:
    for path, message in messages_of(example):
        if "weight" not in message:
            continue
        weight = message["weight"]
        if isinstance(weight, bool) or weight not in (0, 1):
            yield f"{path}: the weight is {shown(weight)}", "Use 0 or 1."
        elif message.get("role") != "assistant":
            yield f"{path}: a weight on the role {message.get('role')!r}", "Only assistant messages have one."


@rule("no_assistant", shapes=("chat",))
def there_is_something_to_learn(example: Example) -> Found:
    messages = [message for _, message in messages_of(example)]
    if not messages or any(is_trained(message) for message in messages):
        return
    if any(message.get("role") == "assistant" for message in messages):
        yield "every assistant message has weight 0: nothing is learnt from it", "Give one of them weight 1."
    else:
        yield "no assistant message to learn from", "Add the answer."


@rule("ends_unanswered", "warning", shapes=("chat",))
def the_last_word_is_the_assistants(example: Example) -> Found:
    messages = [message for _, message in messages_of(example)]
    if any(is_trained(message) for message in messages) and messages[-1].get("role") != "assistant":
        yield "what follows the last assistant message teaches nothing", "End with the answer."


@rule("bad_output", shapes=("preference",))
def outputs_are_one_answer_each(example: Example) -> Found:
    for key in OUTPUTS:
        messages = example.get(key)
        if isinstance(messages, list) and messages:
            roles = [message.get("role") for message in messages if isinstance(message, dict)]
            if len(messages) != 1 or roles != ["assistant"]:
                yield f"{key} is not one assistant message", "Only one final turn is compared."


@rule("same_outputs", shapes=("preference",))
def outputs_differ(example: Example) -> Found:
    if example.get(OUTPUTS[0]) and example.get(OUTPUTS[0]) == example.get(OUTPUTS[1]):
        yield "both outputs are the same: there is nothing to prefer", "Remove the example."


@rule("bad_tools")
def tools_are_declared_in_their_shape(example: Example) -> Found:
    for path, tools in tools_in(example):
        if not isinstance(tools, list):
            yield f"{path} is {shown(tools)}, not a list", "Write a list of functions."
            continue
        for index, tool in enumerate(tools):
            function = tool.get("function") if isinstance(tool, dict) else None
            if not isinstance(function, dict) or not isinstance(function.get("name"), str):
                yield f"{path}[{index}] names no function", 'Write {"type": "function", "function": {"name": "…"}}.'


def tools_in(example: Example) -> Iterator[tuple[str, Any]]:
    if "tools" in example:
        yield "tools", example["tools"]
    if isinstance(example.get("input"), dict) and "tools" in example["input"]:
        yield "input.tools", example["input"]["tools"]


@rule("bad_tool_call")
def calls_are_in_their_shape(example: Example) -> Found:
    declared = {
        tool["function"].get("name")
        for _, tools in tools_in(example)
        for tool in (tools if isinstance(tools, list) else [])
        if isinstance(tool, dict) and isinstance(tool.get("function"), dict)
    }
    for path, message in messages_of(example):
        calls = message.get("tool_calls")
        if calls is not None and message.get("role") != "assistant":
            yield f"{path}: the {message.get('role')} calls a tool", "Only the assistant calls."
        if calls is not None and (not isinstance(calls, list) or len(calls_of(message)) != len(calls) or not calls):
            yield f"{path}.tool_calls is not a list of calls", "Write a list of objects, or leave the key out."
        for index, call in enumerate(calls_of(message)):
            at = f"{path}.tool_calls[{index}]"
            given = call.get("function")
            function = given if isinstance(given, dict) else {}
            if call.get("type") != "function" or not isinstance(call.get("id"), str):
                yield f"{at} lacks its id, or its type is not 'function'", "Write both."
            if not isinstance(function.get("name"), str):
                yield f"{at} names no function", "Name it."
            elif function["name"] not in declared:
                yield f"{at} calls a function that 'tools' does not declare", "Declare it in this line's 'tools'."
            if not is_json_text(function.get("arguments")):
                yield f"{at}: its arguments are not JSON in a text", 'Write them as a text, such as "{\\"a\\": 1}".'


def is_json_text(value: Any) -> bool:
    try:
        json.loads(value)
    except (TypeError, ValueError, RecursionError):
        return False
    return isinstance(value, str)


@rule("unmatched_tool")
def calls_and_their_results_match(example: Example) -> Found:
    asked: dict[str, str] = {}
    for path, message in messages_of(example):
        if message.get("role") == "tool":
            if asked.pop(str(message.get("tool_call_id")), None) is None:
                yield f"{path} answers no call before it", "Give it the tool_call_id of an earlier call."
        elif asked:
            # A conversation may end with a call: that is what it teaches. It may not go on without the result.
            yield f"{next(iter(asked.values()))} is never answered", "Add the tool's message right behind it."
            asked = {}
        asked |= {str(call.get("id")): f"{path}.tool_calls[{n}]" for n, call in enumerate(calls_of(message))}


@text_rule("special_token")
def no_special_token(text: str) -> Found:
    for token in dict.fromkeys(SPECIAL_TOKEN.findall(text)):
        yield f"holds the special token {token}", "Remove it: servers refuse the file."


@text_rule("control_character", "warning")
def no_control_character(text: str) -> Found:
    if found := CONTROL.search(text):
        yield f"holds the control character U+{ord(found[0]):04X}", "Remove it."
    elif "\ufffd" in text:
        yield "holds U+FFFD, left by a wrong encoding", "Read the source in its own encoding."


@rule("empty_text", "warning", shapes=("chat", "completion", "preference"))
def no_question_is_empty(example: Example) -> Found:
    for path, message in messages_of(example):
        content = message.get("content")
        if message.get("role") in ("system", "developer", "user") and isinstance(content, str) and not content.strip():
            yield f"{path}: its text is empty", "Fill it, or leave the message out."
    if isinstance(example.get("completion"), str) and not example["completion"].strip():
        yield "the completion is empty", "Fill it, or remove the example."


@text_rule("trailing_space", "warning", shapes=("chat", "preference"))
def no_space_at_the_end(text: str) -> Found:
    if text.strip() and text != text.rstrip():
        yield "ends in white space", "Strip it: the model learns to add it, or to expect it."


def is_shout(text: str) -> bool:
    """Whether a text is mostly in capitals: more than two for each small letter, as OpenAI's old tool had it."""
    if text.isascii():
        upper = len(text.encode().translate(None, NO_CAPITAL))
        return upper > LONG_SHOUT and upper > 2 * len(text.encode().translate(None, NO_SMALL))
    upper = sum(map(str.isupper, text))
    return upper > LONG_SHOUT and upper > 2 * sum(map(str.islower, text))


@text_rule("upper_case", "warning")
def no_shouting(text: str) -> Found:
    if is_shout(text):
        yield "is mostly in capitals", "Write it as the model shall read and write."


@text_rule("not_normal_form", "warning")
def composed(text: str) -> Found:
    if not text.isascii() and not unicodedata.is_normalized("NFC", text):
        yield "has letters and accents apart (not Unicode NFC)", "Compose them: other tokens are learnt."


@text_rule("secret", "warning")
def no_secret(text: str) -> Found:
    for kind in secrets_in(text):
        yield f"holds what looks like a secret ({kind})", "Remove it, and change that secret: it may leak."


@text_rule("personal_data", "warning")
def no_personal_data(text: str) -> Found:
    for kind in personal_data_in(text):
        yield f"holds what looks like {kind}", "Replace it by a stand-in: the model may repeat it."
