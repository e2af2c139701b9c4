"""predict: a file of rows in, the same rows with a model's answers out; the prompt is that of the training."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import isnan
from pathlib import Path
from typing import Any

from finetune.asking.test_rows import last_turn
from finetune.core.disk import read_json, read_jsonl, write_csv, write_jsonl
from finetune.core.errors import FinetuneError
from finetune.core.params import Params
from finetune.core.paths import MODEL, PREPARED, PREPARED_REPORT
from finetune.core.records import Example
from finetune.data.class_codes import codes_text
from finetune.data.completion_format import CompletionFormat, from_completion, question_and_answer
from finetune.data.formats import CONVERTERS, Format, parse_json_cell, reason_of
from finetune.data.prompts import PLACEHOLDER, Template, cell_text, check_columns, fill, fingerprint_of
from finetune.data.readers import Row, read_rows
from finetune.project.deployment import answering_name
from finetune.provider.answer_cache import Answer
from finetune.provider.completions import answer_all
from finetune.provider.connect import connect
from finetune.scoring.classify import NONE, label_of
from finetune.scoring.probabilities import as_text, class_probabilities, confidences
from finetune.stages.baseline import base_of
from finetune.stages.evaluate import codes
from finetune.terminal.progress import progress_bar, say

Prompt = Sequence[dict[str, Any]] | str
TABLES = (".csv", ".tsv", ".xlsx", ".parquet")
# What tells that a row has its question in a shape of its own, and the key of the answer that it need not have.
SHAPES: dict[Format, tuple[str, str]] = {
    "messages": ("messages", ""),
    "sharegpt": ("conversations", ""),
    "alpaca": ("instruction", "output"),
    "completion": ("prompt", "completion"),
}


@dataclass(frozen=True)
class Predicted:
    """The rows with their answers; why some have none, by the row's number."""

    model: str
    rows: list[Row]
    failed: dict[int, str]


def run(params: Params, file: Path, name: str) -> Predicted:
    """Each row of a file, in order, with the columns `answer`, `error` and, where classes are answered, `confidence`.

    `name` is as in `model_named`. A column of the file's own with one of these names stays: the new one is then called
    `predicted_answer`, and so on. Raises FinetuneError where no row can be asked, or every one is refused.
    """
    model, frame, classes = model_named(params, name), frame_of(params), classes_of(params)
    rows = list(read_rows(file, params.data.sheet if ".xlsx" in file.name.lower() else None)[0])
    asked = prompts_of(params, rows, file, frame, trained=name == "tuned")
    prompts = [prompt for prompt in asked if not isinstance(prompt, ValueError)]
    if not prompts:
        raise FinetuneError(
            f"{file}: there is no row to ask; row 1: {asked[0]}.",
            "Say under data.prompt in params.yaml how a row is asked, or give rows with `messages`.",
        )
    settings, seed, stop = params.evaluate, params.train.seed, frame.stop if frame else None
    top_logprobs = settings.top_logprobs if settings.task == "classify" else 0
    with connect(params.provider) as connection, progress_bar(f"ask {model}") as progress:
        told = iter(answer_all(connection, model, prompts, settings, seed, progress, say, stop, top_logprobs))
    answers = [Answer("", error=str(one)) if isinstance(one, ValueError) else next(told) for one in asked]
    added = [columns_of(answer, classes) for answer in answers]
    sure = any("confidence" in one for one in added)
    names = ["answer", "confidence", "error"] if sure else ["answer", "error"]
    taken = {column for row in rows for column in row}
    called = {name: free_name(name, taken) for name in names}
    return Predicted(
        model,
        [row | {called[name]: one.get(name) for name in names} for row, one in zip(rows, added, strict=True)],
        {number: answer.error for number, answer in enumerate(answers, 1) if answer.error},
    )


def free_name(name: str, taken: set[str]) -> str:
    """A name for a new column that no column of the file has."""
    return name if name not in taken else free_name(f"predicted_{name}", taken)


def model_named(params: Params, name: str) -> str:
    """What to ask a model by: `tuned` is that of the record here, `base` the one it started from, all else an ID."""
    if name == "tuned":
        return answering_name(params, read_json(MODEL, "train")["model"])
    return base_of(params) if name == "base" else name


def frame_of(params: Params) -> CompletionFormat | None:
    """The marks of prompts and completions, in a project that trains on those."""
    if params.data.target != "completion":
        return None
    marks = read_json(PREPARED_REPORT, "prepare").get("completion")
    return CompletionFormat(**marks) if marks else None


def fixed_columns(params: Params) -> dict[str, str]:
    """The columns that all rows share: the table of codes, in the order of the training."""
    if not params.data.codes:
        return {}
    known = {label: code for code, label in codes().items()}
    return {"codes": codes_text({label: known[label] for label in params.data.labels if label in known})}


def classes_of(params: Params) -> dict[str, str]:
    """The classes by what the model writes for each: its code, or itself; empty where the task has none."""
    if params.data.codes:
        return codes()
    if params.evaluate.task != "classify":
        return {}
    labels = list(params.data.labels)
    if not labels:
        frame = frame_of(params)
        examples = read_jsonl(PREPARED / "train.jsonl", "prepare")
        labels = sorted({(from_completion(one, frame) if frame else last_turn(one))[1] for one in examples})
    if params.data.abstain:
        labels.append(params.data.abstain.answer)
    return {label: label for label in labels}


def prompts_of(
    params: Params, rows: Sequence[Row], file: Path, frame: CompletionFormat | None, trained: bool
) -> list[Prompt | ValueError]:
    """What to ask for each row, or why it cannot be asked.

    Raises FinetuneError for a column that data.prompt names and no row has; and where the model is the `trained` one,
    for a prompt that was changed since.
    """
    prompt = params.data.prompt
    template: Template = prompt.model_dump(include={"system", "user"}) if prompt else {}
    fixed = fixed_columns(params)
    shaped = [has_own_shape(row, template, frame) for row in rows]
    if prompt and not any(shaped):
        check_columns(template, {column for row in rows for column in row} | fixed.keys(), str(file))
    if prompt and trained and not all(shaped):
        known = read_json(MODEL, "train").get("prompt")
        if known and known != fingerprint_of(prompt.model_dump()):
            raise FinetuneError(
                "data.prompt in params.yaml is not what this model was trained with.",
                "Set it back (git diff params.yaml), or train with it: dvc repro",
            )
    found: list[Prompt | ValueError] = []
    for row in rows:
        try:
            found.append(prompt_of(row, template, fixed, frame))
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            found.append(ValueError(reason_of(error)))
    return found


def prompt_of(row: Row, template: Template, fixed: Mapping[str, str], frame: CompletionFormat | None) -> Prompt:
    """What to ask for one row. Raises ValueError, or what a malformed row leads to, where there is nothing to ask."""
    if is_framed(row, frame):
        return cell_text(row["prompt"])
    if template and not has_own_shape(row, template, frame):
        try:
            messages: Sequence[dict[str, Any]] = fill(template, {**fixed, **row})
        except ValueError:
            named = columns_in(template)
            raise ValueError(f"nothing to ask: {', '.join(named)} {'are' if len(named) > 1 else 'is'} empty") from None
    else:
        messages = opening_of(row)
    if frame:
        return question_and_answer({"messages": [*messages, {"role": "assistant", "content": ""}]})[0] + frame.separator
    return messages


def columns_in(template: Template) -> list[str]:
    """The columns that a template names, each once."""
    return list(dict.fromkeys(name for text in template.values() for name in PLACEHOLDER.findall(text or "")))


def has_own_shape(row: Row, template: Template, frame: CompletionFormat | None) -> bool:
    """Whether a row says itself how it is asked, and lacks columns that the template names."""
    lacks = not row.keys() >= set(columns_in(template)) - {"codes"}
    return lacks and ("messages" in row or is_framed(row, frame))


def is_framed(row: Row, frame: CompletionFormat | None) -> bool:
    """Whether a row has a prompt with its mark, as prepare writes it."""
    return frame is not None and cell_text(row.get("prompt")).endswith(frame.separator)


def opening_of(row: Row) -> list[dict[str, Any]]:
    """The messages of a row that has them, in whichever shape, up to its last question."""
    form = next((form for form, (key, _) in SHAPES.items() if key in row), None)
    if form is None:
        raise ValueError(f"it has no `messages`, but {', '.join(sorted(row)) or 'nothing'}")
    answer = SHAPES[form][1]
    given = {key: parse_json_cell(value) for key, value in row.items()} | ({answer: "-"} if answer else {})
    example: Example = CONVERTERS[form](given)
    if not all(isinstance(message, dict) for message in example["messages"]):
        raise ValueError("messages has what is no object")
    messages = [{key: value for key, value in message.items() if key != "weight"} for message in example["messages"]]
    if messages[-1]["role"] == "assistant":
        messages.pop()
    if not messages:
        raise ValueError("nothing to ask")
    return messages


def columns_of(answer: Answer, classes: Mapping[str, str]) -> Row:
    """An answer as columns: the class that it names, where there are classes and it names one, else its own words."""
    text = answer.text.strip()
    if answer.error:
        return {"answer": "", "error": answer.error}
    written = list(classes)
    named = label_of(text, written) if classes else NONE
    found = {"answer": classes.get(named, text), "error": ""}
    masses = class_probabilities(as_text(answer.logprobs), written)
    if not masses or isnan(masses[0]):
        return found
    return found | {"confidence": confidences([named], [masses], written)[0]}


def output_for(file: Path) -> Path:
    """Where the answers go when nobody says: here, as CSV for tables and as JSON Lines for all else."""
    stem = Path(file.stem) if file.suffix.lower() == ".gz" else file
    return Path(f"{stem.stem}.predicted{'.csv' if stem.suffix.lower() in TABLES else '.jsonl'}")


def write(output: Path, rows: Sequence[Row]) -> None:
    """The rows as JSON Lines, or as CSV, in which a list or an object is its JSON."""
    if output.suffix.lower() == ".jsonl":
        write_jsonl(output, rows)
        return
    columns = dict.fromkeys(column for row in rows for column in row)
    write_csv(output, list(columns), ({key: cell_text(value) for key, value in row.items()} for row in rows))
