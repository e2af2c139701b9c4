"""Rules on the keys of an example, which decide its shape. Source: OpenAI's guide and API reference."""

from finetune.core.records.prepared import Example
from finetune.data.checks.rule import Found, describe, rule
from finetune.data.converters.keys import LABELS, OF_BOTH
from finetune.data.converters.turns import is_false
from finetune.data.converters.values import has_value
from finetune.data.examples import KEYS, OUTPUTS, shape_of

SYSTEM_PROMPTS = ("system", "system_prompt")


@rule("unknown_key", shapes=("chat", "completion", "preference"), simple_chat_passes=True)
def has_known_keys(example: Example) -> Found:
    shape = shape_of(example)
    for key in sorted(set(example) - KEYS[shape] if shape else ()):
        yield f"the key {key!r} is not allowed", fix_of(key, example[key])
    if isinstance(example.get("input"), dict):
        for key in sorted(set(example["input"]) - KEYS["chat"]):
            yield f"the key 'input.{key}' is not allowed", "Remove it."


def fix_of(key: str, value: object) -> str:
    """Return what to do with a key that is not allowed; some of them change what is asked or which answer is good."""
    if key in OF_BOTH and has_value(value):
        return f"{OF_BOTH[key][0].upper()}{OF_BOTH[key][1:]}."
    if key in LABELS and is_false(value):
        return "If it marks an answer not to learn, remove the example; if not, remove the key."
    if key in SYSTEM_PROMPTS and has_value(value):
        return "Write it as the first message, with the role system."
    return "Remove it, or keep it in another file."


@rule("missing_key", shapes=("preference",))
def has_keys_of_preference(example: Example) -> Found:
    for key in ("input", *OUTPUTS):
        if key not in example:
            yield f"the key {key!r} is missing", "Give input, preferred_output and non_preferred_output."


@rule("missing_key", shapes=("completion",))
def has_keys_of_completion(example: Example) -> Found:
    for key in ("prompt", "completion"):
        if not isinstance(example.get(key), str):
            yield f"{key!r} is {describe(example.get(key))}, not a string", 'Write {"prompt": "…", "completion": "…"}.'
