"""Check the endings of prompts and completions, which show the model where each part ends."""

from collections.abc import Iterator

from finetune.data.checks.check_lines import example_at
from finetune.data.checks.whole_file import CheckedFile
from finetune.data.existing_marks import common_ending

SUGGESTED = {"prompt": "\n\n###\n\n", "completion": "\n"}


def check_completion_endings(checked: CheckedFile) -> None:
    """Check that all prompts of a file end with one separator that is nowhere else, and all completions with one stop.

    Completions that are classes need no stop: they end after one token. A file of chat is not checked, since roles
    divide its messages.
    """
    if not len(checked.rows) or "prompt" not in example_at(checked.file, checked.rows[0]):
        return
    for key, code, effect in (
        ("prompt", "separator", "the model cannot see where the prompt ends and the completion begins"),
        ("completion", "stop", "the model does not learn where to stop"),
    ):
        ending = common_ending(text for _, text in texts_of_key(checked, key))
        if not any(not letter.isalnum() for letter in ending):
            if key == "prompt" or not checked.classes:
                fix = f"End each {key} with the same text, such as {SUGGESTED[key]!r}, also when you use the model."
                checked.add(f"no_{code}", "warning", 0, f"the {key}s have no common ending: {effect}", fix)
            continue
        for line, text in texts_of_key(checked, key):
            if ending in text[: -len(ending)]:
                what = f"the {key} contains {ending!r}, which marks its end, before its end"
                checked.add(f"{code}_inside", "warning", line, what, f"Remove it, or choose another {code}.")


def texts_of_key(checked: CheckedFile, key: str) -> Iterator[tuple[int, str]]:
    """Yield the line and the text of each example that has a text under `key`."""
    for row in checked.rows:
        text = example_at(checked.file, row).get(key)
        if isinstance(text, str):
            yield int(row["line"]), text
