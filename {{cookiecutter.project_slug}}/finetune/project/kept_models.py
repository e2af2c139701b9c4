"""Give the engine in the box a fine-tuned model that it lacks: DVC keeps the weights with the commit of its record.

So a model of another machine, or of a folder that was deleted, need not be trained again.
"""

import json
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from finetune.core.errors import FinetuneError
from finetune.core.params import Params
from finetune.core.paths import MODEL, WEIGHTS
from finetune.pricing.catalogue import is_fine_tuned
from finetune.project.history import committed_versions, folder_at, git, md5_of
from finetune.project.restore import LOCK, stages_in
from finetune.provider.connect import Connection, connect
from finetune.provider.ready_model import lacks_model
from finetune.terminal.progress import say


@contextmanager
def connect_with(params: Params, *models: str, fresh: bool = False) -> Iterator[Connection]:
    """Connect to the provider for the block, as `connect` does, with those of the models that DVC keeps."""
    with connect(params.provider, fresh) as connection:
        for model in models:
            give_kept_model(connection, model)
        yield connection


def give_kept_model(connection: Connection, model: str) -> None:
    """Copy a fine-tuned model that the engine in the box lacks from the commit whose record names it.

    Without such a commit nothing happens. Raises FinetuneError if DVC does not have the weights of that commit.
    """
    if connection.identity != "local" or not is_fine_tuned(model) or not lacks_model(connection, model):
        return
    commit, base = commit_with(model)
    if commit is None:
        return
    with tempfile.TemporaryDirectory() as folder:
        try:
            weights = folder_at(commit, WEIGHTS, Path(folder))
        except FinetuneError as error:
            raise FinetuneError(
                f"The engine of this machine does not have {model}, and {error.what}",
                "Fetch its weights where they are: dvc fetch train --all-commits. Or train again, which is free:"
                " finetune train",
            ) from error
        body = {"lora_name": model, "lora_path": str(weights), "base_model_name": base}
        connection.once.post("/load_lora_adapter", cast_to=object, body=body)
    say(f"The engine of this machine did not have {model}. Its weights were taken from DVC (commit {commit[:12]}).")


def commit_with(model: str) -> tuple[str | None, str]:
    """Return the newest commit whose record names a model, and its base; None and "" if there is none.

    The record must be the one of the commit's dvc.lock: after a merge, the lock may have the weights of another model.
    """
    for commit, text in committed_versions(MODEL):
        try:
            record = json.loads(text)
            if record["model"] == model and md5_of(text.encode()) == locked_md5(commit):
                return commit, record["base"]
        except (ValueError, KeyError, TypeError):  # a commit without the record, or with a damaged one
            continue
    return None, ""


def locked_md5(commit: str) -> str | None:
    """Return the MD5 that the model's record has in dvc.lock of a commit; None if there is none."""
    from ruamel.yaml.error import YAMLError

    try:
        outputs = stages_in(git("show", f"{commit}:./{LOCK}"))["train"]["outs"]
        return next((one["md5"] for one in outputs if one["path"] == MODEL.as_posix()), None)
    except (YAMLError, ValueError, LookupError, AttributeError, TypeError):  # no lock, or a damaged one
        return None
