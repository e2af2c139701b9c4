"""Pack examples into rows without padding: their common prefix once a row, then each example's other tokens.

Examples of one file begin with the same tokens (their system prompt). An attention mask keeps the examples of a row
from attending to each other. Nothing is computed after an example's last label.
"""

from collections.abc import Sequence
from itertools import takewhile

import torch
from typing_extensions import NotRequired, TypedDict

from finetune.engine.training.encoding import IGNORE_INDEX, EncodedExample

# Tokens: examples share a row up to this length, and a longer one gets a row to itself. In rows twice as long,
# attention between all positions costs more than packing saves.
ROW_TOKENS = 512


class Batch(TypedDict):
    """Packed rows; the tensors have the shape (rows, length), `hidden_states` (rows, length, width).

    `position_ids` count as if each example were alone. `labels` hold the token to predict at each position, or
    IGNORE_INDEX. `segments` are 0 for the common prefix, then 1, 2, … by example, and -1 for padding.
    """

    input_ids: torch.Tensor
    position_ids: torch.Tensor
    labels: torch.Tensor
    segments: torch.Tensor
    hidden_states: NotRequired[torch.Tensor]


def common_prefix_length(examples: Sequence[EncodedExample]) -> int:
    """Return how many first tokens all examples have in common, before the first position that predicts a label."""
    # What the alphabetically first and last begin with, all examples between them begin with too.
    first, last = min(e.input_ids for e in examples), max(e.input_ids for e in examples)
    common = sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], zip(first, last, strict=False)))
    first_labels = (next(i for i, label in enumerate(e.labels) if label != IGNORE_INDEX) for e in examples)
    return max(0, min(common, *(position - 1 for position in first_labels)))


def needed_length(example: EncodedExample) -> int:
    """Return how many tokens of an example the model reads: all before its last label."""
    return max(i for i, label in enumerate(example.labels) if label != IGNORE_INDEX)


def assign_rows(lengths: Sequence[int], prefix_length: int, row_tokens: int) -> list[list[int]]:
    """Return the indexes of the examples of each row, in order: a row takes the next example if it fits."""
    rows: list[list[int]] = []
    filled = 0
    for index, length in enumerate(lengths):
        own = length - prefix_length
        if rows and filled + own <= row_tokens:
            rows[-1].append(index)
            filled += own
        else:
            rows.append([index])
            filled = prefix_length + own
    return rows


def pack(
    examples: Sequence[EncodedExample],
    prefix_length: int,
    row_tokens: int,
    hidden_states: Sequence[torch.Tensor] | None = None,
) -> Batch:
    """Pack examples into rows of about `row_tokens` tokens, their first `prefix_length` tokens once a row.

    `hidden_states` are those of each example, (needed_length, width).
    """
    lengths = [needed_length(example) for example in examples]
    rows = assign_rows(lengths, prefix_length, row_tokens)
    shape = (len(rows), max(prefix_length + sum(lengths[i] - prefix_length for i in row) for row in rows))
    batch: Batch = {
        "input_ids": torch.zeros(shape, dtype=torch.long),
        "position_ids": torch.zeros(shape, dtype=torch.long),
        "labels": torch.full(shape, IGNORE_INDEX),
        "segments": torch.full(shape, -1),
    }
    if hidden_states is not None:
        batch["hidden_states"] = torch.zeros(*shape, hidden_states[0].shape[-1], dtype=hidden_states[0].dtype)
    for row, indexes in enumerate(rows):
        start = 0
        for segment, index in enumerate(indexes, 1):
            example, length = examples[index], lengths[index]
            skipped = prefix_length if start else 0  # the first example of a row brings the common prefix
            span = slice(start, start + length - skipped)
            batch["input_ids"][row, span] = torch.tensor(example.input_ids[skipped:length])
            batch["position_ids"][row, span] = torch.arange(skipped, length)
            batch["labels"][row, span] = torch.tensor(example.labels[skipped + 1 : length + 1])
            batch["segments"][row, span] = segment
            if hidden_states is not None:
                batch["hidden_states"][row, span] = hidden_states[index][skipped:]
            start = span.stop
        batch["segments"][row, :prefix_length] = 0
    return batch


def attention_mask(batch: Batch, dtype: torch.dtype) -> torch.Tensor:
    """Return the mask of a batch: each position attends to itself, and to its own example and the prefix before it.

    If every row holds one example, the usual mask (rows, length) of ones and zeros; else (rows, 1, length, length) of 0
    and the dtype's lowest number, to be added to the attention scores.
    """
    segments = batch["segments"]
    if int(segments.max()) <= 1:
        return (segments >= 0).long()
    queries, keys = segments[:, :, None], segments[:, None, :]
    visible = ((queries == keys) | (keys == 0)).tril()[:, None]
    return torch.zeros(visible.shape, dtype=dtype, device=visible.device).masked_fill(~visible, torch.finfo(dtype).min)
