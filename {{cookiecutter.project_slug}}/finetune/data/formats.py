"""Rows of any known shape become examples: which shape, their keys tell, or `data.format` says."""

import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from itertools import chain
from typing import Any, Literal

import orjson

from finetune.core.errors import FinetuneError
from finetune.data.examples import KEYS, OUTPUTS, Example, is_trained
from finetune.data.prompts import Template, check_columns, fill, fill_with
from finetune.data.readers import Row

Format = Literal["columns", "messages", "completion", "alpaca", "sharegpt", "preference"]
Instead = Callable[[Row, int], str | None]
SHOWN = 10  # rows named in an error
SPEAKERS = {"human": "user", "user": "user", "gpt": "assistant", "assistant": "assistant", "system": "system"}
# A row is of a format when it has all these keys; the first that fits counts.
SIGNS: dict[Format, tuple[set[str], ...]] = {
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
    instead: Instead | None = None,
) -> tuple[Iterator[tuple[Row, Example]], Format]:
    """Each row with its example as they come, and the format that they are taken for.

    Plain columns become examples by the prompt template, in which `fixed` stands for columns that all rows share; all
    else by its keys. `instead` gives the answer of a row that does not get its own. When all rows were seen,
    FinetuneError names those that are not of that format, or the column that the template names and none has.
    """
    rows = iter(rows)
    first = next(rows)
    taken: Format = form if form != "auto" else "columns" if template else format_of(first, source)
    if taken == "columns" and template is None:
        raise FinetuneError("data.format is 'columns', but there is no data.prompt.", "Say how a row is asked.")
    if taken != "columns" and template is not None:
        raise FinetuneError(
            f"data.prompt is for plain columns, but data.format is {taken!r}.", "Remove one of the two in params.yaml."
        )
    return converted(chain([first], rows), taken, template, source, fixed or {}, instead), taken


def converted(
    rows: Iterable[Row],
    form: Format,
    template: Template | None,
    source: str,
    fixed: Mapping[str, str],
    instead: Instead | None,
) -> Iterator[tuple[Row, Example]]:
    columns: set[str] = set()
    wrong: list[str] = []
    for number, row in enumerate(rows, 1):
        answer = instead(row, number) if instead else None
        try:
            if template is not None:
                columns.update(row)
                cells = {**fixed, **row}
                messages = fill(template, cells) if answer is None else fill_with(template, cells, answer)
                example: Example = {"messages": messages}
            else:
                values = {key: parsed(value) for key, value in row.items()}
                example = CONVERTERS[form](values if answer is None else answered(values, form, answer))
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            wrong.append(f"row {number} ({why(error)})")
            continue
        yield row, example
    if template is not None:
        check_columns(template, columns | fixed.keys(), source)
    if wrong:
        more = f" and {len(wrong) - SHOWN} more" if len(wrong) > SHOWN else ""
        raise FinetuneError(
            f"{source}: not of the format {form!r}: {', '.join(wrong[:SHOWN])}{more}.",
            "Mend or remove these rows, or name another format in data.format.",
        )


def answered(row: Row, form: Format, answer: str) -> Row:
    """A row with another answer than its own, or than none. Raises ValueError for a preference, which has two."""
    if form == "preference":
        raise ValueError("a preference, in whose place no single answer can be put")
    if form in ("completion", "alpaca"):
        return {**row, "completion" if form == "completion" else "output": answer}
    turns, role, text = ("messages", "role", "content") if form == "messages" else ("conversations", "from", "value")
    asked = listed(row[turns], turns)
    if SPEAKERS.get(asked[-1].get(role)) == "assistant":
        asked = asked[:-1]
    return {**row, turns: [*asked, {role: "assistant", text: answer}]}


def format_of(row: Row, source: str) -> Format:
    """The format that a row's keys speak for. Raises FinetuneError when they speak for none."""
    for name, signs in SIGNS.items():
        if any(sign <= set(row) for sign in signs):
            return name
    raise FinetuneError(
        f"{source}: its rows are of no known format; their keys are {', '.join(sorted(row)) or 'none'}.",
        "Say under data.prompt in params.yaml how a row becomes a question and an answer.",
    )


def why(error: Exception) -> str:
    return f"no {error}" if isinstance(error, KeyError) else str(error)


def parsed(value: Any) -> Any:
    """A cell of a table that holds a JSON list or object, as that; any other value as it is."""
    if isinstance(value, str) and value.lstrip()[:1] in ("[", "{"):
        try:
            return orjson.loads(value)
        except orjson.JSONDecodeError:
            return value
    return value


def listed(value: Any, what: str) -> list[Any]:
    if not isinstance(value, list) or not value:
        raise ValueError(f"{what} is no list")
    return value


def texted(value: Any, what: str) -> str:
    """A text that says something; numbers, as spreadsheets have them, are taken as they are written."""
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False) if value is not None else ""
    if not text.strip():
        raise ValueError(f"{what} is empty")
    return text.strip()


def from_messages(row: Row) -> Example:
    """Chat as it is: messages, tools and the like; other keys, and those that are null, are left out."""
    return {"messages": listed(row["messages"], "messages")} | {
        key: row[key] for key in sorted(KEYS["chat"] - {"messages"}) if row.get(key) not in (None, "")
    }


def from_completion(row: Row) -> Example:
    """A prompt and its completion, as a question and its answer."""
    return conversation((None, texted(row["prompt"], "prompt"), texted(row["completion"], "completion")))


def from_alpaca(row: Row) -> Example:
    """An instruction, what it is about behind it where there is any, and the output."""
    about = row.get("input") or ""
    asked = "\n\n".join(filter(None, [texted(row["instruction"], "instruction"), str(about).strip()]))
    return conversation((row.get("system") or None, asked, texted(row["output"], "output")))


def conversation(parts: tuple[str | None, str, str]) -> Example:
    roles = zip(("system", "user", "assistant"), parts, strict=True)
    return {"messages": [{"role": role, "content": text} for role, text in roles if text is not None]}


def from_sharegpt(row: Row) -> Example:
    """Turns that say who speaks (`from`) and what (`value`)."""
    messages = [{"role": "system", "content": texted(row["system"], "system")}] if row.get("system") else []
    for turn in listed(row["conversations"], "conversations"):
        if turn["from"] not in SPEAKERS:
            raise ValueError("a turn is from nobody known")
        messages.append({"role": SPEAKERS[turn["from"]], "content": texted(turn["value"], "a turn")})
    return {"messages": messages}


def from_preference(row: Row) -> Example:
    """A question with the answer to prefer and the one not to; OpenAI's keys, or prompt, chosen and rejected."""
    if "input" in row:
        return {key: row[key] for key in ("input", *OUTPUTS)}
    asked, outputs = row["prompt"], [row["chosen"], row["rejected"]]
    messages = asked if isinstance(asked, list) else [{"role": "user", "content": texted(asked, "prompt")}]
    if all(isinstance(output, list) for output in outputs):  # whole conversations, the last turn being the answer
        answers = [listed(output, "chosen and rejected")[-1:] for output in outputs]
    else:
        answers = [[{"role": "assistant", "content": texted(output, "chosen and rejected")}] for output in outputs]
    return {"input": {"messages": messages}, OUTPUTS[0]: answers[0], OUTPUTS[1]: answers[1]}


CONVERTERS: dict[Format, Callable[[Row], Example]] = {
    "messages": from_messages,
    "completion": from_completion,
    "alpaca": from_alpaca,
    "sharegpt": from_sharegpt,
    "preference": from_preference,
}


def each_turn(example: Example) -> list[Example]:
    """One example per assistant turn that is trained on, each with all that was said before, on which is no loss."""
    messages = example["messages"]
    turns = []
    for end, message in enumerate(messages):
        if is_trained(message):
            before = [{**m, "weight": 0} if m.get("role") == "assistant" else m for m in messages[:end]]
            last = {key: value for key, value in message.items() if key != "weight"}
            turns.append({**example, "messages": [*before, last]})
    return turns
