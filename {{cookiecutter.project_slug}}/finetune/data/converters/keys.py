"""What the keys of a row mean in each format: those that are converted, and those that are refused by their name.

All other keys are counted as unused.
"""

from collections.abc import Collection, Iterator
from typing import Literal

from finetune.data.converters.turns import is_false, unused_turn_keys
from finetune.data.converters.values import has_value
from finetune.data.examples import OUTPUTS
from finetune.data.prompts import cell_text
from finetune.data.raw_file import Row

Format = Literal["columns", "messages", "completion", "alpaca", "sharegpt", "preference"]

CHAT = frozenset({"system", "system_prompt", "tools", "functions", "parallel_tool_calls"})
CONVERTED: dict[Format, frozenset[str]] = {
    "messages": CHAT | {"messages"},
    "sharegpt": CHAT | {"conversations"},
    "completion": CHAT | {"prompt", "completion"},
    "alpaca": CHAT | {"instruction", "input", "output", "history"},
    "preference": CHAT | {"input", *OUTPUTS, "prompt", "messages", "conversations", "chosen", "rejected"},
}
# Why a key is refused where the format does not convert it. The first group changes what a model is asked.
OF_THE_QUESTION = {
    **dict.fromkeys(
        ("images", "image", "image_url", "image_urls", "image_path", "image_paths"),
        "put each image into the content of its message, as a part of the type image_url",
    ),
    **dict.fromkeys(("audios", "audio", "videos", "video"), "training takes texts and images only"),
    **dict.fromkeys(
        ("tool_choice", "function_call", "response_format"), "a training example cannot hold it; remove it"
    ),
    "history": "write the earlier turns as messages",
}
OF_THE_ANSWER = dict.fromkeys(
    ("chosen", "rejected", "rejected_response", "rejected_messages", *OUTPUTS),
    "training takes one answer; keep the better one",
)
OF_BOTH = OF_THE_QUESTION | OF_THE_ANSWER
LABELS = ("label", "kto_tag", "weight")


def refuse_keys(row: Row, form: Format, declared: Collection[str] = (), question_only: bool = False) -> None:
    """Raise ValueError for a key with a meaning that the format does not convert, and for an answer labelled as bad.

    `declared` are the columns that params.yaml gives another use.
    """
    reasons = OF_THE_QUESTION if question_only else OF_BOTH
    for key in row:
        if key in reasons and key not in CONVERTED[form] and key not in declared and has_value(row[key]):
            raise ValueError(f"the key {key!r}: {reasons[key]}")
    for key in () if question_only else LABELS:
        if key in row and key not in declared and is_false(row[key]):
            raise ValueError(
                f"{key!r} is {cell_text(row[key])}, which marks an answer not to learn: remove such rows, "
                "or rename the key if it means something else"
            )


def unused_keys(row: Row, used: Collection[str], form: Format) -> Iterator[str]:
    """Yield each key of a row that has a value and no use; of ShareGPT's turns, names such as `conversations.id`."""
    for key, value in row.items():
        if key not in used and has_value(value):
            yield key
    if form in ("messages", "sharegpt"):
        turns = "messages" if form == "messages" else "conversations"
        yield from unused_turn_keys(row[turns], turns)
