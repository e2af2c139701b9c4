"""Tell the addresses of `notify` in params.yaml how a job ended, by apprise.

What is sent has no text of an example, no key and no message of a provider, which may quote either.
"""

import logging
import os
import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from string import Template
from typing import Any
from urllib.parse import quote

from finetune.core.callbacks import Say
from finetune.core.env_file import env_file_values
from finetune.core.errors import FinetuneError, JobEndedError, OverBudgetError
from finetune.project.history import project_folder

WHOLE = re.compile(r"\$\w+|\$\{\w+\}")  # an address that is all in a variable


@contextmanager
def telling(addresses: Sequence[str], command: str, say: Say) -> Iterator[Callable[[str], None]]:
    """Give the function that tells of success, and tell of the error that ends the block.

    Raises FinetuneError at once, before anything is paid, where an address cannot be used.
    """
    tell = teller(addresses, say)
    title = f"{project_folder().name}: {command}"
    try:
        yield lambda text: tell(f"{title} succeeded", text, "success")
    except OverBudgetError as error:
        tell(f"{title} is over the budget", error.what, "failure")
        raise
    except JobEndedError as error:
        why = f"Job {error.job} has no model. Why: finetune jobs show {error.job}"
        tell(f"{title} {error.status}", why, "failure")
        raise
    except Exception:
        what = "It stopped with an error, which its terminal shows. Run the same command again."
        tell(f"{title} stopped", what, "failure")
        raise


def with_secrets(addresses: Sequence[str]) -> list[int]:
    """Return the numbers, from 1, of the addresses that have a password or token as text, which each commit keeps.

    Empty where apprise is not installed: it knows which parts of an address are secret.
    """
    try:
        from apprise import Apprise
    except ModuleNotFoundError:
        return []
    logging.getLogger("apprise").addHandler(logging.NullHandler())
    services: list[Any] = [None if "$" in address else Apprise.instantiate(address) for address in addresses]
    return [number for number, one in enumerate(services, 1) if one and one.url(privacy=True) != one.url()]


def teller(addresses: Sequence[str], say: Say) -> Callable[[str, str, str], None]:
    """Return the function that sends a title, a text and apprise's kind to each address; if that fails, it says so.

    Raises FinetuneError for an address that apprise does not know, and where apprise is not installed.
    """
    if not addresses:
        return lambda title, text, kind: None
    try:
        from apprise import Apprise, NotifyFormat
    except ModuleNotFoundError as error:
        raise FinetuneError(
            f"params.yaml has addresses in notify, but the package {error.name} is not installed here.",
            "Install it with: pip install -e '.[notify]' -c constraints.txt",
        ) from error
    logging.getLogger("apprise").addHandler(logging.NullHandler())  # its messages may show addresses
    services = []
    for number, address in enumerate(addresses, 1):
        service = Apprise()
        if not service.add(with_variables(address)):
            raise FinetuneError(
                f"params.yaml: apprise does not know the form of address {number} in notify.",
                "Write it as in https://appriseit.com/services/, such as ntfys://topic or mailtos://user:$MAIL_PASSWORD@host",
            )
        services.append(service)

    def tell(title: str, text: str, kind: str) -> None:
        for number, service in enumerate(services, 1):
            try:
                is_sent = bool(service.notify(text, title, notify_type=kind, body_format=NotifyFormat.TEXT))
            except Exception:  # the plugins share no base class
                is_sent = False
            if not is_sent:
                say(f"No message was sent to address {number} of notify in params.yaml. Nothing else depends on it.")

    return tell


def with_variables(address: str) -> str:
    """Return an address with the values of its $NAMES, from the environment or .env. Raises FinetuneError."""
    values = {name: value for name, value in {**env_file_values(), **os.environ}.items() if value}
    if not WHOLE.fullmatch(address):
        values = {name: quote(value, safe="") for name, value in values.items()}
    try:
        return Template(address).substitute(values)
    except KeyError as error:
        raise FinetuneError(
            f"params.yaml: notify names the variable {error.args[0]}, which is not set.",
            "Set it in the environment, or in .env, which Git ignores.",
        ) from error
    except ValueError as error:
        raise FinetuneError("params.yaml: notify has a $ without a name.", "Write $$ for a dollar sign.") from error
