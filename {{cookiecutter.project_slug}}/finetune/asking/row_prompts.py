"""Build the prompt for a row of a user's file: by the project's template, or from the row's own messages."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from finetune.core.disk import read_note
from finetune.core.errors import FinetuneError
from finetune.core.params import Params
from finetune.core.paths import PREPARED_REPORT
from finetune.core.read_records import read_model_record, read_prepare_report
from finetune.core.records import Example
from finetune.data.class_codes import codes_text
from finetune.data.completion_format import CompletionFormat, question_and_answer
from finetune.data.formats import CONVERTERS, Format, parse_json_cell, reason_of
from finetune.data.prompts import PLACEHOLDER, Template, cell_text, check_columns, fill, fingerprint_of
from finetune.data.raw_file import Row
from finetune.data.redaction import redact
from finetune.project.job_request import fingerprint_now

Prompt = Sequence[dict[str, Any]] | str
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
    prepared = read_prepare_report()
    found = prepared["completion"]
    return CompletionFormat(**found) if found else None


def shared_columns(params: Params) -> dict[str, str]:
    """Return the columns that are the same for all rows: `codes`, the table of codes in the order of the training."""
    if not params.data.codes:
        return {}
    code_of = read_prepare_report()["codes"]
    return {"codes": codes_text({label: code_of[label] for label in params.data.labels if label in code_of})}


def redacted_kinds(params: Params) -> Sequence[str]:
    """Return the kinds of data.redact. Raises FinetuneError if the model was trained with others."""
    kinds = params.data.redact
    if set(kinds) != read_note(PREPARED_REPORT).get("redacted", {}).keys():
        raise FinetuneError(
            "data.redact in params.yaml is not that of the prepared data, so the model knows other placeholders.",
            "Restore it (git diff params.yaml), or train with the new one: dvc repro",
        )
    return kinds


def prompts_of(
    params: Params, rows: Sequence[Row], file: Path, marks: CompletionFormat | None, tuned: bool
) -> list[Prompt | ValueError]:
    """Return the prompt of each row, or the reason why it has none.

    Raises FinetuneError for a column that data.prompt names and no row has; and for the tuned model, if the prompt has
    changed since the training.
    """
    prompt = params.data.prompt
    template: Template = prompt.model_dump(include={"system", "user"}) if prompt else {}
    shared, kinds = shared_columns(params), redacted_kinds(params)
    own = [has_own_format(row, template, marks) for row in rows]
    if prompt and not any(own):
        check_columns(template, {column for row in rows for column in row} | shared.keys(), str(file))
    if prompt and tuned and not all(own) and not is_prompt_of_training(params):
        raise FinetuneError(
            "data.prompt in params.yaml is not the prompt that this model was trained with.",
            "Restore it (git diff params.yaml), or train with the new one: dvc repro",
        )
    found: list[Prompt | ValueError] = []
    for row in rows:
        try:
            found.append(prompt_of(row, template, shared, marks, kinds))
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            found.append(ValueError(reason_of(error)))
    return found


def is_prompt_of_training(params: Params) -> bool:
    """Return whether data.prompt is the prompt that the model of the record was trained with.

    A renamed column changes the prompt and not the examples: then the pipeline is up to date, and the data and
    parameters still give the fingerprint of the model's job.
    """
    record, prompt = read_model_record(), params.data.prompt
    known, now = record.get("prompt"), fingerprint_of(prompt.model_dump() if prompt else None)
    if not known or known == now:
        return True
    return read_note(PREPARED_REPORT).get("prompt") == now and fingerprint_now(params) == record["fingerprint"]


def prompt_of(
    row: Row, template: Template, shared: Mapping[str, str], marks: CompletionFormat | None, kinds: Sequence[str]
) -> Prompt:
    """Return the prompt of one row without data of the `kinds` of data.redact.

    Raises ValueError, or what a malformed row leads to, if there is no question.
    """
    if is_marked_prompt(row, marks):
        return redact(cell_text(row["prompt"]), kinds)
    if template and not has_own_format(row, template, marks):
        try:
            messages: Sequence[dict[str, Any]] = fill(template, {**shared, **row})
        except ValueError:
            named = columns_in(template)
            raise ValueError(f"no question: {', '.join(named)} {'are' if len(named) > 1 else 'is'} empty") from None
    else:
        messages = messages_before_answer(row)
    messages = redact(messages, kinds)
    if marks:
        return question_and_answer({"messages": [*messages, {"role": "assistant", "content": ""}]})[0] + marks.separator
    return messages


def columns_in(template: Template) -> list[str]:
    """Return the columns that a template names, each once."""
    return list(dict.fromkeys(name for text in template.values() for name in PLACEHOLDER.findall(text or "")))


def has_own_format(row: Row, template: Template, marks: CompletionFormat | None) -> bool:
    """Return whether a row lacks columns of the template, and has messages or a marked prompt instead."""
    lacks_columns = not row.keys() >= set(columns_in(template)) - {"codes"}
    return lacks_columns and ("messages" in row or is_marked_prompt(row, marks))


def is_marked_prompt(row: Row, marks: CompletionFormat | None) -> bool:
    """Return whether a row has a prompt that ends with the separator, as `prepare` writes it."""
    return marks is not None and cell_text(row.get("prompt")).endswith(marks.separator)


def messages_before_answer(row: Row) -> list[dict[str, Any]]:
    """Return the messages of a row in any of the known formats, up to its last question."""
    form = next((form for form, (key, _) in QUESTION_AND_ANSWER.items() if key in row), None)
    if form is None:
        raise ValueError(f"no `messages`, but {', '.join(sorted(row)) or 'no column at all'}")
    answer = QUESTION_AND_ANSWER[form][1]
    given = {key: parse_json_cell(value) for key, value in row.items()} | ({answer: "-"} if answer else {})
    example: Example = CONVERTERS[form](given)
    if not all(isinstance(message, dict) for message in example["messages"]):
        raise ValueError("messages has an entry that is not an object")
    messages = [{key: value for key, value in message.items() if key != "weight"} for message in example["messages"]]
    if messages[-1]["role"] == "assistant":
        messages.pop()
    if not messages:
        raise ValueError("no question")
    return messages
