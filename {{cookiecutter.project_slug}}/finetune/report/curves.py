"""The curves of a training run, from whatever the provider calls them."""

import base64
import binascii
import csv
import io
from typing import Any

COLUMNS = ["step", "train_loss", "train_accuracy", "valid_loss", "valid_accuracy"]
ALIASES = {
    "train_mean_token_accuracy": "train_accuracy",
    "valid_mean_token_accuracy": "valid_accuracy",
    "validation_mean_token_accuracy": "valid_accuracy",
}


def parse_result(content: bytes) -> list[dict[str, Any]]:
    """The rows of a result file under our column names; OpenAI serves it in Base64, others as it is."""
    if not content.lstrip().startswith(b"step"):
        try:
            content = base64.b64decode(content, validate=True)
        except (binascii.Error, ValueError):
            return []
    table = csv.DictReader(io.StringIO(content.decode("utf-8", "replace")))
    return [{ALIASES.get(name, name): value for name, value in row.items()} for row in table]
