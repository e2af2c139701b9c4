"""Run a GGUF file by llama.cpp's own server, in this process and on a free port of this machine."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from finetune.core.disk import sha256_of
from finetune.core.errors import FinetuneError
from finetune.core.profiles import PROFILES
from finetune.export.packages import needed
from finetune.export.prompts import Prompt
from finetune.provider.bounded_client import BoundedClient
from finetune.provider.connect import Connection
from finetune.provider.error_messages import explained_errors

NO_KEY = "none"  # the server asks for none, and the client needs a text
BLOCK = 256  # tokens by which the context grows


class LlamaServer:
    """A running server: `connection` for questions, and what it makes of prompts."""

    def __init__(self, connection: Connection, address: str) -> None:
        self.connection, self.address = connection, address

    def post(self, route: str, body: dict[str, Any]) -> Any:
        return self.connection.client.post(f"{self.address}/{route}", cast_to=dict[str, Any], body=body)

    def encode(self, prompt: Prompt) -> list[int]:
        """Return the token IDs of a prompt, by the tokenizer and the chat template in the file."""
        text = prompt if isinstance(prompt, str) else self.post("apply-template", {"messages": prompt})["prompt"]
        return list(self.post("tokenize", {"content": text, "add_special": True, "parse_special": True})["tokens"])

    def end_text(self) -> str:
        """Return the text of the token that ends answers, by the file."""
        found = self.connection.client.get(f"{self.address}/props", cast_to=dict[str, Any])
        return str(found["eos_token"])

    def stops_at(self, token: int) -> bool:
        """Return whether a token ends an answer: it is made the likeliest one, and the server says why it stops."""
        body = {"prompt": [token], "n_predict": 2, "temperature": 0.0, "logit_bias": [[token, 1000.0]]}
        return bool(self.post("completion", body)["stop_type"] == "eos")


@contextmanager
def llama_server(file: Path, prompts: Sequence[Sequence[int]], max_tokens: int) -> Iterator[LlamaServer]:
    """Serve a file for the block, with room for the longest prompt and its answer.

    One answer at a time and no kept prompts: so an answer does not depend on what was asked before, and the same file
    gives the same answers. Raises FinetuneError if llama.cpp cannot load the file.
    """
    xllamacpp = needed("xllamacpp", "runs GGUF files")
    settings = xllamacpp.CommonParams()
    settings.model.path = str(file)
    longest = max(map(len, prompts)) + max_tokens
    settings.n_ctx = -(-(longest + 1) // BLOCK) * BLOCK
    settings.n_parallel, settings.cache_prompt, settings.port = 1, False, 0
    settings.verbosity, settings.ui = 0, False
    try:
        server = xllamacpp.Server(settings)
    except RuntimeError as error:
        raise FinetuneError(
            f"llama.cpp cannot load {file}: the file is cut off or damaged, or is of a kind that it does not know.",
            "Export again with: dvc repro -f -s export",
        ) from error
    address = server.listening_address
    profile = PROFILES["compatible"]
    try:
        with BoundedClient(base_url=f"{address}/v1", api_key=NO_KEY) as client, explained_errors(client, profile):
            identity = f"llama.cpp {xllamacpp.__version__} {sha256_of(file)}"
            yield LlamaServer(Connection(client, profile, identity), address)
    finally:
        del server
