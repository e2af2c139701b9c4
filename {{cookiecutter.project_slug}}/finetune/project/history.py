"""Read this project's history from Git: its identity, and the fine-tunes of its commits."""

import hashlib
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from finetune.core.disk import parse_json
from finetune.core.errors import FinetuneError
from finetune.core.paths import FILES, MODEL
from finetune.core.records.training import FilesRecord, ModelRecord


def git(*arguments: str) -> str:
    """Return the output of a Git command; "" if it fails, for example in a folder without commits.

    Bytes that are not UTF-8, as in a damaged file of an old commit, become U+FFFD.
    """
    done = subprocess.run(["git", *arguments], capture_output=True, encoding="utf-8", errors="replace", check=False)
    return done.stdout if done.returncode == 0 else ""


def project_id() -> str:
    """Return the hash of the first commit, which all clones share; "none" before there is one.

    Raises FinetuneError in a shallow clone, which lacks that commit: its jobs would count as another project's.
    """
    if git("rev-parse", "--is-shallow-repository").strip() == "true":
        raise FinetuneError(
            "This clone is shallow: it lacks the first commit, by which a project's jobs and spending are known.",
            "Fetch the whole history with: git fetch --unshallow (in a workflow of GitHub: fetch-depth: 0)",
        )
    return (git("rev-list", "--max-parents=0", "HEAD").split() or ["none"])[-1]


def project_folder() -> Path:
    """Return the project's folder: this one, or the one whose .dvc has this workspace of an experiment."""
    here = Path.cwd()
    return next((folder.parent for folder in here.parents if folder.name == ".dvc"), here)


def is_revision(name: str) -> bool:
    """Return whether a name is a commit, branch or tag of this repository."""
    return bool(git("rev-parse", "--quiet", "--verify", f"{name}^{{commit}}"))


def commit_of(name: str) -> str:
    """Return the hash of the commit that a revision names, in 12 digits; "" for none."""
    return git("rev-parse", "--short=12", "--verify", f"{name}^{{commit}}").strip()


def is_pinned(name: str) -> bool:
    """Return whether a name always means the same commit: a tag, or the beginning of a hash."""
    tag = name.removeprefix("refs/").removeprefix("tags/")
    is_tag = bool(tag) and git("tag", "--list", tag).strip() == tag
    return is_tag or git("rev-parse", "--verify", f"{name}^{{commit}}").startswith(name or "none")


def record_at(revision: str) -> ModelRecord:
    """Return the model's record in a revision. Raises FinetuneError if the revision has none."""
    text = git("show", f"{revision}:./{MODEL.as_posix()}")
    if not is_revision(revision):
        raise FinetuneError(
            f"Git finds no commit, branch or tag {revision!r} here.",
            "Check its spelling, or fetch it with: git fetch --tags. A workspace of `dvc exp run --temp` has no tags:"
            " name the commit's full hash there.",
        )
    if not text:
        raise FinetuneError(
            f"{revision!r} has no fine-tune: Git finds no {MODEL} there.",
            f"Name a commit or a tag with a fine-tune. List them with: git log --oneline -- {MODEL}",
        )
    place = f"{MODEL} of {revision}"
    record: ModelRecord = parse_json(text.encode(), place, "Name a commit whose record is whole.", ModelRecord)  # type: ignore[assignment]
    return record


def output_at(revision: str, path: Path) -> str:
    """Return the content of a file of a commit, from DVC's cache or remote. Raises FinetuneError if it is not there."""
    import dvc.api

    with explained(revision, path):
        source = {"repo": str(Path.cwd()), "rev": revision, "remote": default_remote()}
        return str(dvc.api.read(from_root(path), encoding="utf-8", **source))


def folder_at(revision: str, path: Path, target: Path) -> Path:
    """Copy the files of a folder of a commit into another folder, and return where they are then.

    Raises as `output_at` does, and for a file that is not as the commit has it: DVC copies what was changed, too.
    """
    from dvc.api import DVCFileSystem

    copied, source = target / path.name, from_root(path)
    with explained(revision, path):
        files = DVCFileSystem(str(Path.cwd()), rev=revision, remote=default_remote(), subrepos=True)
        files.get(source, str(copied), recursive=True)
        expected = {Path(name).name: info.get("md5") for name, info in files.find(source, detail=True).items()}
    for name, md5 in expected.items():
        if md5 and md5_of((copied / name).read_bytes()) != md5:
            kept = f"files/md5/{md5[:2]}/{md5[2:]}"
            raise FinetuneError(
                f"{path / name} of {revision} was changed in DVC's cache or remote: delete {kept} there",
                "The command `dvc cache dir` prints the cache's folder. Then fetch it again: dvc fetch --all-commits",
            )
    return copied


def from_root(path: Path) -> str:
    """Return a path as it is from the root of the Git repository, which may be above this folder."""
    return git("rev-parse", "--show-prefix").strip() + path.as_posix()


def md5_of(content: bytes) -> str:
    """Return the MD5 of a file's content, as DVC has it."""
    return hashlib.md5(content, usedforsecurity=False).hexdigest()


def default_remote() -> str | None:
    """Return the name of DVC's remote, if there is one: it may have been added after the commit that is read."""
    from dvc.config import Config

    name: str | None = Config.from_cwd(validate=False)["core"].get("remote")
    return name


@contextmanager
def explained(revision: str, path: Path) -> Iterator[None]:
    """Say of an error of DVC in the block what is missing, and how to get it."""
    from dvc.exceptions import DvcException
    from dvc_data.index import DataIndexError
    from scmrepo.exceptions import SCMError

    try:
        yield
    except (DataIndexError, DvcException, SCMError, OSError) as error:
        raise FinetuneError(
            f"{path} of {revision} is neither in DVC's cache nor in its remote: {error}",
            f"Fetch it with: dvc fetch --all-commits. Or create it again: git checkout {revision}, then dvc repro",
        ) from error


def committed_models() -> list[ModelRecord]:
    """Return the models' records of all commits of all branches, tags and experiments."""
    return committed(MODEL, ModelRecord)


def committed_files() -> list[FilesRecord]:
    """Return the files' records of all commits of all branches, tags and experiments."""
    return committed(FILES, FilesRecord)


def committed(file: Path, kind: Any) -> list[Any]:
    """Return the content of a JSON file in each commit that changed it. What is no such record is left out."""
    found = []
    for commit, text in committed_versions(file):
        place = f"{file} of the commit {commit[:12]}"
        with suppress(FinetuneError):
            found.append(
                parse_json(text.encode(), place, "Delete by hand: finetune models delete, finetune files delete", kind)
            )
    return found


def committed_texts(file: Path) -> list[str]:
    """Return the content of a file in each commit that changed it, of all branches, tags and experiments.

    It is "" in a commit that removed the file.
    """
    return [text for _, text in committed_versions(file)]


def committed_versions(file: Path) -> list[tuple[str, str]]:
    """Return the hash of each commit that changed a file, and the content there, as `committed_texts`.

    By default, Git leaves out a merged branch whose file was not kept by the merge.
    """
    commits = git("log", "--all", "--full-history", "--format=%H", "--", file.as_posix()).split()
    return [(commit, git("show", f"{commit}:./{file.as_posix()}")) for commit in commits]
