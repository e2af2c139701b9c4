"""Divide the base's layers among the processes of a job by PyTorch's FSDP2, so that a base larger than a device trains.

Each process keeps its part of every layer, and has a layer whole only while it computes it. The adapter is whole in
all processes, and its gradients are added as without sharding, so the same bytes come out. Embeddings, the last norm
and the head stay whole too.
"""

from typing import Any

from peft import PeftModel
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard
from torch.nn.parallel import DistributedDataParallel

from finetune.engine.devices import best_device
from finetune.engine.training import processes


def shard_layers(model: PeftModel) -> None:
    """Divide the frozen weights of each layer among the processes, and move them to their devices."""
    mesh = init_device_mesh(best_device(), (processes.count(),))
    base: Any = model.get_base_model()
    for layer in base.get_decoder().layers:
        trained = {weight for weight in layer.parameters() if weight.requires_grad}
        # A layer by itself would stay whole after its first forward pass.
        fully_shard(layer, mesh=mesh, reshard_after_forward=True, ignored_params=trained)


def add_up_gradients(model: Any) -> Any:
    """Return the model in the wrapper that adds up the gradients of the adapter over all processes."""
    frozen = [name for name, weight in model.named_parameters() if not weight.requires_grad]
    # PyTorch has no public way to leave them out; accelerate refuses a model with parts of weights.
    DistributedDataParallel._set_params_and_buffers_to_ignore_for_model(model, frozen)  # type: ignore[no-untyped-call]
    return DistributedDataParallel(model)
