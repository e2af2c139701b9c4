"""What is known of a base model before it is used: encoding, training context, price, shutdown date."""

import datetime
import sys
from dataclasses import dataclass
from pathlib import Path

from finetune.errors import FinetuneError

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

FILE = Path(__file__).parent / "models.toml"


@dataclass(frozen=True)
class Base:
    """Facts of a base model at a provider; None is what is not known (a price that is not known is never 0).

    Prices are US dollars per million tokens: of training, of the fine-tuned model's input and output, of the base's.
    """

    name: str
    encoding: str = "o200k_base"
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
    """What the catalogue knows of a model, by its base, at a provider. Training at home costs nothing.

    Raises FinetuneError when the catalogue was edited into something that cannot be read.
    """
    name = base_name(model)
    if provider == "local":
        return Base(name, training=0.0)
    try:
        entry = tomllib.loads(FILE.read_text(encoding="utf-8")).get(name)
    except tomllib.TOMLDecodeError as error:
        raise FinetuneError(f"{FILE} is not valid TOML: {error}", "Mend that line.") from error
    if entry is None:
        return Base(name)
    common = {key: value for key, value in entry.items() if not isinstance(value, dict)}
    try:
        return Base(
            name, tokens_exact=True, **{**common, "methods": tuple(entry["methods"]), **entry.get(provider, {})}
        )
    except (KeyError, TypeError) as error:
        raise FinetuneError(
            f"{FILE}: the entry of {name!r} is amiss: {error}", "Compare it with the others."
        ) from error
