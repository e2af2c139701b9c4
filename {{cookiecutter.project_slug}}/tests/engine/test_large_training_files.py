"""Test that a training file of any length can be checked: an upload in parts may have 8 GB."""

import json
import tracemalloc
from pathlib import Path

from finetune.engine.training.training_file import count_examples

ROWS = 5000
LETTERS = 1000


def test_checking_a_file_keeps_none_of_its_examples(tmp_path: Path) -> None:
    messages = [{"role": "user", "content": "a" * LETTERS}, {"role": "assistant", "content": "b"}]
    path = tmp_path / "train.jsonl"
    path.write_text(ROWS * (json.dumps({"messages": messages}) + "\n"), encoding="utf-8")
    tracemalloc.start()
    try:
        assert count_examples(path, "training_file").examples == ROWS
        most = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert most < ROWS * LETTERS / 10, f"{most:,} bytes"
