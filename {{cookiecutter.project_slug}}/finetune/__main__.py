"""Run the command from this folder's code: DVC calls `python -m finetune`, also in clones and temporary workspaces."""

from finetune.cli import main

main()
