"""What differs between servers of the same API, as data."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Profile:
    """One kind of server: its address (None: the user gives it), and the environment variable with its key."""

    name: str
    base_url: str | None
    key_name: str
    max_tokens_name: str = "max_tokens"
    byte_order_mark: bool = False  # files must begin with one
    completions: bool = True  # trains on prompts and completions too, not on chat alone
    poll_seconds: tuple[float, float] = (5, 60)  # first and longest pause between two looks at a job


PROFILES = {
    profile.name: profile
    for profile in (
        Profile("local", None, "FINETUNE_ENGINE_KEY", poll_seconds=(0.5, 2), completions=False),
        Profile("openai", "https://api.openai.com/v1", "OPENAI_API_KEY", "max_completion_tokens"),
        Profile("azure", None, "AZURE_OPENAI_API_KEY", "max_completion_tokens", byte_order_mark=True),
        Profile("nebius", "https://api.tokenfactory.nebius.com/v1/", "NEBIUS_API_KEY"),
        Profile("compatible", None, "FINETUNE_API_KEY"),
    )
}
