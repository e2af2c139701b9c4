"""What is known of a base model before it is used: encoding, training context, price, shutdown date."""

import datetime
import sys
from dataclasses import dataclass
from pathlib import Path

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

FILE = Path(__file__).parent / "models.toml"


@dataclass(frozen=True)
class Base:
    """Facts of a base model. `training_usd` is per million tokens, None where it is not known (never 0 for that)."""

    name: str
    encoding: str = "o200k_base"
    tokens_exact: bool = False  # False: its tokenizer is not known here, and `encoding` stands in for it
    context: int | None = None
    training_usd: float | None = None
    shutdown: datetime.date | None = None


def look_up(model: str, provider: str) -> Base:
    """The base of that name; a fine-tuned model `ft:<base>:…` is looked up by its base. Training at home is free."""
    name = model.split(":")[1] if model.startswith("ft:") else model
    entry = tomllib.loads(FILE.read_text(encoding="utf-8")).get(name) if provider != "local" else None
    if entry is None:
        return Base(name, training_usd=0.0 if provider == "local" else None)
    return Base(name, entry["encoding"], True, entry["context"], entry["training"], entry["shutdown"])
