"""Look up a base model in the catalogue: encoding, training context, prices, shutdown date."""

import datetime
import re
import sys
from pathlib import Path
from typing import Any, Literal, NamedTuple

from pydantic import ConfigDict, ValidationError
from pydantic.dataclasses import dataclass

from finetune.core.damage import read_bytes
from finetune.core.errors import FinetuneError

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

FILE = Path(__file__).parent / "models.toml"
OWN = Path("models.toml")  # the project's entries, in the current folder; they override the catalogue's
PRICES = ("training", "input", "cached_input", "output", "base_input", "base_cached_input", "base_output")
AZURE_TUNED = re.compile(r"(.+)\.ft-[0-9a-f]+")  # Azure's names: <base>.ft-<job>


class CallPrices(NamedTuple):
    """The prices of calls of one model, in US dollars per million tokens. None: not known."""

    input: float | None
    output: float | None
    cached_input: float | None = None  # of prompt tokens that the provider has cached


@dataclass(frozen=True, config=ConfigDict(extra="forbid"))
class Base:
    """Facts about a base model at a provider. None means not known; an unknown price is never 0.

    Prices are in US dollars per million tokens: for training, for the fine-tuned model, and for the base (`base_…`).
    """

    name: str
    aliases: tuple[str, ...] = ()
    encoding: Literal["o200k_base", "o200k_harmony", "cl100k_base", "p50k_base", "r50k_base"] = "o200k_base"
    tokens_exact: bool = False  # False: its tokenizer is not known here; `encoding` replaces it
    context: int | None = None
    image_tokens: tuple[int, int] | None = None  # of an image at low detail, and of each tile at high detail
    methods: tuple[str, ...] | None = None
    training_types: tuple[str, ...] | None = None  # values of train.training_type; None: those of the provider
    inference: str | None = None  # the name that it answers by, where that is not the name that it is trained by
    training: float | None = None
    input: float | None = None
    cached_input: float | None = None
    output: float | None = None
    base_input: float | None = None
    base_cached_input: float | None = None
    base_output: float | None = None
    shutdown: datetime.date | None = None
    newcomers_until: datetime.date | None = None  # from then, it is trained only for those who trained it before
    training_until: datetime.date | None = None  # the provider announced that training ends no earlier
    seconds: float | None = None  # of training, per million billed tokens

    def retired(self, today: datetime.date) -> bool:
        return self.shutdown is not None and self.shutdown <= today

    def call_prices(self, tuned: bool) -> CallPrices:
        """Return the prices of calls of its fine-tuned models, or of the base itself."""
        if tuned:
            return CallPrices(self.input, self.output, self.cached_input)
        return CallPrices(self.base_input, self.base_output, self.base_cached_input)


def base_name(model: str) -> str:
    """Return the base of a fine-tuned model, `ft:<base>:…` or `<base>.ft-<job>`; another name is returned as it is."""
    if model.startswith("ft:") and model.count(":") > 1:
        return model.split(":")[1]
    azure = AZURE_TUNED.fullmatch(model)
    return azure[1] if azure else model


def is_fine_tuned(model: str) -> bool:
    """Return whether a name is that of a fine-tuned model. Calls of it have the prices of fine-tuned models."""
    return base_name(model) != model


def dated_name(model: str) -> str:
    """Return the dated name that an alias stands for; any other name is returned as it is."""
    catalogues = [entries_of(OWN), entries_of(FILE)]
    if any(model in catalogue for catalogue in catalogues):
        return model
    for catalogue in catalogues:
        for name, entry in catalogue.items():
            aliases = entry.get("aliases") if isinstance(entry, dict) else None
            if isinstance(aliases, list) and model in aliases:
                return name
    return model


def alias_note(model: str) -> str | None:
    """Return a sentence that says which model an alias is taken for; None for any other name."""
    dated = dated_name(model)
    return None if dated == model else f"{model!r} is an alias, whose meaning may change; it is taken as {dated!r}."


def look_up(model: str, provider: str) -> Base:
    """Look up a model's base at a provider, in the catalogue and in the project's entries.

    An alias is looked up by the dated name that it stands for. For `local`, all prices are 0. Raises FinetuneError if
    an entry is invalid.
    """
    name = dated_name(base_name(model))
    known: dict[str, Any] = dict.fromkeys(PRICES, 0.0) if provider == "local" else {}
    for file in (FILE, OWN):
        entry = entry_of(file, name)
        known |= {key: value for key, value in entry.items() if not isinstance(value, dict)} | entry.get(provider, {})
    if "encoding" in known:
        known["tokens_exact"] = True
    for name_of_list in ("methods", "training_types"):
        if name_of_list in known:
            known[name_of_list] = tuple(known[name_of_list])
    try:
        return Base(name, **known)
    except ValidationError as error:
        why = "; ".join(f"{'.'.join(map(str, problem['loc']))}: {problem['msg']}" for problem in error.errors())
        raise FinetuneError(f"Invalid entry {name!r} in {OWN} or {FILE}: {why}.", "Correct the entry.") from error


def inference_name(model: str, provider: str) -> str:
    """Return the name by which a provider answers with a base; a fine-tuned model has one name only."""
    return model if is_fine_tuned(model) else look_up(model, provider).inference or model


def entry_of(file: Path, name: str) -> dict[str, Any]:
    """Return a model's entry in a catalogue file; {} if the file or the entry is missing."""
    entry = entries_of(file).get(name, {})
    if not isinstance(entry, dict):
        raise FinetuneError(f"{file}: {name!r} must be a table.", f'Write ["{name}"] above its keys.')
    return entry


def entries_of(file: Path) -> dict[str, Any]:
    """Return the entries of a catalogue file by model; {} if the file is missing."""
    try:
        return dict(tomllib.loads(read_bytes(file).decode("utf-8")))
    except FileNotFoundError:
        return {}
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise FinetuneError(
            f"{file} is not valid TOML: {error}",
            f"Correct that line, or restore the file with: git checkout {file}",
        ) from error
