"""Whether everything is there that a fine-tune needs, and what to do where it is not."""

import configparser
import datetime
import re
import shutil
import sys
from collections import defaultdict
from collections.abc import Callable, Iterator
from importlib import metadata
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from finetune.core.errors import FinetuneError
from finetune.core.params import Params, load_params
from finetune.core.paths import user_home
from finetune.pricing.catalogue import base_name, look_up
from finetune.project.history import git, project_id
from finetune.provider.capabilities import refuse_after_shutdown, refuse_unsupported, shutdown_warning
from finetune.provider.connect import Connection, connect

ROOM = 5e9  # bytes: the engine, a base of 135M and a few fine-tunes

Check = dict[str, Any]


def examine(ask: bool) -> Iterator[Check]:
    """Each check as it is made, with `check`, `state` (ok, warning, wrong), `found` and `todo`.

    With `ask`, the base model is asked for one token, which tells whether the quota allows it.
    """
    yield from of_machine()
    try:
        params = load_params()
    except FinetuneError as error:
        yield wrong("params.yaml", error)
        return
    yield fine("params.yaml", f"{params.provider.name}, {params.train.base}")
    yield from of_offer(params)
    yield from of_provider(params, ask)


def of_machine() -> Iterator[Check]:
    yield fine("Python", sys.version.split()[0])
    yield of_packages()
    if not git("rev-parse", "--git-dir"):
        yield warning("Git", "no repository here", "git init, then commit: DVC needs it, and fine-tunes are commits.")
    elif project_id() == "none":
        yield warning("Git", "no commit yet", "git add . && git commit -m Start")
    else:
        yield fine("Git", f"project {project_id()[:12]}")
    yield of_remote()
    for name, folder in (("disk here", Path.cwd()), ("disk for engine and answers", user_home())):
        free = shutil.disk_usage(folder).free
        told = f"{free / 1e9:.0f} GB free at {folder}"
        yield fine(name, told) if free > ROOM else warning(name, told, "Make room, or set FINETUNE_HOME elsewhere.")


def of_packages() -> Check:
    """Whether what is installed is what the constraints pin: another version may give other bytes."""
    pinned: dict[str, set[str]] = defaultdict(set)
    for file in Path.cwd().glob("constraints*.txt"):
        for name, version in re.findall(r"^([\w.-]+)==(\S+)", file.read_text(encoding="utf-8"), re.MULTILINE):
            pinned[name].add(version)  # several, where the version of Python decides
    versions = {name: found for name in pinned if (found := installed(name))}
    others = [f"{name} {found}" for name, found in sorted(versions.items()) if found not in pinned[name]]
    if others:
        return warning("packages", f"not as pinned: {', '.join(others)}", "Install what is pinned: make setup")
    return fine("packages", f"{len(versions)} as pinned")


def of_remote() -> Check:
    """Whether DVC has a remote, by its two files: the command would take a second."""
    config = configparser.ConfigParser()
    try:
        config.read([".dvc/config", ".dvc/config.local"], encoding="utf-8")
    except configparser.Error as error:
        return {**warning("DVC remote", str(error), "Mend .dvc/config."), "state": "wrong"}
    if not Path(".dvc").is_dir():
        return warning("DVC remote", "no .dvc folder here", "Run this in the project's folder, or: dvc init")
    remotes = [name for name in config.sections() if "remote" in name]
    if remotes:
        return fine("DVC remote", ", ".join(config[name].get("url", name) for name in remotes))
    return warning("DVC remote", "none: weights stay on this machine", "dvc remote add -d storage <url>, then dvc push")


def of_offer(params: Params) -> Iterator[Check]:
    """What the profile and the catalogue say without asking anybody."""
    try:
        refuse_unsupported(params)
        refuse_after_shutdown(params, datetime.date.today())
    except FinetuneError as error:
        yield wrong("training", error)
        return
    base = look_up(params.train.base, params.provider.name)
    soon = shutdown_warning(params, datetime.date.today())
    if soon:
        yield warning("training", soon.removeprefix("warning: "), "Plan the move: another provider.name, or `local`.")
    else:
        yield fine("training", f"{base.name}, shutdown {base.shutdown or 'not announced'}")
    if base.training is None:
        yield warning("price", f"the training price of {base.name} is unknown", "Enter it in models.toml.")
    else:
        yield fine("price", f"{base.training:g} dollars per million training tokens")


def of_provider(params: Params, ask: bool) -> Iterator[Check]:
    """What the provider itself answers, one call after the other, as far as they come."""
    if params.provider.name == "local" and params.provider.base_url is None and find_spec("finetune.engine") is None:
        yield wrong(
            "engine",
            FinetuneError("this project was generated without it", "Set provider.base_url, or another provider."),
        )
        return
    base = params.train.base

    def models(connection: Connection) -> str:
        return f"{len(list(connection.control.models.list()))} models at {connection.client.base_url}"

    def base_model(connection: Connection) -> str:
        found = connection.control.models.retrieve(base_name(base) if not base.startswith("ft:") else base)
        day = getattr(found, "shutdown_date", None)
        return f"{found.id}, shutdown {day}" if day else found.id

    def jobs(connection: Connection) -> str:
        newest = connection.control.fine_tuning.jobs.list(limit=1).data
        return f"newest {newest[0].id}, {newest[0].status}" if newest else "none yet"

    def quota(connection: Connection) -> str:
        request: dict[str, Any] = {connection.profile.max_tokens_name: 1}
        message: Any = [{"role": "user", "content": "Hello"}]
        connection.client.chat.completions.create(model=base, messages=message, **request)
        return "the base model answers"

    calls: list[tuple[str, Callable[[Connection], str]]] = [
        ("key and address", models),
        ("base model", base_model),
        ("fine-tuning jobs", jobs),
    ]
    if ask:
        calls.append(("quota", quota))
    for name, call in calls:
        try:
            with connect(params.provider) as connection:
                if name == "quota" and connection.profile.deploys:
                    continue
                told = call(connection)
        except FinetuneError as error:
            yield wrong(name, error)
            if name == "key and address":
                return
        else:
            yield fine(name, told)


def installed(package: str) -> str | None:
    try:
        return metadata.version(package).split("+")[0]
    except metadata.PackageNotFoundError:
        return None


def fine(check: str, found: str) -> Check:
    return {"check": check, "state": "ok", "found": found, "todo": ""}


def warning(check: str, found: str, todo: str) -> Check:
    return {"check": check, "state": "warning", "found": found, "todo": todo}


def wrong(check: str, error: FinetuneError) -> Check:
    return {"check": check, "state": "wrong", "found": error.what, "todo": error.remedy}
