"""Find how many rows a matrix product may have for each row to get the same bits among any other rows."""

from collections.abc import Callable, Collection
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch

# Row counts to test. With a power of two of threads, they divide evenly into the blocks of every kernel seen so far.
CANDIDATE_SIZES = (4, 8, 16, 24, 32, 48, 64, 96, 128, 160, 192)
SAMPLES = 3  # of rows and their order, for each size


def batch_invariant_sizes(
    product_with: "Callable[[torch.Tensor], Callable[[torch.Tensor], torch.Tensor]]",
    weight: "torch.Tensor",
    max_rows: int,
    threads: Collection[int],
) -> set[int]:
    """Return those of CANDIDATE_SIZES, up to `max_rows`, that give a row the same bits as a product of `max_rows` does.

    The row may be at any place and among any other rows, and computed with any of these numbers of threads; `weight`
    stands for all weights of its shape. `product_with` returns the product with a weight, whose rows are (1, rows,
    inputs) as in a model: PyTorch computes rows without the first dimension by other kernels.
    """
    import torch

    random = torch.Generator().manual_seed(0)
    states, weight = rounding_sensitive_factors(max_rows, weight, random)
    product = product_with(weight)
    before = torch.get_num_threads()
    passed = {size for size in CANDIDATE_SIZES if size <= max_rows}
    with torch.inference_mode():
        whole = product(states[None])[0]

        def is_invariant(size: int) -> bool:
            orders = [torch.randperm(max_rows, generator=random)[:size] for _ in range(SAMPLES)]
            return all(torch.equal(product(states[None, rows])[0], whole[rows]) for rows in orders)

        for number in sorted(threads):
            torch.set_num_threads(number)
            passed = set(filter(is_invariant, sorted(passed)))
    torch.set_num_threads(before)
    return passed


def rounding_sensitive_factors(
    rows: int, weight: "torch.Tensor", random: "torch.Generator"
) -> "tuple[torch.Tensor, torch.Tensor]":
    """Return states (rows, inputs) and a weight of the given shape, whose products are sums of pairs that cancel out.

    What is left of such a sum is only its rounding error, which depends on the order of its terms. So two kernels that
    add in different orders differ in nearly every number; with ordinary numbers in bfloat16, in one of thousands.
    """
    import torch

    outputs, inputs = weight.shape
    order = torch.randperm(inputs // 2, generator=random)

    def with_second_half(count: int, sign: int) -> torch.Tensor:
        first_half = torch.randn(count, inputs // 2, generator=random)
        both = torch.cat([first_half, sign * first_half[:, order], torch.zeros(count, inputs % 2)], dim=1)
        return both.to(weight.dtype).to(weight.device)

    return with_second_half(rows, 1), with_second_half(outputs, -1)
