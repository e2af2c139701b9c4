"""Provider profiles: the differences between servers of the same API, as data."""

import datetime
from dataclasses import dataclass


@dataclass(frozen=True)
class Profile:
    """One kind of server: its address, what it accepts, and where it differs from OpenAI."""

    name: str
    base_url: str | None  # None: the user sets provider.base_url
    key_name: str  # the environment variable that holds the API key
    max_tokens_name: str = "max_tokens"  # the name of that parameter in chat requests
    methods: tuple[str, ...] = ("supervised", "dpo")
    byte_order_mark: bool = False  # files must start with one
    metadata: bool = True  # keeps metadata with a job and filters by it; else the suffix holds the fingerprint
    suffix: str = r".{1,64}"  # the pattern of train.suffix
    names_model: bool = True  # False: jobs do not name their models; the last checkpoint does
    multiplier: bool = True  # False: takes learning_rate instead of learning_rate_multiplier
    hyperparameters: tuple[str, ...] | None = ()  # names that train.hyperparameters may hold; None: any
    training_types: tuple[str, ...] = ()  # values of train.training_type
    integrations: bool = False  # takes train.integrations
    file_bytes: int = 512 * 1024 * 1024  # the largest file of one request
    uploads: bool = False  # takes larger files in parts, through /uploads
    batches: bool = False  # has the Batch API, and keeps the metadata that identify a batch
    batch_url: str = "/v1/chat/completions"  # the url of each request in a batch
    text_batch_url: str | None = "/v1/completions"  # the same for texts to complete; None: batches are for chat
    closes: datetime.date | None = None  # the first day on which no job can be created
    newcomers_until: datetime.date | None = None  # from then, only those who created jobs before can create one
    deploys: str | None = None  # the cost of a deployment, where a tuned model answers only after one
    fixed_names: str | None = None  # the pattern of names that always mean the same model; None: any may be changed
    fingerprints: bool = False  # system_fingerprint stands for the model; else for the machines that serve it too
    poll_seconds: tuple[float, float] = (5, 60)  # first and longest pause between two looks at a job


PROFILES = {
    profile.name: profile
    for profile in (
        Profile(
            "local",
            None,
            "FINETUNE_ENGINE_KEY",
            hyperparameters=(
                "learning_rate",
                "weight_decay",
                "warmup_ratio",
                "lora_r",
                "lora_alpha",
                "lora_layers",
                "lora_dropout",
                "max_length",
                "quantize",
                "gradient_checkpointing",
            ),
            integrations=True,
            uploads=True,
            batches=True,
            fingerprints=True,
            poll_seconds=(0.5, 1),
        ),
        Profile(
            "openai",
            "https://api.openai.com/v1",
            "OPENAI_API_KEY",
            "max_completion_tokens",
            integrations=True,
            uploads=True,
            batches=True,
            fixed_names=r"ft:.*|.*-(\d{4}-\d{2}-\d{2}|\d{4}(-preview)?)",
            closes=datetime.date(2027, 1, 6),  # announced 2026-05-07; for dates of models see models.toml
            newcomers_until=datetime.date(2026, 5, 7),
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
            text_batch_url=None,
            deploys="about $1.70 an hour, used or not, plus tokens (developer deployments: tokens only, for 24 hours)",
        ),
        Profile(
            "nebius",
            "https://api.tokenfactory.nebius.com/v1/",
            "NEBIUS_API_KEY",
            methods=("supervised",),
            metadata=False,
            names_model=False,
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
            deploys="only its tokens, for bases that Nebius serves per token",
        ),
        Profile("compatible", None, "FINETUNE_API_KEY", hyperparameters=None, fingerprints=True),
    )
}
