"""Compare the checks of training files with the loop that OpenAI's cookbook shows for chat data.

That loop is json.loads, seven checks, and tiktoken on every value of every message. Both read the same rows.
"""

import importlib.util
import json
import tempfile
from collections import Counter
from pathlib import Path

from chat_rows import write_rows
from common import median_rate, use_demo

ROWS, MANY = 200_000, 1_000_000
ENCODING = "o200k_base"


def run_cookbook(path: Path, tokens: bool) -> int:
    """Run the cookbook's checks on a file, and its count of tokens if `tokens`; return the number of examples."""
    import tiktoken

    encoding = tiktoken.get_encoding(ENCODING)
    with open(path, encoding="utf-8") as lines:
        dataset = [json.loads(line) for line in lines]
    errors: Counter[str] = Counter()
    for example in dataset:
        if not isinstance(example, dict):
            errors["data_type"] += 1
            continue
        messages = example.get("messages", None)
        if not messages:
            errors["missing_messages_list"] += 1
            continue
        for message in messages:
            if "role" not in message or "content" not in message:
                errors["message_missing_key"] += 1
            if any(key not in ("role", "content", "name", "function_call", "weight") for key in message):
                errors["message_unrecognized_key"] += 1
            if message.get("role", None) not in ("system", "user", "assistant", "function"):
                errors["unrecognized_role"] += 1
            content = message.get("content", None)
            if (not content and not message.get("function_call", None)) or not isinstance(content, str):
                errors["missing_content"] += 1
        if not any(message.get("role", None) == "assistant" for message in messages):
            errors["example_missing_assistant_message"] += 1
    if tokens:
        for example in dataset:
            length = 3
            for message in example["messages"]:
                length += 3
                for key, value in message.items():
                    length += len(encoding.encode(value)) + (key == "name")
    return len(dataset)


def main() -> None:
    use_demo()
    from finetune.data.checks.check_file import check_file
    from finetune.data.token_counts import fill_cache

    fill_cache(ENCODING)
    counted_by = "quicktok, equal to tiktoken's" if importlib.util.find_spec("quicktok") else "tiktoken"
    with tempfile.TemporaryDirectory() as name:
        small, large = Path(name) / "small.jsonl", Path(name) / "large.jsonl"
        write_rows(small, ROWS)
        theirs = median_rate(lambda: run_cookbook(small, tokens=True))
        ours = median_rate(lambda: len(check_file(small, encoding=ENCODING).rows))
        print(
            f"- Rules and exact tokens by {counted_by}, {ROWS:,} rows of {small.stat().st_size / ROWS:.0f} bytes:"
            f" {ours:,.0f} rows/s; the cookbook's loop: {theirs:,.0f} rows/s; ratio {ours / theirs:.1f}"
        )
        write_rows(large, MANY)
        theirs = median_rate(lambda: run_cookbook(small, tokens=False))
        ours = median_rate(lambda: len(check_file(large).rows))
        print(
            f"- Rules alone, {MANY:,} rows: {ours:,.0f} rows/s;"
            f" the cookbook's seven checks, {ROWS:,} rows: {theirs:,.0f} rows/s"
        )
        one = check_file(small, encoding=ENCODING, workers=1)
        two = check_file(small, encoding=ENCODING, workers=2)
    same = one.findings == two.findings and bool((one.rows == two.rows).all())
    print(f"- The findings and tokens are the same with one worker and with two: {same}")


if __name__ == "__main__":
    main()
