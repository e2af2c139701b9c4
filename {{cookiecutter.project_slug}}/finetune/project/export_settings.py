"""Collect what `export` depends on: `validate` writes it, so that params.yaml may leave the section out."""

from collections.abc import Sequence

from finetune.core.disk import read_json
from finetune.core.errors import FinetuneError
from finetune.core.params import Params
from finetune.core.paths import EXPORT_SETTINGS
from finetune.core.records import ExportScores, ExportSettings


def export_settings(params: Params) -> ExportSettings:
    """Return the settings of a project's exports, with their defaults."""
    found = params.export
    return {"formats": found.formats, "base": found.base, "margin": found.margin, "require": found.require}


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
