"""reports/report.html: did the fine-tune help, what did it cost, where does it fail, and what was it made from."""

from typing import NamedTuple

from finetune.report.cost_facts import cost_facts, usage_table
from finetune.report.headline import base_sentence, headline, rescued_sentence, score_sentence, unanswered_sentence
from finetune.report.lineage_facts import lineage_of
from finetune.report.model_metrics import MAIN_MODELS, metric_title
from finetune.report.page_tables import Table
from finetune.report.preference_sentences import preference_sentences
from finetune.report.rendering import render
from finetune.report.sections.calibration import calibration_view
from finetune.report.sections.classes import classes_view
from finetune.report.sections.comparison import comparison_view
from finetune.report.sections.confusion import confusion_view
from finetune.report.sections.exports import exports_view
from finetune.report.sections.groups import group_table
from finetune.report.sections.other_abilities import regressions_view
from finetune.report.sections.rows import example_kinds
from finetune.report.sections.training import training_view
from finetune.report.stage_outputs import Results


class Section(NamedTuple):
    """A section of the page: `templates/sections/<name>.html.jinja` draws its `view`."""

    name: str
    view: object

    @property
    def title(self) -> str:
        return self.name.replace("_", " ").capitalize()

    @property
    def anchor(self) -> str:
        return self.name.replace("_", "-")


class CostView(NamedTuple):
    usage: Table | None
    facts: dict[str, str]


def make_page(results: Results) -> str:
    """Return the page as text, the same for the same files. Sections without content are left out."""
    evaluation = results.evaluation
    sections = [
        Section("comparison", comparison_view(results)),
        Section("preferences", preference_sentences(evaluation["preferences"]) if "preferences" in evaluation else []),
        Section("judge", evaluation.get("judge")),
        Section("groups", group_table(results)),
        Section("training", training_view(results)),
        Section("confusion", confusion_view(results)),
        Section("classes", classes_view(results)),
        Section("calibration", calibration_view(results)),
        Section("rows", example_kinds(results)),
        Section("other_abilities", regressions_view(evaluation.get("also"))),
        Section("exports", exports_view(evaluation, results.exports, results.export_speeds)),
        Section("cost", CostView(usage_table(evaluation, results.latency), cost_facts(results))),
        Section("lineage", lineage_of(results)),
    ]
    return render(
        "report.html.jinja",
        headline=headline(evaluation),
        metric=metric_title(evaluation, evaluation["metric"]),
        scores=score_sentence(evaluation),
        against_base=base_sentence(evaluation),
        against_rescued=rescued_sentence(evaluation),
        unanswered=unanswered_sentence(evaluation),
        gates_failed=evaluation.get("gates_failed"),
        gates_met=evaluation.get("gates_met"),
        main_models=MAIN_MODELS,
        sections=[section for section in sections if section.view],
    )
