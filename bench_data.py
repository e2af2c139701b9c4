"""The figures on data of the README: `make bench` runs this in the demo project's environment.

The rival is the loop that OpenAI's cookbook shows for chat data: json.loads, its seven checks, and tiktoken on every
value of every message. Both read the same file, made of the starter's own messages.
"""

import csv
import hashlib
import importlib.util
import json
import os
import random
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from pathlib import Path

DEMO = Path(__file__).parent / "demo" / "my-fine-tune"
SYSTEM = (
    "Classify the message. Answer with one word: delivery, billing, technical, returns, account, sales, privacy or"
    " careers."
)
ROWS, MANY = 200_000, 1_000_000
PARAMS = """
data: {file: FILE, split: {train: 0.7, valid: 0.1, test: 0.2}}
provider: {name: openai}
train: {base: gpt-4.1-mini-2025-04-14, method: supervised, n_epochs: auto, batch_size: auto,
        learning_rate_multiplier: auto, seed: 42}
evaluate: {max_tokens: 6, temperature: 0, concurrency: 8}
"""


def write_rows(path: Path, rows: int) -> None:
    """Chat rows of about 600 bytes: four of the starter's English messages in a row, with the first one's team."""
    draw = random.Random(42)
    with open(DEMO / "data" / "raw" / "messages.csv", encoding="utf-8") as table:
        messages = [row for row in csv.DictReader(table) if row["message"].isascii()]
    with open(path, "w", encoding="utf-8") as out:
        for _ in range(rows):
            some = draw.sample(messages, 4)
            turns = {
                "system": SYSTEM,
                "user": " ".join(row["message"] for row in some),
                "assistant": some[0]["team"],
            }
            example = {"messages": [{"role": role, "content": text} for role, text in turns.items()]}
            out.write(json.dumps(example, ensure_ascii=False) + "\n")


def cookbook(path: Path, tokens: bool) -> int:
    """The rival's pass over a file; the number of its examples comes back."""
    import tiktoken

    encoding = tiktoken.get_encoding("o200k_base")
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


def rate(work, times: int = 3) -> float:
    """Examples a second, the median of some passes."""
    rates = []
    for _ in range(times):
        start = time.monotonic()
        rates.append(work() / (time.monotonic() - start))
    return sorted(rates)[times // 2]


def peak(command: list[str], folder: Path) -> tuple[float, float]:
    """Seconds of a command, and the most memory in MB that it and its processes held at once."""
    environment = {**os.environ, "PYTHONPATH": str(DEMO.resolve())}
    with subprocess.Popen(
        command,
        cwd=folder,
        env=environment,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    ) as process:
        start, most, done = time.monotonic(), 0.0, threading.Event()

        def watch() -> None:
            nonlocal most
            while not done.wait(0.1):
                most = max(most, resident(process.pid))

        watcher = threading.Thread(target=watch)
        watcher.start()
        code = process.wait()
        seconds = time.monotonic() - start
        done.set()
        watcher.join()
    if code:
        sys.exit(f"{' '.join(command)} ended with {code}")
    return seconds, most


def resident(session: int) -> float:
    """MB of resident memory of all processes of a session (Linux)."""
    pages = 0
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                if int((entry / "stat").read_text().rsplit(")", 1)[1].split()[3]) == session:
                    pages += int((entry / "statm").read_text().split()[1])
            except (OSError, ValueError):  # it ended meanwhile
                continue
    return pages * os.sysconf("SC_PAGE_SIZE") / 1e6


def count_tokens(path: Path) -> None:
    from finetune.data.checks.check_file import check_file

    with_what = "quicktok, equal to tiktoken's" if importlib.util.find_spec("quicktok") else "tiktoken"
    theirs = rate(lambda: cookbook(path, tokens=True))
    ours = rate(lambda: len(check_file(path, encoding="o200k_base").rows))
    print(f"- Rules and exact tokens by {with_what}, {ROWS:,} rows of {path.stat().st_size / ROWS:.0f} bytes:")
    print(f"  {ours:,.0f} rows/s against {theirs:,.0f} of the cookbook's loop: {ours / theirs:.1f} times")


def digests(folder: Path) -> list[str]:
    files = sorted((folder / "data" / "prepared").iterdir())
    return [hashlib.sha256(file.read_bytes()).hexdigest() for file in files]


def main() -> None:
    if not (DEMO / "data" / "raw" / "messages.csv").exists():
        sys.exit("Run `make demo` first: the figures are of its data.")
    sys.path.insert(0, str(DEMO.resolve()))
    os.environ["PYTHONPATH"] = str(DEMO.resolve())
    from finetune.data.checks.check_file import check_file
    from finetune.data.token_counts import fill_cache

    fill_cache("o200k_base")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        small, large = folder / "small.jsonl", folder / "large.jsonl"
        write_rows(small, ROWS)
        count_tokens(small)
        write_rows(large, MANY)
        theirs, ours = rate(lambda: cookbook(small, tokens=False)), rate(lambda: len(check_file(large).rows))
        print(f"- Rules alone, {MANY:,} rows: {ours:,.0f} rows/s; the cookbook's seven checks: {theirs:,.0f}")
        one = check_file(small, encoding="o200k_base", workers=1)
        two = check_file(small, encoding="o200k_base", workers=2)
        same = one.findings == two.findings and bool((one.rows == two.rows).all())
        print(f"- The same findings and tokens with one worker and with two: {same}")
        python = [sys.executable, "-m", "finetune"]
        seconds, most = peak([*python, "check", str(large)], folder)
        size = large.stat().st_size / 1e6
        print(f"- `finetune check` of {size:.0f} MB: {seconds:.0f} s, {most:.0f} MB of memory in all its processes")
        (folder / "params.yaml").write_text(PARAMS.replace("FILE", str(large)), encoding="utf-8")
        seconds, most = peak([*python, "prepare"], folder)
        print(f"- `finetune prepare` of {size:.0f} MB: {seconds:.0f} s, {most:.0f} MB of memory in all its processes")
        (folder / "params.yaml").write_text(PARAMS.replace("FILE", str(small)), encoding="utf-8")
        prepared = []
        for workers in (1, 2):
            code = "from finetune.core.params import load_params; from finetune.stages import prepare;"
            subprocess.run(
                [sys.executable, "-c", f"{code} prepare.run(load_params(), {workers})"], cwd=folder, check=True
            )
            prepared.append(digests(folder))
        print(f"- The same prepared bytes with one worker and with two: {prepared[0] == prepared[1]}")


if __name__ == "__main__":
    main()
