"""`finetune serve`: the engine in the box for any OpenAI client."""

import os
import re
import secrets
import shlex
import shutil
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
    launcher: Annotated[
        str | None,
        typer.Option(
            metavar="COMMAND",
            help="Start trainings with this command, such as 'torchrun --nproc_per_node 2'; see docs/launchers.md."
            " By default, that of FINETUNE_ENGINE_LAUNCHER, else this Python.",
            show_default=False,
        ),
    ] = None,
    jobs: Annotated[
        int | None,
        typer.Option(
            min=1,
            help="Train so many jobs at once. By default, one for each GPU; with a launcher, one for as many GPUs as it"
            " starts processes. Without GPUs, one.",
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
    if launcher is not None:
        check_launcher(launcher)
        os.environ["FINETUNE_ENGINE_LAUNCHER"] = launcher
    if jobs is not None:
        os.environ["FINETUNE_ENGINE_JOBS"] = str(jobs)
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


def check_launcher(launcher: str) -> None:
    """Raise FinetuneError unless the command begins with a program of this machine."""
    try:
        words = shlex.split(launcher)
    except ValueError as error:
        raise FinetuneError(f"--launcher {launcher}: {error}.", "Close the quotation marks.") from error
    if not words or shutil.which(words[0]) is None:
        raise FinetuneError(
            f"--launcher {launcher}: there is no program {words[0] if words else ''!r} on this machine.",
            "Install it, or write its whole path: --launcher '/opt/bin/torchrun --nproc_per_node 2'",
        )
