"""Matrix products with weights that are packed once: otherwise oneDNN packs them again in each product.

For few rows, packing takes half of the time: the next token of one answer takes 0.6 times as long without it. With
Intel's matrix unit AMX, more numbers of rows are invariant (`batch_invariance`): the product of packed weights adds in
one order for up to 32 rows of any layer, where the usual one changes its order for some layers at 16, 24 or 32.
"""

from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch


def pack_products(model: Any) -> None:
    """Pack the weights of a model's linear layers, if they are in bfloat16 and the library has such products here.

    The packed weights take as much memory as the weights, which stay in their file, where the system reads them from.
    """
    import torch

    if model.dtype != torch.bfloat16 or not hasattr(torch.ops.mkldnn, "_linear_pointwise"):
        return
    for module in model.modules():
        if type(module) is torch.nn.Linear:
            forward = partial(packed_linear, weight=packed(module.weight), bias=module.bias)
            try:
                with torch.inference_mode():
                    forward(module.weight.new_zeros(1, 1, module.in_features))
            except RuntimeError:  # no such product here
                return
            module.forward = forward  # type: ignore[method-assign]


def is_packed(module: Any) -> bool:
    """Return whether a layer computes with packed weights."""
    return "forward" in vars(module)


def product_like(module: Any, weight: "torch.Tensor") -> "Callable[[torch.Tensor], torch.Tensor]":
    """Return what computes products as a linear layer does, with another weight of its shape, and a bias of zeros."""
    import torch

    bias = None if module.bias is None else torch.zeros_like(module.bias)
    if is_packed(module):
        return partial(packed_linear, weight=packed(weight), bias=bias)
    return partial(torch.nn.functional.linear, weight=weight, bias=bias)


def packed(weight: "torch.Tensor") -> "torch.Tensor":
    """Return a weight (outputs, inputs) in oneDNN's own order."""
    import torch

    found: torch.Tensor = torch.ops.mkldnn._reorder_linear_weight(weight.detach(), None)
    return found


def packed_linear(states: "torch.Tensor", weight: "torch.Tensor", bias: "torch.Tensor | None") -> "torch.Tensor":
    """Compute what `torch.nn.functional.linear` does, with a packed weight."""
    import torch

    found: torch.Tensor = torch.ops.mkldnn._linear_pointwise(states, weight, bias, "none", [], "")
    return found
