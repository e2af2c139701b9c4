"""Prompts and completions, which are one text to the model: what marks where the one ends, and where the other."""

from collections.abc import Iterable, Iterator
from itertools import takewhile

from finetune.data.checks.check_file import Checked
from finetune.data.checks.check_lines import example_at

LONGEST = 20  # characters; a longer common ending is part of what is asked


def check_frames(checked: Checked) -> None:
    """Whether all prompts of a file end with the same separator, that stands nowhere else, and all completions too.

    Completions that are classes need no ending: they end with their one token. Chat is told apart by its roles, so a
    file of it is left alone.
    """
    if not len(checked.rows) or "prompt" not in example_at(checked.file, checked.rows[0]):
        return
    for key, code, what_for in (
        ("prompt", "separator", "the model sees no difference between its end and the completion's beginning"),
        ("completion", "stop", "the model does not learn where to stop"),
    ):
        ending = common_ending(text for _, text in texts_of(checked, key))
        if not any(not letter.isalnum() for letter in ending):
            if key == "prompt" or not checked.classes:
                fix = f"End each {key} with the same text, such as {NEW[key]!r}, also when you ask."
                checked.add(f"no_{code}", "warning", 0, f"the {key}s have no ending in common: {what_for}", fix)
            continue
        for line, text in texts_of(checked, key):
            if ending in text[: -len(ending)]:
                what = f"the {key} holds {ending!r} inside, which marks its end"
                checked.add(f"{code}_inside", "warning", line, what, f"Remove it, or choose another {code}.")


NEW = {"prompt": "\n\n###\n\n", "completion": "\n"}


def texts_of(checked: Checked, key: str) -> Iterator[tuple[int, str]]:
    for row in checked.rows:
        text = example_at(checked.file, row).get(key)
        if isinstance(text, str):
            yield int(row["line"]), text


def common_ending(texts: Iterable[str]) -> str:
    """The longest text with which all of them end, but for letters and digits at its beginning."""
    common: str | None = None  # read from behind
    for text in texts:
        back = text[: -LONGEST - 1 : -1]
        pairs = zip(back if common is None else common, back, strict=False)
        common = "".join(one for one, _ in takewhile(lambda pair: pair[0] == pair[1], pairs))
        if not common:
            return ""
    ending = (common or "")[::-1]
    return ending[next((n for n, letter in enumerate(ending) if not letter.isalnum()), len(ending)) :]
