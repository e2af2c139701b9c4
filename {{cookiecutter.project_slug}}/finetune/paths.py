"""Where the free stages leave what others read."""

from pathlib import Path

PREPARED = Path("data/prepared")
PREPARED_REPORT = Path("reports/prepare.json")
VALIDATION_REPORT = Path("reports/validation.json")
