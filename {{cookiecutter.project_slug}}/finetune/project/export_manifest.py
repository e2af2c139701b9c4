"""The manifest of an exported folder: the digest of each file, its origin, and what was measured with it."""

from pathlib import Path

from finetune.core.disk import read_json, sha256_of
from finetune.core.errors import FinetuneError
from finetune.core.records.exports import ExportedFile, ExportManifest

NAME = "manifest.json"


def files_of(folder: Path) -> dict[str, ExportedFile]:
    """Return the digest and the size of each file of a folder but the manifest."""
    return {
        path.relative_to(folder).as_posix(): {"sha256": sha256_of(path), "bytes": path.stat().st_size}
        for path in sorted(folder.rglob("*"))
        if path.is_file() and path.name != NAME
    }


def check_files(folder: Path, files: dict[str, ExportedFile], remedy: str) -> None:
    """Raise FinetuneError naming a file that is missing, cut off or changed."""
    for name, wanted in files.items():
        path = folder / name
        if not path.is_file():
            raise FinetuneError(f"{path} is missing.", remedy)
        size = path.stat().st_size
        if size != wanted["bytes"]:
            what = "is cut off" if size < wanted["bytes"] else "has changed"
            raise FinetuneError(f"{path} {what}: it has {size:,} bytes, and {wanted['bytes']:,} were written.", remedy)
        if sha256_of(path) != wanted["sha256"]:
            raise FinetuneError(f"{path} has changed: its SHA-256 is not that of the file that was measured.", remedy)


def read_manifest(folder: Path) -> ExportManifest:
    """Read a folder's manifest, and check its files. Raises FinetuneError if one is not what was measured."""
    manifest: ExportManifest = read_json(folder / NAME, "export", ExportManifest)
    check_files(folder, manifest["files"], "Restore the files with: dvc checkout export")
    return manifest
