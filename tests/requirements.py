"""Print what this repository's own pyproject.toml asks for, one requirement a line, for pip (on Python 3.10 too)."""

import re
from pathlib import Path

text = (Path(__file__).parents[1] / "pyproject.toml").read_text(encoding="utf-8")
for block in re.findall(r"^(?:dependencies|dev) = \[(.*?)\]", text, re.MULTILINE | re.DOTALL):
    print("\n".join(re.findall(r'"([^"]+)"', block)))
