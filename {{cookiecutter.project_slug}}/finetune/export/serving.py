"""The commands that serve an exported format, and the request that asks it as it was measured."""

import json
import shlex
from collections.abc import Sequence
from typing import Any

from finetune.core.export_formats import ADAPTER, MERGED
from finetune.core.records import AnswerSettings
from finetune.export.base_folder import hub_name
from finetune.export.chat_template import TEMPLATE
from finetune.export.gguf import FILE
from finetune.export.prompts import Prompt, system_prompt

MODEL = "tuned"
PORTS = {"vllm": 8000, "llama-server": 8080, "ollama": 11434}  # where each listens by default
VLLM_RANK = 16  # the largest rank of an adapter that vLLM takes by default
VLLM_RANKS = (32, 64, 128, 256, 320, 512)  # what else --max-lora-rank may be


def serve_section(
    name: str,
    base: str,
    rank: int,
    has_modelfile: bool,
    has_template: bool,
    questions: AnswerSettings,
    prompts: Sequence[Prompt],
) -> list[str]:
    """Return the lines of a model card that tell how to serve a format in its folder, and how to ask it."""
    commands = serve_commands(name, base, rank=rank, has_modelfile=has_modelfile, has_template=has_template)
    requests = [request_command(one.split()[0], questions, prompts) for one in commands]
    note = "`BASE` is the folder with the weights, the tokenizer and the configuration of the base."
    return [
        "In this folder, start one of:" if len(commands) > 1 else "In this folder, start:",
        "",
        *fenced(commands),
        *([note, ""] if name == ADAPTER and " BASE " in commands[0] else []),
        "Ask it as it was measured (`…` is the question):",
        "",
        *fenced(requests),
    ]


def fenced(lines: Sequence[str]) -> list[str]:
    return ["```console", *(f"$ {one}" for one in lines), "```", ""]


def serve_commands(
    name: str,
    base: str,
    folder: str = ".",
    rank: int = VLLM_RANK,
    has_modelfile: bool = True,
    has_template: bool = False,
) -> list[str]:
    """Return a command for each server of a format; its files are in `folder`.

    `BASE` in a command is the folder of a base that has no name on the Hugging Face hub. `rank` is that of the adapter;
    `has_template` says that a chat template lies beside it.
    """
    if name == ADAPTER:
        repository, revision = hub_name(base)
        served = [repository if "/" in repository else "BASE", *(["--revision", revision] if revision else [])]
        larger = [] if rank <= VLLM_RANK else ["--max-lora-rank", str(min(one for one in VLLM_RANKS if one >= rank))]
        template = [f"--chat-template {folder}/{TEMPLATE}"] if has_template else []
        return [
            " ".join(["vllm serve", *served, "--enable-lora", *larger, *template, f"--lora-modules {MODEL}={folder}"])
        ]
    if name == MERGED:
        return [f"vllm serve {folder} --served-model-name {MODEL}"]
    path = "" if folder == "." else f"{folder}/"
    ollama = [f"ollama create {MODEL} -f {path}Modelfile"] if has_modelfile else []
    return [f"llama-server -m {path}{FILE} --jinja", *ollama]


def request_command(server: str, questions: AnswerSettings, prompts: Sequence[Prompt]) -> str:
    """Return the curl command that asks a server of `PORTS` as the test rows were asked."""
    body: dict[str, Any] = {"model": MODEL}
    stop = list(questions["stop"])
    if questions["completion"]:
        route, body["prompt"] = "completions", "…"
        stop.append(questions["completion"]["stop"])
    else:
        system = system_prompt(prompts)
        first = [{"role": "system", "content": system}] if system else []
        route, body["messages"] = "chat/completions", [*first, {"role": "user", "content": "…"}]
    body |= {"temperature": questions["temperature"], "max_tokens": questions["max_tokens"]}
    body |= {"stop": stop} if stop else {}
    text = shlex.quote(json.dumps(body, ensure_ascii=False))
    return f"curl http://127.0.0.1:{PORTS[server]}/v1/{route} -H 'Content-Type: application/json' -d {text}"
