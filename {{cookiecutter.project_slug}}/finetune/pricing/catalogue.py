"""What is known of a base model before it is used: encoding, training context, price, shutdown date."""

import datetime
import sys
from pathlib import Path
from typing import Any, Literal

from pydantic import ConfigDict, ValidationError
from pydantic.dataclasses import dataclass

from finetune.core.errors import FinetuneError

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

FILE = Path(__file__).parent / "models.toml"
OWN = Path("models.toml")  # the project's own entries, in the current folder
PRICES = ("training", "input", "cached_input", "output", "base_input", "base_output")


@dataclass(frozen=True, config=ConfigDict(extra="forbid"))
class Base:
    """Facts of a base model at a provider; None is what is not known (a price that is not known is never 0).

    Prices are US dollars per million tokens: of training, of the fine-tuned model's input and output, of the base's.
    """

    name: str
    encoding: Literal["o200k_base", "o200k_harmony", "cl100k_base", "p50k_base", "r50k_base"] = "o200k_base"
    tokens_exact: bool = False  # False: its tokenizer is not known here, and `encoding` stands in for it
    context: int | None = None
    methods: tuple[str, ...] | None = None
    training: float | None = None
    input: float | None = None
    cached_input: float | None = None
    output: float | None = None
    base_input: float | None = None
    base_output: float | None = None
    shutdown: datetime.date | None = None
    seconds: float | None = None  # of training, per million billed tokens

    def retired(self, today: datetime.date) -> bool:
        return self.shutdown is not None and self.shutdown <= today


def base_name(model: str) -> str:
    """The base of a fine-tuned model `ft:<base>:…`; any other name is its own."""
    return model.split(":")[1] if model.startswith("ft:") and model.count(":") > 1 else model


def look_up(model: str, provider: str) -> Base:
    """What the catalogue and the project's own entries know of a model, by its base, at a provider.

    What is done at home costs nothing.

    Raises FinetuneError when the catalogue was edited into something that cannot be read.
    """
    name = base_name(model)
    known: dict[str, Any] = dict.fromkeys(PRICES, 0.0) if provider == "local" else {}
    for file in (FILE, OWN):
        entry = entry_of(file, name)
        known |= {key: value for key, value in entry.items() if not isinstance(value, dict)} | entry.get(provider, {})
    if "encoding" in known:
        known["tokens_exact"] = True
    if "methods" in known:
        known["methods"] = tuple(known["methods"])
    try:
        return Base(name, **known)
    except ValidationError as error:
        why = "; ".join(f"{'.'.join(map(str, problem['loc']))}: {problem['msg']}" for problem in error.errors())
        raise FinetuneError(f"The entry of {name!r} in {FILE} or {OWN} is amiss: {why}", "Mend that.") from error


def entry_of(file: Path, name: str) -> dict[str, Any]:
    """A model's entry in a catalogue; an empty one where file or entry are not there."""
    try:
        entry = tomllib.loads(file.read_text(encoding="utf-8")).get(name, {})
    except FileNotFoundError:
        return {}
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise FinetuneError(f"{file} is not valid TOML: {error}", "Mend that line.") from error
    if not isinstance(entry, dict):
        raise FinetuneError(f"{file}: {name!r} is no table.", f'Write ["{name}"] above its keys.')
    return entry
