"""The exception for everything that a user can correct."""


class FinetuneError(Exception):
    """What is wrong and where, and what to do next. The command prints both and exits with 1."""

    def __init__(self, what: str, remedy: str = "") -> None:
        super().__init__(what)
        self.what, self.remedy = what, remedy

    def __str__(self) -> str:
        return f"{self.what}\n  → {self.remedy}" if self.remedy else self.what


class OverBudgetError(FinetuneError):
    """An estimate is over train.budget, or is not known."""


class JobEndedError(FinetuneError):
    """The job of this ID has ended without a model."""

    def __init__(self, job: str, status: str, what: str, remedy: str = "") -> None:
        super().__init__(what, remedy)
        self.job, self.status = job, status
