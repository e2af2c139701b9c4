"""Compute the frozen lower layers of each example once, and only the trained layers at each step.

Where LoRA is on the top layers only, the hidden states that the layers below give for an example are the same at every
step: they are computed once and kept. Only labelled positions go through the head. Results differ from a plain loop by
rounding alone; `make bench` compares the speed of both.
"""

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn

from finetune.engine.training import processes
from finetune.engine.training.encoding import IGNORE_INDEX, EncodedExample
from finetune.engine.training.packing import (
    ROW_TOKENS,
    Batch,
    attention_mask,
    common_prefix_length,
    group_by_beginning,
    needed_length,
    pack,
    prefix_lengths_of,
)
from finetune.engine.training.training_file import nothing

MAX_PRECOMPUTED_BYTES = 2 * 1024**3  # hidden states kept in memory; for a larger set each step computes them
PRECOMPUTE_BATCH = 8  # examples
MAX_TOKENS_AT_A_TIME = 4096  # in all threads; larger batches keep all threads busy anyway


def equal_up_to_rounding(actual: torch.Tensor, expected: torch.Tensor, eps: float) -> bool:
    """Return whether logits (positions, vocabulary) are equal to half the digits of a dtype of this `eps`, by norm.

    Not number by number: over thirty layers in bfloat16, sums in another order change a logit by as much as 1.
    Measured on SmolLM2: such sums make 1 to 4 % of the norm, hidden states that are too large by a tenth make 11 %.
    """
    spread = (expected - expected.mean(-1, keepdim=True)).norm()
    return bool((actual - expected).norm() <= eps**0.5 * spread)


class SplitModel:
    """A causal language model, split below its first trained layer into frozen and trained layers.

    `model` is the Transformers model with the LoRA layers in it, not PEFT's wrapper around it; `first_trained` is the
    index of its lowest trained layer. `can_split` is False where the two parts do not give the logits of the whole:
    then the whole model runs at each step.
    """

    def __init__(self, model: Any, first_trained: int, examples: Sequence[EncodedExample]) -> None:
        self.model, self.first_trained = model, first_trained
        self.decoder = model.get_decoder()
        self.head = model.get_output_embeddings()
        config = model.config.get_text_config()
        self.cap = getattr(config, "final_logit_softcapping", None)  # of Gemma's logits
        self.window = getattr(config, "sliding_window", None)  # tokens that a layer attends to; None for all
        # Some architectures scale embeddings or logits between the layers, or make their masks in another way. They
        # cannot be recognised by name, so the two shortest examples are computed both ways.
        shortest = sorted(examples, key=lambda example: len(example.input_ids))[:2]
        self.can_split = self._split_gives_same_logits(shortest)

    def _split_gives_same_logits(self, examples: Sequence[EncodedExample]) -> bool:
        with torch.no_grad():
            whole = torch.cat([self._whole_logits(pack([example], [0], ROW_TOKENS)) for example in examples])
            try:
                split = self._split_logits(pack(examples, [common_prefix_length(examples)] * len(examples), ROW_TOKENS))
            except Exception:  # a base of another form may fail in any way
                return False
        eps = torch.finfo(whole.dtype).eps
        return bool(whole.shape == split.shape and equal_up_to_rounding(split.float(), whole.float(), eps))

    @property
    def device(self) -> torch.device:
        return torch.device(next(self.model.parameters()).device)

    @contextmanager
    def _only_layers(self, part: slice, norm: nn.Module) -> Iterator[None]:
        """Give the decoder only a part of its layers, and this final norm, while the block runs."""
        config = self.decoder.config
        layers, own_norm, kinds = self.decoder.layers, self.decoder.norm, getattr(config, "layer_types", None)
        self.decoder.layers, self.decoder.norm = nn.ModuleList(layers[part]), norm
        if kinds:  # the decoder looks up the kind of its first layer at 0: its window, and its angles of rotation
            config.layer_types = kinds[part]
        try:
            yield
        finally:
            self.decoder.layers, self.decoder.norm = layers, own_norm
            if kinds:
                config.layer_types = kinds

    def run_frozen_layers(self, batch: Batch) -> torch.Tensor:
        """Return the hidden states (rows, length, width) that enter the first trained layer."""
        (output,) = self.run_frozen_layers_of([batch])
        return output

    def run_frozen_layers_of(self, batches: Sequence[Batch]) -> list[torch.Tensor]:
        """Return the same for several batches: all at the same time, each in a thread that computes alone.

        On two cores that is 1.25 times as fast as one after another with two threads, which wait for each other.
        """

        def run(batch: Batch) -> torch.Tensor:
            with torch.no_grad():
                output = self.decoder(input_ids=batch["input_ids"].to(self.device), **self._mask_and_positions(batch))
            return output.last_hidden_state.detach()  # type: ignore[no-any-return]

        with self._only_layers(slice(None, self.first_trained), nn.Identity()):
            if len(batches) == 1:
                return [run(batches[0])]
            threads = torch.get_num_threads()
            with ThreadPoolExecutor(len(batches), initializer=torch.set_num_threads, initargs=(1,)) as pool:
                outputs = list(pool.map(run, batches))
            torch.set_num_threads(threads)  # MKL has one number for all threads
            return outputs

    def run_trained_layers(self, hidden_states: torch.Tensor, batch: Batch) -> torch.Tensor:
        """Return what the trained layers and the final norm make of hidden states, ready for the head."""
        with self._only_layers(slice(self.first_trained, None), self.decoder.norm):
            output = self.decoder(inputs_embeds=hidden_states.to(self.device), **self._mask_and_positions(batch))
        return output.last_hidden_state  # type: ignore[no-any-return]

    def _mask_and_positions(self, batch: Batch) -> dict[str, Any]:
        mask = attention_mask(batch, self.model.dtype).to(self.device)
        return {"attention_mask": mask, "position_ids": batch["position_ids"].to(self.device), "use_cache": False}

    def _split_logits(self, batch: Batch) -> torch.Tensor:
        hidden_states = batch["hidden_states"] if "hidden_states" in batch else self.run_frozen_layers(batch)
        output = self.run_trained_layers(hidden_states, batch)
        logits: torch.Tensor = self.head(output[batch["labels"].to(self.device) != IGNORE_INDEX])
        return logits if self.cap is None else self.cap * torch.tanh(logits / self.cap)

    def _whole_logits(self, batch: Batch) -> torch.Tensor:
        logits = self.model(input_ids=batch["input_ids"].to(self.device), **self._mask_and_positions(batch)).logits
        return logits[batch["labels"].to(self.device) != IGNORE_INDEX]  # type: ignore[no-any-return]

    def labelled_logits(self, batch: Batch) -> tuple[torch.Tensor, torch.Tensor]:
        """Return logits (positions, vocabulary) in float32 and targets (positions,), for labelled positions only."""
        targets = batch["labels"].to(self.device)
        logits = self._split_logits(batch) if self.can_split else self._whole_logits(batch)
        return logits.float(), targets[targets != IGNORE_INDEX]


class PrecomputedDataset:
    """The encoded examples of one file, with the precomputed hidden states of each if the model can be split.

    `hidden_states` has one tensor (needed_length, width) an example, or is None. `check` is called now and then while
    they are computed, and raises to end that.
    """

    def __init__(
        self, split_model: SplitModel, examples: Sequence[EncodedExample], check: Callable[[], None] = nothing
    ) -> None:
        self.split_model, self.examples, self.check = split_model, examples, check
        self.groups = self.prefix_lengths = [0] * len(examples)
        self.row_tokens = 0  # each example in a row to itself
        longest = max((needed_length(example) for example in examples), default=0)
        # Only Transformers' own masks know windows, and they know no packed rows.
        if split_model.can_split and (split_model.window is None or longest <= split_model.window):
            self.groups, self.row_tokens = group_by_beginning(examples), ROW_TOKENS
            self.prefix_lengths = prefix_lengths_of(examples, self.groups)
        self.hidden_states = self._precompute()

    def batch(self, indexes: Sequence[int]) -> Batch:
        """Pack the examples of these indexes, those with the same prefix beside each other."""
        return self._pack(sorted(indexes, key=self.groups.__getitem__), self.hidden_states)

    def _pack(self, indexes: Sequence[int], hidden_states: list[torch.Tensor] | None) -> Batch:
        return pack(
            [self.examples[i] for i in indexes],
            [self.prefix_lengths[i] for i in indexes],
            self.row_tokens,
            [hidden_states[i] for i in indexes] if hidden_states else None,
        )

    def _precompute(self) -> list[torch.Tensor] | None:
        """Return the hidden states of each example; None if there are too many to keep, or none that cost anything.

        Where all layers are trained, they are only embeddings; and a model that cannot be split has none.

        The batches depend on the examples alone, so a resumed job computes the same bits.
        """
        split_model, examples = self.split_model, self.examples
        hidden_size, dtype = split_model.decoder.config.hidden_size, split_model.model.dtype
        bytes_a_token = hidden_size * torch.finfo(dtype).bits // 8
        size = sum(len(example.input_ids) for example in examples) * bytes_a_token
        if not split_model.can_split or split_model.first_trained == 0 or size > MAX_PRECOMPUTED_BYTES:
            return None
        hidden_states: list[torch.Tensor] = [torch.empty(0)] * len(examples)
        order = sorted(range(len(examples)), key=lambda i: (self.groups[i], len(examples[i].input_ids)))
        chunks = [order[start : start + PRECOMPUTE_BATCH] for start in range(0, len(order), PRECOMPUTE_BATCH)]
        for chunk, batch, outputs in self._outputs(chunks):
            indexes = iter(chunk)
            for row, segments, prefixes in zip(outputs, batch["segments"], batch["prefixes"], strict=True):
                for segment in segments[segments != prefixes].unique().tolist():
                    own = segments == segment
                    prefix = segments == prefixes[own][0]
                    hidden_states[next(indexes)] = torch.cat([row[prefix], row[own]])
        return hidden_states

    def _outputs(self, chunks: Sequence[list[int]]) -> Iterator[tuple[list[int], Batch, torch.Tensor]]:
        """Yield the chunks of examples with the output of the frozen layers for each.

        One process computes several chunks at a time, if they are small. Several processes compute one chunk each, and
        send it to the others.
        """
        is_alone = processes.count() == 1
        at_a_time = self._small_chunks(chunks) if is_alone else processes.count()
        for start in range(0, len(chunks), at_a_time):
            self.check()
            together = chunks[start : start + at_a_time]
            batches = [self._pack(chunk, None) for chunk in together]
            outputs = (self.split_model.run_frozen_layers_of if is_alone else self._from_all_processes)(batches)
            yield from zip(together, batches, (output.cpu() for output in outputs), strict=True)

    def _small_chunks(self, chunks: Sequence[list[int]]) -> int:
        """Return how many chunks can be computed at the same time, each in a thread, with little memory."""
        if self.split_model.device.type != "cpu":
            return 1
        own = [needed_length(one) - shared for one, shared in zip(self.examples, self.prefix_lengths, strict=True)]
        largest = max((sum(own[i] for i in chunk) for chunk in chunks), default=1)
        return max(1, min(torch.get_num_threads(), MAX_TOKENS_AT_A_TIME // largest))

    def _from_all_processes(self, batches: Sequence[Batch]) -> Iterator[torch.Tensor]:
        """Yield the output of the frozen layers for each batch, which one process computes and sends to the others."""
        model = self.split_model
        # Where the last batches are fewer than the processes, one is computed more than once: see `share_evenly`.
        own = model.run_frozen_layers(batches[min(processes.rank(), len(batches) - 1)])
        width = model.decoder.config.hidden_size
        for source, batch in enumerate(batches):
            is_own = source == processes.rank()
            place = own if is_own else own.new_empty(*batch["input_ids"].shape, width)
            yield processes.send_to_all(place, source)
