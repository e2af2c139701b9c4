"""Build the prompt for a row of a user's file: by the project's template, or from the row's own messages."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from finetune.core.class_labels import labels_of
from finetune.core.errors import FinetuneError
from finetune.core.params import Params
from finetune.core.read_records import read_model_record, read_prepare_report, read_prepare_report_if_there
from finetune.core.records.prepared import Example
from finetune.data.cell_map import CellMap, cell_map_of, map_cells
from finetune.data.cell_paths import cell_of, column_of
from finetune.data.class_codes import codes_text
from finetune.data.completion_format import (
    CompletionFormat,
    completion_format_of,
    prompt_of_question,
    question_and_answer,
)
from finetune.data.converters.keys import Format, refuse_keys
from finetune.data.converters.values import has_value
from finetune.data.examples import declared_in
from finetune.data.existing_marks import NO_MARKS, without_ending
from finetune.data.formats import reason_of, with_answer
from finetune.data.prompts import Template, cell_text, check_columns, columns_in, fill, fingerprint_of
from finetune.data.raw_file import Row
from finetune.data.redaction import redact
from finetune.project.job_request import fingerprint_now

Prompt = Sequence[dict[str, Any]] | str
Declared = dict[str, Any]  # the tools of a question
AskedRow = tuple[Prompt, Declared] | ValueError  # what a row asks, or why it cannot be asked
# For each format, the key by which a row is recognised, and the key of its answer, which may be missing.
QUESTION_AND_ANSWER: dict[Format, tuple[str, str]] = {
    "messages": ("messages", ""),
    "sharegpt": ("conversations", ""),
    "alpaca": ("instruction", "output"),
    "completion": ("prompt", "completion"),
}


def completion_format(params: Params) -> CompletionFormat | None:
    """Return the marks of prompts and completions; None in a project that trains on chat."""
    if params.data.target != "completion":
        return None
    return completion_format_of(read_prepare_report()["completion"])


def shared_columns(params: Params) -> dict[str, str]:
    """Return the columns that are the same for all rows: `codes`, the table of codes in the order of the training."""
    if not params.data.codes:
        return {}
    prepared = read_prepare_report()
    code_of, labels = prepared["codes"], labels_of(params.data, prepared)
    return {"codes": codes_text({label: code_of[label] for label in labels if label in code_of})}


def redacted_kinds(params: Params) -> Sequence[str]:
    """Return the kinds of data.redact. Raises FinetuneError if the model was trained with others."""
    kinds = params.data.redact
    if set(kinds) != read_prepare_report_if_there().get("redacted", {}).keys():
        raise FinetuneError(
            "data.redact in params.yaml is not that of the prepared data, so the model knows other placeholders.",
            "Restore it (git diff params.yaml), or train with the new one: dvc repro",
        )
    return kinds


def questions_of(
    params: Params, rows: Sequence[Row], file: Path, marks: CompletionFormat | None, tuned: bool
) -> list[AskedRow]:
    """Return the prompt of each row and the tools that it declares, or the reason why it has no prompt.

    Raises FinetuneError for a column that data.prompt names and no row has; and for the tuned model, if the prompt has
    changed since the training.
    """
    prompt = params.data.prompt
    template: Template = prompt.model_dump(include={"system", "user"}) if prompt else {}
    shared, kinds = shared_columns(params), redacted_kinds(params)
    separator = (read_prepare_report_if_there().get("found_marks") or NO_MARKS)["separator"]
    own = [has_own_format(row, template, marks) for row in rows]
    if prompt and not any(own):
        columns = {column for row in rows for column in row}
        paths = {name for name in columns_in(template) if any(cell_of(row, name) is not None for row in rows)}
        check_columns(template, columns | paths | shared.keys(), str(file))
    cell_map = question_map(params)
    if prompt and tuned and not all(own) and not is_prompt_of_training(params):
        raise FinetuneError(
            "data.prompt in params.yaml is not the prompt that this model was trained with.",
            "Restore it (git diff params.yaml), or train with the new one: dvc repro",
        )
    found: list[AskedRow] = []
    for row, one in zip(rows, own, strict=True):
        try:
            mapped = map_cells(row, cell_map) if not one else row
            prompt_and_tools = question_in(mapped, template, shared, marks, separator)
            found.append(redact(prompt_and_tools, kinds))
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            found.append(ValueError(reason_of(error)))
    return found


def question_map(params: Params) -> CellMap:
    """Return data.map for the columns of questions. Rows to predict may lack the others."""
    prompt = params.data.prompt
    asked = columns_in(prompt.model_dump(include={"system", "user"})) if prompt else sorted(params.data.map)
    answers = () if prompt else [answer for _, answer in QUESTION_AND_ANSWER.values()]
    return {
        name: change for name, change in cell_map_of(params.data.map).items() if name in asked and name not in answers
    }


def is_prompt_of_training(params: Params) -> bool:
    """Return whether data.prompt is the prompt that the model of the record was trained with.

    A renamed column changes the prompt and not the examples: then the pipeline is up to date, and the data and
    parameters still give the fingerprint of the model's job.
    """
    record, prompt = read_model_record(), params.data.prompt
    known, now = (
        record.get("prompt"),
        fingerprint_of(prompt.model_dump() if prompt else None, cell_map_of(params.data.map)),
    )
    if not known or known == now:
        return True
    return read_prepare_report_if_there().get("prompt") == now and fingerprint_now(params) == record["fingerprint"]


def question_in(
    row: Row, template: Template, shared: Mapping[str, str], marks: CompletionFormat | None, separator: str | None
) -> tuple[Prompt, Declared]:
    """Return the prompt of one row, and the tools that it declares.

    Raises ValueError, or what a malformed row leads to, if there is no question.

    `separator` is the one that raw prompts have already. Then a cell may end with it, and the template is filled.
    """
    is_raw = bool(template and separator) and not has_own_format(row, template, marks)
    if marks and is_marked_prompt(row, marks) and not is_raw:
        return prompt_of_question(cell_text(row["prompt"]), marks), {}
    declared: Declared = {}
    if template and not has_own_format(row, template, marks):
        try:
            messages: Sequence[dict[str, Any]] = fill(template, {**row, **shared})
        except ValueError:
            named = columns_in(template)
            raise ValueError(f"no question: {', '.join(named)} {'are' if len(named) > 1 else 'is'} empty") from None
    else:
        messages, declared = messages_before_answer(row, separator)
    if marks:
        asked, _ = question_and_answer({"messages": [*messages, {"role": "assistant", "content": ""}], **declared})
        return prompt_of_question(asked, marks), {}
    return messages, declared


def has_own_format(row: Row, template: Template, marks: CompletionFormat | None) -> bool:
    """Return whether a row lacks columns of the template, and has messages or a marked prompt instead."""
    lacks_columns = any(name != "codes" and column_of(row, name) is None for name in columns_in(template))
    return lacks_columns and ("messages" in row or is_marked_prompt(row, marks))


def is_marked_prompt(row: Row, marks: CompletionFormat | None) -> bool:
    """Return whether a row has a prompt that ends with the separator, as `prepare` writes it."""
    return marks is not None and cell_text(row.get("prompt")).rstrip().endswith(marks.separator.rstrip())


def messages_before_answer(row: Row, separator: str | None) -> tuple[list[dict[str, Any]], Declared]:
    """Return the messages of a row in any of the known formats, up to its last question, and the tools it declares.

    The question is without its separator.
    """
    form = next((form for form, (key, _) in QUESTION_AND_ANSWER.items() if has_value(row.get(key))), None)
    if form is None and "messages" in row:
        raise ValueError("`messages` is empty")
    if form is None:
        raise ValueError(f"no `messages`, but {', '.join(sorted(row)) or 'no column at all'}")
    refuse_keys(row, form, question_only=True)
    if form == "completion" and isinstance(row["prompt"], str):
        row = {**row, "prompt": without_ending(row["prompt"], separator)}
    example: Example = with_answer(row, form, "-")  # the row's own answer may be empty
    asked = example["messages"][:-1]
    messages = [{key: value for key, value in message.items() if key != "weight"} for message in asked]
    return messages, declared_in(example)
