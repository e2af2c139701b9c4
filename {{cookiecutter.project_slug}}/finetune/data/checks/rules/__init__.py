"""All rules on one example, by subject; importing this package registers the rules of every module in it.

Findings of one line are in the order of RULES: that of ORDER, then of other modules by name, then that in each module.
"""

from importlib import import_module
from pkgutil import iter_modules

from finetune.data.checks.rule import RULES

__all__ = ["RULES"]

ORDER = ("keys", "messages", "images", "outputs", "tools", "texts")

for name in dict.fromkeys([*ORDER, *sorted(module.name for module in iter_modules(__path__))]):
    import_module(f"{__name__}.{name}")
