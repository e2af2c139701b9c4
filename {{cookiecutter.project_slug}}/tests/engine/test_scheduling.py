"""What two passes at the same time compute: about equal shares, and parts of one request in one of them."""

from concurrent.futures import ThreadPoolExecutor
from types import SimpleNamespace
from typing import Any

import pytest

from finetune.engine.inference.loaded_model import MAX_LOGITS, PASS_TOKENS, Part, use_threads
from finetune.engine.inference.scheduling import Plan, divide

MODEL: Any = SimpleNamespace(max_tokens=PASS_TOKENS[0], max_logits=MAX_LOGITS)


def blocks(count: int, tokens: int = 16, all_logits: bool = False) -> Plan:
    """Return blocks of one request's prompt."""
    state: Any = SimpleNamespace()
    parts = [Part(None, [0] * tokens, n * tokens, n == count - 1, all_logits) for n in range(count)]
    return [(state, part) for part in parts]


def answers(count: int) -> Plan:
    return [one for _ in range(count) for one in blocks(1, tokens=1)]


def tokens_of(plan: Plan) -> int:
    return sum(len(part.token_ids) for _, part in plan)


def test_two_passes_have_about_equal_shares_and_each_request_is_in_one() -> None:
    plan = [*answers(40), *blocks(6), *blocks(1), *blocks(3), *blocks(2)]
    first, second = divide(MODEL, plan, 2)
    assert abs(tokens_of(first) - tokens_of(second)) <= 3 * 16
    assert len(first) + len(second) == len(plan)
    assert not {id(state) for state, _ in first} & {id(state) for state, _ in second}
    order = [id(part) for _, part in plan]
    for one in (first, second):
        places = [order.index(id(part)) for _, part in one]
        assert places == sorted(places)


def test_few_tokens_are_one_pass_and_none_are_no_pass() -> None:
    plan = answers(8)
    assert divide(MODEL, plan, 2) == [plan]
    assert divide(MODEL, [], 2) == []


@pytest.mark.parametrize(
    ("plan", "expected"),
    [
        (blocks(20), [MODEL.max_tokens]),
        ([*blocks(12), *blocks(1), *blocks(12)], [MODEL.max_tokens, MODEL.max_tokens]),
        (blocks(6, all_logits=True), [MODEL.max_logits]),
    ],
    ids=["one long prompt", "a prompt is cut", "scores"],
)
def test_what_fits_into_no_pass_waits(plan: Plan, expected: list[int]) -> None:
    found = divide(MODEL, plan, 2)
    assert [tokens_of(one) for one in found] == expected
    for one in found:  # the blocks of a prompt from its first, without a gap
        for state in {id(state): state for state, _ in one}.values():
            positions = [part.position for own, part in one if own is state]
            assert positions == [n * 16 for n in range(len(positions))]


def test_a_thread_keeps_its_number_of_threads_when_others_set_theirs() -> None:
    import torch

    before = torch.get_num_threads()
    with ThreadPoolExecutor(1, initializer=use_threads, initargs=(3,)) as pool:
        pool.submit(int).result()
        torch.set_num_threads(1)
        assert pool.submit(torch.get_num_threads).result() == 3
    torch.set_num_threads(before)
