"""Rules on the keys of an example, which decide its shape. Source: OpenAI's guide and API reference."""

from finetune.core.records import Example
from finetune.data.checks.rule import Found, describe, rule
from finetune.data.examples import KEYS, OUTPUTS, shape_of


@rule("unknown_key", shapes=("chat", "completion", "preference"), simple_chat_passes=True)
def has_known_keys(example: Example) -> Found:
    shape = shape_of(example)
    for key in sorted(set(example) - KEYS[shape] if shape else ()):
        yield f"the key {key!r} is not allowed", "Remove it, or keep it in another file."
    if isinstance(example.get("input"), dict):
        for key in sorted(set(example["input"]) - KEYS["chat"]):
            yield f"the key 'input.{key}' is not allowed", "Remove it."


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
