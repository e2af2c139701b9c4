"""export: write the model in the formats of export.formats, and ask each exported file the test rows."""

import shutil
from collections.abc import Sequence
from pathlib import Path

from finetune.asking.split_answers import without_seconds
from finetune.core.disk import read_if_there, read_json, read_jsonl, sha256_of, write_json, write_jsonl, write_text
from finetune.core.errors import FinetuneError
from finetune.core.export_formats import ADAPTER, MERGED, is_gguf, known_format
from finetune.core.params import Params
from finetune.core.paths import (
    ANSWERED_BY,
    EXPORT_ANSWERS,
    EXPORT_REPORT,
    EXPORT_SPEED,
    EXPORTS,
    FILES,
    NOTES,
    PREPARED,
    TUNED_ANSWERS,
)
from finetune.core.read_records import read_model_record, read_prepare_report, read_test_groups
from finetune.core.records.answers import AnsweredBy, ExportedPrediction, Prediction
from finetune.core.records.exports import ExportManifest, ExportReport, ExportSpeed
from finetune.core.records.prepared import PreparedExample
from finetune.core.records.training import FilesRecord, ModelRecord
from finetune.data.examples import as_chat
from finetune.export.adapter import CONFIG, export_adapter, trained_adapter
from finetune.export.base_folder import base_folder, digest_of_weights
from finetune.export.chat_template import TEMPLATE, export_dated_template
from finetune.export.comparison import compare, refuse_another_model, scored
from finetune.export.gguf import FILE, export_gguf
from finetune.export.measure import Measured, measure, refuse_sampling, refuse_tools, rows_with_logprobs, speed_of
from finetune.export.merge import export_merged
from finetune.export.model_card import model_card
from finetune.export.modelfile import modelfile
from finetune.export.packages import check_packages
from finetune.export.serving import serve_section
from finetune.project.export_manifest import NAME, files_of
from finetune.project.export_settings import answer_settings, load_export_settings
from finetune.project.history import git
from finetune.scoring.gates import results_of
from finetune.terminal.progress import say

NOTHING = "export.formats in params.yaml lists what is exported here: nothing.\n"


def run(params: Params, to: Sequence[str] | None = None) -> ExportReport:
    """Write exports/<format>, the answers of each, and the report. Without formats, the report has no figures.

    `to` has formats in place of export.formats. Raises FinetuneError if there are no weights, or an exported format is
    not the model that was measured.
    """
    formats = known_formats(to) if to else load_export_settings(params)["formats"]
    if formats:
        return export(params, formats)
    shutil.rmtree(EXPORTS, ignore_errors=True)
    write_text(EXPORTS / "README.txt", NOTHING)
    write_jsonl(EXPORT_ANSWERS, [])
    write_json(EXPORT_SPEED, {})
    report: ExportReport = {"export": {}}
    write_json(EXPORT_REPORT, report)
    return report


def known_formats(names: Sequence[str]) -> list[str]:
    """Return formats by their names or short names. Raises FinetuneError for an unknown one."""
    try:
        return [known_format(name) for name in names]
    except ValueError as error:
        raise FinetuneError(f"--to: {error}.", "Give one of them.") from error


def export(params: Params, formats: Sequence[str]) -> ExportReport:
    """Export, check, ask and compare each format. The report is written last, when all have passed their checks."""
    check_packages(formats)
    record, answered_by = read_model_record(), read_json(ANSWERED_BY, "tuned", AnsweredBy)
    refuse_other_answers(record, answered_by)
    model = measured_model(params, record)
    refuse_sampling(model.questions)
    refuse_tools(model.examples)
    prepared, groups = read_prepare_report(), read_test_groups()
    tuned, measured = scored(params, prepared, model.rows, groups), rows_with_logprobs(model)
    report: ExportReport = {"export": {}, "n": len(model.rows), "evaluated": answered_by}
    report["tuned"] = tuned.metrics[tuned.metric]
    answers: list[ExportedPrediction] = []
    speeds: dict[str, ExportSpeed] = {}
    shutil.rmtree(EXPORTS, ignore_errors=True)
    work = NOTES / "export" / MERGED  # what GGUF files are made of
    shutil.rmtree(work.parent, ignore_errors=True)
    try:
        for name in dict.fromkeys(formats):
            write_format(name, model, work)
            folder = EXPORTS / name
            files = files_of(folder)
            rows = measure(name, folder, files, model)
            size = sum(one["bytes"] for one in files.values())
            scores = compare(params, prepared, measured, rows, groups, size)
            say(f"{name}: {scores['verdict']}")
            refuse_another_model(name, scores, record["base"], model.rows, rows)
            report["export"][name], speeds[name] = scores, speed_of(rows)
            answers += [{"format": name, **row} for row in without_seconds(rows)]
            write_manifest(name, model, record, report)
    finally:
        shutil.rmtree(work.parent, ignore_errors=True)
    _, failed = results_of(params.export.require, report)
    if params.export.require:
        report |= {"gates_met": int(not failed), "gates_failed": failed}
    write_jsonl(EXPORT_ANSWERS, answers)
    write_json(EXPORT_SPEED, speeds)
    write_json(EXPORT_REPORT, report)
    return report


def refuse_other_answers(record: ModelRecord, answered_by: AnsweredBy) -> None:
    """Raise FinetuneError if the measured answers are not those of this model to these test rows."""
    is_model = (answered_by["model"], answered_by["fingerprint"]) == (record["model"], record["fingerprint"])
    if not is_model or answered_by["test_rows"] != sha256_of(PREPARED / "test.jsonl"):
        raise FinetuneError(
            f"{TUNED_ANSWERS} has the answers of {answered_by['model']} to other test rows, or of another model than"
            f" {record['model']}.",
            "Measure this model with: dvc repro evaluate",
        )


def measured_model(params: Params, record: ModelRecord) -> Measured:
    """Return the model with its weights, and what it has answered."""
    base = params.export.base or record["base"]
    return Measured(
        params,
        answer_settings(params),
        list(map(as_chat, read_jsonl(PREPARED / "test.jsonl", "prepare", PreparedExample))),
        read_jsonl(TUNED_ANSWERS, "tuned", Prediction),
        record["base"] if Path(base).is_absolute() else base,
        base_folder(base),
        # A provider may call a base otherwise than the hub, whose name export.base then has.
        trained_adapter(None if params.export.base else record["base"]),
    )


def write_format(name: str, model: Measured, work: Path) -> None:
    """Write exports/<name>. GGUF files are made of a merged folder in `work`, which is written once."""
    folder = EXPORTS / name
    if name == ADAPTER:
        export_adapter(model.adapter, model.name, folder)
        export_dated_template(model.base, folder)
    elif name == MERGED:
        export_merged(model.base, model.adapter, folder)
    else:
        if not work.exists():
            export_merged(model.base, model.adapter, work)
        export_gguf(work, name, folder)


def write_manifest(name: str, model: Measured, record: ModelRecord, report: ExportReport) -> None:
    """Write a format's model card, its Modelfile if it is a GGUF, and last its manifest."""
    folder, scores = EXPORTS / name, report["export"][name]
    files: FilesRecord = read_if_there(FILES, "upload", FilesRecord)
    data = files["train"]["sha256"] if "train" in files else None
    commit = git("rev-parse", "HEAD").strip()
    has_modelfile = is_gguf(name) and write_modelfile(folder, model)
    rank = int(read_json(model.adapter / CONFIG, "train")["r"])
    has_template = name == ADAPTER and (folder / TEMPLATE).exists()
    serve = serve_section(name, model.name, rank, has_modelfile, has_template, model.questions, model.prompts)
    card = model_card(name, record, model.name, scores, report["tuned"], data, commit, report["n"], serve)
    write_text(folder / "README.md", card)
    manifest: ExportManifest = {
        "format": name,
        "files": files_of(folder),
        "model": record["model"],
        "job": record["job"],
        "fingerprint": record["fingerprint"],
        "base": record["base"],
        "base_weights": digest_of_weights(model.base),
        "commit": commit,
        "data": data,
        "scores": scores,
    }
    write_json(folder / NAME, manifest)


def write_modelfile(folder: Path, model: Measured) -> bool:
    """Write Ollama's Modelfile beside a GGUF file, and return whether there is one."""
    end = model.tokenizer.decode([model.end])
    text = modelfile(model.tokenizer, model.questions, model.prompts, end, FILE)
    if text is None:
        say(
            f"warning: {folder} has no Modelfile: a template of Ollama cannot write what the base's chat template"
            " writes. Serve it with llama.cpp."
        )
        return False
    write_text(folder / "Modelfile", text)
    return True
