"""Run the graders that ask no model: string_check, text_similarity and python."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

from finetune.scoring.answer_json import json_in
from finetune.scoring.graders.definitions import Python, StringCheck, TextSimilarity
from finetune.scoring.graders.python_grader import Grade, grades
from finetune.scoring.graders.templates import render, tools_in, variables
from finetune.scoring.text_units import UnitTokenizer, is_by_letter

NO_SYNONYMS = SimpleNamespace(synsets=lambda word: [])


@dataclass(frozen=True)
class Graded:
    """A score for each row. `errors` has the reason for each row that could not be graded and has the least score."""

    scores: list[float]
    errors: dict[int, str]


def graded(rows: Iterable[Grade], least: float = 0.0) -> Graded:
    """Separate scores from errors."""
    found = list(rows)
    errors = {index: row for index, row in enumerate(found) if isinstance(row, str)}
    return Graded([least if isinstance(row, str) else row for row in found], errors)


def grade(
    grader: StringCheck | TextSimilarity | Python, items: Sequence[Mapping[str, str]], answers: Sequence[str]
) -> Graded:
    """Score each answer; an item has `asked` and `expected`."""
    if isinstance(grader, Python):
        rows = [row_of(item, answer) for item, answer in zip(items, answers, strict=True)]
        example = row_of(items[0], items[0]["expected"]) if items else None
        return graded(grades(grader.name, grader.source, rows, example))
    known = [variables(item, answer) for item, answer in zip(items, answers, strict=True)]
    pairs = [rendered(grader, one) for one in known]
    if isinstance(grader, StringCheck):
        return graded(one if isinstance(one, str) else float(passes(grader.operation, *one)) for one in pairs)
    similar = similarity(grader.evaluation_metric)
    # Equal texts score 1, also those that are too short for the metric.
    return graded(
        one if isinstance(one, str) else 1.0 if one[0] == one[1] else min(1.0, similar(*one)) for one in pairs
    )


def rendered(grader: StringCheck | TextSimilarity, known: Mapping[str, str]) -> tuple[str, str] | str:
    """Return the input and the reference of a row, or why it has none."""
    try:
        return render(grader.input, known), render(grader.reference, known)
    except LookupError as error:
        return str(error.args[0])


def row_of(item: Mapping[str, str], answer: str) -> dict[str, Any]:
    """Return what a python grader gets for a row."""
    return {"sample": sample_of(answer), "item": {**item, "reference": item["expected"]}}


def sample_of(answer: str) -> dict[str, Any]:
    """Return what a python grader sees of an answer, under OpenAI's names."""
    read = json_in(answer)
    return {"output_text": answer, "output_json": read, "output_tools": tools_in(read)}


def passes(operation: str, text: str, reference: str) -> bool:
    """Apply a string_check. `like`: the text contains the reference; `ilike`: the same without regard to case."""
    if operation == "ilike":
        return reference.casefold() in text.casefold()
    return {"eq": text == reference, "ne": text != reference, "like": reference in text}[operation]


def similarity(metric: str) -> Callable[[str, str], float]:
    """Return a function from a text and its reference to their similarity, 0 to 1, by OpenAI's libraries."""
    if metric == "fuzzy_match":
        from rapidfuzz import fuzz, utils

        # OpenAI names the library, not the function. This one is in its guide's example.
        return lambda text, reference: fuzz.WRatio(text, reference, processor=utils.default_process) / 100
    if metric == "bleu":
        from sacrebleu.metrics.bleu import BLEU

        bleu = {by: BLEU(effective_order=True, tokenize="char" if by else "13a") for by in (False, True)}
        return lambda text, reference: bleu[is_by_letter(reference)].sentence_score(text, [reference]).score / 100
    words = UnitTokenizer()
    if metric == "gleu":
        from nltk.translate.gleu_score import sentence_gleu

        return lambda text, reference: float(sentence_gleu([words.tokenize(reference)], words.tokenize(text)))
    if metric == "meteor":
        from nltk.translate.meteor_score import single_meteor_score

        # Without WordNet's synonyms, which would have to be downloaded: equal words and equal stems only.
        return lambda text, reference: float(
            single_meteor_score(words.tokenize(reference), words.tokenize(text), wordnet=NO_SYNONYMS)
        )
    from rouge_score.rouge_scorer import RougeScorer

    kind = metric.replace("_l", "L").replace("_", "")
    rouge = RougeScorer([kind], tokenizer=words)
    return lambda text, reference: float(rouge.score(reference, text)[kind].fmeasure)
