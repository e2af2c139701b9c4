"""See whether the first line of a table is a row, and not the names of its columns."""

from finetune.core.errors import FinetuneError
from finetune.data.file_look import DATE, NUMBER, Column, FileLook

TABLES = ("CSV", "TSV", "XLSX")
WORDS_OF_A_SENTENCE = 5
SENTENCE_ENDS = tuple(".!…。．！？؟")


def refuse_header_of_cells(look: FileLook, answers: Column, chosen: bool) -> None:
    """Raise FinetuneError if the first line seems to be a row and not the names of columns."""
    if answers.kind == "label" and answers.values[answers.name] > 0 and not chosen:
        raise FinetuneError(
            f"{look.path} has no line with the names of its columns: {answers.name!r} in the first line is also an"
            " answer in other rows.",
            "Write the names of the columns into the first line, such as: question,answer",
        )


def first_line_may_be_a_row(look: FileLook) -> bool:
    """Return whether all names of columns look like cells: sentences, or numbers and dates above numbers and dates."""
    if look.format != "columns" or not look.note["format"].startswith(TABLES):
        return False
    return all(looks_like_a_cell(column) for column in look.columns.values())


def looks_like_a_cell(column: Column) -> bool:
    name = column.name
    if column.kind in ("number", "date") or column.numbers == column.filled:
        return NUMBER.fullmatch(name) is not None or DATE.fullmatch(name) is not None
    if column.kind in ("label", "constant"):
        return column.values[name] > 0
    return len(name.split()) >= WORDS_OF_A_SENTENCE or name.endswith(SENTENCE_ENDS)
