"""Collect what `export` depends on: `validate` writes it, so that params.yaml may leave the section out."""

from collections.abc import Sequence

from finetune.core.disk import read_json
from finetune.core.errors import FinetuneError
from finetune.core.params import Params
from finetune.core.paths import EXPORT_SETTINGS
from finetune.core.read_records import read_prepare_report
from finetune.core.records.exports import ExportScores
from finetune.core.records.settings import AnswerSettings, ExportSettings
from finetune.core.sections.evaluate import ANSWERING


def export_settings(params: Params) -> ExportSettings:
    """Return the settings of a project's exports, with their defaults. Without formats, nothing else decides."""
    found = params.export
    if not found.formats:
        return {"formats": []}
    return {
        "formats": found.formats,
        "base": found.base,
        "margin": found.margin,
        "require": found.require,
        "answers": answer_settings(params),
    }


def answer_settings(params: Params) -> AnswerSettings:
    """Return how the exported formats are asked: as the tuned model was asked the test rows."""
    settings = params.evaluate
    found: dict[str, object] = {key: getattr(settings, key) for key in ANSWERING}
    found |= {
        "seed": params.train.seed,
        "top_logprobs": settings.top_logprobs if settings.task == "classify" else 0,
        "completion": read_prepare_report()["completion"],
    }
    return found  # type: ignore[return-value]


def load_export_settings(params: Params) -> ExportSettings:
    """Load what `validate` wrote. Raises FinetuneError if params.yaml has changed since."""
    settings: ExportSettings = read_json(EXPORT_SETTINGS, "validate", ExportSettings)
    if settings != export_settings(params):
        raise FinetuneError(f"params.yaml changed after {EXPORT_SETTINGS} was written.", "Run: dvc repro validate")
    return settings


def names_of_scores(formats: Sequence[str]) -> set[str]:
    """Return the names of all figures that the exports of these formats will have, as `dvc metrics show` names them."""
    texts = ("metric", "test", "verdict")
    return {f"export.{name}.{key}" for name in formats for key in ExportScores.__annotations__ if key not in texts}
