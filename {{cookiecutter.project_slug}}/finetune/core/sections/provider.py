"""The section `provider` of params.yaml: who trains and answers, and where a model is deployed."""

from typing import Annotated

from pydantic import Field, field_validator

from finetune.core.profiles import PROFILES
from finetune.core.sections.section import Section


class Deploy(Section):
    """Where `finetune deploy` deploys: the three names of an Azure resource. Nebius needs none of them."""

    subscription: str | None = None
    resource_group: str | None = None
    account: str | None = None
    name: str | None = None
    sku: str = "standard"
    capacity: Annotated[int, Field(ge=1)] = 1
    address: str = "https://management.azure.com"


class Provider(Section):
    name: str  # a key of PROFILES
    base_url: str | None = None
    base_deployment: str | None = None
    deploy: Deploy = Deploy()
    warn_days: Annotated[int, Field(ge=0)] = 90

    @field_validator("name")
    @classmethod
    def is_known(cls, name: str) -> str:
        if name not in PROFILES:
            raise ValueError(f"give one of {', '.join(PROFILES)}")
        return name

    @field_validator("base_url")
    @classmethod
    def has_no_query(cls, base_url: str | None) -> str | None:
        if base_url and "?" in base_url:
            raise ValueError("leave out `?` and all after it, such as api-version: Azure's /openai/v1/ takes none")
        return base_url
