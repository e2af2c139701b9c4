"""Check everything that a fine-tune needs, and say what to do about what is missing."""

import configparser
import datetime
import re
import shutil
import sys
from collections import defaultdict
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib import metadata
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Literal

from finetune.core.errors import FinetuneError
from finetune.core.params import Params, load_params
from finetune.core.paths import user_home
from finetune.pricing.catalogue import base_name, inference_name, look_up
from finetune.pricing.end_dates import date_warnings, newcomers_warning, refuse_after_shutdown
from finetune.project.history import git, project_id
from finetune.provider.capabilities import refuse_unsupported
from finetune.provider.connect import Connection, bases_that_fit, connect
from finetune.provider.paging import all_rows

DISK_BYTES = 5e9  # for the engine, a base of 135M and a few fine-tunes


@dataclass(frozen=True)
class Check:
    """One check. `todo` is empty if there is nothing to do."""

    check: str
    state: Literal["ok", "warning", "wrong"]
    found: str
    todo: str = ""


def examine(ask: bool) -> Iterator[Check]:
    """Yield each check when it is done. With `ask`, the base model is asked for one token, to check the quota."""
    yield from check_machine()
    try:
        params = load_params()
    except FinetuneError as error:
        yield failed("params.yaml", error)
        return
    yield passed("params.yaml", f"{params.provider.name}, {params.train.base}")
    yield from check_training(params)
    yield from check_provider(params, ask)


def check_history() -> Check:
    """Check that Git has the first commit, which identifies the project."""
    try:
        project = project_id()
    except FinetuneError as error:
        return failed("Git", error)
    if project == "none":
        return warning("Git", "no commit yet", "git add . && git commit -m Start")
    return passed("Git", f"project {project[:12]}")


def check_machine() -> Iterator[Check]:
    """Check Python, packages, Git, the DVC remote and disks."""
    yield passed("Python", sys.version.split()[0])
    yield check_packages()
    if not git("rev-parse", "--git-dir"):
        yield warning("Git", "no repository here", "Run git init and commit: DVC needs it, and fine-tunes are commits.")
    else:
        yield check_history()
    yield check_remote()
    if not str(Path.cwd()).isascii():
        trouble = f"{Path.cwd()} has other letters than ASCII, where DVC's experiments with --temp or --queue fail"
        yield warning("folder", trouble, "Move the project if you need these. Everything else works here.")
    try:
        home = user_home()
    except FinetuneError as error:
        yield failed("disk for engine and answers", error)
        return
    for name, folder in (("disk here", Path.cwd()), ("disk for engine and answers", home)):
        free = shutil.disk_usage(folder).free
        space = f"{free / 1e9:.0f} GB free at {folder}"
        is_enough = free > DISK_BYTES
        yield passed(name, space) if is_enough else warning(name, space, "Free some space, or move FINETUNE_HOME.")


def check_packages() -> Check:
    """Check that the installed packages are those that the constraints pin: other versions may give other bytes."""
    pinned: dict[str, set[str]] = defaultdict(set)
    for file in Path.cwd().glob("constraints*.txt"):
        for name, version in re.findall(
            r"^([\w.-]+)==(\S+)", file.read_text(encoding="utf-8", errors="replace"), re.MULTILINE
        ):
            pinned[name].add(version)  # several, if the Python version decides
    if not pinned:
        return passed("packages", "no constraints.txt here, so nothing is compared")
    versions = {name: found for name in pinned if (found := installed(name))}
    others = [f"{name} {found}" for name, found in sorted(versions.items()) if found not in pinned[name]]
    if others:
        return warning("packages", f"not as pinned: {', '.join(others)}", "Install the pinned versions: make setup")
    return passed("packages", f"{len(versions)} as pinned")


def check_remote() -> Check:
    """Check that DVC has a remote, from its two files: the command would take a second."""
    config = configparser.ConfigParser()
    try:
        config.read([".dvc/config", ".dvc/config.local"], encoding="utf-8")
    except (configparser.Error, UnicodeDecodeError, OSError) as error:
        return Check("DVC remote", "wrong", str(error), "Correct .dvc/config.")
    if not Path(".dvc").is_dir():
        return warning("DVC remote", "no .dvc folder here", "Run this in the project's folder, or: dvc init")
    remotes = [name for name in config.sections() if "remote" in name]
    if remotes:
        return passed("DVC remote", ", ".join(config[name].get("url", name) for name in remotes))
    return warning(
        "DVC remote", "none: weights stay on this machine", "Run dvc remote add -d storage <url>, then dvc push."
    )


def check_training(params: Params) -> Iterator[Check]:
    """Check what the profile and the catalogue say about the provider and the base."""
    try:
        refuse_unsupported(params)
        refuse_after_shutdown(params, datetime.date.today())
    except FinetuneError as error:
        yield failed("training", error)
        return
    base = look_up(params.train.base, params.provider.name)
    if soon := date_warnings(params, datetime.date.today()):
        yield warning("training", " ".join(soon), "Plan a move to another provider.name, or to `local`.")
    else:
        yield passed("training", f"{base.name}, shutdown {base.shutdown or 'not announced'}")
    if base.training is None:
        yield warning("price", f"the training price of {base.name} is unknown", "Add it to models.toml.")
    else:
        yield passed("price", f"{base.training:g} dollars per million training tokens")
    if closed := newcomers_warning(params, datetime.date.today()):
        yield warning("account", closed, "A new account trains open weights: at another provider.name, or `local`.")


def check_provider(params: Params, ask: bool) -> Iterator[Check]:
    """Check the provider's answers, one call after the other, until one fails."""
    if params.provider.name == "local" and params.provider.base_url is None and find_spec("finetune.engine") is None:
        missing = "this project was generated without the engine"
        yield failed("engine", FinetuneError(missing, "Set provider.base_url, or another provider."))
        return
    for name, call in CALLS.items() if ask else list(CALLS.items())[:-1]:
        try:
            with connect(params.provider) as connection:
                if call is ask_for_a_token and connection.profile.deploys:
                    continue
                answer = call(connection, inference_name(params.train.base, params.provider.name))
        except (FinetuneError, OSError) as error:  # OSError: the engine's folder cannot be used
            yield failed(name, error if isinstance(error, FinetuneError) else FinetuneError(str(error)))
            if call is list_models:
                return
        else:
            yield passed(name, answer)
    if params.provider.name == "local" and params.provider.base_url is None:
        yield check_bases()


def check_bases() -> Check:
    """Name the bases that this machine has the memory to train."""
    names, available = bases_that_fit()
    free = f"{available / 1e9:.1f} GB of memory are free"
    if not names:
        return warning("bases", f"{free}: too little for a usual job", "Close other programs.")
    return passed("bases", f"fit this machine ({free}): {', '.join(names)}; docs/engine.md has the table")


def list_models(connection: Connection, base: str) -> str:
    """Return the number of the provider's models, and its address."""
    return f"{len(all_rows(connection.control.models.list()))} models at {connection.client.base_url}"


def retrieve_base(connection: Connection, base: str) -> str:
    """Return the base model's ID, and its shutdown date if the provider reports one."""
    found = connection.control.models.retrieve(base_name(base) if not base.startswith("ft:") else base)
    day = getattr(found, "shutdown_date", None)
    return f"{found.id}, shutdown {day}" if day else found.id


def newest_job(connection: Connection, base: str) -> str:
    """Return the newest job and its status."""
    newest = connection.control.fine_tuning.jobs.list(limit=1).data
    return f"newest {newest[0].id}, {newest[0].status}" if newest else "none yet"


def ask_for_a_token(connection: Connection, base: str) -> str:
    """Ask the base model for one token, which fails if the quota is used up."""
    request: dict[str, Any] = {connection.profile.max_tokens_name: 1}
    message: Any = [{"role": "user", "content": "Hello"}]
    connection.client.chat.completions.create(model=base, messages=message, **request)
    return "the base model answers"


CALLS: dict[str, Callable[[Connection, str], str]] = {
    "key and address": list_models,
    "base model": retrieve_base,
    "fine-tuning jobs": newest_job,
    "quota": ask_for_a_token,
}


def installed(package: str) -> str | None:
    """Return the installed version of a package; None if it is not installed."""
    try:
        return metadata.version(package).split("+")[0]
    except metadata.PackageNotFoundError:
        return None


def passed(check: str, found: str) -> Check:
    """Return a check that passed."""
    return Check(check, "ok", found)


def warning(check: str, found: str, todo: str) -> Check:
    """Return a check that needs attention, but stops nothing."""
    return Check(check, "warning", found, todo)


def failed(check: str, error: FinetuneError) -> Check:
    """Return a check that failed."""
    return Check(check, "wrong", error.what, error.remedy)
