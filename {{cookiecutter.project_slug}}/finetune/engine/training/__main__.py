"""Train one job, from a folder: python -m finetune.engine.training JOB_FOLDER

See `job_folder.py` for what is in the folder. torchrun, accelerate and others can start it in several processes.
"""

import faulthandler
import os
import sys
import traceback
from pathlib import Path

from finetune.engine import before_torch
from finetune.engine.api_errors import JobError
from finetune.engine.client_text import reason
from finetune.engine.training.job_folder import Result, Stopped, register_process, stop_if_asked, write_result


def main(folder: Path) -> int:
    """Train the job of a folder, from its newest checkpoint if there is one. Returns the exit code."""
    register_process(folder)
    status = 0
    try:
        stop_if_asked(folder)
        # Imports torch, which takes half of the time that a trainer needs to start.
        from finetune.engine.training import processes
        from finetune.engine.training.train_job import train_job

        result = train_job(folder)
        is_first = processes.rank() == 0
        processes.leave()
        if not is_first:
            return 0
    except Stopped:
        result = {"status": "stopped"}
    except JobError as error:
        result, status = failed(error.code, str(error), error.param), 1
        print(f"error: {error}", file=sys.stderr)
    except Exception as error:
        traceback.print_exc()
        if "torch" in sys.modules and processes.lost_another(error):
            return 1
        result, status = failed("server_error", reason(error)), 1
    write_result(folder, result)
    return status


def failed(code: str, message: str, param: str | None = None) -> Result:
    return {"status": "failed", "error": {"code": code, "message": message, "param": param}}


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit("usage: python -m finetune.engine.training JOB_FOLDER")
    if os.environ.get("PYTHONHASHSEED") != "0":  # it decides the order of sets, and not every launcher passes it on
        os.execve(sys.executable, [sys.executable, *sys.orig_argv[1:]], {**os.environ, "PYTHONHASHSEED": "0"})
    os.umask(0o077)
    faulthandler.enable()  # so that the log says where a trainer crashed
    before_torch(Path(sys.argv[1]))
    sys.exit(main(Path(sys.argv[1])))
