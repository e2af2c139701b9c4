"""Convert rows of any known format to examples. `data.format` or the keys of the rows decide the format."""

from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from itertools import chain
from typing import Literal

from finetune.core.errors import FinetuneError
from finetune.core.records.prepared import Example
from finetune.data.annotation_exports import ONE_CHOICE, refuse_several_options
from finetune.data.cell_map import CellMap, map_cells
from finetune.data.cell_paths import cell_of
from finetune.data.converters.alpaca import from_alpaca
from finetune.data.converters.chat import from_messages, from_sharegpt
from finetune.data.converters.completion import from_completion
from finetune.data.converters.keys import Format, refuse_keys
from finetune.data.converters.preference import from_preference
from finetune.data.converters.turns import SPEAKERS
from finetune.data.converters.values import has_value, nonempty_list
from finetune.data.examples import OUTPUTS, is_trained
from finetune.data.prompts import Template, check_column, check_columns, columns_in, fill, fill_with
from finetune.data.raw_file import Places, Row, Rows

OtherAnswer = Callable[[Row, int], str | None]  # of a row and its number; None: the row keeps its own answer
ROWS_NAMED = 10  # in an error, for each reason
REASONS_NAMED = 10
# A row is of a format when it has all keys of one of these sets; the first such format counts.
KEYS_OF_FORMAT: dict[Format, tuple[set[str], ...]] = {
    "preference": ({"chosen", "rejected"}, {"input", *OUTPUTS}),
    "messages": ({"messages"},),
    "sharegpt": ({"conversations"},),
    "completion": ({"prompt", "completion"},),
    "alpaca": ({"instruction", "output"},),
}
CONVERTERS: dict[Format, Callable[[Row], Example]] = {
    "messages": from_messages,
    "completion": from_completion,
    "alpaca": from_alpaca,
    "sharegpt": from_sharegpt,
    "preference": from_preference,
}


def examples_of(
    rows: Iterable[Row],
    form: Format | Literal["auto"],
    template: Template | None,
    source: str,
    fixed: Mapping[str, str] | None = None,
    other_answer: OtherAnswer | None = None,
    cell_map: CellMap | None = None,
    declared: Collection[str] = (),
) -> tuple[Iterator[tuple[Row, Example]], Format]:
    """Return each row with its example, one by one, and the format of the rows.

    Plain columns become examples by the prompt template, other formats by their keys. `fixed` are columns with the same
    cell in every row. `other_answer` returns the answer of rows that must not keep their own. `cell_map` is data.map,
    which is applied to the rows first. `declared` are the columns that other parameters use.
    After the last row, raises FinetuneError for rows that cannot be converted, or for a column of the template that no
    row has.
    """
    reader = rows if isinstance(rows, Rows) else Rows(rows, Places())
    first = next(reader)
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

    chained = chain([first], reader)
    return convert_rows(
        chained, taken, template, source, fixed or {}, other_answer, cell_map or {}, declared, reader
    ), taken


def convert_rows(
    rows: Iterable[Row],
    form: Format,
    template: Template | None,
    source: str,
    fixed: Mapping[str, str],
    other_answer: OtherAnswer | None,
    cell_map: CellMap,
    declared: Collection[str],
    reader: Rows,
) -> Iterator[tuple[Row, Example]]:
    """Yield each row with its example. Raises FinetuneError like `examples_of`, with the place of each wrong row."""
    named = {*columns_in(template or {}), *cell_map} - fixed.keys()
    columns: set[str] = set()  # those of the rows, and the paths that lead to a cell in some row
    wrong = WrongRows()
    shared = fixed.keys() & {*columns_in(template or {})}
    for number, row in enumerate(rows, 1):
        columns.update(row)
        if shared and shared & row.keys():
            raise FinetuneError(
                f"{source} has a column 'codes', but with data.codes {{codes}} in data.prompt is the table of codes.",
                "Rename the column.",
            )
        if missing := named - columns:
            columns.update(name for name in missing if cell_of(row, name) is not None)
        answer = other_answer(row, number) if other_answer else None
        try:
            if ONE_CHOICE in named:
                refuse_several_options(row)
            mapped = map_cells(row, cell_map)
            if template is not None:
                cells = {**fixed, **mapped} if fixed else mapped
                messages = fill(template, cells) if answer is None else fill_with(template, cells, answer)
                example: Example = {"messages": messages}
            else:
                refuse_keys(mapped, form, declared)
                example = CONVERTERS[form](mapped) if answer is None else with_answer(mapped, form, answer)
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            wrong.add(number, reason_of(error))
            continue
        yield mapped, example
    for column in cell_map:
        check_column("data.map", column, columns, source)
    if template is not None:
        check_columns(template, columns | fixed.keys(), source)
    if wrong.reasons:
        # Columns are of no other format: data.prompt says what they are.
        known = "" if form == "columns" else f" from the format {form!r}"
        other = "" if form == "columns" else ", or set another format in data.format"
        raise FinetuneError(
            f"{source}: rows that cannot be converted{known}: {wrong.named_by(reader)}.",
            f"Correct or remove these rows{other}.",
        )


class WrongRows:
    """The rows that cannot be converted, by the reason. The first rows and reasons are named, and all are counted."""

    def __init__(self) -> None:
        self.reasons: dict[str, list[int]] = {}
        self.counts: Counter[str] = Counter()

    def add(self, number: int, reason: str) -> None:
        if reason not in self.reasons and len(self.reasons) == REASONS_NAMED:
            self.counts[""] += 1
            return
        numbers = self.reasons.setdefault(reason, [])
        self.counts[reason] += 1
        if len(numbers) < ROWS_NAMED:
            numbers.append(number)

    def named_by(self, reader: Rows) -> str:
        """Return a text with the places of the rows, by the reason."""
        texts = []
        for reason, numbers in self.reasons.items():
            more = self.counts[reason] - len(numbers)
            texts.append(f"{reader.place_of_all(numbers)}{f' and {more} more' if more else ''} ({reason})")
        return "; ".join(texts) + (f"; and {self.counts['']} more" if self.counts[""] else "")


def with_answer(row: Row, form: Format, answer: str) -> Example:
    """Return a row's example with `answer` as its answer. Raises ValueError for a preference."""
    if form == "preference":
        raise ValueError("a preference has two answers, so data.abstain cannot replace its answer")
    if form in ("completion", "alpaca"):
        return CONVERTERS[form]({**row, "completion" if form == "completion" else "output": answer})
    turns = "messages" if form == "messages" else "conversations"
    asked = nonempty_list(row[turns], turns)
    if not all(isinstance(turn, dict) for turn in asked):
        raise ValueError(f"{turns} has an entry that is not an object")
    if SPEAKERS.get(asked[-1].get("role") or asked[-1].get("from")) in ("assistant", "call"):
        asked = asked[:-1]
    example = CONVERTERS[form]({**row, turns: asked})
    return {**example, "messages": [*example["messages"], {"role": "assistant", "content": answer}]}


def format_of(row: Row, source: str) -> Format:
    """Return the format that a row's keys belong to. Raises FinetuneError when they belong to none.

    A key without a value counts only where the other keys belong to no format.
    """
    for keys in ({key for key, value in row.items() if has_value(value)}, set(row)):
        for name, key_sets in KEYS_OF_FORMAT.items():
            if any(needed <= keys for needed in key_sets):
                return name
    lower = {key.strip().lower() for key in row}
    if lower != set(row) and any(needed <= lower for sets in KEYS_OF_FORMAT.values() for needed in sets):
        raise FinetuneError(
            f"{source}: the rows are of no known format; their keys are {', '.join(sorted(row))}.",
            "Write the names of these keys in lower case, such as prompt and completion.",
        )
    raise FinetuneError(
        f"{source}: the rows are of no known format; their keys are {', '.join(sorted(row)) or 'none'}.",
        "Write a template under data.prompt in params.yaml that makes a question and an answer of a row.",
    )


def reason_of(error: Exception) -> str:
    """Return why a row could not be converted."""
    return f"no {error}" if isinstance(error, KeyError) else str(error)


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
