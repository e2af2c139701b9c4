"""Send the metrics of a job to Weights & Biases, where its `integrations` ask for that, by that service's own library.

The library reads WANDB_API_KEY, WANDB_MODE and its other settings from the server's environment. With
WANDB_MODE=offline it writes into the folder `wandb` of the server's FINETUNE_HOME, for `wandb sync`.
"""

import random
from pathlib import Path
from typing import Any

from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from finetune.engine.client_text import reason
from finetune.engine.training.job_folder import Job, add_event
from finetune.engine.training.reporting import ReportingCallback

MAX_TAG = 64  # characters: the service refuses longer tags
MAX_WAIT = 30  # seconds that a job waits for the service before it trains, and after


class WandbCallback(TrainerCallback):
    """Sends the metrics of each step to the job's runs. If the library fails, an event says so and training goes on."""

    def __init__(self, folder: Path, job: Job, reporting: ReportingCallback) -> None:
        self.folder, self.job, self.reporting = folder, job, reporting
        self.runs: list[Any] = []

    def on_train_begin(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        integrations = self.job["integrations"]
        draws = random.getstate()  # the library draws random numbers, which would change those of the training
        try:
            for number, integration in enumerate(integrations):
                settings = integration["wandb"]
                run = self._begin(settings, run_of(self.job["id"], number))
                self.runs.append(run)
                settings["run_id"] = run.id
        except Exception as error:
            self._give_up(error)
        finally:
            random.setstate(draws)
        add_event(self.folder, "integrations", value=integrations)

    def on_step_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        metrics: dict[str, Any] = dict(self.reporting.last or {})
        step = metrics.pop("step", None)  # the runs' own axis
        try:
            for run in self.runs:
                run.log(metrics, step=step)
        except Exception as error:
            self._give_up(error)

    def on_train_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        runs, self.runs = self.runs, []
        try:
            for run in runs:
                run.finish()
        except Exception as error:
            self._give_up(error)

    def _begin(self, settings: dict[str, Any], run_id: str) -> Any:
        """Start a run. A resumed job continues the run of its first start."""
        import wandb

        tags = ["openai/finetune", f"openai/{self.job['base']}"[:MAX_TAG], f"openai/{self.job['id']}"]
        config = {"model": self.job["model"], "seed": self.job["seed"], **self.job["hyperparameters"]}
        return wandb.init(
            project=settings["project"],
            entity=settings.get("entity"),
            name=settings.get("name") or self.job["id"],
            tags=list(dict.fromkeys([*settings.get("tags", ()), *tags])),
            id=run_id,
            resume="allow",
            reinit="create_new",
            dir=self.job["integrations_folder"],
            config=config,
            # The service gets the metrics, and nothing about this machine.
            settings=wandb.Settings(
                quiet=True,
                console="off",
                # Without these, a job would wait for a service that does not answer for as long as that lasts.
                init_timeout=MAX_WAIT,
                finish_timeout=MAX_WAIT,
                finish_timeout_raises=True,
                disable_code=True,
                disable_git=True,
                x_disable_stats=True,
                x_disable_machine_info=True,
                x_save_requirements=False,
            ),
        )

    def _give_up(self, error: Exception) -> None:
        self.runs = []
        what = f"The metrics of this job are not sent to Weights & Biases any longer: {reason(error)}"
        add_event(self.folder, "warning", message=what)


def run_of(job_id: str, number: int) -> str:
    """Return the ID of a job's run: that of the job, with a number for further integrations of the same job."""
    return f"{job_id}-{number}" if number else job_id
