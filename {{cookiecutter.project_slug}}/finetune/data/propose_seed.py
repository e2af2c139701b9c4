"""Propose `data.split.seed` for small data, whose splits may differ much from the shares."""

import tempfile
from typing import BinaryIO, cast

from finetune.core.errors import FinetuneError
from finetune.core.sections.data import Data
from finetune.data.example_spool import spool_examples
from finetune.data.raw_examples import ReadingNotes, raw_examples
from finetune.data.split import settle_keys
from finetune.data.split_shares import SeedChoice, better_seed, rows_by_split

MOST_BYTES = 20 * 1024**2  # of a file; the splits of a larger one come close to their shares


def propose_seed(data: Data, file_bytes: int) -> SeedChoice | None:
    """Return the seed that `prepare` would name; None if the splits of data.split are good enough.

    Rows that cannot be prepared are left to `prepare`, which names them: None then.
    """
    if data.split is None or not data.split.shares or file_bytes > MOST_BYTES:
        return None
    template = data.prompt.model_dump() if data.prompt else None
    plain = data.model_copy(update={"labels": [], "codes": False})
    with tempfile.TemporaryFile() as file:
        try:
            spooled = spool_examples(raw_examples(plain, template, {}, ReadingNotes()), cast("BinaryIO", file))
        except FinetuneError:
            return None
        if not data.group:
            settle_keys(spooled)
        usual = rows_by_split(spooled, data.split.shares, data.split.seed)
        return better_seed(spooled, usual, data.split.shares, data.split.seed)
