"""The processes that train one job together, each a part of every batch. One alone needs no communication.

torchrun and accelerate say by environment variables which process of how many this is; so do srun and mpirun, whose
processes meet by a file in the job's folder.
"""

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any, TypeVar

import torch
import torch.distributed as dist

from finetune.engine.api_errors import JobError
from finetune.engine.training.job_folder import Job

T = TypeVar("T")
TIMEOUT = timedelta(minutes=10)  # that a process waits for the others; then it ends, and the job is resumed
# Of srun, Open MPI and MPICH: the variables with a process's number, their count, and its number on its machine.
OTHER_LAUNCHERS = (
    ("SLURM_PROCID", "SLURM_STEP_NUM_TASKS", "SLURM_LOCALID"),
    ("OMPI_COMM_WORLD_RANK", "OMPI_COMM_WORLD_SIZE", "OMPI_COMM_WORLD_LOCAL_RANK"),
    ("PMI_RANK", "PMI_SIZE", "MPI_LOCALRANKID"),
)


def join(folder: Path, job: Job) -> bool:
    """Connect this process with the others of the job, and return whether they share the base's weights by FSDP.

    Raises JobError if the launcher did not start as many as it was asked for, or asks for DeepSpeed.
    """
    if is_set("ACCELERATE_USE_DEEPSPEED"):
        raise launcher_error(
            "DeepSpeed is not supported. To divide the base's weights among the processes, use a configuration of"
            " accelerate with distributed_type: FSDP."
        )
    # Taken out: accelerate and Transformers would divide the adapter too, and could not resume to the same bytes.
    is_sharded = is_set("ACCELERATE_USE_FSDP")
    os.environ.pop("ACCELERATE_USE_FSDP", None)
    if "WORLD_SIZE" not in os.environ:
        take_over_variables()
    count, asked = int(os.environ.get("WORLD_SIZE", "1")), job["processes"]
    if asked and count != asked:
        started = f"It started {count} {'process' if count == 1 else 'processes'}"
        remedy = " accelerate starts several processes on CPUs with --multi_gpu in place of --cpu."
        raise launcher_error(
            f"{started}, but was asked for {asked} ({job['asked_by']})."
            + (remedy if os.environ.get("ACCELERATE_USE_CPU", "").lower() == "true" else "")
        )
    if count > 1:
        meeting = None if "MASTER_ADDR" in os.environ else f"file://{(folder / 'meeting').resolve()}"
        if torch.cuda.is_available():
            torch.cuda.set_device(int(os.environ.get("LOCAL_RANK", "0")))
        dist.init_process_group(
            "nccl" if torch.cuda.is_available() else "gloo",
            init_method=meeting,
            timeout=TIMEOUT,
            rank=int(os.environ["RANK"]),
            world_size=count,
        )
        os.environ.setdefault("MASTER_ADDR", "localhost")  # accelerate asks for it, although they have met
    return is_sharded and count > 1


def is_set(variable: str) -> bool:
    return os.environ.get(variable, "false").lower() in ("1", "true", "yes")


def launcher_error(what: str) -> JobError:
    return JobError("launcher_error", f"The launcher of this server cannot train this job. {what}")


def take_over_variables() -> None:
    """Number this process in the variables that torchrun sets, if another launcher started several."""
    for names in OTHER_LAUNCHERS:
        rank, count, local = (os.environ.get(name) for name in names)
        if rank and count and int(count) > 1:
            os.environ.update(RANK=rank, WORLD_SIZE=count, LOCAL_RANK=local or "0")
            return


def leave() -> None:
    """End the connection with the other processes."""
    if dist.is_initialized():
        dist.destroy_process_group()


def rank() -> int:
    """Return the number of this process, from 0. The first one writes the results."""
    return dist.get_rank() if dist.is_initialized() else 0


def count() -> int:
    """Return how many processes train the job."""
    return dist.get_world_size() if dist.is_initialized() else 1


def threads(job: Job) -> int:
    """Return the number of threads of this process: its share of the cores."""
    if count() == 1:
        return job["threads"] or job["cores"] or torch.get_num_threads()
    import psutil

    # torchrun lets each process have one thread, unless OMP_NUM_THREADS says another number.
    usable = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    cores = job["cores"] or min(usable, psutil.cpu_count(logical=False) or usable)
    here = int(os.environ.get("LOCAL_WORLD_SIZE", str(count())))
    return job["threads"] or max(1, cores // here)


def share(items: Sequence[T]) -> Sequence[T]:
    """Return this process's part of a sequence; the parts of all processes have equal lengths, or differ by one."""
    return items[rank() * len(items) // count() : (rank() + 1) * len(items) // count()]


def share_evenly(items: Sequence[T]) -> Iterator[tuple[T, bool]]:
    """Yield this process's part of a sequence, each with True; where others have one more, one of theirs with False.

    Layers of which each process holds a part are computed by all processes at the same time, or not at all.
    """
    own = share(items)
    yield from ((one, True) for one in own)
    if len(own) * count() < len(items):
        yield items[0], False


@contextmanager
def one_after_another() -> Iterator[None]:
    """Let only one process of each machine run the block at a time."""
    before = int(os.environ.get("LOCAL_RANK", "0"))
    for _ in range(before):
        wait_for_all()
    yield
    for _ in range(count() - before):
        wait_for_all()


def total(*values: float) -> list[float]:
    """Return the sum of each value over all processes."""
    if count() == 1:
        return list(values)
    sums = torch.tensor(values, dtype=torch.float64, device="cuda" if dist.get_backend() == "nccl" else "cpu")
    dist.all_reduce(sums)
    found: list[float] = sums.tolist()
    return found


def wait_for_all() -> None:
    """Wait until all processes have come so far."""
    if count() > 1:
        dist.barrier()


def send_to_all(tensor: torch.Tensor, source: int) -> torch.Tensor:
    """Return the tensor of the process `source`; in the others, `tensor` has its shape and is overwritten."""
    if count() > 1:
        dist.broadcast(tensor, source)
    return tensor


def lost_another(error: BaseException) -> bool:
    """Return whether an error says that another process has died or does not answer. The job is not its cause."""
    kinds: Any = getattr(dist, "DistError", ())
    text = str(error).lower()
    return count() > 1 and (isinstance(error, kinds) or any(name in text for name in ("gloo", "nccl", "peer")))
