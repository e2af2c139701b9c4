"""promote: a version and a stage for the committed model, if it is good enough; the registry is Git's tags."""

from typing import Any

from finetune.core.disk import read_json
from finetune.core.errors import FinetuneError
from finetune.core.params import Params
from finetune.core.paths import EVALUATION, MODEL
from finetune.project.history import git
from finetune.scoring.gates import unmet

ARTIFACT = "tuned-model"  # as dvc.yaml names it


def run(params: Params, stage: str) -> dict[str, Any]:
    """Register the model of HEAD and assign it to a stage, as GTO's tags; version, stage, commit and model come back.

    Raises FinetuneError for a model that fails `evaluate.require`, or is not committed as it lies here.
    """
    import gto.api
    from gto.exceptions import GTOException

    record, metrics = read_json(MODEL, "train"), read_json(EVALUATION, "evaluate")
    failed = unmet(params.evaluate.require, metrics)
    if failed:
        raise FinetuneError(
            f"{record['model']} is not promoted: {'; '.join(failed)}.",
            "Better the data or the training, or change evaluate.require in params.yaml.",
        )
    if git("status", "--porcelain", "--", "models", "reports", "params.yaml", "dvc.lock"):
        raise FinetuneError(
            "What lies here is not what is committed, and a tag is of a commit.", "git add . && git commit, then again."
        )
    commit = git("rev-parse", "HEAD").strip()
    try:
        if version_of(commit) is None:
            gto.api.register(".", ARTIFACT, ref="HEAD")
        gto.api.assign(".", ARTIFACT, stage=stage, version=version_of(commit))
    except GTOException as error:
        raise FinetuneError(f"GTO could not tag this commit: {error}", "See: gto show") from error
    return {"version": version_of(commit), "stage": stage, "commit": commit, "model": record["model"]}


def version_of(commit: str) -> str | None:
    """The version that a commit has already."""
    tags = git("tag", "--points-at", commit).split()
    return next((tag.split("@", 1)[1] for tag in tags if tag.startswith(f"{ARTIFACT}@")), None)
