"""The section `export` of params.yaml: the formats of the tuned model."""

from typing import Annotated

from pydantic import Field, field_validator

from finetune.core.export_formats import known_format
from finetune.core.sections.section import Section


class Export(Section):
    """What `export` makes of the tuned model, and how much worse each exported file may answer.

    `base` is the folder of the base's weights, or its name on the Hugging Face hub with a revision; None: `train.base`.
    """

    formats: list[str] = []
    base: str | None = None
    margin: Annotated[float, Field(ge=0, le=1)] = 0.05
    require: dict[str, str] = {}

    @field_validator("formats")
    @classmethod
    def are_known(cls, formats: list[str]) -> list[str]:
        return [known_format(name) for name in formats]
