"""The section `data` of params.yaml: what is read, and how rows become examples in three splits."""

from typing import Annotated, Any, Literal, get_args

from pydantic import Field, StringConstraints, field_validator, model_validator

from finetune.core.sections.section import Auto, Section

Label = Annotated[str, StringConstraints(strip_whitespace=True, min_length=1)]
Renames = dict[str | int | float | bool, str]  # the new text of a value
SensitiveKind = Literal["email", "phone", "iban", "card", "us_ssn", "kr_rrn", "secret"]


class Prompt(Section):
    """How a row becomes messages. `{column}` is replaced by the row's cell."""

    system: str | None = None
    user: str
    assistant: str


class Split(Section):
    """Shares of the data, which add up to 1; or the column that names the split of each row.

    Another `seed` gives other splits of the same shares.
    """

    train: Annotated[float, Field(gt=0, lt=1)] | None = None
    valid: Annotated[float, Field(ge=0, lt=1)] | None = None
    test: Annotated[float, Field(gt=0, lt=1)] | None = None
    column: str | None = None
    seed: Annotated[int, Field(ge=0, lt=2**63)] = 0

    @property
    def shares(self) -> list[float]:
        """The shares of train, valid and test; empty if a column decides."""
        shares = (self.train, self.valid, self.test)
        return [share for share in shares if share is not None]

    @model_validator(mode="after")
    def adds_up(self) -> "Split":
        if self.column is not None and not self.shares:
            return self
        if self.column is not None or len(self.shares) < 3 or abs(sum(self.shares) - 1) > 1e-9:
            raise ValueError("give train, valid and test that add up to 1, or only column")
        return self


class Files(Section):
    """One file for each split."""

    train: str
    valid: str | None = None
    test: str


class Abstain(Section):
    """The answer to unanswerable rows: those that a column marks, and a share that gets another row's context."""

    answer: Annotated[str, StringConstraints(strip_whitespace=True, min_length=1)]
    column: str | None = None
    context: str | None = None
    share: Annotated[float, Field(ge=0, le=1)] | None = None

    @model_validator(mode="after")
    def needs_context_and_share(self) -> "Abstain":
        if (self.context is None) != (self.share is None):
            raise ValueError("give context and share together")
        return self


class Data(Section):
    file: str | None = None
    files: Files | None = None
    sheet: str | None = None
    encoding: str | None = None
    delimiter: Annotated[str, Field(min_length=1, max_length=1)] | None = None
    quoting: Literal["auto", "standard", "none"] = "auto"
    format: Literal["auto", "columns", "messages", "completion", "alpaca", "sharegpt", "preference"] = "auto"
    prompt: Prompt | None = None
    map: dict[str, Renames | Literal["lettered"]] = {}
    turns: Literal["all", "each"] = "all"
    group: str | None = None
    by: str | None = None
    labels: list[Label] | Auto = []
    codes: bool = False
    target: Literal["chat", "completion"] = "chat"
    split: Split | None = None
    near: Annotated[float, Field(ge=0.7, le=1)] | None = 0.8  # None: `off`
    abstain: Abstain | None = None
    redact: list[SensitiveKind] = []

    @field_validator("redact", mode="before")
    @classmethod
    def is_all_or_none(cls, value: Any) -> Any:
        return (list(get_args(SensitiveKind)) if value else []) if isinstance(value, bool) else value

    @field_validator("map", mode="before")
    @classmethod
    def renames_or_letters(cls, changes: Any) -> Any:
        for change in changes.values() if isinstance(changes, dict) else ():
            if change != "lettered" and not is_renames(change):
                raise ValueError('give for each column lettered, or new texts by its values, such as {0: "A", 1: "B"}')
        return changes

    @field_validator("labels")
    @classmethod
    def lists_each_once(cls, labels: Any) -> Any:
        twice = [] if labels == "auto" else sorted({label for label in labels if labels.count(label) > 1})
        if twice:
            raise ValueError(f"{', '.join(map(repr, twice))} is listed twice")
        return labels

    @field_validator("near", mode="before")
    @classmethod
    def may_be_off(cls, value: object) -> object:
        """Return None for `off`, which YAML 1.1 reads as false."""
        if value is None or value is True or (isinstance(value, str) and value != "off"):
            raise ValueError("give off, or a similarity from 0.7 to 1")
        return None if value is False or value == "off" else value

    @model_validator(mode="after")
    def has_one_source_and_one_split(self) -> "Data":
        if (self.file is None) == (self.files is None):
            raise ValueError("give either file, or files for each split")
        if (self.split is None) == (self.files is None):
            raise ValueError("give split with file; files are split already")
        if self.group and (self.split is None or self.split.column):
            raise ValueError("give group only with a split by shares")
        return self


def is_renames(change: object) -> bool:
    return isinstance(change, dict) and all(
        isinstance(old, str | int | float) and isinstance(new, str) for old, new in change.items()
    )
