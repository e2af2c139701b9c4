"""`python -m finetune` runs the code of this folder; DVC calls it so, in clones and temporary workspaces too."""

from finetune.cli import main

main()
