"""Find the weights of the base that a model was tuned from."""

import hashlib
import re
from pathlib import Path

from finetune.core.disk import sha256_of
from finetune.core.errors import FinetuneError
from finetune.core.paths import user_home

HUB_NAME = re.compile(r"([\w.-]+/[\w.-]+)(?:@([\w.-]+))?", re.ASCII)


def base_folder(name: str) -> Path:
    """Return the folder with a base's weights, tokenizer and chat template.

    `name` is a folder, one in the engine's `bases`, or `organisation/model@revision` of the Hugging Face hub. Raises
    FinetuneError if there is none.
    """
    match = HUB_NAME.fullmatch(name)
    if match and match[2]:
        return downloaded(match[1], match[2])
    folder = Path(name) if Path(name).is_absolute() else user_home() / "bases" / Path(name).name
    if (folder / "config.json").is_file():
        return folder
    raise FinetuneError(
        f"The weights of the base {name!r} are not on this machine.",
        "Set export.base in params.yaml to their folder, or to organisation/model@revision on the Hugging Face hub. The"
        " engine's own base is prepared by its first use: dvc repro -f -s baseline",
    )


def downloaded(repository: str, revision: str) -> Path:
    """Return a snapshot of a hub model, from the hub's cache if it is in there."""
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError

    patterns = ["*.json", "*.safetensors", "*.jinja", "*.model", "*.txt"]
    try:
        return Path(snapshot_download(repository, revision=revision, allow_patterns=patterns))
    except (HfHubHTTPError, LocalEntryNotFoundError, OSError) as error:
        raise FinetuneError(
            f"Cannot download {repository} at {revision} from the Hugging Face hub: {error}",
            "Set export.base in params.yaml to a folder that has it.",
        ) from error


def hub_name(name: str) -> tuple[str, str | None]:
    """Return a base's name and its revision as PEFT writes them; of a folder, its name without the path."""
    match = HUB_NAME.fullmatch(name)
    return (match[1], match[2]) if match else (re.split(r"[/\\]", name.rstrip("/\\"))[-1], None)


def weights_of(folder: Path) -> list[Path]:
    """Return the files with a model's weights. Raises FinetuneError if there are none."""
    found = sorted(folder.glob("*.safetensors"))
    if not found:
        raise FinetuneError(f"{folder} has no *.safetensors.", "Convert its weights to safetensors first.")
    return found


def digest_of_weights(folder: Path) -> str:
    """Return the SHA-256 of the digests of a model's weights, which says whether two folders have the same."""
    return hashlib.sha256(" ".join(sha256_of(path) for path in weights_of(folder)).encode()).hexdigest()
