"""Run the command with `python -m cookiecutter_dvc_finetune`."""

from cookiecutter_dvc_finetune.cli import main

if __name__ == "__main__":
    raise SystemExit(main())
