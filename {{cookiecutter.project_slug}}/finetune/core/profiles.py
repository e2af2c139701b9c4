"""What differs between servers of the same API, as data."""

import datetime
from dataclasses import dataclass


@dataclass(frozen=True)
class Profile:
    """One kind of server: where it is, what it takes, and what it does otherwise than OpenAI."""

    name: str
    base_url: str | None  # None: the user gives it
    key_name: str  # the environment variable with its key
    max_tokens_name: str = "max_tokens"
    methods: tuple[str, ...] = ("supervised", "dpo")
    byte_order_mark: bool = False  # files must begin with one
    completions: bool = True  # trains on prompts and completions too, not on chat alone
    metadata: bool = True  # keeps metadata with a job and finds it by them; else the suffix bears the mark
    suffix: str = r".{1,64}"
    multiplier: bool = True  # False: a learning rate of its own in place of learning_rate_multiplier
    hyperparameters: tuple[str, ...] | None = ()  # that train.hyperparameters may name; None: any
    training_types: tuple[str, ...] = ()
    integrations: bool = False
    file_bytes: int = 512 * 1024 * 1024  # the largest file that goes in one piece
    uploads: bool = False  # takes larger files in parts, by /uploads
    batches: bool = False  # has the Batch API, and keeps the metadata by which a batch is found again
    batch_url: str = "/v1/chat/completions"  # what its requests are for
    closes: datetime.date | None = None  # the day from which nobody may create a job
    deploys: str | None = None  # what it costs to have a tuned model answer, where that wants a deployment
    poll_seconds: tuple[float, float] = (5, 60)  # first and longest pause between two looks at a job


PROFILES = {
    profile.name: profile
    for profile in (
        Profile(
            "local",
            None,
            "FINETUNE_ENGINE_KEY",
            methods=("supervised",),
            completions=False,
            uploads=True,
            batches=True,
            poll_seconds=(0.5, 2),
        ),
        Profile(
            "openai",
            "https://api.openai.com/v1",
            "OPENAI_API_KEY",
            "max_completion_tokens",
            integrations=True,
            uploads=True,
            batches=True,
            closes=datetime.date(2027, 1, 6),  # announced 2026-05-07; models are shut down by models.toml
        ),
        Profile(
            "azure",
            None,
            "AZURE_OPENAI_API_KEY",
            "max_completion_tokens",
            byte_order_mark=True,
            suffix=r"[^.]{1,18}",
            training_types=("Standard", "GlobalStandard", "developerTier"),
            batches=True,
            batch_url="/chat/completions",
            deploys="about $1.70 an hour, used or not, besides its tokens (developer deployments: none, for 24 hours)",
        ),
        Profile(
            "nebius",
            "https://api.tokenfactory.nebius.com/v1/",
            "NEBIUS_API_KEY",
            methods=("supervised",),
            metadata=False,
            multiplier=False,
            hyperparameters=(
                "learning_rate",
                "lora",
                "lora_r",
                "lora_alpha",
                "lora_dropout",
                "packing",
                "context_length",
                "warmup_ratio",
                "weight_decay",
                "max_grad_norm",
            ),
            deploys="its tokens alone, on the bases that Nebius serves so",
        ),
        Profile("compatible", None, "FINETUNE_API_KEY", hyperparameters=None),
    )
}
