"""Variants of this project: the same training with another seed or with fewer rows, and what they share."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from finetune.core.disk import count_lines, read_json, sha256_of
from finetune.core.errors import FinetuneError
from finetune.core.params import Params
from finetune.core.paths import ANSWERED_BY, FILES, MODEL, NOTES, PREPARED, TUNED_ANSWERS
from finetune.core.profiles import PROFILES
from finetune.core.read_records import read_model_record, read_prepare_report, read_test_groups
from finetune.core.records.answers import AnsweredBy
from finetune.core.records.prepared import PrepareReport
from finetune.core.records.settings import Questions
from finetune.core.records.training import FilesRecord, ModelRecord
from finetune.data.questions import load_questions
from finetune.data.subsets import write_replay_subset, write_subset
from finetune.project.budget import Part
from finetune.project.job_request import JobSettings, fingerprint_now, job_settings
from finetune.project.training_start import start_of
from finetune.provider.remote_jobs import job_fingerprint
from finetune.provider.training_file import replay_file, uploaded_mix
from finetune.scoring.trainings import choice_of, scoring_settings
from finetune.terminal.progress import say

SUBSETS = NOTES / "variants"
FEWEST_ROWS = 10  # that a job needs


@dataclass(frozen=True)
class Pipeline:
    """What the pipeline has made, and all variants share."""

    params: Params
    model: ModelRecord
    files: FilesRecord
    prepared: PrepareReport
    questions: Questions
    groups: list[int]  # of the test rows
    settings: str  # what decides answers and scores
    choice: str  # what chooses the checkpoint of each training
    recipe: str


class Variant(NamedTuple):
    """A training: its seed, its share of the training and replay rows and their files, and its job's identity."""

    seed: int
    share: float
    rows: int
    file: Path
    replay: Path | None
    part: Part
    settings: JobSettings
    fingerprint: str

    @property
    def words(self) -> str:
        return f"{self.rows:,} rows, seed {self.seed}"


def pipeline_of(params: Params) -> Pipeline:
    """Read what the pipeline has made. Raises FinetuneError if that is not up to date."""
    model = read_model_record()
    answered_by, test_rows = read_json(ANSWERED_BY, "tuned", AnsweredBy), sha256_of(PREPARED / "test.jsonl")
    if fingerprint_now(params) != model["fingerprint"]:
        raise FinetuneError(
            f"{MODEL} is not of the prepared data and params.yaml, so nothing can be compared with it.",
            "Train and evaluate first with: dvc repro",
        )
    if (answered_by["fingerprint"], answered_by["test_rows"]) != (model["fingerprint"], test_rows):
        raise FinetuneError(f"{TUNED_ANSWERS} is of another model or of other test rows.", "Ask first with: dvc repro")
    files: FilesRecord = read_json(FILES, "upload", FilesRecord)
    prepared = read_prepare_report()
    common: dict[str, Any] = {**job_settings(params, start_of(params)[0])}
    common |= {"seed": None, "provider": params.provider.name}
    settings = scoring_settings(params, prepared, test_rows)
    return Pipeline(
        params,
        model,
        files,
        prepared,
        load_questions(params),
        read_test_groups(),
        settings,
        choice_of(params, settings),
        job_fingerprint(files["train"]["sha256"], hash_of(files, "valid"), common),
    )


def hash_of(files: FilesRecord, split: str) -> str | None:
    return files[split]["sha256"] if split in files else None


def with_seed(params: Params, seed: int) -> Params:
    """Return the parameters with another seed of the training."""
    return params.model_copy(update={"train": params.train.model_copy(update={"seed": seed})})


def variants_of(pipeline: Pipeline, shares: Sequence[float], seeds: Sequence[int]) -> list[Variant]:
    """Write the files of all variants, and return those that differ; subsets of too few rows are left out."""
    params, whole, all_replay = pipeline.params, PREPARED / "train.jsonl", replay_file()
    size = whole.stat().st_size + (all_replay.stat().st_size if all_replay else 0)
    found: dict[str, Variant] = {}
    for share in sorted(shares):
        for seed in seeds:
            file, replay, rows = whole, all_replay, pipeline.prepared["train"]
            if share < 1:
                file = SUBSETS / f"train-seed{seed}-share{share:g}.jsonl"
                rows = write_subset(file, share, seed)
                replay = write_replay_subset(SUBSETS / f"replay-seed{seed}-share{share:g}.jsonl", share, seed)
            if rows < FEWEST_ROWS:
                say(f"{share:g} of the training rows with seed {seed} is {rows}; a job needs {FEWEST_ROWS}. Left out.")
                continue
            settings = job_settings(with_seed(params, seed), start_of(params)[0])
            with uploaded_mix(file, replay, PROFILES[params.provider.name]) as uploaded:
                fingerprint = job_fingerprint(sha256_of(uploaded), hash_of(pipeline.files, "valid"), settings)
                # Tokens are in proportion to bytes: nearly so for a part of the same data.
                part = Part(count_lines(uploaded), uploaded.stat().st_size / size)
            found[fingerprint] = Variant(seed, share, rows, file, replay, part, settings, fingerprint)
    return list(found.values())
