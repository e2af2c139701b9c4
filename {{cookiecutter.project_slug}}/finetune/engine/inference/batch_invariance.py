"""How many rows a matrix product may have, for each row to come out in the same bits whatever the others are."""

from typing import Any

# By threads of a power of two these divide evenly into the blocks of every kernel met so far.
SIZES = (4, 8, 16, 24, 32, 48, 64, 96, 192)
DRAWS = 3  # of rows and their order, for each size


def exact_sizes(weight: Any, most: int) -> set[int]:
    """Those of SIZES, up to `most`, whose products with a weight of this shape give a row the same bits as `most` rows
    do, at any place and among any others."""
    import torch

    random = torch.Generator().manual_seed(0)
    states, weight = revealing(most, weight, random)
    with torch.inference_mode():
        whole = torch.nn.functional.linear(states, weight)

        def agrees(size: int) -> bool:
            orders = [torch.randperm(most, generator=random)[:size] for _ in range(DRAWS)]
            return all(torch.equal(torch.nn.functional.linear(states[some], weight), whole[some]) for some in orders)

        return {size for size in SIZES if size <= most and agrees(size)}


def revealing(rows: int, weight: Any, random: Any) -> tuple[Any, Any]:
    """States (rows, inputs), and a weight like the given one, whose products are sums of pairs that cancel out.

    What is left of such a sum is its rounding alone, which depends on the order of its terms: so two kernels that add
    up differently show it in nearly every number, and not, as with common figures in bfloat16, in one of thousands.
    """
    import torch

    outputs, inputs = weight.shape
    order = torch.randperm(inputs // 2, generator=random)

    def doubled(count: int, sign: int) -> Any:
        drawn = torch.randn(count, inputs // 2, generator=random)
        both = torch.cat([drawn, sign * drawn[:, order], torch.zeros(count, inputs % 2)], dim=1)
        return both.to(weight.dtype).to(weight.device)

    return doubled(rows, 1), doubled(outputs, -1)
