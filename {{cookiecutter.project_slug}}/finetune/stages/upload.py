"""upload: the training and validation files at the provider, by content."""

import codecs
from pathlib import Path
from typing import Any

from finetune.errors import FinetuneError
from finetune.params import Params
from finetune.paths import PREPARED
from finetune.provider.connect import connect
from finetune.provider.files import ensure_file, sha256
from finetune.record import write_json
from finetune.stages.budget import refuse_over_budget

FILES = Path("models/files.json")


def run(params: Params) -> dict[str, Any]:
    """Write the record of file IDs; an empty validation split is left out."""
    refuse_over_budget(params)
    record = {}
    with connect(params.provider) as connection:
        for split in ("train", "valid"):
            path = PREPARED / f"{split}.jsonl"
            if not path.is_file():
                raise FinetuneError(f"{path} is missing.", "Make it with: dvc repro prepare")
            content = path.read_bytes()
            if content:
                if connection.profile.byte_order_mark:
                    content = codecs.BOM_UTF8 + content
                record[split] = {"id": ensure_file(connection, content), "sha256": sha256(content)}
    write_json(FILES, record)
    return record
