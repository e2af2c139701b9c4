"""Ask a merged model, or a base with its adapter, by Transformers: one prompt at a time, always the likeliest token."""

import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from finetune.core.callbacks import Progress
from finetune.core.records.answers import Alternatives
from finetune.core.records.settings import AnswerSettings
from finetune.export.adapter import with_adapter
from finetune.provider.answer_parser import Answer


def answers_by_transformers(
    folder: Path,
    adapter: Path | None,
    prompts: Sequence[Sequence[int]],
    ends: set[int],
    tokenizer: Any,
    questions: AnswerSettings,
    progress: Progress,
) -> list[Answer]:
    """Return the answer to each prompt of token IDs, with the log-probability of each of its tokens."""
    import torch
    from transformers import GenerationConfig

    model = loaded(folder, adapter)
    stops = [*questions["stop"], *([questions["completion"]["stop"]] if questions["completion"] else [])]
    settings = GenerationConfig(
        max_new_tokens=questions["max_tokens"],
        do_sample=False,
        eos_token_id=sorted(ends),
        pad_token_id=min(ends),
        stop_strings=stops or None,
        return_dict_in_generate=True,
        output_logits=True,
    )
    answers = []
    for done, prompt in enumerate(prompts, 1):
        begin = time.perf_counter()
        ids = torch.tensor([list(prompt)], device=model.device)
        with torch.inference_mode():
            found = model.generate(
                inputs=ids, attention_mask=torch.ones_like(ids), generation_config=settings, tokenizer=tokenizer
            )
        seconds = time.perf_counter() - begin
        made = found.sequences[0, len(prompt) :].tolist()
        logits = torch.cat(found.logits).float().log_softmax(-1).cpu()
        is_cut = len(made) == questions["max_tokens"] and made[-1] not in ends
        kept = made if is_cut or made[-1] not in ends else made[:-1]
        text = tokenizer.decode(kept, skip_special_tokens=False, clean_up_tokenization_spaces=False)
        stop = min((at for one in stops if (at := text.find(one)) >= 0), default=None)
        logprobs = [with_text(token, row, tokenizer) for token, row in zip(kept, logits, strict=False)]
        answers.append(
            Answer(
                text[:stop],
                len(prompt),
                len(made),
                seconds,
                logprobs,
                cut=is_cut and stop is None,
            )
        )
        progress(done, len(prompts), "answers")
    return answers


def logprobs_of_answers(
    folder: Path,
    adapter: Path,
    prompts: Sequence[Sequence[int]],
    answers: Sequence[str],
    tokenizer: Any,
    progress: Progress,
) -> list[list[Alternatives]]:
    """Return the log-probability of each token of given answers, by a base with its adapter."""
    import torch

    model = loaded(folder, adapter)
    found: list[list[Alternatives]] = []
    for done, (prompt, answer) in enumerate(zip(prompts, answers, strict=True), 1):
        ids = list(tokenizer(answer, add_special_tokens=False)["input_ids"])
        with torch.inference_mode():
            logits = model(torch.tensor([[*prompt, *ids]], device=model.device)).logits[0, len(prompt) - 1 : -1]
        rows = logits.float().log_softmax(-1).cpu()
        found.append([with_text(token, row, tokenizer) for token, row in zip(ids, rows, strict=True)])
        progress(done, len(prompts), "answers")
    return found


def with_text(token: int, logprobs: Any, tokenizer: Any) -> Alternatives:
    """Return a token's text and its log-probability, of those of all tokens."""
    return [(tokenizer.decode([token]), round(float(logprobs[token]), 4))]


def loaded(folder: Path, adapter: Path | None) -> Any:
    """Return a model that is ready to answer, on the GPU if there is one."""
    import torch
    from transformers import AutoModelForCausalLM

    model: Any = AutoModelForCausalLM.from_pretrained(folder, dtype="auto" if has_bfloat16() else torch.float32)
    if adapter:
        model = with_adapter(model, adapter, in_float32=False)
    return model.to("cuda" if torch.cuda.is_available() else "cpu").eval()


def has_bfloat16() -> bool:
    """Return whether this machine computes in bfloat16 itself; else it is many times slower than float32."""
    import torch

    if torch.cuda.is_available():
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    return bool(torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported())
