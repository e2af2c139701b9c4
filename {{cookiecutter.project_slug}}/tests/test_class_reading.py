"""The class that an answer names, in any form and script; what cannot be read is outside all classes."""

import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from finetune.asking.file_rows import columns_of
from finetune.provider.answer_parser import Answer
from finetune.scoring.class_masses import class_probabilities
from finetune.scoring.class_reading import label_of, read_class
from finetune.scoring.tasks import score

SPAM, THREE = ["spam", "ham"], ["spam", "not spam", "spam-ham"]
TEAMS, BILLS = ["配送", "返品"], ["billing", "billing dispute"]
NUMBERS = [str(number) for number in range(11)]


@pytest.mark.parametrize(
    ("labels", "answers", "label"),
    [
        (SPAM,
         ["spam", " Spam.\n", "**spam**", "`spam`", "'spam'", "«spam»", "“Spam”", "_spam_", "> spam", "spam?"], "spam"),
        (SPAM,
         ["```\nspam\n```", "```json\n{\"label\": \"spam\"}\n```", '{"label": "spam"}', '["spam"]', '"spam"'], "spam"),
        (SPAM,
         ['{"label": "ham", "why": "not spam"}', 'Here: {"class": "ham"}', '{"answer": "It is ham."}'], "ham"),
        (SPAM,
         ["ｓｐａｍ", "ＳＰＡＭ。", "\ufeffspam", "sp\u00adam", "spamです", "✅ spam", "#spam", "<b>spam</b>"], "spam"),
        (SPAM,
         ["**Label:** spam", "No problem. It is spam.", "Spam, because I was not asked", "spam — it is"], "spam"),
        (SPAM, ["It is spam. No doubt."], "spam"),
        (SPAM,
         ["", "?", "I cannot say", "spam and ham", "ham, not spam", '{"spam": 1, "ham": 0}', '["ham", "spam"]'], None),
        (SPAM,
         ["not spam", "This isn't spam", "Is it spam?", "Spam? No.", '{"spam": false}'], None),
        (SPAM,
         ["Das ist kein Spam", "ce n'est pas du spam", "это не spam", "spam değil", "spam नहीं है"], None),
        (SPAM, ["spammer", "nonspam", "anti-spam", "spam-free", "spam_score", "spam.com", "spam's"], None),
        (THREE, ["not spam", "NOT-SPAM", "not_spam", "It is not spam.", "**Not  spam**"], "not spam"),
        (THREE, ["spam-ham", "Spam ham", "It is spam–ham."], "spam-ham"),
        (THREE, ["Not 'not spam'", "spam or not spam", "not a spam"], None),
        (BILLS, ["billing dispute", "It is a Billing-Dispute."], "billing dispute"),
        (BILLS, ["billing", "It is about billing."], "billing"),
        (["credit card", "card payment"], ["a credit card payment"], None),
        (TEAMS, ["配送", "配送です。", "「配送」", "カテゴリは配送です", "这是配送问题", "答案：配送"], "配送"),
        (TEAMS, ["不良品の配送"], "配送"),
        (TEAMS, ["配送ではありません", "配送以外", "不是配送", "不属于 配送", "配送と返品", "未配送"], None),
        (["배송", "환불"], ["배송입니다.", "카테고리: 배송", "서비스 배송"], "배송"),
        (["배송", "환불"], ["배송이 아닙니다", "미배송"], None),
        (["メール", "返品"], ["メールです"], "メール"),
        (["メール", "返品"], ["メールアドレス"], None),
        (["สแปม", "ปกติ"], ["นี่คือสแปม"], "สแปม"),
        (["สแปม", "ปกติ"], ["ไม่ใช่สแปม"], None),
        (["कर", "ख़"], ["करें"], None),  # a vowel sign is a part of the word
        (["iade", "ısı"], ["İade", "IADE", "İADE"], "iade"),
        (["iade", "ısı"], ["ISI", "Isı"], "ısı"),
        (["no", "yes"], ["nothing", "I know", "yes, no"], None),
        (["no", "yes"], ["No.", "no way"], "no"),
        (NUMBERS, ["1", "１", "①", "١", "१", "1.", "(1)", "Score: 1", '{"score": 1}', "The score is **1**."], "1"),
        (NUMBERS, ["1 in 10", "1/10", "1.5", "-1", "−1", ".1", "1%", "$1", "1-2", "11", "1st"], None),
        (["A", "B", "C", "C++"], ["A+", "A-", "C#"], None),
        (["A", "B", "C", "C++"], ["It is C++."], "C++"),
        (["A", "B", "IT"], ["This is a complaint", "A parcel is late.", "I think it is late"], None),
        (["A", "B", "IT"], ["Hm. A customer asks"], None),
        (["A", "B", "IT"], ["a", "A.", "The answer is A", "(A)", "Answer: A because it is late"], "A"),
        (["A", "B", "IT"], ["It is for IT.", "it", "IT department"], "IT"),
        (["18-24", "25-34"], ["18–24", "18-24 years"], "18-24"),
        (["true", "false"], ['{"spam": true}', "True"], "true"),
        # What a model thinks before its answer is no answer.
        (SPAM,
         ["<think>ham?</think>spam", "<think>\n\n</think>\n\nspam", "Or ham?\n</think>\n\n**spam**",
          "[THINK]ham[/THINK]spam", "◁think▷ham◁/think▷spam", "<reasoning>ham</reasoning><answer>spam</answer>",
          '<think>{"label": "ham"}</think>{"label": "spam"}'], "spam"),
        (SPAM, ["<think>It looks like spam", "<think>ham</think>not spam", "<think>spam</think>"], None),
        # Denials, in other words, and scores.
        (SPAM,
         ["It has nothing to do with spam", "I doubt it is spam", "It isnt spam", "unclear whether it is spam",
          "I rule out spam", "~~spam~~", "!spam", "❌ spam", "spam: ❌", "spam: 0", "spam (5%)", "spam = 0.05",
          "Spam is unlikely", "spam: N"], None),
        (SPAM,
         ["spam (95%)", "spam: 1", "spam\n\nThe sender is not known.", "spam\n- no sender", "spam ✅",
          "Hi! spam"], "spam"),
        (["垃圾邮件", "正常"],
         ["我不认为这是垃圾邮件", "无法判断是否为垃圾邮件", "不太可能是垃圾邮件", "不应归类为垃圾邮件",
          "是垃圾邮件吗"], None),
        (["垃圾邮件", "正常"], ["类别是垃圾邮件", "被识别为垃圾邮件", "应该是垃圾邮件"], "垃圾邮件"),
        (TEAMS,
         ["配送とは言えない", "配送に該当しません", "配送かどうか不明", "配送の可能性は低い", "配送なし",
          "配送でしょうか。"], None),
        (TEAMS,
         ["配送です。商品が届いていません。", "不在票の配送", "配送:届いていないため", "配送と判断します"], "配送"),
        (["배송", "환불"], ["배송 문제가 아닙니다", "배송으로 보이지 않습니다", "배송이라고 볼 수 없습니다"], None),
        (["배송", "환불"], ["배송입니다. 물건이 오지 않았습니다.", "배송으로 분류됩니다"], "배송"),
        (["สแปม", "ปกติ"], ["ไม่น่าจะเป็นสแปม", "สแปมหรือไม่"], None),
        # "no" is a class, and a word of sentences.
        (["no", "yes"], ["I have no idea", "There's no way to tell", "no doubt", "yes or no question"], None),
        (["no", "yes"], ["No\n\nThere is no sign of it.", "No because it is late", "The answer is no."], "no"),
        (["no", "yes"], ["Yes, there is no problem."], "yes"),
        (["no problem", "problem"], ["There is no problem", "no problem"], "no problem"),
        (["billing", "billing/payment"], ["billing / payment", "It is about Billing/ payment."], "billing/payment"),
        (["Q&A", "other"], ["q & a"], "Q&A"),
    ],
)  # fmt: skip
def test_the_class_that_an_answer_names(labels: list[str], answers: list[str], label: str | None) -> None:
    assert {answer: label_of(answer, labels) for answer in answers} == dict.fromkeys(answers, label)


def test_without_classes_nothing_is_named() -> None:
    assert [label_of(text, []) for text in ("", "spam", '{"a": "b"}')] == [None] * 3


def test_only_white_space_around_a_class_is_no_lenience() -> None:
    assert [read_class(text, SPAM).is_exact for text in ("spam", " spam\n", "Spam", "It is spam.", "?")] == [
        True, True, False, False, False,
    ]  # fmt: skip
    found = score("classify", ["spam"] * 4, ["spam", "Spam.", "It is spam.", "eggs"], SPAM).metrics
    assert (found["accuracy"], found["lenient"], found["no_class"]) == (0.75, 0.5, 0.25)


WORDS = st.sampled_from(
    ["spam", "Spam", "not", "ham", "spam-ham", "配送", "配", "です", "no", "7", "70", "A*", "İ", "é"]
)
TEXTS = st.lists(WORDS | st.text(max_size=3), max_size=5).map(" ".join) | st.text(max_size=20)
LABELS = st.lists(WORDS | st.text(min_size=1, max_size=4), min_size=1, max_size=6, unique=True)


@settings(max_examples=300, deadline=None)
@given(TEXTS, LABELS.flatmap(lambda labels: st.tuples(st.just(labels), st.permutations(labels))), st.booleans())
def test_any_answer_can_be_read_and_the_order_of_classes_decides_nothing(
    answer: str, labels: tuple[list[str], list[str]], codes: bool
) -> None:
    found = read_class(answer, labels[0], codes)
    assert found.label is None or found.label in labels[0]
    assert read_class(answer, labels[1], codes) == found


@settings(max_examples=300, deadline=None)
@given(LABELS, st.data())
def test_a_class_as_it_is_written_is_read_exactly(labels: list[str], data: st.DataObject) -> None:
    label = data.draw(st.sampled_from(labels))
    alone = [one for one in labels if one.strip() == label.strip()] == [label]
    if alone:
        assert read_class(f" {label}\n", labels) == (label, True)


def test_a_digit_that_python_does_not_know_yet_is_a_letter_like_others() -> None:
    # The library regex knows a newer Unicode than Python: \U0001E5F1 is a digit of Ol Onal, of the year 2024.
    assert read_class("\U0001e5f1", ["\U0001e5f1", "other"]) == ("\U0001e5f1", True)
    assert read_class("Class ٣", ["Class 3", "Class 4"])[0] == "Class 3"


@given(st.sampled_from([SPAM, BILLS, TEAMS]), st.sampled_from(['"{}"', "**{}**", "({})", "{}.", "\n{}!\n", "「{}」"]))
def test_marks_case_and_a_sentence_change_no_class(labels: list[str], form: str) -> None:
    for label in labels:
        for text in (label, label.upper(), label.title(), f"The answer is {label}"):
            assert label_of(form.format(text), labels) == label


@given(st.sampled_from([*SPAM, *BILLS]), TEXTS.filter(lambda text: "</" not in text), st.sampled_from(["", "<think>"]))
def test_no_thought_changes_the_class(label: str, thought: str, begin: str) -> None:
    assert label_of(f"{begin}{thought}</think>\n{label}", [*SPAM, *BILLS]) == label


@given(
    st.sampled_from([*SPAM, *BILLS, *TEAMS, "스팸"]),
    st.sampled_from(
        ["not {}", "This isn't {}.", "kein {}", "ce n'est pas {}", "no es {}", "não é {}", "不是{}", "{}ではない",
         "{} 아님", "Is it {}?", "{}: no", "non-{}", "не {}", "{} değil", "bukan {}", "không phải {}", "ليس {}",
         "~~{}~~", "{}: 0 %"]
    ),
)  # fmt: skip
def test_a_class_that_is_denied_is_not_named(label: str, form: str) -> None:
    assert label_of(form.format(label), [*SPAM, *BILLS, *TEAMS, "스팸"]) is None


@given(st.sampled_from([*SPAM, *BILLS]), st.text("abcäşж", min_size=1, max_size=3), st.booleans())
def test_a_class_inside_a_longer_word_is_not_named(label: str, letters: str, before: bool) -> None:
    assert label_of(letters + label if before else label + letters, [label, "other"]) is None


@pytest.mark.parametrize(
    "answer", ["spam", "Ｓpam", "SPAM.", "not-spam", "not_spam", "配送です", "配送", "İade", "spam-free"]
)
def test_probabilities_and_predict_read_the_same_class(answer: str) -> None:
    labels = [*THREE, *TEAMS, "iade"]
    token = answer.encode().decode("latin-1")
    masses = class_probabilities([[(answer, math.log(0.75))]], labels)
    named = label_of(answer, labels)
    assert dict(zip(labels, masses, strict=True)) == {
        label: pytest.approx(0.75) if label == named else 0.0 for label in labels
    }
    row = columns_of(Answer(answer, logprobs=[[(token, math.log(0.75))]]), answer, {one: one for one in labels}, False)
    assert (row["answer"], row["confidence"]) == (named or answer, 1.0 if named else 0.0)


def test_probabilities_are_those_after_the_thinking() -> None:
    thought = [[(piece, -0.1), ("spam", -3.0)] for piece in ("<think>", "ham or", " spam?", "</think>\n")]
    answer = [[("spam", math.log(0.75)), ("ham", math.log(0.25))]]
    assert class_probabilities([*thought, *answer], SPAM) == pytest.approx([0.75, 0.25])
    assert class_probabilities([*thought[2:], *answer], SPAM) == pytest.approx([0.75, 0.25])
    assert class_probabilities(thought[:3], SPAM) == [0.0, 0.0]  # cut: there is no answer


@pytest.mark.slow
def test_long_answers_and_many_classes_take_a_moment() -> None:
    import time

    labels = [f"class {number} of goods" for number in range(500)]
    answer = "The class may be any of the goods, I cannot say. " * 200
    start = time.process_time()
    assert [label_of(f"{answer} It is class {number} of goods.", labels) for number in range(20)] == labels[:20]
    assert label_of("not " * 3000 + "spam" + " a" * 3000, SPAM) is None
    assert label_of("[" * 5000 + "spam", SPAM) == "spam"
    assert label_of("spam " * 5000, SPAM) == "spam"
    assert label_of(" " * 99999 + "/" + " " * 99999 + "spam", SPAM) == "spam"
    assert time.process_time() - start < 5
