"""Write chat files of any size from the demo's own messages."""

import csv
import json
import random
from pathlib import Path

from common import DEMO

SYSTEM = (
    "Classify the message. Answer with one word: delivery, billing, technical, returns, account, sales, privacy or"
    " careers."
)


def write_rows(path: Path, rows: int) -> None:
    """Write chat rows of about 600 bytes: four English messages of the starter in a row, with the team of the first."""
    draw = random.Random(42)
    with open(DEMO / "data" / "raw" / "messages.csv", encoding="utf-8") as table:
        messages = [row for row in csv.DictReader(table) if row["message"].isascii()]
    with open(path, "w", encoding="utf-8") as out:
        for _ in range(rows):
            drawn = draw.sample(messages, 4)
            turns = {
                "system": SYSTEM,
                "user": " ".join(row["message"] for row in drawn),
                "assistant": drawn[0]["team"],
            }
            example = {"messages": [{"role": role, "content": text} for role, text in turns.items()]}
            out.write(json.dumps(example, ensure_ascii=False) + "\n")
