"""Measure how much more probable a model finds the preferred answer of each test pair than the other one."""

from collections.abc import Sequence

from finetune.core.disk import read_jsonl
from finetune.core.params import Params
from finetune.core.paths import PREPARED
from finetune.core.records.answers import Prediction
from finetune.core.records.prepared import PreparedExample
from finetune.data.examples import OUTPUTS, shape_of, with_output
from finetune.provider.connect import Connection
from finetune.provider.given_answers import NoScores, score_pairs
from finetune.terminal.progress import progress_bar, say


def with_margins(connection: Connection, params: Params, model: str, rows: Sequence[Prediction]) -> list[Prediction]:
    """Return the answers to the test split with the margin of each pair; without it where there is none.

    The rows stay as they are if the split has no preferences, and with a warning if the provider gives no
    log-probabilities of given answers.
    """
    examples = read_jsonl(PREPARED / "test.jsonl", "prepare", PreparedExample)
    if any(shape_of(example) != "preference" for example in examples):
        return list(rows)
    pairs = [(with_output(example, OUTPUTS[0]), with_output(example, OUTPUTS[1])) for example in examples]
    try:
        with progress_bar(f"compare answers by {model}") as progress:
            margins = score_pairs(connection, model, pairs, params.evaluate.concurrency, progress)
    except NoScores as error:
        say(f"warning: the margin of the preferred answers is not measured: {error.what}")
        return list(rows)
    found = [row.copy() for row in rows]
    for row, margin in zip(found, margins, strict=True):
        if not isinstance(margin, str):
            row["margin"] = margin
    if refused := [margin for margin in margins if isinstance(margin, str)]:
        say(f"warning: {len(refused)} pairs have no margin by {model} (the first: {refused[0]})")
    return found
