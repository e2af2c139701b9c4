"""An engine behind a proxy that makes planned calls fail, for a module's tests."""

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
import quick
from faulty import Server, address, faulty

from finetune.core.profiles import PROFILES
from finetune.engine.embedded import listen, server_of
from finetune.provider import create_once, twin_jobs

KEY = "sk-test-0123456789abcdef"


@contextmanager
def faulty_engine() -> Iterator[Server]:
    """Start an engine and its proxy, with shorter pauses, and the profile `local` and the key in the environment."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("FINETUNE_ENGINE_KEY", KEY)
        patch.setitem(PROFILES, "local", PROFILES["local"])
        with server_of(KEY) as engine, listen("127.0.0.1", 0) as sock:
            thread = threading.Thread(target=engine.run, kwargs={"sockets": [sock]}, daemon=True)
            thread.start()
            while not engine.started:
                time.sleep(0.01)
            with faulty(f"http://127.0.0.1:{sock.getsockname()[1]}") as server:
                patch.setenv(quick.SERVER, address(server))
                # So that the old values return.
                for module, name, value in [*quick.PAUSES, *quick.TIMEOUTS, (create_once, "time", time)]:
                    patch.setattr(module, name, value)
                quick.shorten_pauses()
                quick.shorten_timeouts()
                patch.setattr(twin_jobs, "LIST_DELAY", 0.01)
                yield server
            engine.should_exit = True
            thread.join()
