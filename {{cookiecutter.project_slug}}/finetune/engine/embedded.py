"""The server in a thread of this process, for as long as a `with` block lasts; or in the foreground, for `serve`."""

import secrets
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import uvicorn

from finetune.engine import before_torch
from finetune.engine.api.app import make_app
from finetune.engine.store import Store, default_home


@dataclass(frozen=True)
class Address:
    base_url: str
    key: str


def listen(host: str, port: int) -> socket.socket:
    """A listening socket; port 0 is a free one. Raises OSError when the port is taken."""
    found = socket.create_server((host, port), family=socket.AF_INET6 if ":" in host else socket.AF_INET)
    found.setblocking(False)
    return found


@contextmanager
def server_of(key: str, stays: bool = False) -> Iterator[uvicorn.Server]:
    """Uvicorn over the store of `FINETUNE_HOME`, silent but for errors; its model threads end with the block.

    One that `stays` takes unfinished batches up at once. Another does so when it is asked for one, so that a command
    that wants something else never loads a model.
    """
    store = Store(default_home())
    before_torch(store.home)
    app = make_app(store, key)
    if stays:
        app.state.take_up()
    yield uvicorn.Server(
        uvicorn.Config(app, log_level="error", access_log=False, lifespan="off", timeout_graceful_shutdown=2)
    )
    app.state.close()


@contextmanager
def embedded() -> Iterator[Address]:
    """Serve on a free loopback port with a random key while the block runs. Jobs go on after it: they are processes."""
    key = secrets.token_urlsafe(24)
    with server_of(key) as server, listen("127.0.0.1", 0) as sock:
        thread = threading.Thread(target=server.run, kwargs={"sockets": [sock]}, daemon=True, name="engine")
        thread.start()
        try:
            while not server.started and thread.is_alive():
                time.sleep(0.01)
            yield Address(f"http://127.0.0.1:{sock.getsockname()[1]}/v1", key)
        finally:
            server.should_exit = True
            thread.join()


def serve(host: str, port: int, key: str) -> None:
    """Serve until Ctrl-C. Raises OSError when the port is taken."""
    with listen(host, port) as sock, server_of(key, stays=True) as server:
        server.run(sockets=[sock])
