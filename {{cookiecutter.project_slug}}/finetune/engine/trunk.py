"""Two shortcuts that change no result: logits only where there are labels, and frozen layers computed once.

LoRA sits on the top layers only, so what the layers below say of an example is the same at every step. The trunk runs
them once per example and keeps the hidden states; a step then costs the top layers and the labelled positions.
Measured against a plain loop by `make bench`.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn

from finetune.engine.encode import IGNORED, Encoded

Batch = dict[str, torch.Tensor]
MAX_KEPT_BYTES = 2 * 1024**3  # hidden states kept in memory; a larger set computes them at each step
KEPT_BATCH = 16


def collate(examples: Sequence[Encoded], hidden: Sequence[torch.Tensor] | None = None) -> Batch:
    """Examples padded on the right: `input_ids`, `labels`, `attention_mask` (batch, length); `hidden` (..., width)."""
    longest = max(len(example.input_ids) for example in examples)
    batch = {
        "input_ids": torch.zeros(len(examples), longest, dtype=torch.long),
        "labels": torch.full((len(examples), longest), IGNORED, dtype=torch.long),
        "attention_mask": torch.zeros(len(examples), longest, dtype=torch.long),
    }
    for row, example in enumerate(examples):
        length = len(example.input_ids)
        batch["input_ids"][row, :length] = torch.tensor(example.input_ids)
        batch["labels"][row, :length] = torch.tensor(example.labels)
        batch["attention_mask"][row, :length] = 1
    if hidden is not None:
        batch["hidden"] = torch.zeros(len(examples), longest, hidden[0].shape[-1], dtype=hidden[0].dtype)
        for row, states in enumerate(hidden):
            batch["hidden"][row, : states.shape[0]] = states
    return batch


class Trunk:
    """A causal language model, cut below its first trained layer.

    `model` is the bare Transformers model (LoRA already inside), `first` the index of its lowest trained layer.
    """

    def __init__(self, model: Any, first: int, probe: Encoded) -> None:
        self.model, self.first = model, first
        self.decoder = model.get_decoder()
        self.head = model.get_output_embeddings()
        # Architectures that scale embeddings or logits on the way do not survive the cut: see, do not guess.
        self.works = first > 0 and self._agrees(collate([probe]))

    def _agrees(self, batch: Batch) -> bool:
        with torch.no_grad():
            whole = self.model(input_ids=batch["input_ids"].to(self.device), use_cache=False).logits.float()
            try:
                cut = self.head(self.top(self.bottom(batch), batch)).float()
            except (AttributeError, TypeError, RuntimeError, ValueError):
                return False
        return bool(whole.shape == cut.shape and torch.allclose(whole, cut, rtol=0.02, atol=0.02))

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
        """Hidden states (batch, length, width) as they enter the first trained layer."""
        with torch.no_grad(), self._layers(slice(None, self.first), nn.Identity()):
            mask = batch["attention_mask"].to(self.device)
            output = self.decoder(input_ids=batch["input_ids"].to(self.device), attention_mask=mask, use_cache=False)
        return output.last_hidden_state.detach()  # type: ignore[no-any-return]

    def top(self, hidden: torch.Tensor, batch: Batch) -> torch.Tensor:
        """The trained layers' output for given hidden states, normed and ready for the head."""
        with self._layers(slice(self.first, None), self.decoder.norm):
            mask = batch["attention_mask"].to(self.device)
            output = self.decoder(inputs_embeds=hidden.to(self.device), attention_mask=mask, use_cache=False)
        return output.last_hidden_state  # type: ignore[no-any-return]

    def keep(self, examples: Sequence[Encoded]) -> list[torch.Tensor] | None:
        """The hidden states of every example, each (length, width); None where they are too many to keep.

        The batches depend on the examples alone, so a resumed job computes the same bits.
        """
        width = self.decoder.config.hidden_size * torch.finfo(self.model.dtype).bits // 8
        if not self.works or sum(len(e.input_ids) for e in examples) * width > MAX_KEPT_BYTES:
            return None
        kept: list[torch.Tensor] = [torch.empty(0)] * len(examples)
        order = sorted(range(len(examples)), key=lambda i: len(examples[i].input_ids))
        for start in range(0, len(order), KEPT_BATCH):
            indexes = order[start : start + KEPT_BATCH]
            states = self.bottom(collate([examples[i] for i in indexes])).cpu()
            for row, i in enumerate(indexes):
                kept[i] = states[row, : len(examples[i].input_ids)].clone()
        return kept

    def labelled_logits(self, batch: Batch) -> tuple[torch.Tensor, torch.Tensor]:
        """Logits (positions, vocabulary) in float32 and targets (positions,), for the labelled positions alone."""
        targets = batch["labels"][:, 1:].to(self.device)
        positions = targets != IGNORED
        if self.works:
            hidden = batch["hidden"] if "hidden" in batch else self.bottom(batch)
            logits = self.head(self.top(hidden, batch)[:, :-1][positions])
        else:
            mask = batch["attention_mask"].to(self.device)
            output = self.model(input_ids=batch["input_ids"].to(self.device), attention_mask=mask, use_cache=False)
            logits = output.logits[:, :-1][positions]
        return logits.float(), targets[positions]
