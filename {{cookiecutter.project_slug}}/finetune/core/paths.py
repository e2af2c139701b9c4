"""The paths of the files that stages exchange, and the folder of a user's state."""

import os
from contextlib import suppress
from pathlib import Path

import platformdirs

from finetune.core.errors import FinetuneError

PARAMS = Path("params.yaml")

PREPARED = Path("data/prepared")
TEST_ROWS = PREPARED / "test_rows.jsonl"  # what is known of each test row beside its example
TRAIN_GROUPS = PREPARED / "train_groups.jsonl"  # the group of each training row
COMMON_PIECES = PREPARED / "common_pieces.json"  # what does not count when questions are compared
REPLAY = PREPARED / "replay.jsonl"  # general chat that is mixed into the uploaded training rows; empty: none
CHECKED = PREPARED / "checked.json"  # what validate found without mistakes
QUESTIONS = PREPARED / "questions.json"  # what is asked beside the splits
TRAINING_SETTINGS = PREPARED / "training.json"  # what decides the job beside the splits
EXPORT_SETTINGS = PREPARED / "export.json"  # what is exported

REPLAY_FOLDER = Path("data/replay")  # the folder of train.replay.file, on which validate depends

FILES = Path("models/files.json")
MODEL = Path("models/model.json")
DEPLOYMENT = Path("models/deployment.json")
VARIANTS = Path("models/variants")  # records of trainings with another seed, or with fewer rows
WEIGHTS = Path("models/weights")
EVENTS = Path("models/events.jsonl")
EXPORTS = Path("exports")  # a folder for each format

PREDICTIONS = Path("predictions")
BASE_ANSWERS = PREDICTIONS / "base.jsonl"
FEW_SHOT_ANSWERS = PREDICTIONS / "few_shot.jsonl"
BASE_ALSO_ANSWERS = PREDICTIONS / "base_also.jsonl"
BASE_LATENCY = PREDICTIONS / "latency.json"
TUNED_ANSWERS = PREDICTIONS / "tuned.jsonl"
TUNED_ALSO_ANSWERS = PREDICTIONS / "tuned_also.jsonl"
COMPARED_ANSWERS = PREDICTIONS / "compared.jsonl"
GRADER_REPLIES = PREDICTIONS / "grader_replies.jsonl"
JUDGE_REPLIES = PREDICTIONS / "judge_replies.jsonl"
TUNED_LATENCY = PREDICTIONS / "tuned_latency.json"
ANSWERED_BY = PREDICTIONS / "answered_by.json"  # the model and the test rows of these answers
EXPORT_ANSWERS = PREDICTIONS / "exported.jsonl"

REPORTS = Path("reports")
PREPARED_REPORT = REPORTS / "prepare.json"
LEFT_OUT = REPORTS / "left_out.csv"  # the rows that prepare left out, and why
VALIDATION_REPORT = REPORTS / "validation.json"
CURVES = REPORTS / "training.csv"
EVALUATION = REPORTS / "evaluation.json"
LATENCY = REPORTS / "latency.json"
EXPORT_REPORT = REPORTS / "export.json"
EXPORT_SPEED = REPORTS / "export_speed.json"
LEDGER = REPORTS / "ledger.csv"
LEARNING_CURVE = REPORTS / "learning_curve.csv"
LEARNING_CURVE_PAGE = REPORTS / "learning_curve.html"

NOTES = Path(".finetune")  # ignored by Git: notes on uploads and jobs that this clone has begun


def user_home() -> Path:
    """Return the user's folder for all projects, and create it if needed.

    It is `FINETUNE_HOME`, else the platform's data directory. Raises FinetuneError if it is not an absolute path: it
    would be another folder in each workspace of `dvc exp run --temp`, where it is deleted with its models.
    """
    home = Path(os.environ.get("FINETUNE_HOME") or platformdirs.user_data_dir("finetune"))
    with suppress(RuntimeError):  # of `~name`, where the system knows no such user
        home = home.expanduser()
    if not home.is_absolute():
        raise FinetuneError(
            f"FINETUNE_HOME is {str(home)!r}, which is another folder in each working directory.",
            f"Set it to an absolute path, such as {home.resolve()}.",
        )
    try:
        home.mkdir(parents=True, exist_ok=True, mode=0o700)
    except OSError as error:
        why = "it is a file" if home.is_file() else error.strerror or str(error)
        raise FinetuneError(
            f"The folder {home} for the engine and the kept answers cannot be used: {why}.",
            "Set FINETUNE_HOME to a folder that you can write to.",
        ) from error
    return home
