"""The template as a package: `uvx cookiecutter-dvc-finetune` generates a project."""
