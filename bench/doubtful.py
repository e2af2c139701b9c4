"""Show how many planted wrong answers `finetune doubtful` lists, with the base's judgement and without a model.

Plants them in 8 % of the rows of the starters `extract` and `generate`: the answer of another row, one item or sentence
of another row, and an item left out. It compares the order by wording, and four orders by the base's log-probabilities.
About five minutes on two cores. It is no part of `make bench`: `demo/my-fine-tune/.venv/bin/python bench/doubtful.py`.
"""

import csv
import json
import os
import random
import sys
import tempfile
from collections.abc import Callable
from typing import Any

from common import BASE, ROOT, use_demo

STARTERS = next(ROOT.glob("*cookiecutter.project_slug*/starters"))
SHARE, REVIEWED = 0.08, 50
ROWS = int(os.environ.get("ROWS", "1000"))  # fewer for a quick look
Row = tuple[list[dict[str, str]], str]  # the turns before the answer, and the answer


def recipes() -> list[Row]:
    """Return the rows of the starter `extract`."""
    system = "List the ingredients of the recipe as a JSON list of generic names, without brands and quantities."
    with open(STARTERS / "extract/data/recipes.csv", encoding="utf-8", newline="") as lines:
        return [
            (
                [{"role": "system", "content": system}, {"role": "user", "content": row["recipe"]}],
                row["ingredients"],
            )
            for row in csv.DictReader(lines)
        ][:ROWS]


def conversations() -> list[Row]:
    """Return the rows of the starter `generate`: one for each answer."""
    rows = []
    with open(STARTERS / "generate/data/conversations.jsonl", encoding="utf-8") as lines:
        for line in lines:
            turns = json.loads(line)["messages"]
            rows += [(turns[:end], turns[end]["content"]) for end in range(1, len(turns), 2)]
    return rows[:ROWS]


def another_item(own: str, other: str, draw: random.Random) -> str:
    items, others = json.loads(own), json.loads(other)
    new = [item for item in others if item not in items] or ["honey"]
    items[draw.randrange(len(items))] = draw.choice(new)
    return json.dumps(items, ensure_ascii=False)


def item_left_out(own: str, other: str, draw: random.Random) -> str:
    items = json.loads(own)
    items.pop(draw.randrange(len(items)))
    return json.dumps(items, ensure_ascii=False)


def another_sentence(own: str, other: str, draw: random.Random) -> str:
    return ". ".join([other.split(". ")[0], *own.split(". ")[1:]])


def another_answer(own: str, other: str, draw: random.Random) -> str:
    return other


KINDS: dict[str, tuple[Callable[[], list[Row]], list[Callable[[str, str, random.Random], str]]]] = {
    "extract": (recipes, [another_answer, another_item, item_left_out]),
    "generate": (conversations, [another_answer, another_sentence]),
}


def orders() -> dict[str, Callable[[Any], float]]:
    """Return the scores to compare, the most doubtful lowest; the product's own is the last."""
    from finetune.asking.improbable_answers import score_of

    return {
        "mean log-probability": lambda one: sum(one.asked) / len(one.asked),
        "difference": lambda one: sum(one.asked) - sum(one.alone),
        "difference per token": lambda one: (sum(one.asked) - sum(one.alone)) / len(one.asked),
        "share of the loss (--model)": score_of,
    }


def figures(order: list[int], wrong: set[int], count: int) -> str:
    """Return precision and recall of the first fifty, and the recall of the listed tenth."""
    hits = sum(place in wrong for place in order[:REVIEWED])
    listed = sum(place in wrong for place in order[: round(count / 10)])
    best = min(1, len(wrong) / REVIEWED)
    return f"{hits / REVIEWED:.2f} (of at most {best:.2f}) | {hits / len(wrong):.2f} | {listed / len(wrong):.2f}"


def compare(starter: str) -> None:
    """Print the figures of each kind of wrong answer, as rows of a table."""
    from finetune.core.sections.provider import Provider
    from finetune.data import doubtful
    from finetune.provider.connect import connect
    from finetune.provider.given_answers import score_answers
    from finetune.terminal.progress import progress_bar

    doubtful.LISTED_OF_TEXTS = 1.0  # type: ignore[misc]  # the whole order, not its first tenth
    read, kinds = KINDS[starter]
    rows, draw = read(), random.Random(0)
    true = [answer for _, answer in rows]
    planted = {}
    for kind in kinds:
        places = draw.sample(range(len(rows)), round(SHARE * len(rows)))
        others = [*places[1:], places[0]]
        planted[kind] = {
            place: kind(true[place], true[other], draw) for place, other in zip(places, others, strict=True)
        }
    asked = [(place, answer) for place, answer in enumerate(true)]
    asked += [pair for answers in planted.values() for pair in answers.items()]
    examples = [{"messages": [*rows[place][0], {"role": "assistant", "content": answer}]} for place, answer in asked]
    with connect(Provider(name="local")) as connection, progress_bar(starter) as progress:
        found = dict(zip(asked, score_answers(connection, BASE, examples, 8, progress), strict=True))
    for kind, answers in planted.items():
        given = [answers.get(place, answer) for place, answer in enumerate(true)]
        wrong = {place for place, answer in answers.items() if answer != true[place]}
        name = f"| {starter}, {kind.__name__.replace('_', ' ')} ({len(wrong)} of {len(rows)})"
        questions = ["\n".join(turn["content"] for turn in turns if turn["role"] != "system") for turns, _ in rows]
        texts = [doubtful.Answered("", place, *pair) for place, pair in enumerate(zip(questions, given, strict=True))]
        by_wording = [row["line"] for row in doubtful.find_doubtful(texts)]
        print(f"{name} | wording (default) | {figures(by_wording, wrong, len(rows))} |")
        for score, of in orders().items():
            scores = [of(found[place, answer]) for place, answer in enumerate(given)]
            order = sorted(range(len(rows)), key=scores.__getitem__)
            print(f"{name} | {score} | {figures(order, wrong, len(rows))} |", flush=True)


def main() -> None:
    use_demo()
    print(f"| planted | order | precision at {REVIEWED} | recall at {REVIEWED} | recall of the listed tenth |")
    print("|---|---|---|---|---|")
    with tempfile.TemporaryDirectory() as home:
        os.environ.setdefault("FINETUNE_HOME", home)
        for starter in sys.argv[1:] or KINDS:
            compare(starter)


if __name__ == "__main__":
    main()
