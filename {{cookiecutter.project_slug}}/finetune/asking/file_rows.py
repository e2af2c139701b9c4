"""predict: ask a model the rows of a file, with the prompt of the training, and add the answers as columns."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import isnan
from pathlib import Path

from finetune.asking.model_names import name_of
from finetune.asking.row_prompts import AskedRow, completion_format, questions_of
from finetune.asking.split_answers import last_turn, text_without_lead
from finetune.core.callbacks import Progress
from finetune.core.class_labels import labels_of
from finetune.core.disk import read_jsonl, write_csv, write_lines
from finetune.core.errors import FinetuneError
from finetune.core.formula_cells import marked
from finetune.core.params import Params
from finetune.core.paths import PREPARED
from finetune.core.read_records import read_prepare_report, read_prepare_report_if_there
from finetune.core.records.prepared import PreparedExample
from finetune.core.sections.data import Data
from finetune.data.completion_format import from_completion
from finetune.data.examples import as_chat
from finetune.data.prompts import cell_text
from finetune.data.raw_file import Row, Rows
from finetune.data.readers import is_utf8, read_rows
from finetune.data.written_numbers import json_text
from finetune.project.kept_models import connect_with
from finetune.provider.answer_parser import Answer, was_cut
from finetune.provider.completions import answer_all
from finetune.scoring.class_masses import as_text, class_probabilities
from finetune.scoring.class_reading import label_of
from finetune.scoring.prediction_scores import class_of_code
from finetune.scoring.probability_matrix import confidences
from finetune.terminal.progress import progress_bar, say

OUTSIDE = "outside"  # the column of the probability outside the classes, as in the evaluation
TABLES = (".csv", ".tsv", ".xlsx", ".parquet")


@dataclass(frozen=True)
class Predicted:
    """The rows with their answers; `failed` has the reason for each row without one, by its place in the file."""

    model: str
    rows: list[Row]
    failed: dict[str, str]
    cut: int  # answers that ended at evaluate.max_tokens
    outside: float | None  # the mean of the column `outside`; None without probabilities


def predict(params: Params, file: Path, choice: str) -> Predicted:
    """Return the rows of a file, in order, with the columns of `answer_rows`.

    `choice` is `tuned`, `base` or a model's ID. If the file has a column with one of these names, the new column is
    called `predicted_answer`, and so on. Raises FinetuneError if no row can be asked, or if every one is refused.
    """
    reader = rows_of(params.data, file)
    rows = list(reader)
    model = name_of(params, choice)
    asked = questions_of(params, rows, file, completion_format(params), tuned=choice == "tuned")
    if all(isinstance(question, ValueError) for question in asked):
        raise FinetuneError(
            f"{file}: no row has a question; {reader.place(1)}: {asked[0]}.",
            "Set data.prompt in params.yaml to the columns of this file, or give rows with `messages`.",
        )
    with progress_bar(f"ask {model}") as progress:
        added, cut = answer_rows(params, model, asked, progress)
    taken = {column for row in rows for column in row}
    called = free_names(max(map(list, added), key=len), taken)
    outside = [one[OUTSIDE] for one in added if OUTSIDE in one]
    return Predicted(
        model,
        [row | {new: one.get(name) for name, new in called.items()} for row, one in zip(rows, added, strict=True)],
        {reader.place(number): one["error"] for number, one in enumerate(added, 1) if one["error"]},
        cut,
        sum(outside) / len(outside) if outside else None,
    )


def answer_rows(params: Params, model: str, asked: Sequence[AskedRow], progress: Progress) -> tuple[list[Row], int]:
    """Return the columns of each answer, and the number of answers that were cut at evaluate.max_tokens.

    The columns are `answer`, `error` (why there is none) and, for classes with log-probabilities, `confidence`, the
    probability of each class, such as `P(billing)`, and `outside`.
    """
    marks, classes, settings = completion_format(params), classes_of(params), params.evaluate
    questions = [one for one in asked if not isinstance(one, ValueError)]
    prompts, tools = [prompt for prompt, _ in questions], [declared for _, declared in questions]
    top_logprobs = settings.top_logprobs if settings.task == "classify" else 0
    seed, stop = params.train.seed, marks.stop if marks else None
    with connect_with(params, model) as connection:
        answered = iter(
            answer_all(connection, model, prompts, settings, seed, progress, say, stop, top_logprobs, tools)
        )
    answers = [Answer("", error=str(one)) if isinstance(one, ValueError) else next(answered) for one in asked]
    if keeps_white_space(params):
        texts = [text_without_lead(answer.text, marks) for answer in answers]
    else:
        texts = [answer.text.strip() for answer in answers]
    codes = params.data.codes
    added = [
        columns_of(answer, text, classes, codes) | probability_columns(answer, classes, codes)
        for answer, text in zip(answers, texts, strict=True)
    ]
    return [in_order(one) for one in added], sum(was_cut(answer, settings.max_tokens) for answer in answers)


def rows_of(data: Data, file: Path) -> Rows:
    """Return the rows of a file, blank ones too, so that each row of the file has its row of answers.

    What params.yaml says about the raw data holds for files with the same suffix.
    """
    suffix = suffix_of(file)
    sheet = data.sheet if suffix == ".xlsx" else None
    if suffix != suffix_of(Path(data.file or (data.files.test if data.files else ""))):
        return read_rows(file, sheet, keep_all=True)[0]
    encoding = None if data.encoding is None or is_utf8(file) else data.encoding
    return read_rows(file, sheet, encoding, data.delimiter, data.quoting, keep_all=True)[0]


def suffix_of(file: Path) -> str:
    """Return the suffix of a file that decides how it is read: that before .gz, if it is compressed."""
    return (Path(file.stem) if file.suffix.lower() == ".gz" else file).suffix.lower()


def in_order(columns: Row) -> Row:
    """Return the columns of an answer with `error` at the end."""
    return {name: value for name, value in columns.items() if name != "error"} | {"error": columns["error"]}


def free_names(names: Sequence[str], taken: set[str]) -> dict[str, str]:
    """Return names for new columns that no column of the file has, by the names that they should have."""
    found: dict[str, str] = {}
    for name in names:
        free = name
        while free in taken:
            free = f"predicted_{free}"
        found[name] = free
        taken = taken | {free}
    return found


def classes_of(params: Params) -> dict[str, str]:
    """Return the classes by what the model writes for each: its code, or its name; {} for other tasks."""
    if params.data.codes:
        prepared = read_prepare_report()
        return class_of_code(prepared)
    if params.evaluate.task != "classify":
        return {}
    labels = list(labels_of(params.data, read_prepare_report_if_there()))
    if not labels:
        marks = completion_format(params)
        examples = list(map(as_chat, read_jsonl(PREPARED / "train.jsonl", "prepare", PreparedExample)))
        labels = sorted({(from_completion(one, marks) if marks else last_turn(one))[1].strip() for one in examples})
    if params.data.abstain:
        labels.append(params.data.abstain.answer)
    return {label: label for label in labels}


def keeps_white_space(params: Params) -> bool:
    """Return whether white space at the ends of answers counts: some training answers have it, and are no classes."""
    return params.evaluate.task != "classify" and bool(read_prepare_report_if_there().get("white_space_kept"))


def columns_of(answer: Answer, text: str, classes: Mapping[str, str], codes: bool) -> Row:
    """Return an answer as columns: the class that it names, if there are classes and it names one; else its text."""
    if answer.error:
        return {"answer": "", "error": answer.error}
    written = list(classes)
    named = label_of(text, written, codes) if classes and not answer.refused else None
    why = "the provider marks this answer as a refusal" if answer.refused else ""
    found = {"answer": text if named is None else classes[named], "error": why}
    masses = masses_of(answer, written, codes)
    return found | ({"confidence": confidences([named or ""], [masses], written)[0]} if masses else {})


def probability_columns(answer: Answer, classes: Mapping[str, str], codes: bool) -> Row:
    """Return the probability of each class, and of what is outside them; {} without log-probabilities.

    `P(<class>)` is the probability of the answers that name the class. `outside` is the rest: that of other answers,
    and of classes that were not among the likely tokens; each of these has at most that much.
    """
    masses = masses_of(answer, list(classes), codes)
    if not masses:
        return {}
    shares = {f"P({name})": round(mass, 4) for name, mass in zip(classes.values(), masses, strict=True)}
    return shares | {OUTSIDE: round(max(0.0, 1 - sum(masses)), 4)}


def masses_of(answer: Answer, written: Sequence[str], codes: bool) -> list[float]:
    """Return the probability of each class; [] without log-probabilities."""
    masses = class_probabilities(as_text(answer.logprobs), written, codes) if not answer.error else []
    return [] if not masses or isnan(masses[0]) else masses


def output_for(file: Path) -> Path:
    """Return the default output file: in this folder, CSV for tables and JSON Lines for all else."""
    stem = Path(file.stem) if file.suffix.lower() == ".gz" else file
    return Path(f"{stem.stem}.predicted{'.csv' if suffix_of(file) in TABLES else '.jsonl'}")


def write(output: Path, rows: Sequence[Row], spreadsheet: bool = False) -> int:
    """Write rows as JSON Lines, or as CSV with lists and objects as JSON. Return how many cells begin a formula in CSV.

    Programs read the file too, so texts are written as they are; for a spreadsheet, formulas are marked as text.
    """
    if output.suffix.lower() == ".jsonl":
        write_lines(output, (json_text(row).encode() + b"\n" for row in rows))
        return 0
    columns = list(dict.fromkeys(column for row in rows for column in row))
    cells = [{key: cell_text(value) for key, value in row.items()} for row in rows]
    write_csv(output, columns, cells, mark_formulas=spreadsheet)
    return sum(
        marked(text) != text for row in [dict(zip(columns, columns, strict=True)), *cells] for text in row.values()
    )
