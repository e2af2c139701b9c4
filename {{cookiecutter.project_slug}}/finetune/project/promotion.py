"""promote: tag the committed model with a version and a stage if it meets the gates. The registry is Git's tags."""

from typing import TypedDict

from finetune.core.disk import read_if_there
from finetune.core.errors import FinetuneError
from finetune.core.export_formats import SHORT, artifact_name
from finetune.core.params import Params
from finetune.core.paths import EXPORT_REPORT, EXPORTS
from finetune.core.read_records import read_evaluated_model, refuse_other_test_rows
from finetune.core.records.evaluation import Evaluation
from finetune.core.records.exports import ExportReport
from finetune.core.records.training import ModelRecord
from finetune.project.export_manifest import read_manifest
from finetune.project.history import git
from finetune.scoring.gates import results_of

ARTIFACT = "tuned-model"  # its name in dvc.yaml


class Promotion(TypedDict):
    artifact: str  # its name in the registry
    version: str | None
    stage: str
    commit: str
    model: str
    met: list[str]  # the conditions of evaluate.require, with their values
    verdict: str  # tuned against base
    rival: str  # tuned against the strongest of what else there is


def promote(params: Params, stage: str, exported: str | None = None) -> Promotion:
    """Register the model of HEAD, or its export in a format, and assign it to a stage, as GTO's tags.

    Raises FinetuneError if the model fails `evaluate.require`, or its export `export.require`, if the figures are of
    another model or of other test rows or files, or if the current files are not committed.
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
            "Decide what to do by the table in docs/evaluation.md, under: If a gate is not met",
        )
    artifact = ARTIFACT
    if exported:
        exported = SHORT.get(exported, exported)
        artifact = artifact_name(exported)
        met += met_by_export(params, exported, record, metrics)
    if git("status", "--porcelain", "--", "models", "reports", "params.yaml", "dvc.lock"):
        raise FinetuneError(
            "There are uncommitted changes, and a tag belongs to a commit.",
            "Run git add . && git commit, then promote again.",
        )
    commit = git("rev-parse", "HEAD").strip()
    try:
        if version_of(commit, artifact) is None:
            gto.api.register(".", artifact, ref="HEAD")
        gto.api.assign(".", artifact, stage=stage, version=version_of(commit, artifact))
    except GTOException as error:
        what, *_ = str(error).split(" Use the '--force' flag")  # which `gto` has
        raise FinetuneError(f"GTO could not tag this commit: {what}", "List the tags with: gto show") from error
    return {
        "artifact": artifact,
        "version": version_of(commit, artifact),
        "stage": stage,
        "commit": commit,
        "model": record["model"],
        "met": met,
        "verdict": metrics["lift"]["verdict"],
        "rival": "{name}: {verdict}".format(**metrics["rival"]) if "rival" in metrics else "",
    }


def met_by_export(params: Params, name: str, record: ModelRecord, metrics: Evaluation) -> list[str]:
    """Return the conditions of export.require that the export in a format meets.

    Raises FinetuneError if it fails one, was not measured, or if a file is not the one that was measured.
    """
    report: ExportReport = read_if_there(EXPORT_REPORT, "export", ExportReport)
    if not report or name not in report["export"]:
        listed = ", ".join(report["export"]) if report else ""
        raise FinetuneError(
            f"There is no export {name!r}; exported are: {listed or 'none'}.",
            f"Put {name} into export.formats of params.yaml, and run: dvc repro",
        )
    if report["evaluated"] != metrics["evaluated"]:
        raise FinetuneError(f"{EXPORT_REPORT} is not of {record['model']}.", "Export this model with: dvc repro export")
    met, failed = results_of(params.export.require, report)
    if failed:
        raise FinetuneError(
            f"The export {name} of {record['model']} was not promoted: {'; '.join(failed)}.",
            "Choose another format, or change export.require in params.yaml.",
        )
    manifest = read_manifest(EXPORTS / name)
    if (manifest["fingerprint"], manifest["scores"]) != (record["fingerprint"], report["export"][name]):
        raise FinetuneError(
            f"{EXPORTS / name} is not the export that {EXPORT_REPORT} has the figures of.",
            "Restore the files of one commit with: git checkout . && dvc checkout",
        )
    return met


def version_of(commit: str, artifact: str = ARTIFACT) -> str | None:
    """Return the version tag that a commit has already."""
    tags = git("tag", "--points-at", commit).split()
    return next((tag.split("@", 1)[1] for tag in tags if tag.startswith(f"{artifact}@")), None)
