"""Read the keys in the nearest `.env` of this folder and those above it."""

from finetune.core.errors import FinetuneError


def env_file_values() -> dict[str, str | None]:
    """Return the values of `.env` by name; {} where there is none. Raises FinetuneError if it cannot be read.

    DVC's workspaces are inside the project, so they find its `.env`. No part of the file is quoted: it holds keys.
    """
    from dotenv import dotenv_values, find_dotenv

    path = find_dotenv(usecwd=True)
    try:
        return dict(dotenv_values(path)) if path else {}
    except UnicodeDecodeError:
        raise FinetuneError(f"{path} is not in UTF-8.", "Save it as UTF-8; see .env.example.") from None
    except OSError as error:
        raise FinetuneError(f"Cannot read {path}: {error.strerror or error}.", "Correct its permissions.") from error
