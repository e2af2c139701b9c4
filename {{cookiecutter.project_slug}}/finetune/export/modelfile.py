"""Ollama's Modelfile: it has another template, in Go's language, beside the chat template in the GGUF.

Ollama recognizes only some chat templates and else sends the bare question. So the template is written here, from what
the base's chat template does with each role, and compared with it on every row.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

from finetune.core.records.settings import AnswerSettings
from finetune.export.prompts import Prompt, system_prompt

ROLES = ("system", "user", "assistant")
MARK = "Text-7531"  # a text that no chat template has
QUOTES = '"""'  # nothing escapes them in a Modelfile


class Turns(NamedTuple):
    """What a chat template writes before and after the text of each role, and what an answer begins with."""

    around: dict[str, tuple[str, str]]
    default: str  # what it writes first where a conversation has no system message
    answer: str

    def render(self, messages: Sequence[dict[str, Any]]) -> str:
        """Return a conversation as the Modelfile's template writes it."""
        texts = (self.around[one["role"]][0] + one["content"] + self.around[one["role"]][1] for one in messages)
        begin = "" if messages[0]["role"] == "system" else self.default
        return begin + "".join(texts) + self.answer


def modelfile(tokenizer: Any, questions: AnswerSettings, prompts: Sequence[Prompt], end: str, file: str) -> str | None:
    """Return the Modelfile; None if a template of Ollama cannot write what the chat template writes for every row."""
    head = [f"FROM ./{file}"]
    settings = [
        f"PARAMETER temperature {questions['temperature']:g}",
        f"PARAMETER num_predict {questions['max_tokens']}",
        *(f"PARAMETER stop {quoted(one)}" for one in dict.fromkeys([end, *questions["stop"]])),
    ]
    if questions["completion"]:
        stop = f"PARAMETER stop {quoted(questions['completion']['stop'])}"
        return "\n".join([*head, 'TEMPLATE """{{ .Prompt }}"""', *settings, stop]) + "\n"
    turns = turns_of(tokenizer)
    chats = [prompt for prompt in prompts if not isinstance(prompt, str)]
    if turns is None or not all(is_equal(turns, tokenizer, messages) for messages in chats):
        return None
    cases = [
        f'{{{{ if eq .Role "{role}" }}}}{before}{{{{ .Content }}}}{after}{{{{ end }}}}'
        for role, (before, after) in turns.around.items()
    ]
    begin = f"{{{{ if not .System }}}}{turns.default}{{{{ end }}}}" if turns.default else ""
    template = begin + "{{ range .Messages }}" + "".join(cases) + "{{ end }}" + turns.answer
    system = system_prompt(chats) or ""
    if QUOTES in system:
        return None
    lines = [f"SYSTEM {quoted(system)}"] if system else []
    return "\n".join([*head, f'TEMPLATE """{template}"""', *lines, *settings]) + "\n"


def turns_of(tokenizer: Any) -> Turns | None:
    """Return what the chat template writes around texts; None if it is not the same for all turns."""
    turns = [{"role": role, "content": f"{MARK}-{role}"} for role in ROLES]
    try:
        text = tokenizer.apply_chat_template(turns, tokenize=False)
        asked = tokenizer.apply_chat_template(turns[:2], tokenize=False, add_generation_prompt=True)
        longer = tokenizer.apply_chat_template([*turns, turns[1]], tokenize=False)
        alone = tokenizer.apply_chat_template(turns[1:2], tokenize=False)
    except Exception:  # a template may raise what it likes, for example for a system message
        return None
    pieces: list[str] = []
    for turn in turns:
        before, found, text = text.partition(turn["content"])
        if not found:
            return None
        pieces.append(before)
    # What is between two texts ends the one and begins the other: what repeats with the same role tells them apart.
    user = longer[longer.rindex(turns[2]["content"]) + len(turns[2]["content"]) :].partition(turns[1]["content"])[0]
    end = common_end(pieces[1], user, text)
    if end is None:
        return None
    begins = {"system": pieces[0], "user": pieces[1][len(end) :], "assistant": pieces[2][len(end) :]}
    answer = asked[asked.rindex(turns[1]["content"]) + len(turns[1]["content"]) + len(end) :]
    default = alone.partition(turns[1]["content"])[0].removesuffix(begins["user"])
    written = "".join([*begins.values(), end, answer, default])
    if any(mark in written for mark in ("{{", "}}", QUOTES)):  # they mean something in a Modelfile
        return None
    return Turns({role: (begins[role], end) for role in ROLES}, default, answer)


def common_end(first: str, second: str, last: str) -> str | None:
    """Return what is written after each text: the end of the conversation, if what is between texts begins with it."""
    return last if last and first.startswith(last) and second.startswith(last) else None


def is_equal(turns: Turns, tokenizer: Any, messages: Sequence[dict[str, Any]]) -> bool:
    """Return whether the Modelfile's template writes a conversation as the chat template does."""
    if not all(one["role"] in ROLES and isinstance(one.get("content"), str) for one in messages):
        return False
    text = tokenizer.apply_chat_template(list(messages), tokenize=False, add_generation_prompt=True)
    return bool(turns.render(messages) == text)


def quoted(text: str) -> str:
    """Return a text as a value of a Modelfile."""
    return f'"""{text}"""' if "\n" in text or '"' in text else f'"{text}"'
