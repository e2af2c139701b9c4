"""Test that processes which share the base's layers hold a part of them each, and compute what one alone computes."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

IN_EACH = """
import json, sys, torch
from pathlib import Path
from torch.distributed.tensor import DTensor
from peft import LoraConfig, get_peft_model
from transformers import AutoModelForCausalLM
from finetune.engine.training import processes
from finetune.engine.training.base_model import recompute_activations
from finetune.engine.training.sharding import add_up_gradients, shard_layers
folder = Path(sys.argv[1])
assert processes.join(folder, {"processes": 2, "asked_by": ""})
with processes.one_after_another():
    torch.manual_seed(1)
    base = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    model = get_peft_model(base, LoraConfig(r=2, target_modules=["q_proj", "down_proj"], init_lora_weights=False))
    layers = base.get_decoder().layers
    tokens = torch.arange(20)[None] + 1
    whole = model(tokens).logits
    (whole.float().log_softmax(-1)[..., 5].sum()).backward()
    gradients = [weight.grad for weight in model.parameters() if weight.requires_grad]
    model.zero_grad()
    all_weights = sum(weight.numel() for weight in layers.parameters() if not weight.requires_grad)
    shard_layers(model)
if sys.argv[2] == "recompute":
    recompute_activations(base)
wrapped = add_up_gradients(model)
with torch.no_grad():
    model(tokens)  # after it, no layer may stay whole
def held():
    weights = [weight for weight in layers.parameters() if not weight.requires_grad]
    return sum((one.to_local() if isinstance(one, DTensor) else one).numel() for one in weights)
after_forward = held()
logits = wrapped(tokens).logits
(logits.float().log_softmax(-1)[..., 5].sum()).backward()
found = [weight.grad for weight in model.parameters() if weight.requires_grad]
equal = [torch.equal(one, other) for one, other in zip(found, gradients, strict=True)]
said = {"all": all_weights, "held": [after_forward, held()], "logits": torch.equal(logits, whole), "gradients": equal}
(folder / f"said-{processes.rank()}.json").write_text(json.dumps(said))
processes.leave()
"""


@pytest.mark.slow
@pytest.mark.parametrize("how", ["keep", "recompute"])
def test_each_process_holds_its_part_and_computes_the_same_bits(home: Path, tmp_path: Path, how: str) -> None:
    """By PyTorch itself: logits and gradients of the whole model are those of the model in two parts."""
    for path in (home / "bases" / "tiny").iterdir():
        (tmp_path / path.name).write_bytes(path.read_bytes())
    (tmp_path / "each.py").write_text(IN_EACH, encoding="utf-8")
    command = f"-m torch.distributed.run --standalone --nproc_per_node 2 {tmp_path / 'each.py'} {tmp_path} {how}"
    environment = {**os.environ, "ACCELERATE_USE_FSDP": "true", "PYTHONPATH": str(Path(__file__).parents[2])}
    run = subprocess.run([sys.executable, *command.split()], env=environment, capture_output=True, text=True)
    assert run.returncode == 0, run.stderr[-3000:]
    for rank in (0, 1):
        said = json.loads((tmp_path / f"said-{rank}.json").read_bytes())
        assert said["logits"]
        assert said["gradients"]
        assert all(said["gradients"])
        assert all(0.45 < held / said["all"] < 0.55 for held in said["held"])
