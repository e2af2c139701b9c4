"""A row's next token, from its logits: chosen, reported, and the row ended where its request says so."""

import re
import time
from dataclasses import replace
from typing import Any

from finetune.engine.api_errors import ApiError
from finetune.engine.inference.generation_types import Answer, Row, Token
from finetune.engine.inference.loaded_model import Loaded


def choose(loaded: Loaded, row: Row, scores: Any) -> None:
    """Take a row's next token from its logits (vocabulary,), and end the row where its request says so."""
    import torch

    request, tokenizer = row.request, loaded.tokenizer
    log_probabilities = torch.log_softmax(scores, -1)
    token = int(scores.argmax())
    if not log_probabilities[token].isfinite():
        row.finish_reason = "error"
        what = f"The model `{request.model}` is broken: its logits are not finite numbers."
        row.future.set_exception(ApiError(500, what, "server_error"))
        return
    if request.temperature >= 1e-5:  # below, a division might overflow
        token = drawn(scores, request.temperature, request.top_p, row.random)
    row.made.append(token)
    if token in loaded.ends:
        row.finish_reason = "stop"
    else:
        if request.top_logprobs is not None:
            row.tokens.append(told(tokenizer, token, log_probabilities, request.top_logprobs))
        if request.stop or len(row.made) == row.limit:
            row.text = tokenizer.decode(row.made, skip_special_tokens=True)
            found = [row.text.index(stop) for stop in request.stop if stop in row.text]
            if found:
                row.text, row.finish_reason = row.text[: min(found)], "stop"
            elif len(row.made) == row.limit:
                row.finish_reason = "length"
    if row.finish_reason:
        if token in loaded.ends:
            row.text = tokenizer.decode(row.made[:-1], skip_special_tokens=True)
        prompt_tokens, seconds = len(row.opening) + len(row.rest), time.monotonic() - row.began
        row.future.set_result(Answer(row.text, row.finish_reason, prompt_tokens, len(row.made), row.tokens, seconds))


def drawn(scores: Any, temperature: float, top_p: float, random: Any) -> int:
    """A token drawn at a temperature from the nucleus: the likeliest up to a mass of top_p, at least one."""
    import torch

    probabilities = torch.softmax(scores / temperature, -1)
    if top_p < 1:
        falling, order = probabilities.sort(descending=True, stable=True)
        probabilities[order[falling.cumsum(0) - falling > top_p]] = 0
    sums = probabilities.cumsum(0)
    return int(torch.searchsorted(sums, sums[-1] * torch.rand(1, generator=random)))


def told(tokenizer: Any, token: int, log_probabilities: Any, alternatives: int) -> Token:
    """A token as it is reported, with its log probability and those of the likeliest."""
    top = log_probabilities.topk(alternatives)
    tops = [one(tokenizer, i, value) for value, i in zip(top.values.tolist(), top.indices.tolist(), strict=True)]
    return replace(one(tokenizer, token, float(log_probabilities[token])), top=tops)


def one(tokenizer: Any, token: int, logprob: float) -> Token:
    text = tokenizer.decode([token])
    return Token(text, raw_of(tokenizer, token, text), round(logprob, 6))


def raw_of(tokenizer: Any, token: int, text: str) -> bytes:
    """A token's bytes, which its text does not tell where it is a piece of a letter."""
    from transformers.convert_slow_tokenizer import bytes_to_unicode

    piece = tokenizer.convert_ids_to_tokens(token)
    if "\ufffd" not in text or piece is None:
        return text.encode()
    if match := re.fullmatch("<0x([0-9A-F]{2})>", piece):  # as SentencePiece has them
        return bytes([int(match[1], 16)])
    letters = {letter: byte for byte, letter in bytes_to_unicode().items()}
    return bytes(letters[letter] for letter in piece) if all(letter in letters for letter in piece) else text.encode()
