"""Find rows whose answer is probably wrong, by the rows themselves; no model is asked.

Answers that are classes are predicted from the other rows, by character n-grams (which need no words, so they work for
Japanese, Korean and Chinese) and logistic regression. A row never helps to predict itself or its copies. cleanlab says
how many answers are wrong; those of the lowest probability are listed. With planted wrong classes, this order has more
of them among the first fifty than cleanlab's own choice: tests/test_doubtful.py measures both.

Other answers are compared with their question: an answer that belongs to another question shares less wording with it
than answers usually do. Where answers share none, as in a translation, that says nothing, and no row is listed.
"""

from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from finetune.core.callbacks import Progress
from finetune.core.disk import read_jsonl
from finetune.core.errors import FinetuneError
from finetune.core.records.checks import DoubtfulRow
from finetune.core.records.prepared import Example, PreparedExample, PrepareReport
from finetune.data.checks.check_lines import LONGEST_CLASS, MOST_CLASSES
from finetune.data.completion_format import CompletionFormat, from_completion
from finetune.data.examples import OUTPUTS, is_trained
from finetune.data.identity import answer_of, question_of
from finetune.data.question import Question
from finetune.data.text_normalization import comparison_key, normalize

FOLDS = 5
FEWEST = 50  # rows
MOST = 50_000  # rows: one process, in memory
LISTED_OF_TEXTS = 0.1  # share of the rows: for answers that are no classes, nothing says how many are wrong
ROWS_AT_ONCE = 500
MOST_COMPARED = 2_000  # answers that a question is compared with
MOST_NGRAMS = 100_000
MOST_WEIGHTS = 2_000_000  # of the regression, in n-grams times classes: half a gigabyte while it is fitted
CLEAR = 1.0  # standard deviations by which an answer must usually fit its question better than other answers
COLUMNS = list(DoubtfulRow.__annotations__)


class Answered(NamedTuple):
    """A row with its place."""

    file: str
    line: int
    question: str
    answer: str


def read_answered(
    files: Sequence[Path],
    prepared: PrepareReport | None = None,
    most: int = MOST,
    skipped: Counter[str] | None = None,
) -> list[Answered]:
    """Return the rows of training files; `prepared` has the codes and marks of those that `prepare` wrote.

    A question has its context, such as a document in the system prompt, where that differs between rows. `skipped` gets
    the number of rows that cannot be judged, by the reason. Raises FinetuneError for a file that cannot be read, too
    few rows, or more than `most`.
    """
    marks = prepared["completion"] if prepared else None
    class_of = {code: name for name, code in prepared["codes"].items()} if prepared else {}
    skipped = Counter() if skipped is None else skipped
    rows, contexts = list[Answered](), list[str]()
    for file in files:
        for number, example in enumerate(read_jsonl(file, "prepare", PreparedExample), 1):
            asked = up_to_answer(example) if isinstance(example, dict) else None
            question, answer = (question_of(asked), answer_of(asked)) if asked else (Question(""), "")
            texts = question.asked, answer
            if marks:
                whole = {"prompt": question.asked, "completion": answer}
                texts = from_completion(whole, CompletionFormat(**marks))
            answer = texts[1].strip()
            if question.media:
                skipped["with an image, audio or a file"] += 1
            elif answer and (texts[0].strip() or question.context):
                rows.append(Answered(str(file), number, texts[0], class_of.get(answer, answer)))
                contexts.append(question.context)
            else:
                skipped["without a question and an answer to train on"] += 1
    refuse_count(len(rows), most, skipped)
    if len(set(contexts)) == 1:
        return rows
    both = zip(rows, contexts, strict=True)
    return [row._replace(question="\n".join(filter(None, (context, row.question)))) for row, context in both]


def refuse_count(count: int, most: int, skipped: Counter[str] | None = None) -> None:
    """Raise FinetuneError for too few rows, or more than `most`; `skipped` has the rows that are not counted."""
    if not FEWEST <= count <= most:
        why = f" ({skipped_text(skipped)})" if skipped else ""
        raise FinetuneError(
            f"Doubtful answers are looked for in {FEWEST} to {most:,} rows, and there are {count:,}{why}.",
            "Add rows." if count < FEWEST else "Give one split, or a part of it: finetune doubtful FILE",
        )


def up_to_answer(example: Example) -> Example | None:
    """Return an example up to its last trained answer; None if it has none, or has two answers."""
    if any(key in example for key in OUTPUTS):
        return None
    messages = example.get("messages")
    if not isinstance(messages, list):
        return example if "completion" in example else None
    ends = [n for n, message in enumerate(messages, 1) if isinstance(message, dict) and is_trained(message)]
    return {**example, "messages": messages[: ends[-1]]} if ends else None


def skipped_text(skipped: Counter[str]) -> str:
    """Return how many rows cannot be judged, by the reason."""
    return "not judged: " + ", ".join(f"{count:,} {why}" for why, count in sorted(skipped.items()))


def find_doubtful(
    rows: Sequence[Answered], progress: Progress | None = None, skipped: Counter[str] | None = None
) -> list[DoubtfulRow]:
    """Return the rows whose answer is probably wrong, the most doubtful first; `skipped` as in `read_answered`.

    Raises FinetuneError if the answers neither are classes nor share wording with their questions, and if no two
    classes have enough questions.
    """
    found = doubtful_classes(rows, progress, skipped) if are_classes(rows) else doubtful_texts(rows)
    return by_doubt(found)


def by_doubt(rows: Sequence[DoubtfulRow]) -> list[DoubtfulRow]:
    """Return rows in the order of the list: the most doubtful first."""
    return sorted(rows, key=lambda row: (row["score"], row["file"], row["line"]))


def are_classes(rows: Sequence[Answered]) -> bool:
    """Return whether the answers are few and short."""
    answers = Counter(row.answer for row in rows)
    short = all(len(answer) <= LONGEST_CLASS and "\n" not in answer for answer in answers)
    return short and len(answers) * 3 < len(rows) and len(answers) <= MOST_CLASSES


def doubtful_classes(
    rows: Sequence[Answered], progress: Progress | None = None, skipped: Counter[str] | None = None
) -> list[DoubtfulRow]:
    """Return the rows whose class the other rows contradict.

    Classes that are asked fewer than five questions cannot be predicted, so their rows are not judged.
    """
    from cleanlab.filter import find_label_issues

    asked = Counter(answer for _, answer in {(comparison_key(row.question), row.answer) for row in rows})
    rare = sum(asked[row.answer] < FOLDS for row in rows)
    if rare and skipped is not None:
        skipped[f"of classes with fewer than {FOLDS} different questions"] += rare
    rows = [row for row in rows if asked[row.answer] >= FOLDS]
    classes = sorted({row.answer for row in rows})
    if len(classes) < 2:
        raise FinetuneError(
            f"Doubtful classes are found by comparing classes with at least {FOLDS} different questions each, and"
            f" there {'is one' if classes else 'are none'}.",
            "Add rows of other classes.",
        )
    given = np.array([classes.index(row.answer) for row in rows])
    probabilities = predict_from_other_rows(rows, given, progress)
    count = int(find_label_issues(given, probabilities, n_jobs=1).sum())
    certainty, predicted = probabilities[np.arange(len(rows)), given], probabilities.argmax(axis=1)
    lowest = np.argsort(certainty, kind="stable")[:count]
    return [
        doubtful_row(rows[n], classes[predicted[n]], float(certainty[n]))
        for n in lowest.tolist()
        if predicted[n] != given[n]
    ]


def predict_from_other_rows(
    rows: Sequence[Answered], given: NDArray[Any], progress: Progress | None = None
) -> NDArray[Any]:
    """Return the probability of each class for each row, by a model that has not seen the row's question."""
    from sklearn.linear_model import LogisticRegression
    from sklearn.model_selection import StratifiedGroupKFold
    from threadpoolctl import threadpool_limits

    classes = int(given.max()) + 1
    texts = vectors([row.question for row in rows], MOST_WEIGHTS // classes)
    keys = {key: number for number, key in enumerate(dict.fromkeys(comparison_key(row.question) for row in rows))}
    groups = [keys[comparison_key(row.question)] for row in rows]
    probabilities = np.zeros((len(rows), classes))
    folds = StratifiedGroupKFold(FOLDS, shuffle=True, random_state=0).split(texts, given, groups)
    for fold, (known, asked) in enumerate(folds, 1):
        with threadpool_limits(1):  # several threads take nine times as long on small data, and may round differently
            model = LogisticRegression(C=10, tol=0.001, max_iter=500).fit(texts[known], given[known])
        probabilities[np.ix_(asked, model.classes_)] = model.predict_proba(texts[asked])
        if progress:
            progress(fold, FOLDS, "predictions from the other rows")
    return probabilities


def doubtful_texts(rows: Sequence[Answered]) -> list[DoubtfulRow]:
    """Return the tenth of the rows whose answer fits its question least, compared with the other answers."""
    both = vectors([*(row.question for row in rows), *(row.answer for row in rows)])
    questions, answers = both[: len(rows)], both[len(rows) :]
    some = answers[:: -(-len(rows) // MOST_COMPARED)]
    scores = np.asarray(questions.multiply(answers).sum(axis=1)).ravel()
    for start in range(0, len(rows), ROWS_AT_ONCE):
        others = (questions[start : start + ROWS_AT_ONCE] @ some.T).toarray()
        own = scores[start : start + len(others)]
        own[:] = (own - others.mean(axis=1)) / (others.std(axis=1) + 1e-9)
    if np.median(scores) < CLEAR:
        raise FinetuneError(
            "The answers are not classes, and share no wording with their questions by which they could be judged.",
            "Read some rows yourself: reports/data.html shows twenty at random.",
        )
    order = np.argsort(scores, kind="stable")[: round(LISTED_OF_TEXTS * len(rows))]
    return [doubtful_row(rows[n], "", float(scores[n])) for n in order.tolist()]


def doubtful_row(row: Answered, suggested: str, score: float) -> DoubtfulRow:
    return {
        "file": row.file,
        "line": row.line,
        "answer": row.answer,
        "suggested": suggested,
        "score": round(score, 3),
        "question": row.question,
    }


def vectors(texts: Sequence[str], most: int = MOST_NGRAMS) -> Any:
    """Return the TF-IDF of the character n-grams of texts, a sparse row of length 1 for each."""
    from sklearn.feature_extraction.text import TfidfVectorizer

    most = min(most, MOST_NGRAMS)
    vectorizer = TfidfVectorizer(
        analyzer="char_wb", ngram_range=(2, 5), sublinear_tf=True, min_df=2, max_features=most, dtype=np.float32
    )
    return vectorizer.fit_transform([normalize(text) for text in texts]).tocsr()
