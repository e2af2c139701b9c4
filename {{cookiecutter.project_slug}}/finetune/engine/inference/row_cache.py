"""The keys and values of one request's tokens, and the store of those that many requests begin with."""

import hashlib
from collections import OrderedDict
from collections.abc import Hashable, Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch

FIRST_CAPACITY = 64  # tokens
MAX_PREFIX_BYTES = 512 * 1024**2  # above it, the least recently used blocks are dropped

Layers = dict[int, tuple["torch.Tensor", "torch.Tensor"]]


class RowCache:
    """Keys and values of one request, each (1, heads, capacity, width) for a layer. The capacity grows by doubling."""

    def __init__(self) -> None:
        self.layers: Layers = {}

    def append(
        self, layer: int, keys: "torch.Tensor", values: "torch.Tensor", position: int
    ) -> "tuple[torch.Tensor, torch.Tensor]":
        """Write keys and values (1, heads, tokens, width) at a position; return those of all tokens up to their end."""
        end = position + keys.shape[2]
        if layer not in self.layers:
            self.layers[layer] = (_room_like(keys, end), _room_like(values, end))
        elif end > self.layers[layer][0].shape[2]:
            self.layers[layer] = tuple(_grown(old, end, position) for old in self.layers[layer])  # type: ignore[assignment]
        all_keys, all_values = self.layers[layer]
        all_keys[:, :, position:end] = keys
        all_values[:, :, position:end] = values
        return all_keys[:, :, :end], all_values[:, :, :end]

    def part(self, start: int, end: int) -> Layers:
        """Return copies of the keys and values of the tokens from `start` to `end`."""
        return {
            layer: (keys[:, :, start:end].clone(), values[:, :, start:end].clone())
            for layer, (keys, values) in self.layers.items()
        }

    def append_parts(self, parts: Sequence[Layers], position: int) -> None:
        """Write copied keys and values of adjacent parts, the first of them at a position."""
        import torch

        for layer in parts[0]:
            keys, values = (torch.cat(many, dim=2) for many in zip(*(part[layer] for part in parts), strict=True))
            self.append(layer, keys, values, position)


def _room_like(part: "torch.Tensor", tokens: int) -> "torch.Tensor":
    capacity = max(FIRST_CAPACITY, 1 << (tokens - 1).bit_length())
    return part.new_empty(part.shape[0], part.shape[1], capacity, part.shape[3])


def _grown(old: "torch.Tensor", tokens: int, filled: int) -> "torch.Tensor":
    grown = _room_like(old, tokens)
    grown[:, :, :filled] = old[:, :, :filled]
    return grown


class PrefixCache:
    """Keys and values of blocks of prompts, by all tokens up to the end of the block.

    A block's keys and values depend on nothing else, because prompts are always computed in these blocks.
    """

    def __init__(self) -> None:
        self.blocks: OrderedDict[Hashable, Layers] = OrderedDict()
        self.bytes = 0

    def get(self, key: Hashable) -> Layers | None:
        block = self.blocks.get(key)
        if block is not None:
            self.blocks.move_to_end(key)
        return block

    def add(self, key: Hashable, block: Layers) -> None:
        if key in self.blocks:
            return
        self.blocks[key] = block
        self.bytes += bytes_of(block)
        while self.bytes > MAX_PREFIX_BYTES:
            self.bytes -= bytes_of(self.blocks.popitem(last=False)[1])


def bytes_of(layers: Layers) -> int:
    return sum(one.numel() * one.element_size() for pair in layers.values() for one in pair)


def block_keys(model: Hashable, token_ids: Sequence[int], block: int) -> list[Hashable]:
    """Return the key of each full block of a prompt: of the model and of all tokens up to the block's end."""
    keys: list[Hashable] = []
    digest = b""
    for end in range(block, len(token_ids) + 1, block):
        tokens = ",".join(map(str, token_ids[end - block : end]))
        digest = hashlib.blake2b(digest + tokens.encode(), digest_size=16).digest()
        keys.append((model, digest))
    return keys
