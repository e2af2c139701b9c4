"""`finetune init` and `prepare` on the exports of annotation tools: what was not accepted is never learned."""

import json
from pathlib import Path
from typing import Any

import pytest
from init_project import done, lines, project, run, texts

from finetune.core.params import load_params
from finetune.core.paths import PREPARED, PREPARED_REPORT

__all__ = ["project"]
TEAMS = ("sales", "billing", "delivery")
PARTS = ("train", "valid", "test")
Rows = list[dict[str, Any]]


def prodigy(number: int, text: str, answer: str = "accept", **keys: Any) -> dict[str, Any]:
    hashes = {"_input_hash": number, "_task_hash": -number, "_session_id": f"set-{'ab'[number % 2]}", "_timestamp": 17}
    return {"text": text, "meta": {"source": "x"}, **keys, "answer": answer, "_view_id": "choice", **hashes}


def options(number: int, text: str, accept: list[str], answer: str = "accept") -> dict[str, Any]:
    given = [{"id": team, "text": team.title()} for team in TEAMS]
    return prodigy(number, text, answer, options=given, accept=accept, config={"choice_style": "single"})


def learned() -> list[tuple[str, str]]:
    """Return the last question and the answer of each prepared example."""
    rows = [json.loads(line) for part in PARTS for line in (PREPARED / f"{part}.jsonl").read_bytes().splitlines()]
    return [(row["messages"][-2]["content"], row["messages"][-1]["content"]) for row in rows]


def account() -> dict[str, int]:
    return dict(json.loads(PREPARED_REPORT.read_bytes())["account"])


def test_prodigy_labels_are_learned_and_what_was_rejected_or_ignored_is_counted(project: Path) -> None:
    kinds = ["accept"] * 8 + ["reject", "ignore"]
    rows = [prodigy(n, text, kinds[n % 10], label=TEAMS[n % 3], score=0.5) for n, text in enumerate(texts(150))]
    said = done(lines(project / "a.jsonl", rows))
    data = load_params().data
    assert data.prompt is not None
    assert (data.prompt.user, data.prompt.assistant, data.group) == ("{text}", "{label}", None)
    assert set(learned()) == {(row["text"], row["label"]) for row in rows if row["answer"] == "accept"}
    assert (account()["rows"], account()["not_accepted"], account()["examples"]) == (150, 30, 120)
    assert "30 rows that the annotator rejected or ignored are left out" in said
    assert " + 30 that the annotator rejected or ignored" in said


def test_prodigy_options_are_learned(project: Path) -> None:
    rows = [options(n, text, [TEAMS[n % 3]]) for n, text in enumerate(texts(120))]
    rows += [options(1000 + n, text, ["sales"], "reject") for n, text in enumerate(texts(9, length=9))]
    done(lines(project / "a.jsonl", rows))
    data = load_params().data
    assert data.prompt is not None
    assert (data.prompt.user, data.prompt.assistant) == ("{text}", "{accept[0]}")
    assert set(data.labels) == set(TEAMS)
    assert set(learned()) == {(row["text"], row["accept"][0]) for row in rows[:120]}
    several = [*rows, options(5000, "One more message", ["sales", "billing"])]
    lines(project / "data" / "raw" / "a.jsonl", several)
    from finetune.commands import pipeline
    from finetune.core.errors import FinetuneError

    with pytest.raises(FinetuneError, match=r"line 130, row 121 \(2 options are accepted"):
        pipeline.prepare()


def test_several_prodigy_options_are_a_list(project: Path) -> None:
    rows = [options(n, text, list(TEAMS[: 1 + n % 3])) for n, text in enumerate(texts(120))]
    done(lines(project / "a.jsonl", rows))
    assert load_params().evaluate.task == "extract"
    assert set(learned()) == {(row["text"], json.dumps(row["accept"])) for row in rows}


def test_one_prodigy_label_may_be_learned_as_accept_or_reject_without_what_was_ignored(project: Path) -> None:
    kinds = ["accept", "reject", "accept", "reject", "ignore"]
    rows = [prodigy(n, text, kinds[n % 5], label="rude") for n, text in enumerate(texts(150))]
    path = lines(project / "a.jsonl", rows)
    refused = run(path, "--yes")
    assert refused.exit_code == 1
    assert "--answer answer" in str(refused.exception)
    done(path, "--answer", "answer", "--question", "text")
    assert set(learned()) == {(row["text"], row["answer"]) for row in rows if row["answer"] != "ignore"}
    assert account()["not_accepted"] == 30


def test_label_studio_json_min_is_learned(project: Path) -> None:
    rows = [
        {
            "review": text,
            "id": n,
            "topic": TEAMS[n % 3],
            "annotator": 1 + n % 2,
            "annotation_id": 900 + n,
            "created_at": "2024-05-01T10:00:00.123456Z",
            "updated_at": "2024-05-01T10:00:00.123456Z",
            "lead_time": 2.5 + n,
        }
        for n, text in enumerate(texts(120))
    ]
    (project / "a.json").write_text(json.dumps(rows), encoding="utf-8")
    done(project / "a.json")
    data = load_params().data
    assert data.prompt is not None
    assert (data.prompt.user, data.prompt.assistant, data.group) == ("{review}", "{topic}", None)
    assert set(learned()) == {(row["review"], row["topic"]) for row in rows}
    rows[7]["topic"] = {"choices": ["sales", "billing"]}
    (project / "b.json").write_text(json.dumps(rows), encoding="utf-8")
    assert "several choices" in str(run(project / "b.json", "--yes").exception)


LABEL_STUDIO = {
    "id": 1,
    "data": {"text": "Hello"},
    "annotations": [{"id": 2, "result": [{"value": {"choices": ["a"]}, "from_name": "c"}], "was_cancelled": False}],
    "predictions": [],
}
ARGILLA = {"id": "1", "fields": {"text": "Hello"}, "responses": {"label": [{"value": "a", "user_id": "u"}]}}
FLAT_ARGILLA = {"id": "1", "status": "completed", "text": "Hello", "label.responses": ["a"]}
SPANS = prodigy(1, "Ana lives here", spans=[{"start": 0, "end": 3, "label": "PERSON"}])


@pytest.mark.parametrize(
    ("row", "part"),
    [
        (LABEL_STUDIO, "Export as JSON-MIN"),
        (ARGILLA, "is an export of Argilla"),
        (FLAT_ARGILLA, "is an export of Argilla"),
        (SPANS, "marks parts of the texts"),
    ],
)
def test_nested_exports_are_refused_with_what_to_export(project: Path, row: dict[str, Any], part: str) -> None:
    refused = run(lines(project / "a.jsonl", [row] * 30), "--yes")
    assert refused.exit_code == 1
    assert part in str(refused.exception)
    assert not (project / "data" / "raw" / "a.jsonl").exists()


def test_marked_parts_of_label_studio_are_refused(project: Path) -> None:
    part = {"start": 0, "end": 5, "text": "Hello", "labels": ["GREETING"]}
    keys = {"annotator": 1, "annotation_id": 1, "lead_time": 1.5}
    rows = [{"text": f"Hello {text}", "id": n, "label": [part], **keys} for n, text in enumerate(texts(30))]
    assert "marks parts of the texts" in str(run(lines(project / "a.jsonl", rows), "--yes").exception)


def test_rows_that_were_not_accepted_are_never_learned_by_a_prompt_of_ones_own(project: Path) -> None:
    rows = [prodigy(n, text, ("accept", "reject")[n % 2], label=TEAMS[n % 3]) for n, text in enumerate(texts(150))]
    done(lines(project / "a.jsonl", rows), "--question", "text", "--answer", "label")
    assert set(learned()) == {(row["text"], row["label"]) for row in rows if row["answer"] == "accept"}


def test_an_answer_of_other_rows_has_no_such_meaning(project: Path) -> None:
    rows = [{"text": text, "answer": ("accept", "reject", "ignore")[n % 3]} for n, text in enumerate(texts(120))]
    done(lines(project / "a.jsonl", rows))
    assert set(learned()) == {(row["text"], row["answer"]) for row in rows}
