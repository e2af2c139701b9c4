"""Pack examples into rows without padding: their common prefix once a row, then each example's other tokens.

Many examples of one file begin with the same tokens (their system prompt). An attention mask keeps the examples of a
row from attending to each other. Nothing is computed after an example's last label.
"""

from collections import Counter, defaultdict
from collections.abc import Sequence
from itertools import takewhile
from typing import NamedTuple

import torch
from typing_extensions import NotRequired, TypedDict

from finetune.engine.training.encoding import IGNORE_INDEX, EncodedExample

# Tokens: examples share a row up to this length, and a longer one gets a row to itself. In rows twice as long,
# attention between all positions costs more than packing saves.
ROW_TOKENS = 512
# Tokens: the length of a row is rounded up to a multiple of it. PyTorch prepares a matrix product again for each length
# that it has not seen. With all lengths, a step of the default starter took a tenth more time.
LENGTHS = 32
BEGINNING = 16  # tokens by which examples are grouped; a chat template alone has fewer in common
FEWEST_IN_GROUP = 8  # examples


class Batch(TypedDict):
    """Packed rows; the tensors have the shape (rows, length), `hidden_states` (rows, length, width).

    `position_ids` count as if each example were alone. `labels` hold the token to predict at each position, or
    IGNORE_INDEX. `segments` number the common prefixes and the examples' other tokens in the order of the row, from 0;
    padding is -1. `prefixes` hold the segment of the prefix that belongs to each position. `lengths` (examples,) are
    the tokens of each example, with those that it shares with others or that the model does not read. Of preferences,
    `pairs` (preferences, 2) are the numbers of the preferred and the other answer among the examples of the batch, and
    `reference` (preferences,) their margins at the start.
    """

    input_ids: torch.Tensor
    position_ids: torch.Tensor
    labels: torch.Tensor
    segments: torch.Tensor
    prefixes: torch.Tensor
    lengths: torch.Tensor
    hidden_states: NotRequired[torch.Tensor]
    pairs: NotRequired[torch.Tensor]
    reference: NotRequired[torch.Tensor]


def common_prefix_length(examples: Sequence[EncodedExample]) -> int:
    """Return how many first tokens all examples have in common, before the first position that predicts a label."""
    # What the alphabetically first and last begin with, all examples between them begin with too.
    first, last = min(e.input_ids for e in examples), max(e.input_ids for e in examples)
    common = sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], zip(first, last, strict=False)))
    first_labels = (next(i for i, label in enumerate(e.labels) if label != IGNORE_INDEX) for e in examples)
    return max(0, min(common, *(position - 1 for position in first_labels)))


def group_by_beginning(examples: Sequence[EncodedExample]) -> list[int]:
    """Return the number of each example's group: examples that begin with the same tokens.

    Examples with a rare beginning are one group, 0.
    """
    beginnings = [tuple(example.input_ids[:BEGINNING]) for example in examples]
    common = [beginning for beginning, times in Counter(beginnings).items() if times >= FEWEST_IN_GROUP]
    numbers = {beginning: number for number, beginning in enumerate(common, 1)}
    return [numbers.get(beginning, 0) for beginning in beginnings]


def prefix_lengths_of(examples: Sequence[EncodedExample], groups: Sequence[int]) -> list[int]:
    """Return how many first tokens each example has in common with all examples of its group."""
    members = defaultdict(list)
    for example, group in zip(examples, groups, strict=True):
        members[group].append(example)
    lengths = {group: common_prefix_length(some) for group, some in members.items()}
    return [lengths[group] for group in groups]


def needed_length(example: EncodedExample) -> int:
    """Return how many tokens of an example the model reads: all before its last label."""
    return max(i for i, label in enumerate(example.labels) if label != IGNORE_INDEX)


def prefix_of(example: EncodedExample, length: int) -> tuple[int, ...]:
    return tuple(example.input_ids[:length])


class Span(NamedTuple):
    """Tokens of an example in a row: from `first` up to `end`, at `start` of the row."""

    example: int
    start: int
    first: int
    end: int
    segment: int
    prefix: int  # the segment of its prefix; its own if this is one


def assign_rows(examples: Sequence[EncodedExample], prefix_lengths: Sequence[int], row_tokens: int) -> list[list[Span]]:
    """Return the spans of each row, in order: a row takes the next example if it fits.

    A prefix is in a row again only after an example with another one.
    """
    rows: list[list[Span]] = []
    filled, segment, prefix, shared = 0, 0, 0, tuple[int, ...]()
    for index, (example, length) in enumerate(zip(examples, prefix_lengths, strict=True)):
        end = needed_length(example)
        is_new = not rows or shared != prefix_of(example, length)
        if not rows or filled + end - (0 if is_new else length) > row_tokens:
            rows.append([])
            filled, segment, is_new = 0, 0, True
        if is_new:
            shared, prefix = prefix_of(example, length), segment
            rows[-1].append(Span(index, filled, 0, length, prefix, prefix))
            filled, segment = filled + length, segment + 1
        rows[-1].append(Span(index, filled, length, end, segment, prefix))
        filled, segment = filled + end - length, segment + 1
    return rows


def padded_length(rows: Sequence[Sequence[Span]]) -> int:
    """Return the length of all rows of a batch: that of the longest, rounded up."""
    longest = max(row[-1].start + row[-1].end - row[-1].first for row in rows)
    return -(-longest // LENGTHS) * LENGTHS


def pack(
    examples: Sequence[EncodedExample],
    prefix_lengths: Sequence[int],
    row_tokens: int,
    hidden_states: Sequence[torch.Tensor] | None = None,
) -> Batch:
    """Pack examples into rows of about `row_tokens` tokens, equal prefixes of adjacent examples once.

    `prefix_lengths` are those of each example. `hidden_states` are those of each example, (needed_length, width).
    """
    rows = assign_rows(examples, prefix_lengths, row_tokens)
    shape = (len(rows), padded_length(rows))
    batch: Batch = {
        "input_ids": torch.zeros(shape, dtype=torch.long),
        "position_ids": torch.zeros(shape, dtype=torch.long),
        "labels": torch.full(shape, IGNORE_INDEX),
        "segments": torch.full(shape, -1),
        "prefixes": torch.full(shape, -1),
        "lengths": torch.tensor([len(example.input_ids) for example in examples]),
    }
    if hidden_states is not None:
        batch["hidden_states"] = torch.zeros(*shape, hidden_states[0].shape[-1], dtype=hidden_states[0].dtype)
    for number, row in enumerate(rows):
        for one in row:
            example, place = examples[one.example], slice(one.start, one.start + one.end - one.first)
            batch["input_ids"][number, place] = torch.tensor(example.input_ids[one.first : one.end])
            batch["position_ids"][number, place] = torch.arange(one.first, one.end)
            if one.segment != one.prefix:  # a prefix has no labels
                batch["labels"][number, place] = torch.tensor(example.labels[one.first + 1 : one.end + 1])
            batch["segments"][number, place], batch["prefixes"][number, place] = one.segment, one.prefix
            if hidden_states is not None:
                batch["hidden_states"][number, place] = hidden_states[one.example][one.first : one.end]
    return batch


def labelled_examples(batch: Batch) -> torch.Tensor:
    """Return the number of the example to which each labelled position belongs, (positions,), in the order of rows."""
    segments = batch["segments"]
    rows = torch.arange(len(segments), device=segments.device)[:, None]
    numbers: torch.Tensor = (
        rows * 2 * segments.shape[1] + segments
    )  # a prefix, which may be empty, and the rest of each
    return numbers[batch["labels"] != IGNORE_INDEX]


def attention_mask(batch: Batch, dtype: torch.dtype) -> torch.Tensor:
    """Return the mask of a batch: each position attends to itself, and to its own example and the prefix before it.

    If every row holds one example, the usual mask (rows, length) of ones and zeros; else (rows, 1, length, length) of 0
    and the dtype's lowest number, to be added to the attention scores.
    """
    segments, prefixes = batch["segments"], batch["prefixes"]
    if int(segments.max()) <= 1:
        return (segments >= 0).long()
    queries, keys = segments[:, :, None], segments[:, None, :]
    visible = ((queries == keys) | (keys == prefixes[:, :, None])).tril()[:, None]
    return torch.zeros(visible.shape, dtype=dtype, device=visible.device).masked_fill(~visible, torch.finfo(dtype).min)
