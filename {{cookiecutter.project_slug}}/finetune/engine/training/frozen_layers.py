"""Three shortcuts that change no result but by rounding: no token is computed twice, none is computed for nothing.

- LoRA sits on the top layers only, so what the layers below say of an example is the same at every step: it is
  computed once and kept.
- Examples of one file begin alike (their system prompt), so a batch holds that beginning once, and every example's
  own tokens after it, in one row without padding. A mask keeps the examples from seeing each other.
- Only the labelled positions go through the head, and nothing is computed behind the last of them.

Measured against a plain loop by `make bench`.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import takewhile
from typing import Any

import torch
from torch import nn

from finetune.engine.training.encoding import IGNORED, Encoded

Batch = dict[str, torch.Tensor]
# Tokens: examples share a row up to this length, and a longer one has a row to itself. In rows twice as long, attention
# of all with all costs more than is saved.
ROW = 512
MAX_KEPT_BYTES = 2 * 1024**3  # hidden states kept in memory; a larger set computes them at each step
KEPT_BATCH = 8


def shared_prefix(examples: Sequence[Encoded]) -> int:
    """How many tokens all examples begin with, short of the first that has the next token to learn."""
    # What the first and the last in alphabetical order begin with, all between them do.
    first, last = min(e.input_ids for e in examples), max(e.input_ids for e in examples)
    common = sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], zip(first, last, strict=False)))
    learns = (next(i for i, label in enumerate(e.labels) if label != IGNORED) for e in examples)
    return max(0, min(common, *(position - 1 for position in learns)))


def needed(example: Encoded) -> int:
    """How many tokens an example is computed for: up to the one before its last label."""
    return max(i for i, label in enumerate(example.labels) if label != IGNORED)


def pack(examples: Sequence[Encoded], shared: int, row: int, hidden: Sequence[torch.Tensor] | None = None) -> Batch:
    """Examples laid one behind the other in rows of about `row` tokens, their `shared` first tokens once a row.

    Of shape (rows, length): `input_ids`; `position_ids`, as if each example were alone; `labels`, the token to predict
    at each position or IGNORED; `segments`: 0 for the shared tokens, then 1, 2, … by example, -1 for padding.
    With `hidden` states (needed tokens, width) of each example: `hidden` (rows, length, width).
    """
    rows: list[list[int]] = []
    filled: list[int] = []
    for index, example in enumerate(examples):
        own = needed(example) - shared
        if rows and filled[-1] + own <= row:
            rows[-1].append(index)
            filled[-1] += own
        else:
            rows.append([index])
            filled.append(shared + own)
    shape = (len(rows), max(filled))
    batch = {name: torch.zeros(shape, dtype=torch.long) for name in ("input_ids", "position_ids")}
    batch["labels"] = torch.full(shape, IGNORED)
    batch["segments"] = torch.full(shape, -1)
    if hidden is not None:
        batch["hidden"] = torch.zeros(*shape, hidden[0].shape[-1], dtype=hidden[0].dtype)
    for line, indexes in enumerate(rows):
        start = 0
        for segment, index in enumerate(indexes, 1):
            example = examples[index]
            skipped = shared if start else 0  # the first example of a row brings the shared tokens
            length = needed(example)
            here = slice(start, start + length - skipped)
            batch["input_ids"][line, here] = torch.tensor(example.input_ids[skipped:length])
            batch["position_ids"][line, here] = torch.arange(skipped, length)
            batch["labels"][line, here] = torch.tensor(example.labels[skipped + 1 : length + 1])
            batch["segments"][line, here] = segment
            if hidden is not None:
                batch["hidden"][line, here] = hidden[index][skipped:]
            start = here.stop
        batch["segments"][line, :shared] = 0
    return batch


def mask_of(batch: Batch, dtype: torch.dtype) -> torch.Tensor:
    """What each position may look at: the usual (rows, length) of ones where every row holds one example, else
    (rows, 1, length, length) of 0 and the lowest number: itself, its own example before it, and the shared tokens."""
    segments = batch["segments"]
    if int(segments.max()) <= 1:
        return (segments >= 0).long()
    mine, theirs = segments[:, :, None], segments[:, None, :]
    seen = ((mine == theirs) | (theirs == 0)).tril()[:, None]
    return torch.zeros(seen.shape, dtype=dtype, device=seen.device).masked_fill(~seen, torch.finfo(dtype).min)


def near(found: torch.Tensor, wanted: torch.Tensor, eps: float) -> bool:
    """Whether logits (positions, vocabulary) are the same but for rounding: to half the digits, over all of them.

    Not number by number: over thirty layers in bfloat16, sums of another order change a logit by as much as 1.
    Measured so on SmolLM2: 1 to 4 % of the norm; states that are too large by a tenth make 11 %.
    """
    spread = (wanted - wanted.mean(-1, keepdim=True)).norm()
    return bool((found - wanted).norm() <= eps**0.5 * spread)


class Trunk:
    """A causal language model, cut below its first trained layer.

    `model` is the bare Transformers model (LoRA already inside), `first` the index of its lowest trained layer.
    """

    def __init__(self, model: Any, first: int, examples: Sequence[Encoded]) -> None:
        self.model, self.first = model, first
        self.decoder = model.get_decoder()
        self.head = model.get_output_embeddings()
        # Architectures that scale embeddings or logits on the way, or that make their masks otherwise, do not survive
        # the cut: see, do not guess.
        self.works = first > 0 and self._agrees(sorted(examples, key=lambda e: len(e.input_ids))[:2])

    def _agrees(self, examples: Sequence[Encoded]) -> bool:
        with torch.no_grad():
            whole = torch.cat([self._plain(pack([example], 0, ROW)) for example in examples])
            try:
                batch = pack(examples, shared_prefix(examples), ROW)
                cut = self._cut(batch)
            except (AttributeError, TypeError, RuntimeError, ValueError):
                return False
        return bool(whole.shape == cut.shape and near(cut.float(), whole.float(), torch.finfo(whole.dtype).eps))

    @property
    def device(self) -> torch.device:
        return torch.device(next(self.model.parameters()).device)

    @contextmanager
    def _layers(self, part: slice, norm: nn.Module) -> Iterator[None]:
        layers, own_norm = self.decoder.layers, self.decoder.norm
        self.decoder.layers, self.decoder.norm = nn.ModuleList(layers[part]), norm
        try:
            yield
        finally:
            self.decoder.layers, self.decoder.norm = layers, own_norm

    def bottom(self, batch: Batch) -> torch.Tensor:
        """Hidden states (rows, length, width) as they enter the first trained layer."""
        with torch.no_grad(), self._layers(slice(None, self.first), nn.Identity()):
            output = self.decoder(input_ids=batch["input_ids"].to(self.device), **self._where(batch))
        return output.last_hidden_state.detach()  # type: ignore[no-any-return]

    def top(self, hidden: torch.Tensor, batch: Batch) -> torch.Tensor:
        """The trained layers' output for given hidden states, normed and ready for the head."""
        with self._layers(slice(self.first, None), self.decoder.norm):
            output = self.decoder(inputs_embeds=hidden.to(self.device), **self._where(batch))
        return output.last_hidden_state  # type: ignore[no-any-return]

    def _where(self, batch: Batch) -> dict[str, Any]:
        mask = mask_of(batch, self.model.dtype).to(self.device)
        return {"attention_mask": mask, "position_ids": batch["position_ids"].to(self.device), "use_cache": False}

    def _cut(self, batch: Batch) -> torch.Tensor:
        hidden = batch["hidden"] if "hidden" in batch else self.bottom(batch)
        states = self.top(hidden, batch)
        return self.head(states[batch["labels"].to(self.device) != IGNORED])  # type: ignore[no-any-return]

    def _plain(self, batch: Batch) -> torch.Tensor:
        logits = self.model(input_ids=batch["input_ids"].to(self.device), **self._where(batch)).logits
        return logits[batch["labels"].to(self.device) != IGNORED]  # type: ignore[no-any-return]

    def labelled_logits(self, batch: Batch) -> tuple[torch.Tensor, torch.Tensor]:
        """Logits (positions, vocabulary) in float32 and targets (positions,), for the labelled positions alone."""
        targets = batch["labels"].to(self.device)
        logits = self._cut(batch) if self.works else self._plain(batch)
        return logits.float(), targets[targets != IGNORED]


class Corpus:
    """The examples of one file, with what the frozen layers say of each; it gives batches by their indexes."""

    def __init__(self, trunk: Trunk, examples: Sequence[Encoded]) -> None:
        self.trunk, self.examples = trunk, examples
        self.shared, self.row = (shared_prefix(examples), ROW) if trunk.works and examples else (0, 0)
        self.hidden = self._keep()

    def batch(self, indexes: Sequence[int]) -> Batch:
        hidden = [self.hidden[i] for i in indexes] if self.hidden else None
        return pack([self.examples[i] for i in indexes], self.shared, self.row, hidden)

    def _keep(self) -> list[torch.Tensor] | None:
        """The hidden states of every example, each (needed tokens, width); None where they are too many to keep.

        The batches depend on the examples alone, so a resumed job computes the same bits.
        """
        trunk, examples = self.trunk, self.examples
        width = trunk.decoder.config.hidden_size * torch.finfo(trunk.model.dtype).bits // 8
        if not trunk.works or sum(len(e.input_ids) for e in examples) * width > MAX_KEPT_BYTES:
            return None
        kept: list[torch.Tensor] = [torch.empty(0)] * len(examples)
        order = sorted(range(len(examples)), key=lambda i: len(examples[i].input_ids))
        for start in range(0, len(order), KEPT_BATCH):
            indexes = iter(order[start : start + KEPT_BATCH])
            batch = pack([examples[i] for i in order[start : start + KEPT_BATCH]], self.shared, self.row)
            for states, segments in zip(trunk.bottom(batch).cpu(), batch["segments"], strict=True):
                for segment in range(1, int(segments.max()) + 1):
                    kept[next(indexes)] = torch.cat([states[segments == 0], states[segments == segment]])
        return kept
