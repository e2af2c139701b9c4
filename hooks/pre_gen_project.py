"""Refuse an invalid folder name before anything is written."""

import json
import re
import sys

SLUG = json.loads(
    r"""
{{ cookiecutter.project_slug | jsonify }}
"""
)


def main() -> int:
    if re.fullmatch(r"[a-z][a-z0-9_-]*[a-z0-9]", SLUG):
        return 0
    print(
        f"error: project_slug {SLUG!r} is not a valid folder and package name. Start with a lower-case letter, then use"
        " lower-case letters, digits, - or _, and end with a letter or digit.",
        file=sys.stderr,
    )
    return 1


if __name__ == "__main__":
    raise SystemExit(main())
