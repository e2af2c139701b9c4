"""See whether the first line of a table is a row, and not the names of its columns."""

import re
from collections.abc import Sequence

from finetune.core.errors import FinetuneError
from finetune.data.column_words import ANSWERS, QUESTIONS, rank
from finetune.data.file_look import DATE, LABEL_LETTERS, NUMBER, Column, FileLook
from finetune.data.raw_examples import SPLIT_NAMES
from finetune.data.raw_file import Row

TABLES = ("CSV", "TSV", "XLSX")
WORDS_OF_A_SENTENCE = 5
WORDS_OF_A_NAME = 2
SENTENCE_ENDS = tuple(".!…。．！？؟")
INSIDE_SENTENCES = re.compile("[。！？，]")  # where no spaces show the words
DIGITS = re.compile(r"\d+")
LETTER_OR_DIGIT = re.compile(r"[^\W_]")


def refuse_header_of_cells(look: FileLook, answers: Column, chosen: bool) -> None:
    """Raise FinetuneError if the first line is surely a row and not the names of columns. `chosen`: the answer is."""
    if chosen:
        return
    why = None
    if answers.kind == "label" and answers.values[answers.name] > 0:
        why = f"{answers.name!r} in the first line is also an answer in other rows."
    elif is_table(look) and not has_a_sure_name(look) and (name := id_as_name(look)):
        why = f"{name!r} in the first line is like the cells below it."
    if why:
        raise FinetuneError(
            f"{look.path} has no line with the names of its columns: {why}",
            "Write the names of the columns into the first line, such as: question,answer",
        )


def name_like_a_cell(look: FileLook) -> str | None:
    """Return the name of a column if the first line may be a row; None if it seems to have the names of columns.

    All names look like cells: sentences, or numbers and dates above numbers and dates. Or one of them does, and no
    other is surely a name: in a row, a class may be on no other row, and an id is in no other one.
    """
    if not is_table(look):
        return None
    columns = list(look.columns.values())
    like_cells = [column.name for column in columns if looks_like_a_cell(column)]
    if len(like_cells) == len(columns):
        return like_cells[0]
    if has_a_sure_name(look):
        return None
    return id_as_name(look) or next((column.name for column in columns if is_clearly_a_cell(column, look.first)), None)


def is_table(look: FileLook) -> bool:
    """Return whether the names of columns are in the first line, and nothing else shows that they are names."""
    return look.format == "columns" and look.note["format"].startswith(TABLES)


def looks_like_a_cell(column: Column) -> bool:
    name = column.name
    if column.kind in ("number", "date") or column.numbers == column.filled:
        return is_number_or_date(name)
    if column.kind in ("label", "constant"):
        return column.values[name] > 0
    return is_sentence(name)


def is_clearly_a_cell(column: Column, first: Sequence[Row]) -> bool:
    """Return whether a name alone shows that the first line may be a row. `first`: the first rows.

    A number does not, such as a year, nor does the only cell of a column, as surveys write options. A question of a
    survey may be a name too, but is mostly longer than its answers, and these are no questions.
    """
    name = column.name
    if column.kind == "label":
        return column.values[name] > 0
    are_questions = len(name.split()) > WORDS_OF_A_NAME and all(
        text.endswith("?") for text in (name, *(str(row.get(name)).strip() for row in first))
    )
    return column.kind == "text" and (is_sentence(name) or are_questions) and len(name) <= len(column.longest)


def id_as_name(look: FileLook) -> str | None:
    """Return the name of a column of ids that is like the ids of the first rows; None if there is none.

    It has their letters, or their length: T-0000 above T-0001. Of plain numbers, the next ones are below it. Names that
    are all numbers are no row: pandas writes them.
    """
    if all(map(str.isdecimal, look.columns)):
        return None
    for name, column in look.columns.items():
        cells = [str(row.get(name)).strip() for row in look.first]
        if column.kind != "id" or DIGITS.search(name) is None:
            continue
        if name.isdecimal():
            if cells == [str(int(name) + number) for number in range(1, len(cells) + 1)]:
                return name
        elif any({one.sub("0", cell) for cell in cells} == {one.sub("0", name)} for one in (DIGITS, LETTER_OR_DIGIT)):
            return name
    return None


def has_a_sure_name(look: FileLook) -> bool:
    return any(map(is_sure_name, look.columns.values()))


def is_sure_name(column: Column) -> bool:
    """Return whether a name is surely not a cell of its column, so that the first line is no row."""
    name, kind = column.name, column.kind
    if kind in ("number", "date") or (column.filled and column.numbers == column.filled):
        return not is_number_or_date(name)
    if kind == "json":
        return not name.startswith(("[", "{"))
    if kind == "split":
        return name.strip().lower() not in SPLIT_NAMES
    if kind in ("id", "group"):
        return "@" not in name and DIGITS.search(name) is None
    if kind == "label":
        return column.values[name] == 0 and (rank(name, ANSWERS) is not None or is_unlike_classes(column))
    return (
        kind == "text"
        and len(name.split()) <= WORDS_OF_A_NAME
        and not is_sentence(name)
        and (rank(name, QUESTIONS) is not None or rank(name, ANSWERS) is not None)
    )


def is_unlike_classes(column: Column) -> bool:
    """Return whether a name is a sentence or a question, or the classes begin in the other case: Queue, billing."""
    name = column.name
    if len(name) > LABEL_LETTERS or is_sentence(name) or name.endswith("?"):
        return True
    begins = {value.strip()[:1] for value in column.values}
    upper = name[:1].isupper()
    return all(letter.isalpha() and letter.isupper() != upper for letter in begins)


def is_sentence(name: str) -> bool:
    return (
        len(name.split()) >= WORDS_OF_A_SENTENCE
        or name.endswith(SENTENCE_ENDS)
        or INSIDE_SENTENCES.search(name) is not None
    )


def is_number_or_date(name: str) -> bool:
    return NUMBER.fullmatch(name) is not None or DATE.fullmatch(name) is not None
