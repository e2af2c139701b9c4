"""Measure how fast the engine writes long answers, and how soon a stream begins, beside Transformers' own `generate`.

Engine and `generate` have the same base, dtype and prompts, choose the likeliest token, and take turns in one run. The
engine is a server in its own process, so its figures include HTTP.
"""

import json
import os
import statistics
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from http.client import HTTPConnection
from pathlib import Path
from typing import Any

from common import BASE, Server, serving, use_demo

SIZES = (1, 8, 48)  # answers at once
TOKENS = 64  # of an answer; one that ends earlier has fewer, and only the tokens that it has are counted
LONGEST = 30  # seconds of one `generate`: where that is not enough, its rate is that of the tokens it has by then
PROMPTS = (40, 1000)  # tokens, about
BEGINNING = 500  # tokens that two requests have in common, about
REPEATS = 3  # of each measurement but the long batches; the median counts
WORDS = [
    "river",
    "stone",
    "garden",
    "winter",
    "letter",
    "market",
    "window",
    "engine",
    "silver",
    "forest",
]  # each is one token

Messages = list[dict[str, str]]


def story(number: int) -> Messages:
    """Return a prompt whose answer is long. Prompts of other numbers have another beginning."""
    return [
        {"role": "system", "content": f"{number} You are a writer."},
        {"role": "user", "content": f"Write a long story about a {WORDS[number % 10]} and the number {number}."},
    ]


def long_prompt(tokens: int, number: int, question: str = "Which word comes first?") -> Messages:
    """Return a prompt of about this many tokens, which begins with a number."""
    count = max(1, tokens - 30)
    text = " ".join(WORDS[(number + place * place) % 10] for place in range(count))
    return [{"role": "system", "content": f"{number} {text}"}, {"role": "user", "content": question}]


def request(server: Server, body: dict[str, Any]) -> Any:
    """Send a chat request and return its response, of which nothing has been read."""
    connection = HTTPConnection(server.host)
    headers = {"Authorization": f"Bearer {server.key}", "Content-Type": "application/json"}
    connection.request("POST", "/v1/chat/completions", json.dumps({"model": BASE, "temperature": 0, **body}), headers)
    response = connection.getresponse()
    assert response.status == 200, response.read()
    return response


def ask(server: Server, prompt: Messages, tokens: int = TOKENS) -> dict[str, Any]:
    """Return the completion object for a prompt."""
    return json.loads(request(server, {"messages": prompt, "max_tokens": tokens}).read())


def seconds_to_first_event(server: Server, prompt: Messages) -> float:
    """Return the seconds until the first event of a stream is there."""
    start = time.monotonic()
    response = request(server, {"messages": prompt, "max_tokens": 4, "stream": True})
    assert response.readline().startswith(b"data: {")
    seconds = time.monotonic() - start
    response.read()
    return seconds


def timed(work: Callable[[], Any]) -> float:
    start = time.monotonic()
    work()
    return time.monotonic() - start


class Generate:
    """Transformers' `generate` with the engine's base and dtype."""

    def __init__(self, folder: Path) -> None:
        import torch
        from finetune.engine.bases import best_dtype
        from transformers import AutoModelForCausalLM, AutoTokenizer

        self.tokenizer = AutoTokenizer.from_pretrained(folder, padding_side="left")
        self.model = AutoModelForCausalLM.from_pretrained(folder, dtype=getattr(torch, best_dtype())).eval()

    def inputs(self, prompts: list[Messages]) -> Any:
        template = {"add_generation_prompt": True, "return_dict": True, "return_tensors": "pt", "padding": True}
        return self.tokenizer.apply_chat_template(prompts, **template)

    def answer(self, prompts: list[Messages]) -> int:
        """Answer the prompts in one batch, and return the number of tokens of the answers with those that end them."""
        inputs = self.inputs(prompts)
        end = self.tokenizer.eos_token_id
        settings = {"max_new_tokens": TOKENS, "max_time": LONGEST, "do_sample": False, "pad_token_id": end}
        found = self.model.generate(**inputs, **settings)
        answers = found[:, inputs["input_ids"].shape[1] :].tolist()
        return sum(answer.index(end) + 1 if end in answer else len(answer) for answer in answers)

    def forward(self, prompt: Messages) -> float:
        """Return the seconds of one forward pass of a prompt, as `generate` begins.

        The second pass counts: at the first one of a length, PyTorch prepares its kernels.
        """
        import torch

        inputs = self.inputs([prompt])
        with torch.inference_mode():
            return [timed(lambda: self.model(**inputs, use_cache=True, logits_to_keep=1)) for _ in range(2)][1]


def rates(server: Server, generate: Generate, size: int) -> tuple[float, float]:
    """Return the tokens per second of the engine and of `generate`, for this many answers at once."""
    prompts = [story(100 * size + number) for number in range(size)]
    with ThreadPoolExecutor(size) as pool:
        start = time.monotonic()
        answers = list(pool.map(lambda prompt: ask(server, prompt), prompts))
        seconds = time.monotonic() - start
    engine = sum(answer["usage"]["completion_tokens"] for answer in answers) / seconds
    start = time.monotonic()
    return engine, generate.answer(prompts) / (time.monotonic() - start)


def print_rates(server: Server, generate: Generate) -> None:
    alone = None
    for size in SIZES:
        passes = [rates(server, generate, size) for _ in range(REPEATS if size == 1 else 1)]
        engine, batch = (statistics.median(column) for column in zip(*passes, strict=True))
        alone = alone or batch
        how = f"one at a time: {alone:.0f} tokens/s, ratio {engine / alone:.1f}"
        if size > 1:
            how += f"; in a batch of {size}: {batch:.0f} tokens/s, ratio {engine / batch:.1f}"
        answers = f"{size} answers of {TOKENS} tokens at once" if size > 1 else f"one answer of {TOKENS} tokens"
        print(
            f"- Generation of the engine, {answers}: {engine:.0f} tokens/s; Transformers' `generate`, {how}", flush=True
        )


def print_first_events(server: Server, generate: Generate) -> None:
    for tokens in PROMPTS:
        events, passes = [], []
        for number in range(REPEATS):
            prompt = long_prompt(tokens, number + 10 * tokens)
            events.append(seconds_to_first_event(server, prompt))
            passes.append(generate.forward(prompt))
        event, one_pass = statistics.median(events), statistics.median(passes)
        length = generate.inputs([long_prompt(tokens, 0)])["input_ids"].shape[1]
        print(
            f"- The first event of a stream, prompt of {length} tokens: after {1000 * event:.0f} ms; a forward pass of"
            f" Transformers: {1000 * one_pass:.0f} ms, ratio {event / one_pass:.1f}",
            flush=True,
        )


def print_shared_beginning(server: Server, generate: Generate) -> None:
    firsts, seconds = [], []
    for number in range(REPEATS):
        for found, question in ((firsts, "Which word comes first?"), (seconds, "How many words are there?")):
            prompt = long_prompt(BEGINNING, number, question)
            found.append(timed(lambda prompt=prompt: ask(server, prompt, 1)))
    first, second = statistics.median(firsts), statistics.median(seconds)
    length = generate.inputs([long_prompt(BEGINNING, 0)])["input_ids"].shape[1]
    print(
        f"- The answer to a prompt of {length} tokens: after {1000 * first:.0f} ms; to the next prompt with the same"
        f" beginning: after {1000 * second:.0f} ms, ratio {second / first:.2f}"
    )


def main() -> None:
    use_demo()
    with tempfile.TemporaryDirectory() as home:
        os.environ["FINETUNE_HOME"] = home
        from finetune.engine.bases import folder_of

        for name in ("bases", "locks"):
            (Path(home) / name).mkdir()
        generate = Generate(folder_of(BASE, Path(home)))
        with serving(Path(home)) as server:
            ask(server, story(0), 2)  # loads the base
            generate.answer([story(0)])
            print_rates(server, generate)
            print_first_events(server, generate)
            print_shared_beginning(server, generate)


if __name__ == "__main__":
    main()
