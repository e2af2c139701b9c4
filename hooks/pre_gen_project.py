"""Refuse a folder name that would not work, in one sentence, before anything is written."""

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
        f"error: project_slug {SLUG!r} cannot be a folder and package name: begin with a lower-case letter and go on"
        " with lower-case letters, digits, - or _.",
        file=sys.stderr,
    )
    return 1


if __name__ == "__main__":
    raise SystemExit(main())
