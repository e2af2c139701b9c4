"""A cache of keys and values with room for the whole answer, so that no step copies it."""

from typing import Any

import torch
from transformers.cache_utils import Cache, DynamicLayer


def preallocated_cache(cache: Cache, rows: int, length: int, capacity: int) -> Cache:
    """Return a cache of zeros like `cache`, for `rows` rows of `length` tokens and with room for `capacity`."""
    return Cache(layers=[PreallocatedLayer(layer, rows, length, capacity) for layer in cache.layers])


class PreallocatedLayer(DynamicLayer):  # type: ignore[no-untyped-call]
    """A layer whose `keys` and `values` are the filled part of two `buffers`, each (rows, heads, capacity, width)."""

    def __init__(self, like: Any, rows: int, length: int, capacity: int) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.lazy_initialization(like.keys, like.values)
        shapes = [(part, (rows, part.shape[1], capacity, part.shape[3])) for part in (like.keys, like.values)]
        self.buffers: list[torch.Tensor] = [part.new_empty(shape) for part, shape in shapes]
        for buffer in self.buffers:
            buffer[:, :, :length] = 0
        self._set_length(length)

    def _set_length(self, length: int) -> None:
        self.length = length
        self.keys, self.values = (buffer[:, :, :length] for buffer in self.buffers)

    def update(self, key_states: Any, value_states: Any, *args: Any, **kwargs: Any) -> Any:
        end = self.length + key_states.shape[2]
        for buffer, new in zip(self.buffers, (key_states, value_states), strict=True):
            buffer[:, :, self.length : end] = new
        self._set_length(end)
        return self.keys, self.values

    def batch_select_indices(self, indices: Any) -> None:
        for index, buffer in enumerate(self.buffers):
            selected = buffer.new_empty(len(indices), *buffer.shape[1:])
            selected[:, :, : self.length] = buffer[indices, :, : self.length]
            self.buffers[index] = selected
        self._set_length(self.length)
