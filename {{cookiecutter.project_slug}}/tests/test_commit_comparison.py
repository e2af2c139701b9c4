"""Which rows of two commits are the same."""

from typing import Any

import pytest

from finetune.project.commit_comparison import Side, common_rows


def side_of(*rows: tuple[str, str, str], known: bool = True) -> Side:
    """Return a side from rows of whole question, last question and expected answer."""
    answers: Any = [{"asked": asked, "expected": expected, "answer": "a"} for _, asked, expected in rows]
    tested: Any = [{"question": question, "group": n} for n, (question, _, _) in enumerate(rows)]
    record: Any = {}
    return Side(record, answers, tested if known else [])


def test_a_question_that_occurs_often_is_paired_by_its_number() -> None:
    thanks = [("t", "ok thanks", "billing" if n % 2 else "delivery") for n in range(60)]
    one = side_of(*thanks)
    assert common_rows(one, one) == [(n, n) for n in range(60)]
    fewer = side_of(*thanks[:40])
    assert common_rows(one, fewer) == [(n, n) for n in range(40)]
    assert common_rows(fewer, one) == [(n, n) for n in range(40)]


def test_the_same_last_question_about_other_documents_is_another_row() -> None:
    one = side_of(("doc 1", "Who pays?", "no idea"), ("doc 2", "Who pays?", "no idea"))
    other = side_of(("doc 2", "Who pays?", "no idea"), ("doc 3", "Who pays?", "no idea"))
    assert common_rows(one, other) == [(1, 0)]


@pytest.mark.parametrize("known", [True, False])
def test_with_another_system_prompt_only_unique_rows_are_paired(known: bool) -> None:
    rows = [("where?", "delivery"), ("why?", "billing"), ("ok thanks", "sales"), ("ok thanks", "sales")]
    one = side_of(*((f"old {n}", *row) for n, row in enumerate(rows)))
    other = side_of(*((f"new {n}", *row) for n, row in enumerate(rows)), known=known)
    assert common_rows(one, other) == [(0, 0), (1, 1)]
