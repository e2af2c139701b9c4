"""Start the server: in a thread while a `with` block runs, in the foreground for `finetune serve`, or beside a process.

`server_process` runs it as: python -m finetune.engine.embedded PID RECORD
"""

import faulthandler
import ipaddress
import logging
import os
import secrets
import socket
import sqlite3
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil
import uvicorn

from finetune.engine import before_torch
from finetune.engine.api.app import make_app
from finetune.engine.api.protocol import Protocol
from finetune.engine.database_check import UnusableDatabaseError, check_database
from finetune.engine.home import default_home, shared_home_warning
from finetune.engine.server_process import Address, write_record
from finetune.engine.store import Store

LOCAL_HOSTS = frozenset({"localhost", "127.0.0.1", "[::1]"})
LOOK_SECONDS = 0.1  # between two looks at the process beside which a server runs
IDLE_SECONDS = 600  # without a connection, after which that server ends and gives its memory back


def listen(host: str, port: int) -> socket.socket:
    """Return a listening socket. Port 0 stands for a free port. Raises OSError if the port is in use."""
    found = socket.create_server((host, port), family=socket.AF_INET6 if ":" in host else socket.AF_INET)
    found.setblocking(False)
    return found


def is_loopback(sock: socket.socket) -> bool:
    """Return whether only this machine can connect to a listening socket."""
    return ipaddress.ip_address(sock.getsockname()[0]).is_loopback


def local_hosts(sock: socket.socket) -> frozenset[str] | None:
    """Return the names under which clients of this machine reach a loopback socket; None for one beyond loopback."""
    address = sock.getsockname()[0]
    return LOCAL_HOSTS | {f"[{address}]" if ":" in address else address} if is_loopback(sock) else None


@contextmanager
def server_of(
    key: str,
    any_base: bool = True,
    hosts: frozenset[str] | None = LOCAL_HOSTS,
    resume_batches: bool = False,
    cors: str | None = None,
    ahead: bool = False,
) -> Iterator[uvicorn.Server]:
    """Make the server of `FINETUNE_HOME`, which logs only errors. Its threads end with the block.

    With `resume_batches` it continues unfinished batches at once. Without, it does so at the first request about
    batches, so that a command that needs no batch never loads a model. With `cors`, pages of that origin may read
    answers. With `ahead`, what takes long is done before a request needs it.
    """
    home = default_home()
    check_database(home)
    try:
        store = Store(home, any_base)
    except sqlite3.Error as error:  # a full disk, a lock
        raise UnusableDatabaseError(f"Cannot use {home / 'engine.db'}: {error}. Free some disk space.") from error
    if warning := shared_home_warning(store.home):
        print(warning, file=sys.stderr, flush=True)
    before_torch(store.home)
    app = make_app(store, key, hosts, cors, ahead)
    if resume_batches:
        app.state.engine.batches.wake()
    yield uvicorn.Server(
        uvicorn.Config(
            app, http=Protocol, log_level="error", access_log=False, lifespan="off", timeout_graceful_shutdown=2
        )
    )
    app.state.engine.close()


def address_of(sock: socket.socket, key: str) -> Address:
    """Return where clients of this machine reach a socket."""
    return Address(f"http://127.0.0.1:{sock.getsockname()[1]}/v1", key)


@contextmanager
def embedded() -> Iterator[Address]:
    """Serve on a free loopback port with a random key while the block runs. Jobs are processes, so they outlive it."""
    key = secrets.token_urlsafe(24)
    with server_of(key) as server, listen("127.0.0.1", 0) as sock:
        thread = threading.Thread(target=server.run, kwargs={"sockets": [sock]}, daemon=True, name="engine")
        thread.start()
        try:
            while not server.started and thread.is_alive():
                time.sleep(0.01)
            yield address_of(sock, key)
        finally:
            log = logging.getLogger("uvicorn.error")
            level = log.level
            log.setLevel(logging.CRITICAL)  # after Ctrl-C, requests are cancelled: no error of the server
            server.should_exit = True
            thread.join()
            log.setLevel(level)


def serve(sock: socket.socket, key: str, any_base: bool | None = None, cors: str | None = None) -> None:
    """Serve on a listening socket until Ctrl-C.

    `any_base` None allows any base on loopback only: others could load what they like from this machine.
    """
    any_base = is_loopback(sock) if any_base is None else any_base
    with server_of(key, any_base, local_hosts(sock), resume_batches=True, cors=cors) as server:
        server.run(sockets=[sock])


def serve_beside(process: psutil.Process, record: Path) -> None:
    """Serve on a free loopback port with a random key until a process has ended, and then the last client.

    The address is written to `record`. Where nobody is connected for long, the server ends too.
    """
    key = secrets.token_urlsafe(24)
    with server_of(key, ahead=True) as server, listen("127.0.0.1", 0) as sock:

        def watch() -> None:
            last, looked_up = time.monotonic(), 0.0
            while server.server_state.connections or (is_alive(process) and time.monotonic() - last < IDLE_SECONDS):
                if server.server_state.connections or looked_up != modified(record):
                    last, looked_up = time.monotonic(), modified(record)
                time.sleep(LOOK_SECONDS)
            record.unlink(missing_ok=True)
            server.should_exit = True

        threading.Thread(target=watch, daemon=True, name="watch").start()
        write_record(record, address_of(sock, key))
        server.run(sockets=[sock])


def modified(path: Path) -> float:
    """Return when a file was modified last; 0 if it is not there."""
    try:
        return path.stat().st_mtime
    except OSError:
        return 0.0


def is_alive(process: psutil.Process) -> bool:
    """Return whether a process has not ended. One that its parent has not looked at since then is a zombie."""
    try:
        return bool(process.is_running() and process.status() != psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return False


if __name__ == "__main__":
    os.umask(0o077)
    faulthandler.enable()  # so that worker.log says where a server crashed
    serve_beside(psutil.Process(int(sys.argv[1])), Path(sys.argv[2]))
