"""promote: tag the committed model with a version and a stage if it meets the gates. The registry is Git's tags."""

from typing import TypedDict

from finetune.core.errors import FinetuneError
from finetune.core.params import Params
from finetune.core.read_records import read_evaluated_model, refuse_other_test_rows
from finetune.project.history import git
from finetune.scoring.gates import results_of

ARTIFACT = "tuned-model"  # its name in dvc.yaml


class Promotion(TypedDict):
    version: str | None
    stage: str
    commit: str
    model: str
    met: list[str]  # the conditions of evaluate.require, with their values
    verdict: str  # tuned against base
    rival: str  # tuned against the strongest of what else there is


def promote(params: Params, stage: str) -> Promotion:
    """Register the model of HEAD and assign it to a stage, as GTO's tags.

    Raises FinetuneError if the model fails `evaluate.require`, if the figures are of another model or of other test
    rows, or if the current files are not committed.
    """
    import gto.api
    from gto.exceptions import GTOException

    record, metrics = read_evaluated_model()
    refuse_other_test_rows(metrics)
    if "evaluated" not in metrics:
        raise FinetuneError(
            "The evaluation is of an earlier version, which did not write which model it is of.",
            "Evaluate again with: dvc repro",
        )
    met, failed = results_of(params.evaluate.require, metrics)
    if failed:
        raise FinetuneError(
            f"{record['model']} was not promoted: {'; '.join(failed)}.",
            "Improve the data or the training, or change evaluate.require in params.yaml.",
        )
    if git("status", "--porcelain", "--", "models", "reports", "params.yaml", "dvc.lock"):
        raise FinetuneError(
            "There are uncommitted changes, and a tag belongs to a commit.",
            "Run git add . && git commit, then promote again.",
        )
    commit = git("rev-parse", "HEAD").strip()
    try:
        if version_of(commit) is None:
            gto.api.register(".", ARTIFACT, ref="HEAD")
        gto.api.assign(".", ARTIFACT, stage=stage, version=version_of(commit))
    except GTOException as error:
        raise FinetuneError(f"GTO could not tag this commit: {error}", "List the tags with: gto show") from error
    return {
        "version": version_of(commit),
        "stage": stage,
        "commit": commit,
        "model": record["model"],
        "met": met,
        "verdict": metrics["lift"]["verdict"],
        "rival": "{name}: {verdict}".format(**metrics["rival"]) if "rival" in metrics else "",
    }


def version_of(commit: str) -> str | None:
    """Return the version tag that a commit has already."""
    tags = git("tag", "--points-at", commit).split()
    return next((tag.split("@", 1)[1] for tag in tags if tag.startswith(f"{ARTIFACT}@")), None)
