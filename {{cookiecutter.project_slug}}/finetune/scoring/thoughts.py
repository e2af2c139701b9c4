"""Leave out what a model thinks before it answers. Servers without a parser for it send it as a part of the answer.

The marks are those of the chat templates of DeepSeek and Qwen (`<think>`), Mistral (`[THINK]`), Kimi (`◁think▷`) and
others. The first mark is often a part of the prompt, so the answer may have the second one alone.
"""

import regex

NAME = r"(?:\w+:)?(?:think(?:ing)?|thoughts?|reasoning|reflection|scratchpad)"
END = regex.compile(rf"</{NAME}>|\[/THINK\]|◁/think▷", regex.I)
BEGIN = regex.compile(rf"<{NAME}>|\[THINK\]|◁think▷", regex.I)


def without_thoughts(answer: str) -> str:
    """Return an answer without what was thought before it; "" if the thinking has no end, because it was cut."""
    if not any(mark in answer for mark in "<[◁"):
        return answer
    last = 0
    for end in END.finditer(answer):
        last = end.end()
    rest = answer[last:]
    return "" if BEGIN.match(rest.lstrip()) else rest
