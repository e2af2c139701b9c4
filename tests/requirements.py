"""Print the requirements in this repository's pyproject.toml for pip, one per line. Python 3.10 has no tomllib."""

import re
from pathlib import Path

text = (Path(__file__).parents[1] / "pyproject.toml").read_text(encoding="utf-8")
for block in re.findall(r"^(?:dependencies|dev) = \[(.*?)\]", text, re.MULTILINE | re.DOTALL):
    print("\n".join(re.findall(r'"([^"]+)"', block)))
