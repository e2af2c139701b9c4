"""Answers that cost nothing, which a tuned model should be better than.

For classes: the most frequent class of the training rows, and TF-IDF with logistic regression. For other answers: that
of the training row whose question is nearest, and a copy of the question.
"""

from collections import Counter
from collections.abc import Sequence
from typing import Any, NamedTuple

from finetune.core.task import Task

MOST_TRAINED = 5_000  # training rows of the classifier: about 20 seconds
MOST_SEARCHED = 20_000  # training rows in which the nearest question is looked for
REGULARIZATION = 30.0  # C of the logistic regression; the best of 1 to 100 on the starter's validation rows
AT_ONCE = 500  # questions compared with all training rows


class TrainingTexts(NamedTuple):
    """The questions of training rows with their right answers."""

    questions: Sequence[str]
    answers: Sequence[str]

    def part(self, most: int) -> "TrainingTexts":
        """Return at most so many rows, evenly spaced."""
        step = -(-len(self.questions) // most) if self.questions else 1
        return TrainingTexts(self.questions[::step], self.answers[::step])


def floor_answers(task: Task, train: TrainingTexts, questions: Sequence[str]) -> dict[str, list[str]]:
    """Return the answers of each floor to questions, by its name; floors without enough training rows are left out."""
    if not train.questions:
        return {}
    if task != "classify":
        return {"nearest": nearest_answers(train.part(MOST_SEARCHED), questions), "copy": list(questions)}
    commonest = min(Counter(train.answers).items(), key=lambda one: (-one[1], one[0]))[0]
    found = {"majority": [commonest] * len(questions)}
    if classified := classified_answers(train.part(MOST_TRAINED), questions):
        found["tfidf"] = classified
    return found


def classified_answers(train: TrainingTexts, questions: Sequence[str]) -> list[str]:
    """Return the classes that TF-IDF with logistic regression names (scikit-learn); [] if it cannot be trained."""
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from threadpoolctl import threadpool_limits

    if len(set(train.answers)) < 2 or not has_letters(train.questions):
        return []
    model = make_pipeline(vectorizer(), LogisticRegression(C=REGULARIZATION, max_iter=1000))
    with threadpool_limits(1):  # several threads take twice as long on small data, and may round differently
        model.fit(train.questions, train.answers)
        return [str(name) for name in model.predict(questions)]


def nearest_answers(train: TrainingTexts, questions: Sequence[str]) -> list[str]:
    """Return the answer of the training row with the most similar question by TF-IDF (scikit-learn)."""
    if not has_letters(train.questions):
        return [train.answers[0]] * len(questions)
    model = vectorizer()
    known = model.fit_transform(train.questions)
    found: list[str] = []
    for start in range(0, len(questions), AT_ONCE):
        similar = (model.transform(questions[start : start + AT_ONCE]) @ known.T).toarray()
        found += [train.answers[number] for number in similar.argmax(axis=1).tolist()]
    return found


def vectorizer() -> Any:
    """Return TF-IDF of words and pairs of words, and of two to five letters in a word, for texts without spaces too."""
    from sklearn.feature_extraction.text import TfidfVectorizer
    from sklearn.pipeline import make_union

    words = TfidfVectorizer(ngram_range=(1, 2), token_pattern=r"(?u)\b\w+\b", sublinear_tf=True)
    letters = TfidfVectorizer(analyzer="char_wb", ngram_range=(2, 5), sublinear_tf=True)
    return make_union(words, letters)


def has_letters(texts: Sequence[str]) -> bool:
    """Return whether a text has a word: without any, there is nothing to learn from."""
    return any(any(map(str.isalnum, text)) and len(text) > 1 for text in texts)
