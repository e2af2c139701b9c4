"""Rules on the two outputs of a preference. Sources: OpenAI's and Azure's guides to preference training."""

from itertools import pairwise

from finetune.core.records.prepared import Example
from finetune.data.checks.rule import Found, rule
from finetune.data.examples import OUTPUTS, messages_of


@rule("bad_output", shapes=("preference",))
def outputs_are_answers(example: Example) -> Found:
    """Find outputs that are not one answer: an assistant message, or its calls, their results and a final message."""
    for key in OUTPUTS:
        messages = example.get(key)
        if not isinstance(messages, list) or not messages:
            continue
        roles = [message.get("role") for message in messages if isinstance(message, dict)]
        repeats = any(pair == ("assistant", "assistant") for pair in pairwise(roles))
        if "assistant" not in roles or repeats or any(role not in ("assistant", "tool") for role in roles):
            what = f"{key} is not one answer of the assistant, with the results of its tool calls if it has any"
            yield what, "Keep only the final answer, and move other turns to input."


@rule("bad_weight", shapes=("preference",))
def preferences_have_no_weights(example: Example) -> Found:
    for path, message in messages_of(example):
        if "weight" in message:
            yield f"{path} has a weight", "Remove it: a preference trains on its outputs."


@rule("bad_input", shapes=("preference",))
def input_ends_with_a_question(example: Example) -> Found:
    given = example.get("input")
    messages = given.get("messages") if isinstance(given, dict) else None
    last = messages[-1] if isinstance(messages, list) and messages else None
    if isinstance(last, dict) and last.get("role") == "assistant":
        yield "input.messages ends with an answer of the assistant", "End it with what the outputs answer."


@rule("same_outputs", shapes=("preference",))
def outputs_differ(example: Example) -> Found:
    if example.get(OUTPUTS[0]) and example.get(OUTPUTS[0]) == example.get(OUTPUTS[1]):
        yield "both outputs are the same, so there is nothing to prefer", "Remove the example."
