"""Near duplicates are judged by what varies: an instruction that all rows have changes nothing.

Copies with another letter, two words swapped or one word replaced are the near duplicates to be found; other contents
in one template are none.
"""

import random
from collections.abc import Callable, Sequence

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from finetune.data.common_pieces import NOTHING, CommonPieces, common_pieces_from, find_common_pieces, varying_trigrams
from finetune.data.identity import question_hash
from finetune.data.near_duplicates import SketchIndex, find_near_duplicates, sketch
from finetune.data.question import Question

INSTRUCTION = (
    "You are the dispatcher of a shop that sells lamps and small furniture in Europe and Asia. Read the message of a"
    " customer below, in whatever language it is written, and decide which team should answer it. Answer with exactly"
    " one word from this list and nothing else: delivery, billing, technical, returns, account, sales, privacy or"
    " careers. If several teams could answer, choose the one that the customer needs first. Do not explain your choice,"
    " do not translate the message, and never answer the customer yourself.\n\nMessage: "
)
OTHERS = [
    "Which team should answer this customer? Choose among the eight teams of the handbook, in one word: ",
    "Route this message. The routes are delivery, billing, technical, returns, account, sales and privacy. Text: ",
    "Please classify what the person wrote to us, and reply with the name of the department only. They wrote: ",
    "As a careful agent of first-level support, pick the department that has to take over what begins here: ",
]
SUBJECTS = [
    "parcel",
    "invoice",
    "lamp",
    "order",
    "refund",
    "password",
    "window",
    "garden",
    "kettle",
    "carpet",
    "ladder",
]
VERBS = [
    "lost",
    "broken",
    "late",
    "missing",
    "wrong",
    "cancelled",
    "stolen",
    "charged",
    "damaged",
    "returned",
    "delayed",
]
ENDS = ["who can help", "please write back", "it is urgent", "I have waited for days", "nobody answers", "thank you"]
KOREAN = ["주문", "배송", "환불", "계정", "영수증", "비밀번호", "조명", "의자"]


def messages(count: int) -> list[str]:
    """Return plain messages, of which no two are near."""
    draw = random.Random(5)
    made = []
    for n in range(count):
        words = [draw.choice(SUBJECTS), draw.choice(VERBS), draw.choice(SUBJECTS), draw.choice(ENDS)]
        letters = "".join(draw.choices("bcdfghklmnprstvwz", k=5)) + " " + "".join(draw.choices("aeioubdgklmnrst", k=18))
        made.append(f"{words[0]} {letters} was {words[1]}, the {words[2]} {n * 7919 % 9973}, {words[3]}")
        if n % 5 == 0:
            made[-1] = " ".join(draw.choices(KOREAN, k=4)) + f" {letters} {n * 7919 % 9973} 언제 되나요"
    return made


def edited(draw: random.Random, text: str) -> str:
    """Return a near duplicate of a text: other letters, two words swapped, or a word replaced."""
    kind, words = draw.randrange(3), text.split()
    at = draw.randrange(len(words) - 1)
    if kind == 0:
        place = draw.randrange(1, len(text) - 1)
        return text[:place] + draw.choice("xyz") + text[place + 1 :]
    if kind == 1:
        words[at], words[at + 1] = words[at + 1], words[at]
    else:
        words[at] = "really"
    return " ".join(words)


def found_in(train: Sequence[str], test: Sequence[str]) -> dict[int, tuple[int, float]]:
    """Return the near duplicates of two splits, by the pieces that are common in both."""
    own, others = [Question(text) for text in train], [Question(text) for text in test]
    every = own + others
    hashes = np.array([question_hash(question) for question in every], np.uint64)
    common = find_common_pieces(hashes, every.__getitem__)
    index = SketchIndex(sketch(others, common))
    return find_near_duplicates(index, sketch(own, common), own.__getitem__, others.__getitem__, common=common)


FORMS: dict[str, Callable[[int, str], str]] = {
    "plain": lambda n, text: text,
    "instruction before": lambda n, text: INSTRUCTION + text,
    "instruction around": lambda n, text: f"{INSTRUCTION[:250]}\n<<<{text}>>>\n{INSTRUCTION[250:]}",
    "one of five instructions": lambda n, text: [INSTRUCTION, *OTHERS][n % 5] + text,
}


@pytest.mark.parametrize("form", FORMS.values(), ids=FORMS)
def test_recall_and_false_alarms_are_those_of_plain_messages(form: Callable[[int, str], str]) -> None:
    """Of 90 planted copies 49 to 58 are found, also under another instruction, and none of 300 other messages.

    The other copies are below the threshold: a word is much of a short message.
    """
    draw = random.Random(2)
    plain = messages(600)
    train, test = plain[:300], plain[300:]
    copies = [edited(draw, text) for text in test[:90]]
    framed = [form(n, text) for n, text in enumerate([*train, *copies])]
    found = found_in(framed, [form(n + 1, text) for n, text in enumerate(test)])
    assert not [n for n in found if n < 300]
    assert 49 <= len(found) <= 58
    assert all(other == n - 300 for n, (other, _) in found.items())


def test_other_contents_of_one_template_are_not_near() -> None:
    sums = [f"{n} times {n * 37 % 89}" for n in range(400)]
    rows = [f"What is {text}? Show the steps, and end with the result alone on a line." for text in sums]
    assert found_in(rows[::2], rows[1::2]) == {}
    letters = [text.split()[1] for n, text in enumerate(messages(400)) if n % 5]
    towns = [f"How many days does a parcel to the town of {name.title()} take?" for name in letters]
    assert found_in(towns[::2], towns[1::2]) == {}


VALUES = {
    "buying={} maint={} doors={} persons={} safety={}": (
        ["low", "medium", "high", "vhigh"],
        ["low", "medium", "high", "vhigh"],
        ["2", "3", "4", "5more"],
        ["2", "4", "more"],
        ["low", "high"],
    ),
    "The customer is a {} with {} internet, a {} contract, and pays by {}. Tenure: {} months.": (
        ["man", "woman"],
        ["fibre optic", "DSL", "no"],
        ["month-to-month", "one-year", "two-year"],
        ["bank transfer", "mailed check", "credit card"],
        [str(n) for n in range(72)],
    ),
    "傘の形は{}、表面は{}、色は{}、臭いは{}、柄は{}です。毒キノコですか。": (
        ["鐘形", "円錐形", "凸形", "平形"],
        ["繊維状", "溝あり", "鱗状", "滑らか"],
        ["茶色", "灰色", "緑色", "赤色"],
        ["アニス", "魚臭い", "なし"],
        ["太い", "細い"],
    ),
}


@pytest.mark.parametrize("template", VALUES, ids=["cars", "customers", "mushrooms"])
def test_rows_of_recurring_values_are_never_said_to_be_the_same(template: str) -> None:
    """Nearly all pieces of such rows are common, and still only rows with one or two other values are near."""
    draw = random.Random(4)
    rows = list({template.format(*cells): cells for cells in cells_of_rows(draw, VALUES[template])}.items())
    found = found_in([text for text, _ in rows[::2]], [text for text, _ in rows[1::2]])
    assert all(similarity < 0.96 for _, similarity in found.values())
    pairs = [(rows[::2][n][1], rows[1::2][other][1]) for n, (other, _) in found.items()]
    assert all(sum(a != b for a, b in zip(one, other, strict=True)) <= 2 for one, other in pairs)


def test_short_messages_under_another_of_five_instructions_are_found() -> None:
    """They vary little, and still an instruction is none of their values."""
    asked = [f"What is {a} {sign} {b}?" for a in range(3, 50, 2) for sign in "+-" for b in range(11, 40, 3)]
    instructions = [INSTRUCTION, *OTHERS]
    train = [instructions[n % 5] + text for n, text in enumerate(asked)]
    test = [instructions[(n + 1) % 5] + text for n, text in enumerate(asked)]
    assert {n: other for n, (other, _) in found_in(train, test).items()} == {n: n for n in range(len(asked))}


def cells_of_rows(draw: random.Random, columns: Sequence[Sequence[str]]) -> list[list[str]]:
    return [[draw.choice(values) for values in columns] for _ in range(700)]


def test_short_chinese_instructions_do_not_count() -> None:
    draw = random.Random(3)
    texts = ["".join(draw.choices("天地玄黄宇宙洪荒日月盈昃辰宿列张寒来暑往秋收冬藏", k=14)) for _ in range(200)]
    rows = [f"请把下面这句话翻译成英文,不要解释,不要添加任何其他内容:{text}" for text in texts]
    assert found_in(rows[:100], rows[100:]) == {}
    assert set(found_in(rows[:100], [row + "。" for row in rows[:100]])) == set(range(100))


def test_texts_of_which_nothing_varies_are_compared_as_a_whole() -> None:
    rows = [INSTRUCTION + text for text in messages(40)]
    assert found_in([INSTRUCTION, *rows[:20]], [INSTRUCTION, *rows[20:]]) == {0: (0, 1.0)}


def test_common_pieces_do_not_depend_on_order_and_copies() -> None:
    questions = [Question(INSTRUCTION + text, "context " * 5) for text in messages(300)]
    hashes = np.array([question_hash(question) for question in questions], np.uint64)
    one = find_common_pieces(hashes, questions.__getitem__)
    order = np.random.default_rng(1).permutation(np.tile(np.arange(300), 3))
    other = find_common_pieces(hashes[order], lambda n: questions[order[n]])
    assert len(one.asked) > 300
    assert len(one.context)
    assert all(np.array_equal(*pair) for pair in zip(one, other, strict=True))
    assert all(np.array_equal(*pair) for pair in zip(one, common_pieces_from(one.record()), strict=True))
    assert find_common_pieces(hashes[:9], questions.__getitem__) == CommonPieces(NOTHING, NOTHING)


TEXTS = st.lists(st.text("abc一二 ", min_size=3, max_size=40), min_size=1, max_size=6)


@settings(max_examples=200, deadline=None)
@given(TEXTS, TEXTS)
def test_the_trigrams_of_a_text_do_not_depend_on_the_texts_beside_it(texts: list[str], others: list[str]) -> None:
    pieces = find_common_pieces(np.arange(len(others) * 10, dtype=np.uint64), lambda n: Question(others[n // 10])).asked
    tokens, counts = varying_trigrams(texts, pieces)
    parts = np.split(tokens, np.cumsum(counts)[:-1])
    for text, part in zip(texts, parts, strict=True):
        assert np.array_equal(part, varying_trigrams([text], pieces)[0])
