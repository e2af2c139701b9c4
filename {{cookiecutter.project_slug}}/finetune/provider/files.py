"""Files at the provider, found by their content: the same bytes are uploaded once."""

import hashlib
from typing import TYPE_CHECKING

from finetune.errors import FinetuneError
from finetune.provider.connect import Connection

if TYPE_CHECKING:
    from openai.types import FileObject


def sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def ensure_file(connection: Connection, content: bytes) -> str:
    """The ID of a processed fine-tuning file with this content: one that is there, else a new one.

    A file's name at the provider is the SHA-256 of its content. Raises FinetuneError when the provider cannot read it.
    """
    import openai

    name = f"{sha256(content)}.jsonl"
    client = connection.client
    file = find(connection, name, len(content))
    if file is None:
        try:
            # No retries by the SDK: a lost answer would leave a second copy behind.
            file = client.with_options(max_retries=0).files.create(file=(name, content), purpose="fine-tune")
        except (openai.APIConnectionError, openai.InternalServerError):
            file = find(connection, name, len(content))
            if file is None:
                raise
    file = client.files.wait_for_processing(file.id)
    if file.status == "error":
        raise FinetuneError(
            f"The provider could not read {name}: {file.status_details or 'no reason given'}",
            "Run `dvc repro -f upload`; if it fails again, look for what `finetune validate` cannot see.",
        )
    return file.id


def find(connection: Connection, name: str, size: int) -> "FileObject | None":
    """The file of that name and size, unless the provider could not read it."""
    for file in connection.client.files.list(purpose="fine-tune"):
        if file.filename == name and file.bytes == size and file.status != "error":
            return file
    return None
