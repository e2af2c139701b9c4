"""validate: check every example and setting, estimate the cost, and collect the questions, before anything is sent."""

import datetime
import random
from collections import Counter
from functools import partial
from itertools import islice
from pathlib import Path

import numpy as np

from finetune.core.callbacks import Progress, Say, say_nothing
from finetune.core.disk import each_jsonl, read_jsonl, write_csv, write_json, write_text
from finetune.core.errors import FinetuneError
from finetune.core.params import Params
from finetune.core.paths import (
    CHECKED,
    EXPORT_SETTINGS,
    MODEL,
    PREPARED,
    QUESTIONS,
    REPLAY_FOLDER,
    TEST_ROWS,
    TRAINING_SETTINGS,
    VALIDATION_REPORT,
)
from finetune.core.read_records import read_prepare_report, read_test_groups
from finetune.core.records.checks import DoubtfulRow, ValidationReport
from finetune.core.records.prepared import PreparedExample, TestRow
from finetune.core.records.settings import CheckedSplits, Questions
from finetune.data.answered_questions import answer_in
from finetune.data.call_tokens import call_tokens
from finetune.data.checks.check_file import check_file
from finetune.data.checks.check_lines import example_at
from finetune.data.checks.split_checks import check_replay, check_splits
from finetune.data.checks.split_counts import balance_of, histogram
from finetune.data.checks.whole_file import CheckedFile, lines_text
from finetune.data.completion_format import completion_format_of, from_completion
from finetune.data.doubtful import find_doubtful, read_answered, refuse_count
from finetune.data.examples import as_chat, declared_in
from finetune.data.questions import questions_of
from finetune.data.recorded_answers import recorded_answers
from finetune.data.replay import write_replay
from finetune.pricing.catalogue import alias_note, look_up
from finetune.pricing.end_dates import date_warnings, newcomers_warning
from finetune.project.export_settings import export_settings, names_of_scores
from finetune.project.training_settings import server_address, training_settings
from finetune.project.validation_estimate import report_of
from finetune.report.data_page import ReviewedExample, make_data_page
from finetune.scoring.answer_schema import load_schema
from finetune.scoring.extract import unreadable
from finetune.scoring.gates import check_gates
from finetune.scoring.graders.check_definitions import check_graders
from finetune.scoring.margin_checks import (
    check_margin_of_exports,
    check_margin_of_rescued,
    check_margins_of_sets,
)
from finetune.scoring.metric_names import metric_names

TOKENS = Path("reports/tokens.csv")
BALANCE = Path("reports/labels.csv")
PAGE = Path("reports/data.html")
ALSO = Path("data/also")  # the folder that the stages depend on
REVIEWED, OUTLIERS = 20, 8  # examples on the page
MOST_JUDGED = 2_000  # rows in which doubtful answers are looked for: about two seconds
NAMED_BY = 50  # test rows whose scores show the names of the metrics


def run(params: Params, progress: Progress | None = None, say: Say = say_nothing) -> ValidationReport:
    """Write the report, the page, the tables of lengths and classes, and what the later stages depend on.

    Raises FinetuneError naming the file and line of every mistake, and for invalid settings of the evaluation. Warnings
    are counted in the report by their codes; `finetune check` lists them.
    """
    check_settings(params, say)
    base = look_up(params.train.base, params.provider.name)
    check = partial(
        check_file,
        method=params.train.method,
        encoding=base.encoding,
        context=base.context,
        image_prices=base.image_tokens,
        tokens_exact=base.tokens_exact,
    )
    checked = check_splits(params, check, progress)
    if params.evaluate.task == "classify" and params.train.method != "dpo":  # pairs teach without a second class
        refuse_one_class(checked["train"])
    check_expected(params)
    check_require(params, say)
    questions = questions_of(params)
    check_margins(params, questions, len(checked["test"].rows), say)
    replay = write_replay(params, checked, questions, say)
    files = checked if replay is None else checked | {"replay": check_replay(check)}
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
    check_graders(params.evaluate.graders)
    if params.evaluate.answer_schema:
        load_schema(params.evaluate.answer_schema)
    check_folders(params, say)


def check_folders(params: Params, say: Say) -> None:
    """Warn of files of the evaluation and of train.replay that no stage depends on."""
    settings = params.evaluate
    files = {f"evaluate.also.{name}": one.file for name, one in settings.also.items()}
    if settings.answer_schema:
        files["evaluate.schema"] = settings.answer_schema
    if settings.rescued:
        files["evaluate.rescued"] = settings.rescued.answers
    folders = {key: (file, ALSO) for key, file in files.items()}
    if params.train.replay:
        folders["train.replay"] = (params.train.replay.file, REPLAY_FOLDER)
    for key, (file, folder) in folders.items():
        if not Path(file).resolve().is_relative_to(folder.resolve()):
            say(f"warning: {key}: {file} is outside {folder}, so DVC does not see its changes. Move it there.")


def refuse_one_class(train: CheckedFile) -> None:
    """Raise FinetuneError if all training examples have the same class, from which nothing is learned."""
    if len(np.unique(train.rows["answer"])) == 1:
        raise FinetuneError(
            f"{train.file}: all {len(train.rows):,} examples have the same answer, so there is no class to learn.",
            "Add rows of other classes to the raw data, or name the column of the class in data.prompt.assistant."
            " If the answers are no classes, set evaluate.task.",
        )


def expected_answers(limit: int | None = None) -> list[str]:
    """Return the right answers of the test split, or the first ones."""
    marks = completion_format_of(read_prepare_report()["completion"])
    examples = islice(each_jsonl(PREPARED / "test.jsonl", "prepare", PreparedExample), limit)
    return [from_completion(one, marks)[1] if marks else answer_in(one) for one in examples]


def check_expected(params: Params) -> None:
    """Raise FinetuneError naming the test rows whose right answer `extract` cannot read, or evaluate.stop would end.

    Where rows declare tools, some are called and others are answered in words, which `extract` compares as lines.
    """
    stops = params.evaluate.stop
    expected = expected_answers() if stops else []
    if ended := [place for place, text in enumerate(expected) if any(one in text for one in stops)]:
        raise FinetuneError(
            f"{PREPARED / 'test.jsonl'}, {lines_text([place + 1 for place in ended])}: a text of evaluate.stop is in"
            " the right answer, so no model could give it.",
            "Remove that text from evaluate.stop in params.yaml.",
        )
    test = each_jsonl(PREPARED / "test.jsonl", "prepare", PreparedExample)
    if params.evaluate.task != "extract" or any(declared_in(as_chat(example)) for example in test):
        return
    if found := unreadable(expected_answers()):
        raise FinetuneError(
            f"{PREPARED / 'test.jsonl'}, {lines_text([place + 1 for place in found])}: the answer is neither a JSON"
            " list nor an object, and others are, so `extract` cannot score it.",
            "Write it as JSON, such as [] for an empty list; or each item on its own line in all answers.",
        )


def check_require(params: Params, say: Say) -> None:
    """Warn of gates that say less than they seem to. Raises FinetuneError for an invalid gate or evaluate.metric."""
    if params.evaluate.require or params.evaluate.metric is not None:
        names = metric_names(params, read_prepare_report(), expected_answers(NAMED_BY) or [""])
        for warning in check_gates(params.evaluate.require, names):
            say(f"warning: {warning}")
    check_gates(params.export.require, names_of_scores(params.export.formats), "export.require")


def check_margins(params: Params, questions: Questions, test_rows: int, say: Say) -> None:
    """Warn of margins that the rows cannot show. Raises FinetuneError if evaluate.rescued has no recorded answer."""
    check_margin_of_exports(params.export, test_rows, say)
    sizes = {name: len(one["examples"]) for name, one in questions["also"].items()}
    check_margins_of_sets(params.evaluate.also, sizes, say)
    if rescued := params.evaluate.rescued:
        recorded = recorded_answers(rescued, read_jsonl(TEST_ROWS, "prepare", TestRow))
        check_margin_of_rescued(rescued, len(recorded), say)


def groups_of_test_rows(count: int) -> list[int] | None:
    """Return the group of each of `count` test rows; None if an earlier version prepared the data."""
    if not TEST_ROWS.exists():
        return None
    groups = read_test_groups()
    if len(groups) != count:
        raise FinetuneError(
            f"{TEST_ROWS} has {len(groups):,} rows, and the test split has {count:,}.", "Run: dvc repro -f -s prepare"
        )
    return groups


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
