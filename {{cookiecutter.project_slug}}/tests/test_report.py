"""The report: what the page and the Markdown say of the files that the other stages leave, and of those alone."""

import csv
import json
import re
import subprocess
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from finished import write_finished, write_json, write_table

from finetune.core.errors import FinetuneError
from finetune.core.paths import EVALUATION, FILES, LATENCY, PREPARED_REPORT, VALIDATION_REPORT
from finetune.report.charts import ticks
from finetune.report.markdown import LONGEST
from finetune.stages import report

HOSTILE = '<script>alert(1)</script> | **@all** `x` #1 "\n'


@pytest.fixture(autouse=True)
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    write_finished(tmp_path)
    return tmp_path


def made() -> tuple[str, str]:
    """The page and the Markdown."""
    report.run()
    return report.PAGE.read_text(encoding="utf-8"), report.MARKDOWN.read_text(encoding="utf-8")


def change(path: Path | str, **values: Any) -> dict[str, Any]:
    file = Path(path)
    changed = {**json.loads(file.read_text(encoding="utf-8")), **values}
    write_json(file, changed)
    return changed


def rows_of(name: str) -> list[dict[str, str]]:
    with open(f"reports/{name}.csv", encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def commit_all() -> str:
    who = ["-c", "user.name=t", "-c", "user.email=t@example.com"]
    subprocess.run(["git", "add", "-A"], check=True)
    subprocess.run(["git", *who, "commit", "-qm", "x"], check=True)
    return subprocess.run(["git", "rev-parse", "HEAD"], check=True, capture_output=True, text=True).stdout.strip()


def test_the_page_answers_first_whether_it_was_worth_it() -> None:
    assert report.run() == "better by 43.8 points"
    page, markdown = made()
    assert '<h1>The tuned model is <em class="good">better by 43.8 points</em> than the base model</h1>' in page
    assert markdown.startswith(
        "# Fine-tune report\n\n**The tuned model is better by 43.8 points than the base model.**"
    )
    assert "Meets what evaluate.require asks for" in page


def test_no_difference_is_no_success() -> None:
    told = change("reports/evaluation.json")
    words = (
        "no difference shown (95 % interval -0.020 to +0.040, p = 0.4, 169 rows); about 900 more rows would settle it"
    )
    change(
        "reports/evaluation.json", lift=told["lift"] | {"verdict": words}, gates_met=0, gates_failed=["x is 1, not > 2"]
    )
    page, markdown = made()
    assert "<h1>No difference shown between the tuned model and the base model</h1>" in page
    assert "about 900 more rows would settle it" in page
    assert '<ul class="gates bad"><li>✗ x is 1, not &gt; 2</li></ul>' in page
    assert "**No difference shown.**" in markdown
    assert "- ❌ x is 1, not > 2" in markdown


def test_the_page_stands_alone() -> None:
    page, _ = made()
    assert "<script" not in page
    assert not re.findall(r"(?:src|href)=\"(?!#)|url\(|@import|https?:", page)


def test_all_sections_are_there_and_linked() -> None:
    page, _ = made()
    sections = re.findall(r'<section id="([a-z-]+)"', page)
    links = re.findall(r'href="#([a-z-]+)"', page)
    assert sections == links
    assert sections == [
        *("comparison", "judge", "groups", "training", "confusion", "classes"),
        *("calibration", "rows", "other-abilities", "cost", "lineage"),
    ]


def test_what_is_missing_or_empty_has_no_section() -> None:
    for path in (*report.TABLES, LATENCY, VALIDATION_REPORT, FILES, PREPARED_REPORT):
        path.unlink()
    told = json.loads(EVALUATION.read_text(encoding="utf-8"))
    del told["judge"], told["saved_prompt_tokens"]
    write_json(EVALUATION, told | {"also": {}})
    write_table(Path("reports/rows.csv"), [{"kind": "", "asked": ""}])
    page, markdown = made()
    assert re.findall(r'<section id="([a-z-]+)"', page) == ["comparison", "training", "cost", "lineage"]
    assert "polyline" not in page
    assert "| accuracy |" in markdown


def test_what_people_wrote_is_escaped() -> None:
    def spoil(name: str, *columns: str) -> None:
        write_table(Path(f"reports/{name}.csv"), [row | dict.fromkeys(columns, HOSTILE) for row in rows_of(name)])

    spoil("rows", "asked", "expected", "base", "tuned")
    for name in ("confusion_base", "confusion_tuned"):
        spoil(name, "actual", "predicted")
    spoil("classes", "class")
    spoil("groups", "group")
    told = change("reports/evaluation.json", gates_failed=[HOSTILE])
    also = {HOSTILE: told["also"]["general"] | {"verdict": HOSTILE}}
    change("reports/evaluation.json", also=also, judge=told["judge"] | {"verdict": HOSTILE})
    record = change("models/model.json", suffix=HOSTILE, verdict_words=HOSTILE, hyperparameters={HOSTILE: HOSTILE})
    change("models/model.json", chosen=record["chosen"] | {"why": HOSTILE}, model=HOSTILE)
    page, markdown = made()
    assert page.count("&lt;script&gt;") > 20
    assert "<script" not in page
    tables = [line for line in markdown.splitlines() if line.startswith("|")]
    assert all(len(re.findall(r"(?<!\\)\|", line)) in (3, 5, 6) for line in tables)
    outside_code = re.sub(r"`[^`\n]*`", "", markdown)
    assert not re.search(r"<script|(?<!\\)\*\*@|@all|(?<!\\)#1", outside_code)


def test_confusion_stays_readable_with_hundreds_of_classes(project: Path) -> None:
    write_finished(project, 900, [f"class {i}" for i in range(500)])
    page, markdown = made()
    assert "The 20 classes with the most errors; 480 others are left out." in page
    for table in (part.split("</table>")[0] for part in page.split('class="confusion"')[1:]):
        labels, columns = (re.findall(rf'scope="{scope}">([^<]+)', table) for scope in ("row", "col"))
        assert len(labels) == 20
        assert columns[:20] == labels
        assert columns[20:] in ([], ["(none)"], ["(others)"], ["(none)", "(others)"])
    assert len(markdown) <= LONGEST


def test_the_confusion_counts_every_row_of_a_class() -> None:
    rows = [{"actual": "a", "predicted": p} for p in ("a", "a", "b", "(none)")] + [{"actual": "b", "predicted": "b"}]
    for name in ("base", "tuned"):
        write_table(Path(f"reports/confusion_{name}.csv"), rows)
    classes = [{"model": "tuned", "class": c, "precision": 1, "recall": 1, "f1": 1, "n": 1} for c in "ab"]
    write_table(Path("reports/classes.csv"), classes)
    page, _ = made()
    table = page.split('class="confusion"')[2].split("</table>")[0]
    assert re.findall(r'scope="col">([^<]+)', table) == ["a", "b", "(none)"]
    assert re.findall(r"<td[^>]*>(\d*)</td>", table) == ["2", "1", "1", "", "1", ""]
    assert table.count("--right") == 2
    assert table.count("--wrong") == 2


def test_rows_say_how_many_there_are_in_all() -> None:
    told = json.loads(EVALUATION.read_text(encoding="utf-8"))
    page, _ = made()
    assert f"{told['lift']['losses']} of 169 rows<" in page
    assert f"{told['lift']['wins']} of 169 rows; the first 50 are here" in page
    assert "44 more</summary>" in page


def test_the_first_lines_and_the_last_of_a_long_text_are_enough() -> None:
    write_table(
        Path("reports/rows.csv"), [row | {"asked": "begin " + "x" * 200_000 + " end"} for row in rows_of("rows")]
    )
    page, _ = made()
    assert "begin x" in page
    assert "x end" in page
    assert len(page) < 300_000


def test_the_curve_marks_the_chosen_step_and_outlives_a_loss_that_is_no_number() -> None:
    rows = rows_of("training")
    rows[-1]["train_loss"], rows[3]["train_loss"] = "nan", "inf"
    write_table(Path("reports/training.csv"), rows)
    page, _ = made()
    assert page.count("chosen: step 152") == 2
    assert not re.search(r"(?<![a-z])(?:nan|inf)(?![a-z])", page)


@pytest.mark.parametrize(
    ("low", "high"), [(0, 1), (0.42, 0.93), (-0.2, 0.03), (0.97, 0.9712), (5, 5), (0, 0), (0, 12_345), (-3, -1)]
)
@pytest.mark.parametrize("most", [3, 5])
def test_an_axis_has_few_round_figures_around_its_values(low: float, high: float, most: int) -> None:
    axis = ticks(low, high, most)
    assert axis[0] <= low
    assert axis[-1] >= high
    assert 2 <= len(axis) <= most + 1
    steps = [b - a for a, b in pairwise(axis)]
    assert max(steps) == pytest.approx(min(steps))
    assert all(len(f"{tick:g}") <= 7 for tick in axis)


def test_what_it_cost() -> None:
    page, markdown = made()
    # The ledger's third job came later: the report of this fine-tune is not about it.
    for line in ("training: $0.50", "billed tokens: 110,163", "all jobs so far (2): $0.90"):
        assert f"- {line}\n" in markdown
        assert "<dt>{}</dt><dd>{}</dd>".format(*line.split(": ")) in page
    assert "| tuned | 58.2 | 2.1 | $0.0487 |" in markdown


def test_a_cost_that_nobody_knows_is_unknown() -> None:
    told = json.loads(EVALUATION.read_text(encoding="utf-8"))
    change("reports/evaluation.json", tuned=told["tuned"] | {"usd_per_1000": "unknown"})
    change("models/model.json", usd="unknown")
    write_table(
        Path("reports/ledger.csv"), [{"job": f"ftjob-{i}", "billed_usd": ["0.5", "unknown"][i]} for i in (0, 1)]
    )
    _, markdown = made()
    assert "- training: unknown\n" in markdown
    assert "- all jobs so far (2): $0.50, and 1 of unknown price\n" in markdown
    assert "| tuned | 58.2 | 2.1 | unknown |" in markdown


def test_the_report_is_the_same_before_its_commit_and_after() -> None:
    subprocess.run(["git", "init", "-q"], check=True)
    record = Path("models/model.json").read_text(encoding="utf-8")
    assert "<dd>none yet</dd>" in made()[0]
    Path("models/model.json").unlink()
    start = commit_all()
    Path("models/model.json").write_text(record, encoding="utf-8")
    first = made()
    assert start in first[0]
    commit = commit_all()
    assert made() == first
    change("models/model.json", job="ftjob-2", seed=7)
    second = made()
    assert commit in second[0]
    assert f"| the one before, `{commit[:7]}` |" in second[1]
    assert "| seed | `7` | `42` |" in second[1]
    assert "| base | `gpt-4.1-mini-2025-04-14` | the same |" in second[1]
    commit_all()
    assert made() == second


def test_a_report_for_a_comment_is_cut_to_what_fits() -> None:
    told = json.loads(EVALUATION.read_text(encoding="utf-8"))
    write_json(EVALUATION, told | {f"checkpoint_{i}": told["tuned"] for i in range(4000)})
    _, markdown = made()
    assert len(markdown) <= LONGEST
    assert markdown.endswith("the rest is in reports/report.html.\n")


@pytest.mark.parametrize("name", ["models/model.json", "reports/evaluation.json"])
def test_without_a_fine_tune_it_says_what_to_run(name: str) -> None:
    Path(name).unlink()
    with pytest.raises(FinetuneError, match="dvc repro"):
        report.run()
