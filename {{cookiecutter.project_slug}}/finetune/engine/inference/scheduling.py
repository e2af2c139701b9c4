"""Choose what the next passes of a model compute: the next tokens of some answers, and blocks of some prompts.

Every request gets its turn: a long answer, or many choices of one request, never keep others waiting for more than a
pass or two. Nothing here changes bits: what is computed together is chosen freely.
"""

from collections import Counter
from collections.abc import Callable, Hashable, Sequence
from itertools import takewhile
from operator import attrgetter

from finetune.engine.inference.generation_types import RequestState
from finetune.engine.inference.loaded_model import BLOCK, LoadedModel, Part

# Places of each pass, while there are prompts to compute: new answers begin beside any number of others.
LOGITS_FOR_PROMPTS = 8
LOGITS_FOR_SCORES = BLOCK  # the same, more, while there are prompts whose tokens are scored: each needs its logits
FEWEST_TO_DIVIDE = 32  # tokens; with fewer, all threads together are as fast

Plan = list[tuple[RequestState, Part]]


def plan_passes(loaded: LoadedModel, states: Sequence[RequestState]) -> list[Plan]:
    """Return the plans of a model's next passes, which are computed at the same time; none if there is nothing to do.

    There is one with one part where `invariant_sizes` is empty.
    """
    if loaded.invariant_sizes:
        count = loaded.at_once
        answers = in_turn([state for state in states if state.prompt_done], attrgetter("last_pass"))
        prompts = [state for state in states if not state.prompt_done]
        kept = LOGITS_FOR_PROMPTS if prompts else 0
        kept += LOGITS_FOR_SCORES if any(map(is_scored, prompts)) else 0
        plan: Plan = [(state, next_token(state)) for state in answers[: (loaded.max_logits - kept) * count]]
        tokens, logits = (most * count - len(plan) for most in (loaded.max_tokens, loaded.max_logits))
        plan += prompt_blocks(loaded, states, tokens, logits)
        return divide(loaded, plan, count)
    for state in in_turn(states, attrgetter("last_pass")):
        if state.prompt_done:
            return [[(state, next_token(state))]]
        if plan := prompt_blocks(loaded, [state], state.block, state.block)[:1]:
            return [plan]
    return []


def divide(loaded: LoadedModel, plan: Plan, count: int) -> list[Plan]:
    """Return up to `count` passes of about equally many tokens. The parts of a request are in one of them, in order.

    What fits into none waits for the next passes.
    """
    if sum(len(part.token_ids) for _, part in plan) < FEWEST_TO_DIVIDE:
        count = 1
    plans: list[Plan] = [[] for _ in range(count)]
    tokens, logits = [0] * count, [0] * count
    chosen: dict[int, int] = {}  # the pass of each request; count where its next part fits into none
    for state, part in plan:
        place = chosen.setdefault(id(state), min(range(count), key=tokens.__getitem__))
        if place < count:
            more = len(part.token_ids)
            wanted = more if part.all_logits else int(part.wants_logits)
            if tokens[place] + more > loaded.max_tokens or logits[place] + wanted > loaded.max_logits:
                chosen[id(state)] = count
                continue
            tokens[place], logits[place] = tokens[place] + more, logits[place] + wanted
            plans[place].append((state, part))
    return [one for one in plans if one]


def in_turn(states: Sequence[RequestState], by: Callable[[RequestState], int]) -> list[RequestState]:
    """Return requests in the order in which they are due: one of each group, then the second one of each, and so on.

    Of a group, and of the requests at one place of their groups, the one with the lowest value of `by` is first.
    """
    counts: Counter[int] = Counter()
    places: dict[int, int] = {}
    ordered = sorted(states, key=by)
    for state in ordered:
        places[id(state)] = counts[id(state.group)]
        counts[id(state.group)] += 1
    return sorted(ordered, key=lambda state: places[id(state)])


def next_token(state: RequestState) -> Part:
    """Return the part that computes what follows the last token of an answer."""
    position = len(state.prompt_ids) + len(state.generated_ids) - 1
    return Part(state.cache, state.generated_ids[-1:], position)


def prompt_blocks(loaded: LoadedModel, states: Sequence[RequestState], tokens: int, logits: int) -> Plan:
    """Return blocks of prompts of up to `tokens` tokens in all, with up to `logits` places that need logits.

    A block that another request has computed is copied from its result, and one that another request computes in this
    pass is left for the next pass. Scores leave places for prompts without them.
    """
    plan: Plan = []
    in_this_pass: set[Hashable] = set()
    waiting = in_turn([state for state in states if not state.prompt_done], attrgetter("number"))
    waiting.sort(key=lambda state: not state.interactive)
    spared = 0 if all(map(is_scored, waiting)) else LOGITS_FOR_PROMPTS
    for state in waiting:
        copy_known_blocks(loaded, state)
        position = state.computed
        while position < len(state.prompt_ids):
            block = position // state.block
            end = min((block + 1) * state.block, len(state.prompt_ids))
            key = state.block_keys[block] if block < len(state.block_keys) else None
            scored = is_scored(state)
            is_last = end == len(state.prompt_ids)
            needed = end - position if scored else int(is_last)
            if end - position > tokens or needed > logits - (spared if scored else 0) or key in in_this_pass:
                break
            if key is not None:
                in_this_pass.add(key)
            part = Part(state.cache, state.prompt_ids[position:end], position, is_last, scored)
            plan.append((state, part))
            tokens, logits, position = tokens - (end - position), logits - needed, end
    return plan


def is_scored(state: RequestState) -> bool:
    """Return whether the log-probabilities of the prompt's tokens are asked for."""
    return state.request.prompt_logprobs is not None


def copy_known_blocks(loaded: LoadedModel, state: RequestState) -> None:
    """Copy the blocks of a prompt that are known, except the last one: its logits are not."""
    first, last = state.computed // state.block, (len(state.prompt_ids) - 1) // state.block
    found = map(loaded.prefixes.get, state.block_keys[first:last])
    if known := list(takewhile(lambda block: block is not None, found)):
        state.cache.append_parts(known, state.computed)
        state.computed += len(known) * state.block


def remember_block(loaded: LoadedModel, state: RequestState, part: Part) -> None:
    """Keep a full block of a prompt for other requests that begin with it."""
    block = part.position // state.block
    if block < len(state.block_keys) and len(part.token_ids) == state.block:
        loaded.prefixes.add(state.block_keys[block], state.cache.part(part.position, part.position + state.block))
