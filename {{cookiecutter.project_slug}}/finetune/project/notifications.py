"""Tell the addresses of `notify` in params.yaml how a job ended, by apprise.

What is sent has no text of an example, no key and no message of a provider, which may quote either.
"""

import logging
import os
import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from string import Template
from urllib.parse import quote

from finetune.core.callbacks import Say
from finetune.core.env_file import env_file_values
from finetune.core.errors import FinetuneError, JobEndedError, OverBudgetError

WHOLE = re.compile(r"\$\w+|\$\{\w+\}")  # an address that is all in a variable


@contextmanager
def telling(addresses: Sequence[str], command: str, say: Say) -> Iterator[Callable[[str], None]]:
    """Give the function that tells of success, and tell of the error that ends the block.

    Raises FinetuneError at once, before anything is paid, where an address cannot be used.
    """
    tell = teller(addresses, say)
    title = f"{Path.cwd().name}: {command}"
    try:
        yield lambda text: tell(f"{title} succeeded", text)
    except OverBudgetError as error:
        tell(f"{title} is over the budget", error.what)
        raise
    except JobEndedError as error:
        tell(f"{title} {error.status}", f"Job {error.job} has no model. Why: finetune jobs show {error.job}")
        raise
    except Exception:
        tell(f"{title} stopped", "It stopped with an error, which its terminal shows. Run the same command again.")
        raise


def teller(addresses: Sequence[str], say: Say) -> Callable[[str, str], None]:
    """Return the function that sends a title and a text to each address; if that fails, it says so.

    Raises FinetuneError for an address that apprise does not know, and where apprise is not installed.
    """
    if not addresses:
        return lambda title, text: None
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

    def tell(title: str, text: str) -> None:
        for number, service in enumerate(services, 1):
            try:
                is_sent = bool(service.notify(text, title=title, body_format=NotifyFormat.TEXT))
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
