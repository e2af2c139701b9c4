"""A client each of whose calls has an end, however slowly a server answers, and says when it waits for long."""

import contextvars
import sys
import threading
from typing import Any

import httpx2
import openai

from finetune.core.errors import FinetuneError
from finetune.core.paths import user_home
from finetune.provider.answer_types import check_types

ENDS_AFTER = 6  # times the timeout of the call, which limits only each single wait for bytes
SAYS_AFTER = 15.0  # seconds; answers of models are not announced, because their stages show their progress
MODELS_ANSWER = ("/chat/completions", "/completions")


class BoundedClient(openai.OpenAI):
    """OpenAI's client with a limit for the whole of a call: its retries, the answer's head and its body."""

    def request(self, *arguments: Any, **named: Any) -> Any:
        """Send a request as the SDK does, and check the types of the answer.

        Raises openai.APITimeoutError where the call takes ENDS_AFTER timeouts, and WrongAnswerError as `check_types`.

        The call runs in another thread, because nothing interrupts a read that gets a byte now and then.
        """
        options = named.get("options") or arguments[1]
        outcome: dict[str, Any] = {}

        def call() -> None:
            try:
                outcome["answer"] = super(BoundedClient, self).request(*arguments, **named)
            except BaseException as error:  # it is raised again in the caller's thread
                outcome["error"] = error

        thread = threading.Thread(target=contextvars.copy_context().run, args=(call,), daemon=True)
        thread.start()
        limit = ENDS_AFTER * seconds_of(options.timeout if options.timeout else self.timeout)
        patience = min(SAYS_AFTER, limit)
        if not options.url.endswith(MODELS_ANSWER):
            thread.join(patience)
            if thread.is_alive() and patience < limit:
                print(f"Waiting for the answer to {options.method.upper()} {options.url} …", file=sys.stderr)
                limit -= patience
        thread.join(limit)
        if thread.is_alive():
            raise openai.APITimeoutError(request=httpx2.Request(options.method, self._prepare_url(options.url)))
        if "error" in outcome:
            raise outcome["error"]
        check_types(outcome["answer"])
        return outcome["answer"]


class EngineClient(BoundedClient):
    """The client of the engine in the box. If that ends, nobody will ever listen at its address again."""

    def request(self, *arguments: Any, **named: Any) -> Any:
        """Send a request as BoundedClient does. Raises FinetuneError where nobody listens."""
        try:
            return super().request(*arguments, **named)
        except openai.APIConnectionError as error:
            if not isinstance(error.__cause__, httpx2.ConnectError):
                raise
            raise FinetuneError(
                f"The engine in the box has ended: {error.__cause__}.",
                "Run the same command again: answers are kept, and a job goes on. The end of"
                f" {user_home() / 'worker.log'} may say why; a system short of memory ends processes without a word.",
            ) from error


def seconds_of(timeout: Any) -> float:
    """Return the longest single wait of a timeout in seconds: of a number, or of httpx2's object."""
    if isinstance(timeout, httpx2.Timeout):
        return max(filter(None, (timeout.connect, timeout.read, timeout.write)), default=600.0)
    return float(timeout) if isinstance(timeout, (int, float)) else 600.0
