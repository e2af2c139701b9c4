"""The chat template of what is exported: the base's own, with the date of the training in place of today's.

Templates such as Llama 3's write the day's date into each prompt. The engine trains and answers with one date, so the
exported model is asked with it too; the engine's `chat_template.py` has the same rule, and a test compares both.
"""

import datetime
import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

TODAY = datetime.date(2024, 7, 26)
WRITES_TODAY = re.compile(r"""strftime_now\(\s*(['"])(.*?)\1\s*\)""")
TEMPLATE, CONFIG = "chat_template.jinja", "tokenizer_config.json"  # older bases have the template in the latter


def with_fixed_date(template: str) -> str:
    """Return a chat template that writes the date of the training where it wrote today's."""
    return WRITES_TODAY.sub(lambda call: repr(TODAY.strftime(call[2])), template)


def tokenizer_of(folder: Path) -> Any:
    """Return a folder's tokenizer."""
    from transformers import AutoTokenizer

    tokenizer: Any = AutoTokenizer.from_pretrained(folder)
    tokenizer.chat_template = fixed(tokenizer.chat_template)
    return tokenizer


def fixed(templates: Any) -> Any:
    """Return a chat template, or several as Transformers keeps them, with the date of the training."""
    if isinstance(templates, str):
        return with_fixed_date(templates)
    if isinstance(templates, dict):
        return {name: fixed(one) for name, one in templates.items()}
    return [fixed(one) for one in templates] if isinstance(templates, list) else templates


def fix_date(folder: Path) -> None:
    """Write the date of the training into the chat template of a folder, where it has one that writes today's."""
    if (template := folder / TEMPLATE).is_file():
        rewrite(template, with_fixed_date)
    if (config := folder / CONFIG).is_file():
        rewrite(config, with_fixed_template)


def with_fixed_template(text: str) -> str:
    """Return the text of a tokenizer's configuration with the date of the training in its template."""
    config = json.loads(text)
    found = config.get("chat_template")
    return text if fixed(found) == found else json.dumps({**config, "chat_template": fixed(found)}, indent=2)


def rewrite(path: Path, change: Callable[[str], str]) -> None:
    text = path.read_bytes().decode("utf-8")  # with its own line ends
    if (new := change(text)) != text:
        path.write_bytes(new.encode("utf-8"))


def export_dated_template(base: Path, target: Path) -> None:
    """Write the base's chat template beside an adapter, if servers would write today's date by the base's own."""
    from transformers import AutoTokenizer

    template = AutoTokenizer.from_pretrained(base).chat_template
    if isinstance(template, str) and WRITES_TODAY.search(template):
        (target / TEMPLATE).write_text(with_fixed_date(template), encoding="utf-8")
