"""Load `params.yaml` as typed values. An unknown key or a value of the wrong type is refused by its name."""

from pathlib import Path
from typing import Annotated, Any, Final, Literal, get_args

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, ValidationError, field_validator, model_validator

from finetune.core.damage import read_bytes
from finetune.core.errors import FinetuneError
from finetune.core.export_formats import known_format
from finetune.core.preferences import conflict_of_method
from finetune.core.profiles import PROFILES
from finetune.core.task import Task

FILE = Path("params.yaml")
MOST_STOPS_OF_COMPLETIONS = 3  # beside the mark that ends a completion: requests take 4


class Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)


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


Auto = Literal["auto"]
Label = Annotated[str, StringConstraints(strip_whitespace=True, min_length=1)]
Renames = dict[str | int | float | bool, str]  # the new text of a value
SensitiveKind = Literal["email", "phone", "iban", "card", "us_ssn", "kr_rrn", "secret"]


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


Method = Literal["supervised", "dpo"]  # what `finetune check --method` offers too


class Budget(Section):
    """Upper limits on a job's estimated cost. `total_usd` is for all jobs of the project together."""

    usd: Annotated[float, Field(ge=0)] | None = None
    minutes: Annotated[float, Field(gt=0)] | None = None
    total_usd: Annotated[float, Field(ge=0)] | None = None


class Replay(Section):
    """Rows of general chat that are mixed into the training rows, against forgetting.

    `share` is their share of the uploaded rows. `prompt` makes examples of a table. Another `seed` takes other rows.
    """

    file: str
    share: Annotated[float, Field(ge=0, le=0.9)]
    prompt: Prompt | None = None
    seed: Annotated[int, Field(ge=0, lt=2**63)] = 0


class Train(Section):
    model_config = ConfigDict(validate_by_name=True)

    base: str
    continue_from: Annotated[str | None, Field(alias="from")] = None
    method: Method
    n_epochs: Annotated[int, Field(ge=1, le=50)] | Auto
    batch_size: Annotated[int, Field(ge=1, le=256)] | Auto
    learning_rate_multiplier: Annotated[float, Field(gt=0)] | Auto
    beta: Annotated[float, Field(gt=0, le=2)] | Auto = "auto"  # for dpo: a higher one stays closer to the start
    seed: Annotated[int, Field(ge=0, le=2**31 - 1)]
    suffix: Annotated[str, Field(min_length=1, max_length=64)] | None = None
    hyperparameters: dict[str, bool | int | float | str] = {}
    training_type: str | None = None
    integrations: list[dict[str, Any]] = []
    choose: Literal["last", "best_valid_loss", "best_metric"] = "last"
    replay: Replay | None = None
    budget: Budget = Budget()


class Also(Section):
    """A regression set: a test file of chat examples on which the tuned model may be worse by at most `margin`."""

    file: str
    task: Task
    margin: Annotated[float, Field(ge=0, le=1)]
    max_tokens: Annotated[int, Field(ge=1)] = 64


class Judge(Section):
    """A model that chooses the better of two answers."""

    model: str
    instructions: str | None = None


class Rescued(Section):
    """A model that was shut down: the file of its recorded answers, and how much worse the tuned model may be."""

    model: str
    answers: str
    margin: Annotated[float, Field(ge=0, le=1)] = 0.05


class Evaluate(Section):
    model_config = ConfigDict(validate_by_name=True)

    task: Task = "classify"
    metric: str | None = None  # that models are compared by; None: the first of the task
    answer_schema: Annotated[str | None, Field(alias="schema")] = None
    beta: Annotated[float, Field(gt=0)] | None = None
    few_shot: Annotated[int, Field(ge=0, le=100)] = 0
    compare: list[Annotated[str, Field(min_length=1)]] = []
    also: dict[str, Also] = {}
    graders: dict[str, dict[str, Any]] = {}
    judge: Judge | None = None
    rescued: Rescued | None = None
    require: dict[str, str] = {}
    max_tokens: Annotated[int, Field(ge=1)]
    temperature: Annotated[float, Field(ge=0, le=2)]
    stop: Annotated[list[Annotated[str, Field(min_length=1)]], Field(max_length=4)] = []  # texts that end an answer
    presence_penalty: Annotated[float, Field(ge=-2, le=2)] = 0.0
    frequency_penalty: Annotated[float, Field(ge=-2, le=2)] = 0.0
    top_logprobs: Annotated[int, Field(ge=0, le=20)] = 20
    concurrency: Annotated[int, Field(ge=1, le=500)]
    batch: bool = False


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


ANSWERING: Final = ("max_tokens", "temperature", "stop", "presence_penalty", "frequency_penalty")  # how models answer


class Params(Section):
    data: Data
    provider: Provider
    train: Train
    evaluate: Evaluate
    export: Export = Export()
    notify: list[Annotated[str, Field(min_length=1)]] = []  # addresses of apprise


def load_params(path: Path = FILE) -> Params:
    """Load the parameters of the project in the current folder. Raises FinetuneError naming the invalid key."""
    return checked(read_values(path), path)


def read_values(path: Path = FILE) -> dict[str, Any]:
    """Return the values of a params.yaml as they are. Raises FinetuneError if it has none."""
    from ruamel.yaml import YAML
    from ruamel.yaml.error import YAMLError

    try:
        values = YAML(typ="safe").load(read_bytes(path).decode("utf-8"))
    except FileNotFoundError:
        raise FinetuneError(f"There is no {path} in {Path.cwd()}.", "Run this in the project's folder.") from None
    except (YAMLError, ValueError, AttributeError, IndexError, TypeError, RecursionError) as error:  # all of ruamel's
        raise FinetuneError(
            f"{path} is not valid YAML: {' '.join(str(error).split())}",
            f"Correct that line, or restore the file with: git checkout {path}",
        ) from error
    if not isinstance(values, dict):
        raise FinetuneError(f"{path} has no keys.", "Restore it with: git checkout params.yaml")
    return values


def checked(values: dict[str, Any], path: Path = FILE) -> Params:
    """Return values as parameters. Raises FinetuneError naming the invalid key, and the file that they are for."""
    try:
        params = Params.model_validate(values)
    except ValidationError as error:
        problems = "; ".join(explain(problem) for problem in relevant(error))
        raise FinetuneError(f"{path}: {problems}.", "Correct it. docs/params.md lists the keys.") from error
    if conflict := conflict_of_method(params.data, params.train):
        raise FinetuneError(f"{path}: {conflict[0]}.", conflict[1])
    if params.data.labels == "auto" and params.evaluate.task != "classify":
        raise FinetuneError(
            f"{path}: data.labels is auto, but evaluate.task is {params.evaluate.task}, whose answers are not classes.",
            "Set data.labels to [], or evaluate.task to classify.",
        )
    if params.data.target == "completion" and len(params.evaluate.stop) > MOST_STOPS_OF_COMPLETIONS:
        raise FinetuneError(
            f"{path}: evaluate.stop has {len(params.evaluate.stop)} texts. A request takes 4, and the mark that ends a"
            " completion is one.",
            f"Leave at most {MOST_STOPS_OF_COMPLETIONS} in evaluate.stop.",
        )
    return params


def relevant(error: ValidationError) -> list[Any]:
    """Return the problems without those of a union's branch `auto`, if another branch says more."""
    problems = error.errors()
    return [p for p in problems if p["loc"][-1] != "literal['auto']" or len(problems) == 1]


def explain(problem: Any) -> str:
    """Describe one problem of pydantic's in a clause that begins with the key."""
    # pydantic adds the branch of a union to the path. That is not a key.
    path = [str(part) for part in problem["loc"] if not (isinstance(part, str) and "[" in part)]
    path = [part for part in path if part not in ("int", "float") and not part.startswith("constrained-")]
    key = ".".join(path) or "the file"
    if problem["type"] == "extra_forbidden":
        return f"unknown key {key!r} (check its spelling)"
    if problem["type"] == "missing":
        return f"the key {key!r} is missing"
    auto = (
        " (or 'auto')" if any("constrained" in str(part) or part in ("int", "float") for part in problem["loc"]) else ""
    )
    message = problem["msg"].removeprefix("Value error, ")
    if problem["type"] == "string_type" and isinstance(problem["input"], int | float):
        message += " (put it in quotes)"
    return f"{key!r}: {message[0].lower()}{message[1:]}{auto}, not {problem['input']!r}"
