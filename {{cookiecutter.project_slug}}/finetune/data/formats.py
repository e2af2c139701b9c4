"""Convert rows of any known format to examples. `data.format` or the keys of the rows decide the format."""

import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from itertools import chain
from typing import Any, Literal

import orjson

from finetune.core.errors import FinetuneError
from finetune.core.records import Example
from finetune.data.examples import KEYS, OUTPUTS, is_trained
from finetune.data.prompts import Template, check_columns, fill, fill_with
from finetune.data.raw_file import Row, Rows

Format = Literal["columns", "messages", "completion", "alpaca", "sharegpt", "preference"]
OtherAnswer = Callable[[Row, int], str | None]  # of a row and its number; None: the row keeps its own answer
ROWS_NAMED = 10  # in an error
ROLE_OF_SPEAKER = {"human": "user", "user": "user", "gpt": "assistant", "assistant": "assistant", "system": "system"}
# A row is of a format when it has all keys of one of these sets; the first such format counts.
KEYS_OF_FORMAT: dict[Format, tuple[set[str], ...]] = {
    "messages": ({"messages"},),
    "sharegpt": ({"conversations"},),
    "preference": ({"input", *OUTPUTS}, {"prompt", "chosen", "rejected"}),
    "completion": ({"prompt", "completion"},),
    "alpaca": ({"instruction", "output"},),
}


def examples_of(
    rows: Iterable[Row],
    form: Format | Literal["auto"],
    template: Template | None,
    source: str,
    fixed: Mapping[str, str] | None = None,
    other_answer: OtherAnswer | None = None,
) -> tuple[Iterator[tuple[Row, Example]], Format]:
    """Return each row with its example, one by one, and the format of the rows.

    Plain columns become examples by the prompt template, other formats by their keys. `fixed` are columns with the same
    cell in every row. `other_answer` returns the answer of rows that must not keep their own.
    After the last row, raises FinetuneError for rows that are not of the format, or for a column of the template that
    no row has.
    """
    place = rows.place if isinstance(rows, Rows) else "row {}".format
    rows = iter(rows)
    first = next(rows)
    taken: Format = form if form != "auto" else "columns" if template else format_of(first, source)
    if taken == "columns" and template is None:
        raise FinetuneError(
            "data.format is 'columns', but there is no data.prompt.",
            "Write a template under data.prompt in params.yaml.",
        )
    if taken != "columns" and template is not None:
        raise FinetuneError(
            f"data.prompt is for plain columns, but data.format is {taken!r}.", "Remove one of the two in params.yaml."
        )
    return convert_rows(chain([first], rows), taken, template, source, fixed or {}, other_answer, place), taken


def convert_rows(
    rows: Iterable[Row],
    form: Format,
    template: Template | None,
    source: str,
    fixed: Mapping[str, str],
    other_answer: OtherAnswer | None,
    place: Callable[[int], str],
) -> Iterator[tuple[Row, Example]]:
    """Yield each row with its example. Raises FinetuneError like `examples_of`, with the place of each wrong row."""
    columns: set[str] = set()
    wrong: list[str] = []
    for number, row in enumerate(rows, 1):
        answer = other_answer(row, number) if other_answer else None
        try:
            if template is not None:
                columns.update(row)
                cells = {**fixed, **row}
                messages = fill(template, cells) if answer is None else fill_with(template, cells, answer)
                example: Example = {"messages": messages}
            else:
                values = {key: parse_json_cell(value) for key, value in row.items()}
                example = CONVERTERS[form](values if answer is None else with_answer(values, form, answer))
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            wrong.append(f"{place(number)} ({reason_of(error)})")
            continue
        yield row, example
    if template is not None:
        check_columns(template, columns | fixed.keys(), source)
    if wrong:
        more = f" and {len(wrong) - ROWS_NAMED} more" if len(wrong) > ROWS_NAMED else ""
        raise FinetuneError(
            f"{source}: rows that are not of the format {form!r}: {', '.join(wrong[:ROWS_NAMED])}{more}.",
            "Correct or remove these rows, or set another format in data.format.",
        )


def with_answer(row: Row, form: Format, answer: str) -> Row:
    """Return a row with `answer` as its answer. Raises ValueError for a preference."""
    if form == "preference":
        raise ValueError("a preference has two answers, so data.abstain cannot replace its answer")
    if form in ("completion", "alpaca"):
        return {**row, "completion" if form == "completion" else "output": answer}
    turns, role, text = ("messages", "role", "content") if form == "messages" else ("conversations", "from", "value")
    asked = nonempty_list(row[turns], turns)
    if ROLE_OF_SPEAKER.get(asked[-1].get(role)) == "assistant":
        asked = asked[:-1]
    return {**row, turns: [*asked, {role: "assistant", text: answer}]}


def format_of(row: Row, source: str) -> Format:
    """Return the format that a row's keys belong to. Raises FinetuneError when they belong to none."""
    for name, key_sets in KEYS_OF_FORMAT.items():
        if any(keys <= set(row) for keys in key_sets):
            return name
    raise FinetuneError(
        f"{source}: the rows are of no known format; their keys are {', '.join(sorted(row)) or 'none'}.",
        "Write a template under data.prompt in params.yaml that makes a question and an answer of a row.",
    )


def reason_of(error: Exception) -> str:
    """Return why a row could not be converted."""
    return f"no {error}" if isinstance(error, KeyError) else str(error)


def parse_json_cell(value: Any) -> Any:
    """Return the list or object of a cell that contains its JSON; any other value as it is."""
    if isinstance(value, str) and value.lstrip()[:1] in ("[", "{"):
        try:
            return orjson.loads(value)
        except orjson.JSONDecodeError:
            return value
    return value


def nonempty_list(value: Any, name: str) -> list[Any]:
    if not isinstance(value, list):
        raise ValueError(f"{name} is not a list")
    if not value:
        raise ValueError(f"{name} is empty")
    return value


def nonempty_text(value: Any, name: str) -> str:
    """Return a value as text without spaces at its ends; a number, as in spreadsheets, is written as JSON."""
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False) if value is not None else ""
    if not text.strip():
        raise ValueError(f"{name} is empty")
    return text.strip()


def from_messages(row: Row) -> Example:
    """Return chat as it is: messages, tools and the like, without other keys and without keys that are null."""
    return {"messages": nonempty_list(row["messages"], "messages")} | {
        key: row[key] for key in sorted(KEYS["chat"] - {"messages"}) if row.get(key) not in (None, "")
    }


def from_completion(row: Row) -> Example:
    """Return a prompt and its completion as a question and its answer, which keeps the white space around it."""
    completion, stripped = row["completion"], nonempty_text(row["completion"], "completion")
    answer = completion if isinstance(completion, str) else stripped
    return conversation((None, nonempty_text(row["prompt"], "prompt"), answer))


def from_alpaca(row: Row) -> Example:
    """Return the instruction, followed by the input if there is one, as the question, and the output as the answer."""
    given = row.get("input") or ""
    asked = "\n\n".join(filter(None, [nonempty_text(row["instruction"], "instruction"), str(given).strip()]))
    return conversation((row.get("system") or None, asked, nonempty_text(row["output"], "output")))


def conversation(parts: tuple[str | None, str, str]) -> Example:
    """Return a chat of one turn from the texts of system, user and assistant."""
    roles = zip(("system", "user", "assistant"), parts, strict=True)
    return {"messages": [{"role": role, "content": text} for role, text in roles if text is not None]}


def from_sharegpt(row: Row) -> Example:
    """Return turns with the keys `from` (the speaker) and `value` (the text) as messages."""
    messages = [{"role": "system", "content": nonempty_text(row["system"], "system")}] if row.get("system") else []
    for turn in nonempty_list(row["conversations"], "conversations"):
        if turn["from"] not in ROLE_OF_SPEAKER:
            raise ValueError(f"a turn's 'from' is not one of {', '.join(ROLE_OF_SPEAKER)}")
        messages.append({"role": ROLE_OF_SPEAKER[turn["from"]], "content": nonempty_text(turn["value"], "a turn")})
    return {"messages": messages}


def from_preference(row: Row) -> Example:
    """Return a question with a preferred and a rejected answer, from OpenAI's keys or from prompt, chosen, rejected."""
    if "input" in row:
        return {key: row[key] for key in ("input", *OUTPUTS)}
    asked, outputs = row["prompt"], [row["chosen"], row["rejected"]]
    messages = asked if isinstance(asked, list) else [{"role": "user", "content": nonempty_text(asked, "prompt")}]
    if all(isinstance(output, list) for output in outputs):  # whole conversations, which end with the answer
        answers = [nonempty_list(output, "chosen and rejected")[-1:] for output in outputs]
    else:
        answers = [
            [{"role": "assistant", "content": nonempty_text(output, "chosen and rejected")}] for output in outputs
        ]
    return {"input": {"messages": messages}, OUTPUTS[0]: answers[0], OUTPUTS[1]: answers[1]}


CONVERTERS: dict[Format, Callable[[Row], Example]] = {
    "messages": from_messages,
    "completion": from_completion,
    "alpaca": from_alpaca,
    "sharegpt": from_sharegpt,
    "preference": from_preference,
}


def each_turn(example: Example) -> list[Example]:
    """Return one example per trained assistant turn, with the turns before it; earlier answers have weight 0."""
    messages = example["messages"]
    turns = []
    for end, message in enumerate(messages):
        if is_trained(message):
            before = [{**m, "weight": 0} if m.get("role") == "assistant" else m for m in messages[:end]]
            last = {key: value for key, value in message.items() if key != "weight"}
            turns.append({**example, "messages": [*before, last]})
    return turns
