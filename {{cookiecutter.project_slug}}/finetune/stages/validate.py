"""validate: check every example and setting, estimate the cost, and collect the questions, before anything is sent."""

import datetime
import random
from collections import Counter
from collections.abc import Sequence
from itertools import combinations, islice, permutations
from pathlib import Path

import numpy as np

from finetune.core.callbacks import Progress, Say, say_nothing
from finetune.core.disk import each_jsonl, read_json, read_jsonl, write_csv, write_json, write_text
from finetune.core.errors import FinetuneError
from finetune.core.params import Params
from finetune.core.paths import (
    CHECKED,
    COMMON_PIECES,
    EXPORT_SETTINGS,
    MODEL,
    PREPARED,
    QUESTIONS,
    REPLAY,
    REPLAY_FOLDER,
    TEST_ROWS,
    TRAINING_SETTINGS,
    VALIDATION_REPORT,
)
from finetune.core.preferences import holds_preferences
from finetune.core.read_records import read_prepare_report
from finetune.core.records.checks import DoubtfulRow, ValidationReport
from finetune.core.records.prepared import PreparedExample, PrepareReport, TestRow
from finetune.core.records.settings import CheckedSplits, Questions
from finetune.data.call_tokens import call_tokens
from finetune.data.checks.across_files import (
    check_languages,
    check_leaks,
    check_missing_classes,
    common_pieces_of,
)
from finetune.data.checks.check_file import check_file
from finetune.data.checks.check_lines import example_at
from finetune.data.checks.completion_endings import check_completion_endings
from finetune.data.checks.findings import Finding, counted
from finetune.data.checks.project_files import allowed_answers
from finetune.data.checks.whole_file import CheckedFile, lines_text
from finetune.data.common_pieces import common_pieces_from
from finetune.data.completion_format import CompletionFormat, from_completion
from finetune.data.doubtful import find_doubtful, read_answered, refuse_count
from finetune.data.identity import answer_of
from finetune.data.questions import questions_of
from finetune.data.recorded_answers import recorded_answers
from finetune.data.replay import write_replay
from finetune.pricing.catalogue import Base, alias_note, look_up
from finetune.pricing.end_dates import date_warnings, newcomers_warning
from finetune.project.export_settings import export_settings, names_of_scores
from finetune.project.training_settings import server_address, training_settings
from finetune.project.validation_estimate import report_of
from finetune.report.data_page import ClassCount, LengthCount, ReviewedExample, make_data_page
from finetune.scoring.answer_schema import load_schema
from finetune.scoring.extract import unreadable
from finetune.scoring.gates import check_gates
from finetune.scoring.graders.definitions import check_graders
from finetune.scoring.metric_names import metric_names
from finetune.scoring.regression_sets import fewest_rows

TOKENS = Path("reports/tokens.csv")
BALANCE = Path("reports/labels.csv")
PAGE = Path("reports/data.html")
ALSO = Path("data/also")  # the folder that the stages depend on
LISTED = 20  # mistakes spelled out in an error
BINS = 20
REVIEWED, OUTLIERS = 20, 8  # examples on the page
MOST_JUDGED = 2_000  # rows in which doubtful answers are looked for: about two seconds
NAMED_BY = 50  # test rows whose scores show the names of the metrics
LONG_WORK = 64 * 1024**2  # bytes from which progress is shown


def run(params: Params, progress: Progress | None = None, say: Say = say_nothing) -> ValidationReport:
    """Write the report, the page, the tables of lengths and classes, and what the later stages depend on.

    Raises FinetuneError naming the file and line of every mistake, and for invalid settings of the evaluation. Warnings
    are counted in the report by their codes; `finetune check` lists them.
    """
    check_settings(params, say)
    base = look_up(params.train.base, params.provider.name)
    checked = check_splits(params, base, progress)
    findings = [finding for split in checked.values() for finding in split.findings]
    errors = [finding for finding in findings if finding.severity == "error"]
    if errors:
        raise refusal(errors)
    check_expected(params)
    check_require(params, say)
    check_export(params, say)
    questions = questions_of(params)
    check_regression_sets(params, questions, say)
    check_rescued(params, say)
    replay = write_replay(params, checked, questions, say)
    files = checked if replay is None else checked | {"replay": check_replay(params, base)}
    findings = [finding for found in files.values() for finding in found.findings]
    unclear = {name for name, found in files.items() if found.tokens_at_least}
    tokens = {name: found.tokens.tolist() for name, found in files.items()}
    calls = None if unclear else call_tokens(questions, len(tokens["test"]), base.encoding, base.image_tokens)
    report = report_of(base, tokens, params, unclear, calls, groups_of_test_rows(len(tokens["test"])))
    report["tokens_exact"] = report["tokens_exact"] and all(found.tokens_are_exact for found in files.values())
    report["warnings"] = dict(Counter(finding.code for finding in findings))
    if replay:
        report["replay"] = replay
    lengths, balance = histogram(files), balance_of(checked)
    write_csv(TOKENS, ["split", "tokens", "examples"], lengths)
    write_csv(BALANCE, ["class", "split", "examples"], balance)
    write_text(PAGE, make_data_page(report, balance, lengths, to_review(checked), *doubtful_rows(checked)))
    splits: CheckedSplits = {
        "method": params.train.method,
        "examples": report["examples"],
        "server": server_address(params),
    }
    write_json(QUESTIONS, questions)
    write_json(TRAINING_SETTINGS, training_settings(params, questions))
    write_json(CHECKED, splits)
    write_json(EXPORT_SETTINGS, export_settings(params))
    write_json(VALIDATION_REPORT, report)
    return report


def check_settings(params: Params, say: Say) -> None:
    """Check what the evaluation will need, and warn of an alias as base, and of what ends or is closed.

    Raises FinetuneError for an invalid grader or schema.
    """
    if note := alias_note(params.train.base):
        say(f"warning: train.base: {note} Write the dated name in params.yaml.")
    today = datetime.date.today()
    closed = None if MODEL.exists() else newcomers_warning(params, today)  # who has trained here is no newcomer
    for warning in filter(None, (*date_warnings(params, today), closed)):
        say(f"warning: {warning}")
    settings = params.evaluate
    check_graders(settings.graders)
    files = {f"evaluate.also.{name}": one.file for name, one in settings.also.items()}
    if settings.answer_schema:
        load_schema(settings.answer_schema)
        files["evaluate.schema"] = settings.answer_schema
    if settings.rescued:
        files["evaluate.rescued"] = settings.rescued.answers
    folders = {key: (file, ALSO) for key, file in files.items()}
    if params.train.replay:
        folders["train.replay"] = (params.train.replay.file, REPLAY_FOLDER)
    for key, (file, folder) in folders.items():
        if not Path(file).resolve().is_relative_to(folder.resolve()):
            say(f"warning: {key}: {file} is outside {folder}, so DVC does not see its changes. Move it there.")


def expected_answers(limit: int | None = None) -> list[str]:
    """Return the right answers of the test split, or the first ones."""
    completion = read_prepare_report()["completion"]
    marks = CompletionFormat(**completion) if completion else None
    examples = islice(each_jsonl(PREPARED / "test.jsonl", "prepare", PreparedExample), limit)
    return [from_completion(one, marks)[1] if marks else answer_of(one) for one in examples]


def check_expected(params: Params) -> None:
    """Raise FinetuneError naming the test rows whose right answer `extract` cannot read, or evaluate.stop would end."""
    stops = params.evaluate.stop
    expected = expected_answers() if stops else []
    if ended := [place for place, text in enumerate(expected) if any(one in text for one in stops)]:
        raise FinetuneError(
            f"{PREPARED / 'test.jsonl'}, {lines_text([place + 1 for place in ended])}: a text of evaluate.stop is in"
            " the right answer, so no model could give it.",
            "Remove that text from evaluate.stop in params.yaml.",
        )
    if params.evaluate.task != "extract":
        return
    if found := unreadable(expected_answers()):
        raise FinetuneError(
            f"{PREPARED / 'test.jsonl'}, {lines_text([place + 1 for place in found])}: the answer is neither a JSON"
            " list nor an object, and others are, so `extract` cannot score it.",
            "Write it as JSON, such as [] for an empty list; or each item on its own line in all answers.",
        )


def check_require(params: Params, say: Say) -> None:
    """Warn of gates that say less than they seem to. Raises FinetuneError for an invalid gate or evaluate.metric."""
    if not params.evaluate.require and params.evaluate.metric is None:
        return
    names = metric_names(params, read_prepare_report(), expected_answers(NAMED_BY) or [""])
    for warning in check_gates(params.evaluate.require, names):
        say(f"warning: {warning}")


def check_export(params: Params, say: Say) -> None:
    """Warn of too few test rows for export.margin. Raises FinetuneError for an invalid gate of an exported format."""
    settings = params.export
    check_gates(settings.require, names_of_scores(settings.formats), "export.require")
    rows, fewest = sum(1 for _ in expected_answers()) if settings.formats else 0, fewest_rows(settings.margin)
    if settings.formats and (fewest is None or rows < fewest):
        say(
            f"warning: {counted(rows, 'test row')}: too few to show that an exported file that answers as before is"
            f" within export.margin, {settings.margin:g}."
            + (f" That takes {fewest:,} rows." if fewest else " No number of rows shows a margin of 0.")
        )


def check_regression_sets(params: Params, questions: Questions, say: Say) -> None:
    """Warn of regression sets with too few rows for their margin."""
    for name, one in params.evaluate.also.items():
        rows, fewest = len(questions["also"][name]["examples"]), fewest_rows(one.margin)
        if fewest is None:
            say(f"warning: evaluate.also.{name}.margin is 0, so `kept` is 1 only for a model that is better.")
        elif rows < fewest:
            say(
                f"warning: evaluate.also.{name} has {counted(rows, 'row')}: too few to show that a model that answers"
                f" as before is within the margin of {one.margin:g}. Give at least {fewest:,} rows, or a larger margin."
            )


def check_rescued(params: Params, say: Say) -> None:
    """Warn of too few test rows for evaluate.rescued.margin. Raises FinetuneError for one without a recorded answer."""
    settings = params.evaluate.rescued
    if settings is None:
        return
    test: list[TestRow] = read_jsonl(TEST_ROWS, "prepare", TestRow)
    rows, fewest = len(recorded_answers(settings, test)), fewest_rows(settings.margin)
    if fewest is None or rows < fewest:
        say(
            f"warning: evaluate.rescued: {counted(rows, 'test row')}: too few to show that a model that answers as"
            f" {settings.model} did is within the margin of {settings.margin:g}."
            + (f" That takes {fewest:,} rows." if fewest else " No number of rows shows a margin of 0.")
        )


def check_splits(params: Params, base: Base, progress: Progress | None = None) -> dict[str, CheckedFile]:
    """Check each split, then each against the others."""
    prepared = read_prepare_report()
    refuse_other_rows(params, prepared)
    labels = allowed_answers(params.data, prepared)
    checked: dict[str, CheckedFile] = {}
    for split in ("train", "valid", "test"):
        path = PREPARED / f"{split}.jsonl"
        if not path.is_file():
            raise FinetuneError(f"{path} is missing.", "Create it with: dvc repro prepare")
        if split == "valid" and path.stat().st_size == 0:
            continue
        checked[split] = check_file(
            path,
            params.train.method,
            base.encoding,
            base.context,
            training=split == "train",
            progress=progress if path.stat().st_size > LONG_WORK else None,
            image_prices=base.image_tokens,
            labels=labels,
        )
        check_completion_endings(checked[split])
    # prepare saw the rows that it left out too. With its pieces, both compare alike.
    if COMMON_PIECES.exists():
        common = common_pieces_from(read_json(COMMON_PIECES, "prepare", dict[str, list[int]]))
    else:
        common = common_pieces_of(*checked.values())
    for one, other in combinations(checked.values(), 2):
        check_leaks(one, other, params.data.near, common)
    for one, other in permutations(checked.values(), 2):
        check_missing_classes(one, other)
        check_languages(one, other)
    return checked


def refuse_other_rows(params: Params, prepared: PrepareReport) -> None:
    """Raise FinetuneError for rows with two answers where the method takes one, and the other way round."""
    method, are_preferences = params.train.method, holds_preferences(prepared)
    if are_preferences and method != "dpo":
        raise FinetuneError(
            f"The rows are preferences, each with two answers, and train.method {method} takes one answer.",
            "Set train.method to dpo in params.yaml, or keep only the better answer in the raw data.",
        )
    if method == "dpo" and not are_preferences:
        raise FinetuneError(
            "train.method dpo takes preferences, and each row has one answer.",
            "Give each row `input`, `preferred_output` and `non_preferred_output`; or set train.method to supervised.",
        )


def check_replay(params: Params, base: Base) -> CheckedFile:
    """Check the rows of train.replay, which may have other system prompts. Raises FinetuneError naming each mistake."""
    found = check_file(
        REPLAY, params.train.method, base.encoding, base.context, training=False, image_prices=base.image_tokens
    )
    if errors := [finding for finding in found.findings if finding.severity == "error"]:
        raise refusal(errors)
    found.findings = [finding for finding in found.findings if finding.code != "system_differs"]
    return found


def groups_of_test_rows(count: int) -> list[int] | None:
    """Return the group of each of `count` test rows; None if an earlier version prepared the data."""
    if not TEST_ROWS.exists():
        return None
    groups = [row["group"] for row in each_jsonl(TEST_ROWS, "prepare", TestRow)]
    if len(groups) != count:
        raise FinetuneError(
            f"{TEST_ROWS} has {len(groups):,} rows, and the test split has {count:,}.", "Run: dvc repro -f -s prepare"
        )
    return groups


def histogram(checked: dict[str, CheckedFile]) -> list[LengthCount]:
    """Return examples by length in tokens: rows of split, upper edge of the bin and count."""
    longest = max(int(found.tokens.max(initial=1)) for found in checked.values())
    width = -(-longest // BINS)
    rows: list[LengthCount] = []
    for split, found in checked.items():
        edges, counts = np.unique(-(-found.tokens // width) * width, return_counts=True)
        bins = zip(edges.tolist(), counts.tolist(), strict=True)
        rows += [{"split": split, "tokens": edge, "examples": count} for edge, count in bins]
    return rows


def balance_of(checked: dict[str, CheckedFile]) -> list[ClassCount]:
    """Return examples by class and split; [] if the answers are not classes."""
    if not checked["train"].classes:
        return []
    return [
        {"class": name, "split": split, "examples": count}
        for split, found in checked.items()
        for name, count in sorted((found.answers or Counter()).items(), key=lambda item: (-item[1], item[0]))
    ]


def to_review(checked: dict[str, CheckedFile]) -> dict[str, list[ReviewedExample]]:
    """Choose training examples that a person should read before paying: some at random, and the outliers."""
    train = checked["train"]
    order = np.argsort(train.rows["tokens"], kind="stable").tolist()
    chosen = random.Random(0).sample(range(len(order)), min(REVIEWED, len(order)))
    return {
        title: [
            ReviewedExample(
                str(train.rows["line"][n]), int(train.rows["tokens"][n]), example_at(train.file, train.rows[n])
            )
            for n in numbers
        ]
        for title, numbers in (
            (f"{len(chosen)} training examples at random", sorted(chosen)),
            ("The longest", order[::-1][:OUTLIERS]),
            ("The shortest", order[:OUTLIERS]),
        )
    }


def doubtful_rows(checked: dict[str, CheckedFile]) -> tuple[list[DoubtfulRow], str]:
    """Return the rows of all splits whose answer is probably wrong; and why none were looked for, "" otherwise."""
    count = sum(len(found.rows) for found in checked.values())
    try:
        refuse_count(max(count, MOST_JUDGED), MOST_JUDGED)  # before all rows of large data are read into memory
        rows = read_answered([Path(found.file) for found in checked.values()], read_prepare_report(), MOST_JUDGED)
        return find_doubtful(rows), ""
    except FinetuneError as error:
        return [], str(error)


def refusal(errors: Sequence[Finding]) -> FinetuneError:
    """Return all mistakes as one error: the first twenty with place and remedy."""
    listed = [
        f"{f.file}{f', line {f.line}' if f.line else ''}: {f.message} [{f.code}]. {f.fix}" for f in errors[:LISTED]
    ]
    if len(errors) > LISTED:
        listed.append(
            f"... and {len(errors) - LISTED} more: finetune check {' '.join(sorted({f.file for f in errors}))}"
        )
    count = "1 mistake" if len(errors) == 1 else f"{len(errors)} mistakes"
    return FinetuneError(
        "\n".join([f"{count} in the prepared data; nothing was sent.", *listed]),
        "Correct the raw data or params.yaml, then run: dvc repro. A damaged file of data/prepared is written again by:"
        " dvc repro -f -s prepare",
    )
