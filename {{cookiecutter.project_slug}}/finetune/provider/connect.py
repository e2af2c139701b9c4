"""The client for the provider that `params.yaml` names, for as long as a stage lasts."""

import os
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, nullcontext
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from finetune.core.env_file import env_file_values
from finetune.core.errors import FinetuneError
from finetune.core.paths import user_home
from finetune.core.profiles import PROFILES, Profile
from finetune.core.sections.provider import Deploy, Provider
from finetune.provider.answer_checks import Clock, check_answer, hold_redirect
from finetune.provider.error_messages import explained_errors

if TYPE_CHECKING:
    from openai import OpenAI

DOWNLOAD_TIMEOUT = 600
TIMEOUT = 60  # seconds for an answer about files and jobs; a model's answer may take longer


@dataclass(frozen=True)
class Connection:
    """A client and its provider's profile.

    `identity` names the provider. For `local` it has no address, because the engine's port changes with each start.
    """

    client: "OpenAI"
    profile: Profile
    identity: str
    fresh: bool = False  # ask again what was asked before
    deploy: Deploy = field(default_factory=Deploy)  # where the provider's deployments are
    renewed: set[str] = field(default_factory=set)  # keys of answers that `fresh` has removed
    deployed: dict[str, str] = field(default_factory=dict)  # by name: the model that the deployment has
    answering: dict[str, Any] = field(default_factory=dict)  # by name: what answers now, see answering_model.py
    clock: Clock = field(default_factory=Clock)  # the provider's, which may differ from this machine's

    @property
    def control(self) -> "OpenAI":
        """Return the client for files and jobs, with a shorter timeout."""
        return self.client.with_options(timeout=TIMEOUT)

    @property
    def downloads(self) -> "OpenAI":
        """Return the client for large files."""
        return self.client.with_options(timeout=DOWNLOAD_TIMEOUT)

    @property
    def once(self) -> "OpenAI":
        """Return the client for requests that must be sent once: the SDK's own retries would send them again."""
        return self.client.with_options(timeout=TIMEOUT, max_retries=0)


@contextmanager
def connect(provider: Provider, fresh: bool = False) -> Iterator[Connection]:
    """Connect to the provider for the block; for `local` without an address, start the engine in the box.

    `fresh` says that kept answers are not used. Errors of the API in the block become FinetuneError.
    """
    import openai

    from finetune.provider.bounded_client import BoundedClient, EngineClient

    profile = PROFILES[provider.name]
    base_url = provider.base_url or profile.base_url
    kind = BoundedClient
    with ExitStack() as stack:
        if profile.name == "local" and base_url is None:
            base_url, key = stack.enter_context(start_engine())
            identity, kind = "local", EngineClient
        else:
            if base_url is None:
                raise FinetuneError(
                    f"provider.base_url in params.yaml is empty, and {profile.name!r} has no default address.",
                    "Set it to the server's address, such as https://host/v1.",
                )
            key = api_key(profile)
            identity = f"{profile.name} {base_url}"
        clock = Clock()
        hooks = [clock.read, hold_redirect, check_answer]
        http = openai.DefaultHttpxClient(event_hooks={"response": hooks})
        client = stack.enter_context(kind(base_url=base_url, api_key=key, http_client=http))
        with explained_errors(client, profile):
            yield Connection(client, profile, identity, fresh, provider.deploy, clock=clock)


@contextmanager
def start_engine() -> Iterator[tuple[str, str]]:
    """Run the engine for the block, or as long as DVC runs; give its address and key.

    Raises FinetuneError where it is not installed.
    """
    user_home()  # where the engine's state is
    try:
        from finetune.engine.server_process import address_beside_dvc

        address = address_beside_dvc()
        if address is None:
            from finetune.engine.embedded import embedded
    except ModuleNotFoundError as error:
        raise FinetuneError(
            f"provider.name is 'local', but the engine is not installed here ({error.name} is missing).",
            "Run `make setup`; in a project generated without the engine, set provider.base_url or another provider.",
        ) from error
    with nullcontext(address) if address else embedded() as found:
        yield found.base_url, found.key


def bases_that_fit() -> tuple[list[str], int]:
    """Return the bases of the engine's table that a usual job can train here now, and the free memory in bytes."""
    from finetune.engine.devices import available_bytes, best_dtype
    from finetune.engine.presets import fitting

    available = available_bytes()
    return fitting(available, best_dtype()), available


def api_key(profile: Profile) -> str:
    """Return the key from the environment, or from the nearest `.env` of this folder and those above it.

    DVC's workspaces are inside the project, so they find its `.env`.
    """
    key = os.environ.get(profile.key_name) or env_file_values().get(profile.key_name)
    if not key:
        raise FinetuneError(
            f"There is no API key for the provider {profile.name!r}.",
            f"Set {profile.key_name} in the environment, or in a file .env (see .env.example).",
        )
    return key
