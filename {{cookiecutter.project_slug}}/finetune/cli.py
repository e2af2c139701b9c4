"""The command `finetune`: registers the commands in their panels, and prints errors."""

import atexit
import gc
import io
import sys
from importlib.util import find_spec

import typer

from finetune.commands import answers, files, jobs, models, pipeline, rescue, results
from finetune.commands.ask import ask
from finetune.commands.chat import chat
from finetune.commands.check import check
from finetune.commands.deploy import deploy
from finetune.commands.doctor import doctor
from finetune.commands.doubtful import doubtful
from finetune.commands.estimate import estimate
from finetune.commands.init import init
from finetune.commands.predict import predict
from finetune.commands.replay import replay
from finetune.commands.serve import serve
from finetune.commands.track import track
from finetune.commands.variants import learning_curve, repeat
from finetune.core.errors import FinetuneError

PANELS = {
    "Pipeline (dvc repro runs these in order)": (
        pipeline.prepare,
        pipeline.validate,
        pipeline.upload,
        pipeline.train,
        pipeline.baseline,
        pipeline.tuned,
        pipeline.evaluate,
        pipeline.export,
        pipeline.report,
    ),
    "Data": (init, check, doubtful, estimate, replay),
    "Use the model": (predict, ask, chat),
    "Compare and promote": (results.show, results.compare, results.promote, repeat, learning_curve, track),
    "At the provider": (doctor, deploy),
    "Engine": (serve,),
}
GROUPS = {"jobs": jobs.app, "files": files.app, "models": models.app, "rescue": rescue.app}

app = typer.Typer(
    help="Fine-tune a language model with DVC. Start with: dvc repro, or finetune init FILE for your data",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
)
for panel, commands in PANELS.items():
    for command in commands:
        if command is not serve or find_spec("finetune.engine"):  # a project may be generated without the engine
            app.command(rich_help_panel=panel)(command)
app.add_typer(answers.app, name="answers", rich_help_panel="Use the model")
for name, group in GROUPS.items():
    app.add_typer(group, name=name, rich_help_panel="At the provider")


def main() -> None:
    """Run a command. A FinetuneError is printed on standard error, and the exit status is 1."""
    # By default, Python's garbage collector goes through all objects of pandas, SciPy and scikit-learn again and again
    # while they are imported, and once more at the end: an eighth of the time of `validate`.
    gc.set_threshold(10_000)
    atexit.register(gc.freeze)
    if sys.platform == "win32":  # to a file or a program, Windows writes in an encoding that lacks most letters
        for stream in (sys.stdout, sys.stderr):
            if isinstance(stream, io.TextIOWrapper):
                stream.reconfigure(encoding="utf-8")
    try:
        app()
    except FinetuneError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(1)
    except OSError as error:  # a full disk, a folder without permission: a fault of the machine, not of the program
        print(f"error: {error}\n  → Correct this, then run the same command again.", file=sys.stderr)
        sys.exit(1)
