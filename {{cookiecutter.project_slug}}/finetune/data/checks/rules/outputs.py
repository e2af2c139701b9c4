"""Rules on the two outputs of a preference. Source: OpenAI's guide to preference training."""

from finetune.core.records import Example
from finetune.data.checks.rule import Found, rule
from finetune.data.examples import OUTPUTS


@rule("bad_output", shapes=("preference",))
def outputs_are_one_message_each(example: Example) -> Found:
    for key in OUTPUTS:
        messages = example.get(key)
        if isinstance(messages, list) and messages:
            roles = [message.get("role") for message in messages if isinstance(message, dict)]
            if len(messages) != 1 or roles != ["assistant"]:
                yield (
                    f"{key} is not one assistant message",
                    "Keep only the final answer, and move other turns to input.",
                )


@rule("same_outputs", shapes=("preference",))
def outputs_differ(example: Example) -> Found:
    if example.get(OUTPUTS[0]) and example.get(OUTPUTS[0]) == example.get(OUTPUTS[1]):
        yield "both outputs are the same, so there is nothing to prefer", "Remove the example."
