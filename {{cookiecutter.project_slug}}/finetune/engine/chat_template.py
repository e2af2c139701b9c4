"""The chat template of a base: conversations become token IDs, the same way for training and for inference."""

import datetime
import json
import re
from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Any

from finetune.engine.control_tokens import Marks, marks_for, sample_text, samples, unmarked_ids
from finetune.engine.conversation import InvalidChat, Message
from finetune.engine.native_tool_format import TOOLS, tool_format_of
from finetune.engine.tool_format import DEFAULT_FORMAT, RESULT_BEGIN, RESULT_END, ToolFormat, calls_text, tools_text

Turn = dict[str, Any]  # a message as chat templates take it
# What templates write as today's date (Llama 3, SmolLM3): else a job would train on other tokens tomorrow. It is the
# date that Llama's template writes where it knows none.
TODAY = datetime.date(2024, 7, 26)
WRITES_TODAY = re.compile(r"""strftime_now\(\s*(['"])(.*?)\1\s*\)""")


def render(
    tokenizer: Any,
    messages: Sequence[Message],
    add_generation_prompt: bool,
    tools: Sequence[Mapping[str, Any]] | None = None,
) -> list[int]:
    """Return the token IDs of a conversation; with `add_generation_prompt`, up to where the next answer begins.

    No text in it becomes a control token (see `control_tokens`). `tools` are in OpenAI's form.
    """
    turns = [parsed(message) for message in messages]
    marks = marks_for(tokenizer, [texts_of(turns), tools])
    if marks:
        turns, tools = [marked(turn, marks) for turn in turns], marks.mark(tools, borders=False)
    text = rendered(tokenizer, turns, add_generation_prompt, tools)
    if marks:
        return unmarked_ids(tokenizer, marks.only_cuts(text), marks.cut)
    return list(tokenizer(text, add_special_tokens=False)["input_ids"])


def parsed(message: Message) -> Turn:
    """Return a message for chat templates: without `weight`, and with the arguments of its calls as objects."""
    turn: Turn = {"role": message["role"], "content": message["content"]}
    if message.get("name"):
        turn["name"] = message["name"]
    if "tool_call_id" in message:
        turn["tool_call_id"] = message["tool_call_id"]
    if message.get("tool_calls"):
        turn["tool_calls"] = [
            {**call, "function": {**call["function"], "arguments": json.loads(call["function"]["arguments"])}}
            for call in message["tool_calls"]
        ]
    return turn


def texts_of(turns: Sequence[Turn]) -> list[Any]:
    """Return the texts of turns: their contents and names, and the functions of their calls."""
    return [
        [turn["content"], turn.get("name", ""), [[*call["function"].values()] for call in turn.get("tool_calls", [])]]
        for turn in turns
    ]


def marked(turn: Turn, marks: Marks) -> Turn:
    """Return a turn with marks in its texts."""
    found = {**turn, "content": marks.mark(turn["content"])}
    if "name" in turn:
        found["name"] = marks.mark(turn["name"])
    if "tool_calls" in turn:
        found["tool_calls"] = [
            {**call, "function": {key: marks.mark(value) for key, value in call["function"].items()}}
            for call in turn["tool_calls"]
        ]
    return found


def rendered(
    tokenizer: Any, turns: Sequence[Turn], add_generation_prompt: bool, tools: Sequence[Mapping[str, Any]] | None
) -> str:
    """Return a conversation as the chat template writes it."""
    has_tools = bool(tools) or any("tool_calls" in turn or turn["role"] == "tool" for turn in turns)
    form = tool_format_of(tokenizer) if has_tools else None
    settings: dict[str, Any] = {}
    if form and form.native:
        turns = native_turns(turns, form)
        if tools:
            settings["tools"] = [dict(tool) for tool in tools]
    elif form:
        turns = default_turns(turns)
    turns = [
        {**turn, "role": "system"} if turn["role"] == "developer" and not writes(tokenizer, "developer") else turn
        for turn in turns
    ]
    if form and tools and not form.native:
        turns = with_system_text(turns, tools_text(tools))
    if turns and turns[0]["role"] == "system" and not writes(tokenizer, "system"):
        turns = without_system(turns)
    template = tokenizer.get_chat_template(tools=settings.get("tools"))
    if WRITES_TODAY.search(template):
        settings["chat_template"] = WRITES_TODAY.sub(lambda call: repr(TODAY.strftime(call[2])), template)
    return str(
        tokenizer.apply_chat_template(turns, tokenize=False, add_generation_prompt=add_generation_prompt, **settings)
    )


@lru_cache(maxsize=64)
def writes(tokenizer: Any, role: str) -> bool:
    """Return whether the chat template writes a first message of this role."""
    system, user, *_ = samples()
    return system["content"] in sample_text(tokenizer, [{**system, "role": role}, user])


def native_turns(turns: Sequence[Turn], form: ToolFormat) -> list[Turn]:
    """Return turns for a chat template that writes calls itself.

    Their IDs are numbers: they say which result belongs to which call, and nobody can learn random ones.
    """
    numbers: dict[str, str] = {}
    found = []
    for turn in turns:
        one = dict(turn)
        if "tool_calls" in turn:
            one["content"] = turn["content"] or form.empty_content
            one["tool_calls"] = []
            for call in turn["tool_calls"]:
                function, arguments = call["function"], call["function"]["arguments"]
                written = json.dumps(arguments, ensure_ascii=False) if form.arguments_as_text else arguments
                numbers[call["id"]] = f"{len(numbers) + 1:09d}"
                one["tool_calls"].append(
                    {**call, "id": numbers[call["id"]], "function": {**function, "arguments": written}}
                )
        elif turn["role"] == "tool":
            one["tool_call_id"] = numbers.get(turn.get("tool_call_id", ""), "")
        found.append(one)
    return found


def default_turns(turns: Sequence[Turn]) -> list[Turn]:
    """Return turns with calls in the assistant's text, and results as a turn of the user, as Qwen writes them."""
    found: list[Turn] = []
    after_result = False
    for turn in turns:
        one = {key: value for key, value in turn.items() if key not in ("tool_calls", "tool_call_id")}
        if turn["role"] == "tool":
            one = {"role": "user", "content": RESULT_BEGIN + turn["content"] + RESULT_END}
            if after_result:
                one["content"] = found.pop()["content"] + "\n" + one["content"]
        elif "tool_calls" in turn:
            functions = [call["function"] for call in turn["tool_calls"]]
            gap = DEFAULT_FORMAT.gap or "" if turn["content"] else ""
            one["content"] += gap + calls_text([(one["name"], one["arguments"]) for one in functions])
        found.append(one)
        after_result = turn["role"] == "tool"
    return found


def with_system_text(turns: Sequence[Turn], text: str) -> list[Turn]:
    """Return turns with a text at the end of their first system prompt, which they may not have yet."""
    if turns and turns[0]["role"] in ("system", "developer"):
        return [{**turns[0], "content": f"{turns[0]['content']}\n\n{text}"}, *turns[1:]]
    return [{"role": "system", "content": text}, *turns]


def without_system(turns: Sequence[Turn]) -> list[Turn]:
    """Return turns with the system prompt at the beginning of the user's first message."""
    system, *rest = turns
    if not rest or rest[0]["role"] != "user":
        return list(turns)
    return [{**rest[0], "content": f"{system['content']}\n\n{rest[0]['content']}"}, *rest[1:]]


Shape = tuple[tuple[str, bool, bool, int], ...]


def check_used(
    tokenizer: Any,
    messages: Sequence[Message],
    tools: Sequence[Mapping[str, Any]] | None = None,
    base: str = "the base",
) -> None:
    """Raise InvalidChat if the base's chat template leaves out a part of the conversation, or refuses it.

    A conversation of the same shape is rendered, with a different word in each place.
    """
    shape = tuple(
        (
            message["role"],
            bool(message["content"].strip()),
            bool(message.get("name")) and message["role"] != "tool",  # a result's name is that of its call
            len(message.get("tool_calls", ())),
        )
        for message in messages
    )
    place, what = unused_place(tokenizer, shape, bool(tools))
    if place:
        raise InvalidChat(place, what.replace("{base}", base))


@lru_cache(maxsize=512)
def unused_place(tokenizer: Any, shape: Shape, with_tools: bool) -> tuple[str, str]:
    """Return the first place of a conversation that the chat template leaves out, and what to say; or two empty texts.

    `{base}` stands for the base's name.
    """
    words: dict[str, str] = {}  # by place

    def word(place: str) -> str:
        return words.setdefault(place, f"q{len(words)}q")

    turns: list[Turn] = []
    ids: list[str] = []
    for index, (role, has_content, has_name, calls) in enumerate(shape):
        place = f"messages[{index}]"
        turn: Turn = {"role": role, "content": word(f"{place}.content") if has_content else ""}
        if has_name:
            turn["name"] = word(f"{place}.name")
        if role == "tool":
            turn.update(tool_call_id=ids.pop(0) if ids else "", name="look")
        if calls:
            turn["tool_calls"] = [
                {
                    "id": f"{place}[{n}]",
                    "type": "function",
                    "function": {
                        "name": word(f"{place}.tool_calls[{n}].function.name"),
                        "arguments": {"q": word(f"{place}.tool_calls[{n}].function.arguments")},
                    },
                }
                for n in range(calls)
            ]
            ids = [call["id"] for call in turn["tool_calls"]]
        turns.append(turn)
    if with_tools:
        words["tools"] = "Fq1"
    try:
        text = rendered(tokenizer, turns, False, TOOLS if with_tools else None)
    except Exception as error:  # a template is a program: it may fail in any way
        return "messages", "does not fit the chat template of {base}: " + str(error)
    unused = next((place for place, one in words.items() if one not in text), "")
    what = "is left out by the chat template of {base}: remove it, or use another base"
    if unused.endswith(".content") and unused.count(".") == 1:
        role = shape[int(unused[len("messages[") : unused.index("]")])][0]
        what = f"of the role {role!r} " + "is left out here by the chat template of {base}: use another role or base"
    return unused, what if unused else ""
