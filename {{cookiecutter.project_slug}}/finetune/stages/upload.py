"""upload: send the training and validation files to the provider, each content once."""

import datetime

from finetune.core.disk import write_json
from finetune.core.errors import FinetuneError
from finetune.core.params import Params
from finetune.core.paths import FILES, PREPARED
from finetune.core.records import FilesRecord
from finetune.pricing.end_dates import date_warnings, refuse_after_shutdown
from finetune.project.budget import refuse_over_budget, refuse_over_total
from finetune.project.job_request import fingerprint_now
from finetune.project.uploads import upload_once
from finetune.provider.capabilities import refuse_unsupported
from finetune.provider.connect import connect
from finetune.provider.training_file import replay_file
from finetune.terminal.progress import progress_bar, say


def run(params: Params) -> FilesRecord:
    """Write and return the record of file IDs; an empty validation split is left out.

    The training file has the rows of train.replay too.
    """
    refuse_unsupported(params)
    refuse_over_budget(params)
    today = datetime.date.today()
    for warning in date_warnings(params, today):
        say(f"warning: {warning}")
    paths = {split: PREPARED / f"{split}.jsonl" for split in ("train", "valid")}
    for path in paths.values():
        if not path.is_file():
            raise FinetuneError(f"{path} is missing.", "Create it with: dvc repro prepare")

    def may_create() -> None:
        refuse_after_shutdown(params, today)
        refuse_over_total(params, connection=connection, fingerprints=[fingerprint_now(params) or ""])

    record: FilesRecord = {}
    with connect(params.provider) as connection, progress_bar("upload") as progress:
        for split, path in paths.items():
            if path.stat().st_size:
                replay = replay_file() if split == "train" else None
                record[split] = upload_once(connection, path, replay, may_create, progress, say)
    write_json(FILES, record)
    return record
