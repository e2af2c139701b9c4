"""Take rights from this process and from those that it starts: memory, time, privileges, files, signals.

Beyond the limits of memory and time, only Linux can do this. Sources of the numbers, which are the same on every
processor: linux/prctl.h, linux/capability.h, and docs.kernel.org/userspace-api/landlock.html.
"""

import ctypes
import os
import signal
import struct
import sys
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

PARENT_DEATH_SIGNAL, DUMPABLE, CHILD_SUBREAPER, NO_NEW_PRIVILEGES = 1, 4, 36, 38  # prctl
CAPABILITY_VERSION = 0x20080522
CREATE_RULESET, ADD_RULE, RESTRICT_SELF = 444, 445, 446  # system calls of Landlock
PATH_BENEATH = 1
EXECUTE, WRITE_FILE, READ_FILE, READ_DIR = (1 << bit for bit in range(4))
REFER, TRUNCATE = 1 << 13, 1 << 14
READ = EXECUTE | READ_FILE | READ_DIR
OF_FILES = EXECUTE | WRITE_FILE | READ_FILE | TRUNCATE  # rights that a rule for a file, not a folder, may have

FILE = 2**28  # bytes of the largest file that an answer may write
# What Python and its packages read of a system. Not /etc as a whole: /etc/environment may hold keys.
SYSTEM = ["/usr", "/bin", "/sbin", "/lib", "/lib32", "/lib64", "/opt", "/nix/store", "/proc", "/sys/devices"]
SYSTEM += [f"/etc/{name}" for name in ("ld.so.cache", "localtime", "nsswitch.conf", "passwd", "group", "ssl", "fonts")]
DEVICES = ["/dev/null", "/dev/zero", "/dev/full", "/dev/random", "/dev/urandom"]


def limit(memory: int, seconds: int) -> None:
    """Limit address space, processor time and the size of a file, if the system can."""
    try:
        import resource
    except ImportError:  # Windows
        return
    limits = ((resource.RLIMIT_AS, memory), (resource.RLIMIT_CPU, seconds), (resource.RLIMIT_FSIZE, FILE))
    for kind, most in (*limits, (resource.RLIMIT_CORE, 0)):
        with suppress(ValueError, OSError):  # macOS cannot limit the address space
            resource.setrlimit(kind, (most, most))


def end_after(cpu_seconds: int) -> None:
    """End this process by SIGXCPU when it has computed for so long; time in which it waits does not count."""
    import resource

    resource.setrlimit(resource.RLIMIT_CPU, (cpu_seconds, cpu_seconds + 1))


def drop_privileges() -> None:
    """Protect this process from those that it starts, and end it with its parent.

    A process that is not dumpable keeps its memory, environment and open files from others of the same user, and a
    subreaper gets the orphans among its descendants. Raises OSError if the system refuses.
    """
    system = ctypes.CDLL(None, use_errno=True)
    calls = [(NO_NEW_PRIVILEGES, 1), (CHILD_SUBREAPER, 1), (PARENT_DEATH_SIGNAL, signal.SIGKILL), (DUMPABLE, 0)]
    for option, value in calls:
        refuse_failure(system.prctl(option, ctypes.c_ulong(value), *[ctypes.c_ulong(0)] * 3))
    # Root of a namespace could read all memory in it.
    header, none = (ctypes.c_uint32 * 2)(CAPABILITY_VERSION, 0), (ctypes.c_uint32 * 6)()
    refuse_failure(system.capset(header, none))


def landlock_version() -> int:
    """Return the version of Landlock, the kernel's control of file access; 0 without it."""
    if sys.platform != "linux":
        return 0
    version: int = ctypes.CDLL(None).syscall(CREATE_RULESET, None, ctypes.c_size_t(0), 1)
    return max(0, version)


def allow_files(
    readable: Iterable[str | Path], writable: Iterable[str | Path], listed: Iterable[str | Path] = ()
) -> None:
    """Allow only these files and folders, and those below. For `listed`, only the names of files may be read.

    Where Landlock can, also forbid connections by TCP, and signals to processes that were not started from here.
    """
    version = landlock_version()
    if not version:
        return
    every = (REFER - 1) | (REFER if version >= 2 else 0) | (TRUNCATE if version >= 3 else 0)
    handled = struct.pack("QQQ", every, 0b11, 0b11)[: 8 if version < 4 else 16 if version < 6 else 24]
    system = ctypes.CDLL(None, use_errno=True)
    ruleset = refuse_failure(system.syscall(CREATE_RULESET, handled, ctypes.c_size_t(len(handled)), 0))
    for rights, paths in ((READ, readable), (every, writable), (READ_DIR, listed)):
        for path in paths:
            with suppress(FileNotFoundError, PermissionError):
                place = os.open(path, os.O_PATH | os.O_CLOEXEC)
                of_path = rights if os.path.isdir(path) else rights & OF_FILES
                rule = struct.pack("=Qi", of_path, place)
                refuse_failure(system.syscall(ADD_RULE, ruleset, PATH_BENEATH, rule, 0))
                os.close(place)
    refuse_failure(system.syscall(RESTRICT_SELF, ruleset, 0))
    os.close(ruleset)


def refuse_failure(result: int) -> int:
    """Return the result of a system call. Raises OSError if it failed."""
    if result < 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
    return result


def confine(project: Path, folder: Path) -> None:
    """Confine this process to Python, its packages, the project's modules, and `folder`, the only one to write to.

    Other files of the project and of the user stay closed: they hold keys, and the answers that are expected.
    """
    drop_privileges()
    packages = [path for path in map(Path, sys.path) if path.exists() and not project.resolve().is_relative_to(path)]
    modules = [path for path in project.iterdir() if path.suffix == ".py" or (path / "__init__.py").exists()]
    python = [Path(sys.prefix), Path(sys.base_prefix), Path(sys.executable).resolve().parent]
    python += [Path(path) for path in os.environ.get("LD_LIBRARY_PATH", "").split(os.pathsep) if path]
    allow_files([*SYSTEM, *python, *packages, *modules], [folder, *DEVICES], listed=[project])
