"""The page and the Markdown, made from the files of the other stages."""

import csv
import json
import re
import subprocess
from itertools import pairwise
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from finished import write_finished, write_json, write_table
from typer.testing import CliRunner

from finetune.cli import app
from finetune.core.errors import FinetuneError
from finetune.core.paths import EVALUATION, FILES, LATENCY, PREPARED_REPORT, VALIDATION_REPORT
from finetune.project.promotion import promote
from finetune.report.axes import ticks
from finetune.report.markdown import LONGEST
from finetune.stages import report

HOSTILE = '<script>alert(1)</script> | **@all** `x` #1 "\n'


@pytest.fixture(autouse=True)
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    write_finished(tmp_path)
    return tmp_path


def made() -> tuple[str, str]:
    """Make the report, and return the page and the Markdown."""
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


def test_the_page_begins_with_the_verdict() -> None:
    assert report.run() == "better by 43.8 points of accuracy"
    page, markdown = made()
    assert (
        '<h1>The tuned model is <em class="good">better by 43.8 points of accuracy</em> than the base model</h1>'
        in page
    )
    assert markdown.startswith(
        "# Fine-tune report\n\n**The tuned model is better by 43.8 points of accuracy than the base model.**"
    )
    assert "All conditions of evaluate.require are met" in page
    assert "✅ All conditions of `evaluate.require` are met." in markdown


def test_without_a_clear_difference_no_model_is_called_better() -> None:
    evaluation = change("reports/evaluation.json")
    words = (
        "no difference shown (95 % interval -0.020 to +0.040, p = 0.4, 169 rows); about 900 more rows would settle it"
    )
    change(
        "reports/evaluation.json",
        lift=evaluation["lift"] | {"verdict": words},
        gates_met=0,
        gates_failed=["x is 1, not > 2"],
    )
    page, markdown = made()
    assert "<h1>No difference in accuracy shown between the tuned model and the base model</h1>" in page
    assert "about 900 more rows would settle it" in page
    assert '<ul class="gates bad"><li>✗ x is 1, not &gt; 2</li></ul>' in page
    assert "**No difference shown in accuracy.**" in markdown
    assert "- ❌ x is 1, not > 2" in markdown


def test_the_page_needs_no_other_file() -> None:
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


def test_missing_and_empty_files_have_no_section() -> None:
    for path in (*report.TABLES, LATENCY, VALIDATION_REPORT, FILES, PREPARED_REPORT):
        path.unlink()
    evaluation = json.loads(EVALUATION.read_text(encoding="utf-8"))
    del evaluation["judge"], evaluation["saved_prompt_tokens"]
    write_json(EVALUATION, evaluation | {"also": {}})
    write_table(Path("reports/rows.csv"), [{"kind": "", "asked": ""}])
    page, markdown = made()
    assert re.findall(r'<section id="([a-z-]+)"', page) == ["comparison", "training", "cost", "lineage"]
    assert "polyline" not in page
    assert "| accuracy |" in markdown


def test_texts_of_users_are_escaped() -> None:
    def spoil(name: str, *columns: str) -> None:
        write_table(Path(f"reports/{name}.csv"), [row | dict.fromkeys(columns, HOSTILE) for row in rows_of(name)])

    spoil("rows", "asked", "expected", "base", "tuned")
    for name in ("confusion_base", "confusion_tuned"):
        spoil(name, "actual", "predicted")
    spoil("classes", "class")
    spoil("groups", "group")
    found = change("reports/evaluation.json", gates_failed=[HOSTILE])
    also = {HOSTILE: found["also"]["general"] | {"verdict": HOSTILE}}
    compared = {HOSTILE: found["compared"]["base"]}
    polite = found["graders"]["polite"]
    graders = {HOSTILE: polite | {"compared": {HOSTILE: polite["compared"]["base"]}}}
    judge = found["judge"] | {"verdict": HOSTILE}
    change("reports/evaluation.json", also=also, judge=judge, compared=compared, graders=graders)
    write_table(Path("reports/pairs.csv"), [row | {"against": f"compared.{HOSTILE}"} for row in rows_of("pairs")])
    record = change("models/model.json", suffix=HOSTILE, verdict_words=HOSTILE, hyperparameters={HOSTILE: HOSTILE})
    change("models/model.json", chosen=record["chosen"] | {"why": HOSTILE}, model=HOSTILE)
    change("reports/evaluation.json", evaluated=found["evaluated"] | {"model": HOSTILE})
    page, markdown = made()
    assert page.count("&lt;script&gt;") > 20
    assert "<script" not in page
    tables = [[line for line in part.splitlines() if line.startswith("|")] for part in markdown.split("\n\n")]
    widths = [{len(re.findall(r"(?<!\\)\|", line)) for line in table} for table in tables if table]
    assert widths == [{7}, {6}, {10}, {5}, {3}]  # one more than cells
    outside_code = re.sub(r"`[^`\n]*`", "", markdown)
    assert not re.search(r"<script|(?<!\\)\*\*@|@all|(?<!\\)#1", outside_code)


def test_confusion_stays_readable_with_hundreds_of_classes(project: Path) -> None:
    write_finished(project, 900, [f"class {i}" for i in range(500)])
    page, markdown = made()
    assert "The 20 classes with the most errors; 480 others are not shown." in page
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
    assert table.count('class="right"') == 2
    assert table.count('class="wrong"') == 2


def test_the_total_number_of_wins_and_losses_is_shown() -> None:
    evaluation = json.loads(EVALUATION.read_text(encoding="utf-8"))
    page, _ = made()
    assert f"{evaluation['lift']['losses']} of 169 rows<" in page
    assert f"{evaluation['lift']['wins']} of 169 rows; the first 50 are shown" in page
    assert "44 more</summary>" in page


def test_only_the_beginning_and_the_end_of_a_long_text_are_shown() -> None:
    write_table(
        Path("reports/rows.csv"), [row | {"asked": "begin " + "x" * 200_000 + " end"} for row in rows_of("rows")]
    )
    page, _ = made()
    assert "begin x" in page
    assert "x end" in page
    assert len(page) < 300_000


def test_the_chosen_step_is_marked_and_losses_that_are_not_finite_are_left_out() -> None:
    rows = rows_of("training")
    rows[-1]["train_loss"], rows[3]["train_loss"] = "nan", "inf"
    write_table(Path("reports/training.csv"), rows)
    page, _ = made()
    assert page.count("chosen: step 152") == 2
    assert not re.search(r"(?<![a-z])(?:nan|inf)(?![a-z])", page)


def test_the_verdict_on_the_curves_is_on_the_page_and_in_the_comment() -> None:
    words = "The loss of validation batches shows neither a change at the end nor that there is none."
    change("models/model.json", verdict="cannot tell", verdict_words=words)
    page, markdown = made()
    assert f"<p>Cannot tell. {words}</p>" in page
    assert f"## Training\n\nCannot tell. {words}\n" in markdown


def test_losses_of_the_whole_validation_split_are_drawn_apart_from_those_of_its_batches() -> None:
    rows = rows_of("training")
    assert "validation, and its batches" not in made()[0]
    for row in rows:
        row["full_valid_loss"] = row["valid_loss"] if int(row["step"]) % 76 == 0 else ""
    write_table(Path("reports/training.csv"), rows)
    page, _ = made()
    assert "validation, and its batches" in page
    batches, whole = (
        re.search(f'<polyline class="{style} tuned" points="([^"]+)"', page) for style in ("faint", "line")
    )
    assert batches is not None
    assert whole is not None
    assert (len(batches[1].split()), len(whole[1].split())) == (9, 3)


@pytest.mark.parametrize(
    ("low", "high"), [(0, 1), (0.42, 0.93), (-0.2, 0.03), (0.97, 0.9712), (5, 5), (0, 0), (0, 12_345), (-3, -1)]
)
@pytest.mark.parametrize("most", [3, 5])
def test_an_axis_has_few_round_values_that_enclose_the_data(low: float, high: float, most: int) -> None:
    axis = ticks(low, high, most)
    assert axis[0] <= low
    assert axis[-1] >= high
    assert 2 <= len(axis) <= most + 1
    steps = [b - a for a, b in pairwise(axis)]
    assert max(steps) == pytest.approx(min(steps))
    assert all(len(f"{tick:g}") <= 7 for tick in axis)


def test_the_verdict_names_the_model_that_it_is_about() -> None:
    def printed() -> str:
        return CliRunner().invoke(app, ["report"]).stdout

    clause = "better by 43.8 points of accuracy"
    assert printed() == f"report: tuned against the base model: {clause}. Open reports/report.html\n"
    evaluation = json.loads(EVALUATION.read_text(encoding="utf-8"))
    floor = {"name": "floors.tfidf", "verdict": "worse by 42.1 points (95 % interval -0.565 to -0.256, p = 0.01)"}
    scored = {"tfidf": {**evaluation["base"], "lift": evaluation["lift"]}}
    change("reports/evaluation.json", rival=floor, floors=scored)
    assert "report: tuned against TF-IDF with logistic regression: worse by 42.1 points. " in printed()


def test_the_cost_is_shown() -> None:
    page, markdown = made()
    # The ledger's third job is later than this fine-tune, and not part of its report.
    for line in ("training: $0.50", "billed tokens: 110,163", "all jobs up to this one (2): $0.90"):
        assert f"- {line}\n" in markdown
        assert "<dt>{}</dt><dd>{}</dd>".format(*line.split(": ")) in page
    assert "| tuned | 58.2 | 2.1 | $0.0487 |" in markdown


def test_an_unknown_cost_is_called_unknown() -> None:
    evaluation = json.loads(EVALUATION.read_text(encoding="utf-8"))
    change("reports/evaluation.json", tuned=evaluation["tuned"] | {"usd_per_1000": "unknown"})
    change("models/model.json", usd="unknown")
    write_table(
        Path("reports/ledger.csv"), [{"job": f"ftjob-{i}", "billed_usd": ["0.5", "unknown"][i]} for i in (0, 1)]
    )
    _, markdown = made()
    assert "- training: unknown\n" in markdown
    assert "- all jobs up to this one (2): $0.50, and 1 of unknown price\n" in markdown
    assert "| tuned | 58.2 | 2.1 | unknown |" in markdown


def test_a_compared_model_called_base_is_not_the_base_model() -> None:
    page, markdown = made()
    evaluation = json.loads(EVALUATION.read_text(encoding="utf-8"))
    own, compared = evaluation["base"]["accuracy"], evaluation["compared"]["base"]["accuracy"]
    assert own != compared
    head = "| 169 test rows | base | few shot | checkpoint 76 | base (compared) | tuned |\n"
    assert head in markdown
    scores = markdown.split(head)[1].splitlines()[1].split("|")
    assert scores[2].startswith(f" **{own:.3f}**")
    assert scores[5].startswith(f" **{compared:.3f}**")
    assert "| tuned − base (compared) |" in markdown
    for table in ("classes", "groups", "calibration"):
        write_table(Path(f"reports/{table}.csv"), [row for row in rows_of(table) if row["model"] != "compared.base"])
    assert made()[0] == page  # these tables show only base and tuned


def test_models_are_sorted_and_called_as_users_named_them() -> None:
    tuned = json.loads(EVALUATION.read_text(encoding="utf-8"))["tuned"]
    checkpoints, compared = dict.fromkeys(("100", "76"), tuned), dict.fromkeys(("v1.10", "v1.9", "HEAD~1"), tuned)
    change(EVALUATION, graders={}, checkpoints=checkpoints, compared=compared)
    change(LATENCY, **{"compared.v1.9": {"median_ms": 1234.0}})
    page, markdown = made()
    names = ["base", "few shot", "checkpoint 76", "checkpoint 100", "HEAD~1", "v1.9", "v1.10", "tuned"]
    assert f"| {' | '.join(names)} |\n".replace("~", r"\~") in markdown
    assert re.findall(r"<td>([^<]+)</td><td class=\"plot\">", page)[:8] == names
    assert re.search(r"<td>v1.9</td>(<td class=\"n\">[^<]+</td>){3}<td class=\"n\">1,234 ms</td>", page)


def test_graders_are_shown_with_the_difference_to_base() -> None:
    page, markdown = made()
    cells = ["0.510", "0.760", "0.880", "0.850", "0.940", "+0.430", "+0.360 – +0.500", "0.0001"]
    assert f"| polite | {' | '.join(cells)} |" in markdown
    row = page.split("<td>polite</td>")[1].split("</tr>")[0]
    assert re.findall(r">([^<]+)</td>", row) == cells


def test_the_f1_of_fields_is_shown() -> None:
    base = json.loads(EVALUATION.read_text(encoding="utf-8"))["base"]
    change(EVALUATION, base=base | {"fields": {"recall": 0.25}})
    page, markdown = made()
    assert "| F1 of recall | 0.250 | – | – | – | – |" in markdown
    assert "<td>F1 of recall</td>" in page


def test_files_of_earlier_versions_give_the_same_report() -> None:
    found = json.loads(EVALUATION.read_text(encoding="utf-8"))
    polite = found["graders"]["polite"]
    for models in (found["compared"], polite["compared"]):
        models["v1"] = models.pop("base")
    write_json(EVALUATION, found)
    change(LATENCY, **{"compared.v1": {"median_ms": 1.0}})
    pairs = [row | {"against": row["against"].replace("compared.base", "compared.v1")} for row in rows_of("pairs")]
    write_table(Path("reports/pairs.csv"), pairs)
    expected = made()

    former = {key: value for key, value in found.items() if key not in ("checkpoints", "compared", "graders")}
    former |= {"checkpoint_76": found["checkpoints"]["76"], "v1": found["compared"]["v1"]}
    former |= {f"lift_over_{name}": former[name].pop("lift") for name in ("checkpoint_76", "v1")}
    grades = polite | {"checkpoint_76": polite["checkpoints"]["76"], "v1": polite["compared"]["v1"]}
    for name in ("base", "few_shot", "checkpoint_76", "v1", "tuned", "lift"):
        former[name]["polite"] = grades[name].pop("score")
        former[name] |= {f"polite_{key}": value for key, value in grades[name].items()}
    write_json(EVALUATION, former)
    times = json.loads(LATENCY.read_text(encoding="utf-8"))
    write_json(LATENCY, {name: times[name] for name in ("base", "few_shot", "tuned")} | {"v1": times["compared.v1"]})
    names = {"checkpoints.76": "checkpoint_76", "compared.v1": "v1"}
    pairs = [row | {"against": names.get(row["against"], row["against"])} for row in pairs]
    write_table(Path("reports/pairs.csv"), pairs)
    assert made() == expected


def test_the_report_is_the_same_before_and_after_its_commit() -> None:
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


@pytest.mark.slow
def test_a_report_that_is_too_long_for_a_comment_is_cut() -> None:
    evaluation = json.loads(EVALUATION.read_text(encoding="utf-8"))
    change(EVALUATION, graders={}, checkpoints={str(step): evaluation["tuned"] for step in range(4000)})
    _, markdown = made()
    assert len(markdown) <= LONGEST
    assert markdown.endswith("the rest is in reports/report.html.\n")


@pytest.mark.parametrize("other", [{"model": "ft:other"}, {"fingerprint": "0" * 64}])
def test_figures_of_another_model_are_refused(other: dict[str, str]) -> None:
    change("models/model.json", **other)
    with pytest.raises(FinetuneError, match="has the figures of ft:gpt"):
        report.run()
    done = CliRunner().invoke(app, ["show"])
    assert isinstance(done.exception, FinetuneError)
    params: Any = SimpleNamespace(evaluate=SimpleNamespace(require={}))
    with pytest.raises(FinetuneError, match="has the figures of ft:gpt"):
        promote(params, "production")


def test_figures_from_other_test_rows_are_refused() -> None:
    Path("data/prepared").mkdir(parents=True)
    Path("data/prepared/test.jsonl").write_text("{}\n", encoding="utf-8")
    done = CliRunner().invoke(app, ["show"])
    assert "has figures from other test rows" in str(done.exception)
    params: Any = SimpleNamespace(evaluate=SimpleNamespace(require={}))
    with pytest.raises(FinetuneError, match="has figures from other test rows"):
        promote(params, "production")


def test_figures_that_name_no_model_are_shown_and_not_promoted() -> None:
    """As earlier versions wrote them."""
    evaluation = change("reports/evaluation.json")
    del evaluation["evaluated"]
    write_json(Path("reports/evaluation.json"), evaluation)
    report.run()
    params: Any = SimpleNamespace(evaluate=SimpleNamespace(require={}))
    with pytest.raises(FinetuneError, match="did not write which model"):
        promote(params, "production")


@pytest.mark.parametrize("name", ["models/model.json", "reports/evaluation.json"])
def test_without_a_fine_tune_the_error_names_the_command(name: str) -> None:
    Path("params.yaml").touch()  # as in a project
    Path(name).unlink()
    with pytest.raises(FinetuneError, match="dvc repro"):
        report.run()
