"""The parts of a question. Processes that compare questions import only this, and no reader of examples."""

from typing import NamedTuple


class Question(NamedTuple):
    """Everything that a model is given before its answer."""

    asked: str  # the texts of the turns of user and assistant
    context: str = ""  # system prompts, tool calls, the results and definitions of tools
    media: str = ""  # hashes of images, audio and files
    roles: str = ""  # of the turns, where user and assistant do not take turns
