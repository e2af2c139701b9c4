"""`finetune serve`: the engine in the box for any OpenAI client."""

import os
import re
import secrets
import sys
from typing import Annotated

import typer

from finetune.core.errors import FinetuneError


def serve(
    host: Annotated[
        str, typer.Option(help="The address to listen on; by default, only this machine can connect.")
    ] = "127.0.0.1",
    port: Annotated[int, typer.Option(help="The port to listen on.", min=1, max=65535)] = 8000,
    allow_any_base: Annotated[
        bool | None,
        typer.Option(
            "--allow-any-base/--no-allow-any-base",
            help="Let clients name any folder of this machine and any model of the Hugging Face hub as a base, besides"
            " those in FINETUNE_HOME/bases. By default, only if --host is this machine alone.",
            show_default=False,
        ),
    ] = None,
    cors: Annotated[
        str | None,
        typer.Option(
            metavar="ORIGIN",
            help="Let the web pages of this origin, such as http://localhost:3000, read the answers. By default, none.",
            show_default=False,
        ),
    ] = None,
) -> None:
    """Serve the engine in the box to any OpenAI client, until Ctrl-C.

    Clients need the key in FINETUNE_ENGINE_KEY. If it is not set, a random key is printed once.

    Example: finetune serve --port 8001
    """
    from finetune.core.paths import user_home
    from finetune.engine import embedded
    from finetune.engine.database_check import UnusableDatabaseError

    if cors is not None and not re.fullmatch(
        r"https?://[a-z0-9.-]+(:[0-9]{1,5})?|https?://\[[0-9a-f:]+\](:[0-9]{1,5})?", cors
    ):
        raise FinetuneError(
            f"--cors {cors} is no origin.",
            "Name the one origin as browsers send it, in small letters and without a path: --cors http://localhost:3000",
        )
    user_home()  # where its state is
    key = os.environ.get("FINETUNE_ENGINE_KEY")
    if not key:
        key = secrets.token_urlsafe(24)
        print(f"The key of this run: {key}", file=sys.stderr)
    try:
        sock = embedded.listen(host, port)
    except OSError as error:
        reason = error.strerror or error
        raise FinetuneError(f"Cannot listen on {host}:{port}: {reason}.", "Choose another port with --port.") from error
    with sock:
        print(f"Serving on http://{host}:{port}/v1", file=sys.stderr, flush=True)
        try:
            embedded.serve(sock, key, allow_any_base, cors)
        except UnusableDatabaseError as error:
            raise FinetuneError(str(error)) from error
