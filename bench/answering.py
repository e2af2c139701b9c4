"""Compare how fast the demo's test questions are answered.

By the engine, many at once and one at a time, and by Transformers' own `generate`, one at a time.
"""

import json
import os
import tempfile
import time
from pathlib import Path

from common import BASE, CONCURRENCY, DEMO, time_answers, use_demo

QUESTIONS, MAX_TOKENS = 80, 8


def load_prompts() -> list[list[dict[str, str]]]:
    """Return the messages of the demo's first test rows, without the answers."""
    lines = (DEMO / "data" / "prepared" / "test.jsonl").read_text(encoding="utf-8").splitlines()[:QUESTIONS]
    return [json.loads(line)["messages"][:-1] for line in lines]


def time_generate(folder: Path, prompts: list[list[dict[str, str]]]) -> float:
    """Return the seconds that Transformers' `generate` takes, one question after the other."""
    import torch
    from finetune.engine.bases import best_dtype
    from transformers import AutoModelForCausalLM, AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(folder)
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=getattr(torch, best_dtype())).eval()
    start = time.monotonic()
    for prompt in prompts:
        ids = tokenizer.apply_chat_template(prompt, add_generation_prompt=True, return_dict=True, return_tensors="pt")
        model.generate(**ids, max_new_tokens=MAX_TOKENS, do_sample=False, pad_token_id=tokenizer.eos_token_id)
    return time.monotonic() - start


def main() -> None:
    use_demo()
    prompts = load_prompts()
    with tempfile.TemporaryDirectory() as home:
        os.environ["FINETUNE_HOME"] = home
        together, texts = time_answers({"name": "local"}, BASE, prompts, MAX_TOKENS, CONCURRENCY)
        (Path(home) / "answers.db").unlink()
        alone, texts_alone = time_answers({"name": "local"}, BASE, prompts, MAX_TOKENS, 1)
        generate = time_generate(Path(home) / "bases" / BASE, prompts)
    n = len(prompts)
    print(
        f"- Answers of the engine, {CONCURRENCY} questions at once: {n / together:.1f}/s;"
        f" one at a time: {n / alone:.1f}/s, ratio {alone / together:.1f};"
        f" Transformers' `generate`, one at a time: {n / generate:.1f}/s, ratio {generate / together:.1f}"
    )
    print(f"- The answers are the same, {CONCURRENCY} at once and one at a time: {texts == texts_alone}")


if __name__ == "__main__":
    main()
