"""This machine's device: a CUDA GPU, Apple's GPU or the processor; the number format that suits it, and its memory."""

from pathlib import Path

# Files of control groups, version 2 and 1: the limit of a container, and what it uses.
LIMITS_OF_CONTAINERS = (("memory.max", "memory.current"), ("memory.limit_in_bytes", "memory.usage_in_bytes"))


def best_device() -> str:
    """Return `cuda`, `mps` (Apple's GPU) or `cpu`: the first of them that this machine has."""
    import torch

    if torch.cuda.is_available():
        return "cuda"
    return "mps" if torch.backends.mps.is_available() else "cpu"


def best_dtype() -> str:
    """Return `bfloat16` if the device computes in it, else `float32`."""
    import torch

    device = best_device()
    if device == "cuda":
        return "bfloat16" if torch.cuda.is_bf16_supported(including_emulation=False) else "float32"
    if device == "mps":
        return "bfloat16" if torch.backends.mps.is_macos_or_newer(14, 0) else "float32"
    native = torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported()
    return "bfloat16" if native else "float32"


def available_bytes() -> int:
    """Return the free memory of the GPU; without one, of this machine or of the container around this process."""
    import psutil
    import torch

    if torch.cuda.is_available():
        return int(torch.cuda.mem_get_info()[0])
    return min([int(psutil.virtual_memory().available), *left_in_containers()])


def left_in_containers() -> list[int]:
    """Return what a control group's limit leaves to this process, if there is a limit."""
    left = []
    for folder in (Path("/sys/fs/cgroup"), Path("/sys/fs/cgroup/memory")):
        for limit, used in LIMITS_OF_CONTAINERS:
            try:
                stat = dict(line.split() for line in (folder / "memory.stat").read_text().splitlines())
                cache = int(stat.get("total_inactive_file", stat.get("inactive_file", 0)))
                left.append(int((folder / limit).read_text()) - int((folder / used).read_text()) + cache)
            except (OSError, ValueError):  # no such file, or the limit is "max"
                continue
    return left
