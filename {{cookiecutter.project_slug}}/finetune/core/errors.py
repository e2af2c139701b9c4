"""The exception for everything that a user can correct."""


class FinetuneError(Exception):
    """What is wrong and where, and what to do next. The command prints both and exits with 1."""

    def __init__(self, what: str, remedy: str = "") -> None:
        super().__init__(what)
        self.what, self.remedy = what, remedy

    def __str__(self) -> str:
        return f"{self.what}\n  → {self.remedy}" if self.remedy else self.what
