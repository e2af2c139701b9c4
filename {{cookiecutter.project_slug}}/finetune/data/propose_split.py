"""Propose the splits: the column that names them, or shares by the number of rows."""

from typing import Any

from finetune.data.choose_columns import AS_BEFORE, Choices
from finetune.data.file_look import FileLook

TEST_ROWS, VALID_ROWS = (50, 1_000), (20, 500)  # wanted at least and at most
TEST_SHARE, VALID_SHARE = (0.2, 0.3), (0.1, 0.15)  # the usual one, and the largest one, of small files


def split_of(look: FileLook, choices: Choices) -> tuple[dict[str, Any], str]:
    """Return the value of data.split, and why."""
    if choices.split:
        return choices.split, AS_BEFORE
    given = [column.name for column in look.columns.values() if column.kind == "split" and column.filled == look.rows]
    if given and not choices.group:
        return {"column": given[0]}, "the file says the split of each row"
    test = share_of(look.rows, TEST_ROWS, TEST_SHARE)
    valid = share_of(look.rows, VALID_ROWS, VALID_SHARE)
    about = f"about {round(test * look.rows):,} test and {round(valid * look.rows):,} validation rows"
    return {"train": round(1 - valid - test, 4), "valid": valid, "test": test}, about


def share_of(rows: int, wanted: tuple[int, int], share: tuple[float, float]) -> float:
    """Return the share that gives the usual share, but the wanted numbers of rows where possible."""
    fewest, most = wanted
    usual, largest = share
    found = min(max(usual, fewest / rows), largest, max(most / rows, 0.0001))
    return round(found, 2) if found >= 0.01 else round(found, 4)
