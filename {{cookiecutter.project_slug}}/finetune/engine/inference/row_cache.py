"""The keys and values of one request's tokens, and the store of those that many requests begin with."""

import hashlib
from collections import OrderedDict
from collections.abc import Hashable, Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch

FIRST_CAPACITY = 64  # tokens
MAX_PREFIX_BYTES = 512 * 1024**2  # above it, the least recently used blocks are dropped

Layers = dict[int, "torch.Tensor"]


class RowCache:
    """Keys and values of one request, beside each other: (1, heads, capacity, both widths) for a layer.

    The capacity grows by doubling.
    """

    def __init__(self) -> None:
        self.layers: Layers = {}

    def append(self, layer: int, states: "torch.Tensor", position: int) -> "torch.Tensor":
        """Write keys and values (1, heads, tokens, both widths) at a position; return all up to their end."""
        tokens = states.shape[2]
        end = position + tokens
        room = self.layers.get(layer)
        if room is None or end > room.shape[2]:
            room = self.layers[layer] = _more_room(states, end, room, position)
        room.narrow(2, position, tokens).copy_(states)
        return room.narrow(2, 0, end)

    def part(self, start: int, end: int) -> Layers:
        """Return copies of the keys and values of the tokens from `start` to `end`."""
        return {layer: states.narrow(2, start, end - start).clone() for layer, states in self.layers.items()}

    def append_parts(self, parts: Sequence[Layers], position: int) -> None:
        """Write copied keys and values of adjacent parts, the first of them at a position."""
        import torch

        for layer in parts[0]:
            self.append(layer, torch.cat([part[layer] for part in parts], dim=2), position)


def _more_room(like: "torch.Tensor", tokens: int, old: "torch.Tensor | None", filled: int) -> "torch.Tensor":
    """Return room for at least so many tokens, with the first `filled` ones of the old room."""
    capacity = max(FIRST_CAPACITY, 1 << (tokens - 1).bit_length())
    room = like.new_empty(like.shape[0], like.shape[1], capacity, like.shape[3])
    if old is not None:
        room.narrow(2, 0, filled).copy_(old.narrow(2, 0, filled))
    return room


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
    return sum(states.numel() * states.element_size() for states in layers.values())


def block_keys(model: Hashable, token_ids: Sequence[int], block: int) -> list[Hashable]:
    """Return the key of each full block of a prompt: of the model and of all tokens up to the block's end."""
    keys: list[Hashable] = []
    digest = b""
    for end in range(block, len(token_ids) + 1, block):
        tokens = ",".join(map(str, token_ids[end - block : end]))
        digest = hashlib.blake2b(digest + tokens.encode(), digest_size=16).digest()
        keys.append((model, digest))
    return keys
