"""Refuse an invalid folder name, and a starter that the provider cannot train, before anything is written."""

import json
import re
import sys

ANSWERS = json.loads(
    r"""
{{ cookiecutter | jsonify }}
"""
)

# Providers, or the bases that a new project has there, that are not trained on preferences.
NO_PREFERENCES = {
    "azure": "azure does only with models of OpenAI, for existing customers",
    "nebius": "nebius does not",
}


def main() -> int:
    slug = ANSWERS["project_slug"]
    if not re.fullmatch(r"[a-z][a-z0-9_-]*[a-z0-9]", slug):
        return refuse(
            f"project_slug {slug!r} is not a valid folder and package name. Start with a lower-case letter, then use"
            " lower-case letters, digits, - or _, and end with a letter or digit."
        )
    if ANSWERS["starter"] == "prefer" and (why := NO_PREFERENCES.get(ANSWERS["provider"])):
        return refuse(f"the starter prefer trains on preferences (DPO), which {why}. Choose another of them.")
    return 0


def refuse(why: str) -> int:
    print(f"error: {why}", file=sys.stderr)
    return 1


if __name__ == "__main__":
    raise SystemExit(main())
