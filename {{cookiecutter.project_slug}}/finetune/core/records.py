"""The types of all files that outlive a run. Each key is described here, and nowhere else.

A dollar figure is a number or the text "unknown", never 0 for what is not known.
"""

from typing import Any, Literal

from typing_extensions import NotRequired, TypedDict

Example = dict[str, Any]  # one line of a training file, as the API defines it
Usd = float | str
Figure = float | int | str | None
Metrics = dict[str, Any]  # a model's figures by name: `accuracy`, `accuracy_low`, …; `fields` maps names to F1

# Prepared data


class PreparedExample(TypedDict):
    """One row of data/prepared/{train,valid,test}.jsonl, in one of the API's three forms: chat, preference, texts."""

    messages: NotRequired[list[dict[str, Any]]]
    input: NotRequired[dict[str, Any]]
    preferred_output: NotRequired[list[dict[str, Any]]]
    non_preferred_output: NotRequired[list[dict[str, Any]]]
    prompt: NotRequired[str]
    completion: NotRequired[str]


class CompletionMarks(TypedDict):
    """What separates prompts from completions."""

    separator: str  # at the end of each prompt
    lead: str  # before each completion
    stop: str  # at the end of each completion


class FoundMarks(TypedDict):
    """The marks that the raw prompts and completions have already; None for a mark that they do not have."""

    separator: str | None
    lead: str | None
    stop: str | None


class Account(TypedDict):
    """Where every row that was read has gone.

    A row is an example, unless it is blank or not accepted. With data.turns each, it has an example for each answer, or
    none.
    examples + added = train + valid + test + duplicate + same_question + near_duplicate.
    """

    rows: int
    blank: NotRequired[int]  # rows without text in any cell; not in reports of earlier versions
    not_accepted: NotRequired[int]  # rows that an annotator of Prodigy rejected or ignored
    without_answer: int  # rows of data.turns each in which no answer is trained on
    examples: int
    added: int  # with data.abstain.share
    train: int
    valid: int
    test: int
    duplicate: int
    same_question: int  # as a row of a later split
    near_duplicate: int  # of a row of a later split


class PrepareReport(TypedDict):
    """reports/prepare.json: how the raw data became three splits. All counts are rows."""

    rows: int
    train: int
    valid: int
    test: int
    duplicates: NotRequired[int]  # where shares decide the splits
    near_duplicates_left_out: NotRequired[int]  # with those that ask the same as a row of a later split
    account: NotRequired[Account]  # not in reports of earlier versions
    shares: NotRequired[dict[str, float]]  # of the splits in the written examples
    marked_unanswerable: NotRequired[int]  # with data.abstain.column
    labels_trimmed: NotRequired[int]  # white space around a class of data.labels was removed
    mismatched: NotRequired[int]  # with data.abstain.share: rows added with another row's context
    white_space_kept: NotRequired[int]  # rows with an answer that begins or ends with white space
    unused: NotRequired[dict[str, int]]  # rows in which a key has a value that is not used, by the key
    unused_others: NotRequired[int]  # values of further unused keys, which are too many to list
    redacted: NotRequired[dict[str, int]]  # with data.redact: values replaced in the rows read, by kind
    source: dict[str, Any]  # how the file was read; with data.files, one such object for each split
    prompt: str | None  # SHA-256 of data.prompt
    labels: NotRequired[list[str]]  # with data.labels auto: the classes of the data
    codes: dict[str, str]  # with data.codes: class → code
    abstain: str | None  # data.abstain.answer
    completion: CompletionMarks | None  # with data.target completion
    found_marks: NotRequired[FoundMarks]  # of raw prompts and completions: taken off for chat, kept for completions


class TestRow(TypedDict):
    """One row of data/prepared/test_rows.jsonl: what is known of a test row beside its example."""

    question: str  # the hash by which two questions are the same
    group: int  # from 0; rows of one data.group, of one conversation, or with the same user messages are a group
    by: NotRequired[str]  # its cell in the column data.by


class ServerAddress(TypedDict):
    """What identifies the server: `provider.name` and `provider.base_url`."""

    name: str
    base_url: str | None


class CheckedSplits(TypedDict):
    """data/prepared/checked.json: the splits that have no mistakes, and where they are uploaded.

    `upload` depends on this file, and not on parameters or on the report of `validate`. So another price, a new warning
    or a budget uploads nothing.
    """

    method: str
    examples: dict[str, int]  # by split
    server: ServerAddress


class TrainingSettings(TypedDict):
    """data/prepared/training.json: everything that decides the job and the choice of its checkpoint, beside the data.

    `train` depends on this file and not on parameters.
    """

    server: ServerAddress
    base: str
    continue_from: str | None  # train.from
    method: str
    hyperparameters: dict[str, Any]  # as asked, `auto` included
    seed: int
    suffix: str | None
    training_type: str | None
    integrations: list[dict[str, Any]]
    choose: str
    metric: dict[str, Any] | None  # with choose best_metric: what decides that metric


class AnswerSettings(TypedDict):
    """What decides how a model answers a question."""

    seed: int
    max_tokens: int
    temperature: float
    stop: list[str]
    presence_penalty: float
    frequency_penalty: float
    top_logprobs: int
    completion: CompletionMarks | None


class ExportSettings(TypedDict):
    """data/prepared/export.json: what is exported. `export` depends on it, and not on parameters or questions.json.

    So other questions of `evaluate.also`, or to a judge, export nothing again.
    """

    formats: list[str]
    base: NotRequired[str | None]  # export.base; absent without formats, as all that follows
    margin: NotRequired[float]
    require: NotRequired[dict[str, str]]
    answers: NotRequired[AnswerSettings]


class RegressionSet(TypedDict):
    """Chat examples of one entry of evaluate.also, and how long an answer may be."""

    max_tokens: int
    examples: list[Example]


class Questions(AnswerSettings):
    """data/prepared/questions.json: everything that decides what models are asked, beside the splits.

    `baseline` and `tuned` depend on this file and not on parameters, so a change of a parameter that only scoring reads
    (a gate, a margin, the order of labels) does not run them again.
    """

    provider: dict[str, str | None]  # name, base_url, base_deployment
    base: str
    few_shot: list[Example]  # in the prompt of the third model
    compare: list[str]
    also: dict[str, RegressionSet]
    graders: dict[str, dict[str, Any]]  # those of evaluate.graders that ask a model
    judge: dict[str, str | None] | None  # model, instructions


class CostEstimate(TypedDict):
    """The bill of a training file before it is sent."""

    examples: int
    tokens: int  # of one epoch
    n_epochs: int
    billed_tokens: int
    train_usd: Usd
    seconds: float | str


class TrainingEstimate(TypedDict):
    """The bill for a number of epochs."""

    n_epochs: int
    billed_tokens: int
    train_usd: Usd
    seconds: float | str


class BreakEvenEstimate(TypedDict):
    """What `break_even_calls` compares: calls of the tuned model, and of the base with examples in its prompt."""

    # evaluate.few_shot, or 10. None and {} where images are of unknown size.
    examples: int | None
    prompt_tokens: dict[str, float]  # few_shot, tuned: means over the test rows
    usd_per_1000: dict[str, Usd]  # few_shot, tuned


class ReplayAccount(TypedDict):
    """Where every example of train.replay.file has gone.

    examples = rows + duplicate + same_question + near_duplicate + not_needed.
    """

    file: str
    examples: int
    rows: int  # mixed into the training rows
    wanted: int  # by train.replay.share; more than `rows` if the file has too few
    share: float  # of `rows` in the uploaded file
    duplicate: int
    same_question: int  # as a row of a split or of evaluate.also
    near_duplicate: int  # of a row of valid, test or evaluate.also
    not_needed: int


class ValidationReport(TypedDict):
    """reports/validation.json: what was checked, and what it will cost."""

    examples: dict[str, int]  # by split
    replay: NotRequired[ReplayAccount]
    errors: int
    warnings: dict[str, int]  # by code
    longest_example_tokens: int
    train_tokens_per_epoch: int  # with those of train.replay
    train_usd_per_epoch: Usd
    # False: the base's tokenizer is not known here, and another one counts; or tokens_at_least; or examples declare or
    # call functions, which a server counts in its own way
    tokens_exact: bool
    tokens_at_least: bool  # True: the training data have more, in images whose size or price is not known
    auto: TrainingEstimate  # for the epochs that `auto` gives
    planned: TrainingEstimate  # for train.n_epochs
    evaluate_usd_at_most: dict[str, Usd]  # base, tuned, and few_shot with evaluate.few_shot
    break_even_calls: int | str | None  # calls after which the planned training has paid for itself; None: never
    break_even: NotRequired[BreakEvenEstimate]  # not in reports of earlier versions
    # The smallest difference of the mean scores that the test split shows (two-sided test at 0.05, power 0.8). Assumed:
    # a fifth of the answers change; for extract and generate, a standard deviation of the differences of 0.3 and 0.2;
    # and a correlation of 0.3 within groups of rows. None: too few rows or groups for any.
    detectable_difference: float | None
    difference_assumes: str  # in words
    test_groups: NotRequired[int]  # of test rows, that are independent of each other; absent where each row is


class FindingRecord(TypedDict):
    """One finding of `finetune check --format json`."""

    code: str
    severity: Literal["error", "warning"]
    file: str
    line: int  # from 1; 0 is the whole file
    message: str
    fix: str


class CheckReport(TypedDict):
    """The output of `finetune check --format json`."""

    examples: int
    errors: int
    warnings: int
    findings: list[FindingRecord]


class DoubtfulRow(TypedDict):
    """One row of reports/doubtful.csv: a row whose answer is probably wrong."""

    file: str
    line: int  # from 1
    answer: str
    suggested: str  # the class that the other rows predict; "" where answers are no classes
    score: float  # classes: the probability of the answer by the other rows; else how well it fits its question, or
    # with a model, the share of the answer's loss that the question takes away
    question: str


# What the provider holds


class UploadedFile(TypedDict):
    id: str
    sha256: str
    replay: NotRequired[int]  # how many of its rows are those of train.replay


FilesRecord = dict[str, UploadedFile]  # models/files.json, by split: train, valid


class UploadNote(TypedDict):
    """.finetune/upload-<name>.json: a file that is sent in parts, until all of them are there."""

    identity: str  # the provider and its address
    id: str  # of the upload
    expires_at: int  # seconds since 1970
    parts: list[str]  # IDs of the parts that have arrived


class EarlierRequest(TypedDict):
    """What an earlier request of the same key has made."""

    id: str
    facts: dict[str, Any]


class RequestNote(TypedDict):
    """requests/<hash>.json in the user's folder: a request that creates something, written before it is sent."""

    asked_at: float  # seconds since 1970, by the provider's clock
    asked_here: NotRequired[float]  # the same by this machine's clock; earlier versions did not note it
    known: list[str]  # IDs of what existed before, which the request has not made
    facts: dict[str, Any]  # what the caller adds: of a job, its project, its request and its dollars
    id: NotRequired[str]  # of what was made, as soon as that is known
    was_shown: NotRequired[bool]  # the provider has shown what was made: if it is missing now, it was deleted
    earlier: NotRequired[list[EarlierRequest]]


class CheckpointRecord(TypedDict, total=False):
    """One checkpoint of a job: its metrics are those that the provider measured."""

    model: str
    step: int
    train_loss: float
    train_mean_token_accuracy: float
    valid_loss: float
    valid_mean_token_accuracy: float
    full_valid_loss: float
    full_valid_mean_token_accuracy: float


class ChosenCheckpoint(TypedDict):
    by: str  # train.choose
    step: int | None
    why: str


class CurveFacts(TypedDict):
    """What the curves of a training show, and the last value of each."""

    verdict: str  # improving, converged, overfitting, diverging, cannot tell; unknown: no curve
    verdict_step: int | None
    verdict_words: str
    next_n_epochs: int | None
    train_loss: float | None
    train_accuracy: float | None
    valid_loss: float | None
    valid_accuracy: float | None
    missing: NotRequired[list[str]]  # what the provider did not have when the record was made, and why


class ModelRecord(CurveFacts):
    """models/model.json: the fine-tune of this commit."""

    provider: str
    base: str
    lineage: list[str]  # fine-tuned models that it was trained from, the first one first
    method: str
    model: str  # the chosen model's ID
    model_of_last_step: str | None
    chosen: ChosenCheckpoint
    chosen_valid_loss: NotRequired[float | None]  # of the chosen checkpoint, over the validation file if it is known
    chosen_valid_score: NotRequired[float | None]  # of its answers to the validation split, with choose: best_metric
    job: str
    fingerprint: str  # SHA-256 of data, base, method, hyperparameters as asked, seed and suffix
    seed: int | None
    suffix: str | None
    prompt: str | None  # SHA-256 of data.prompt
    hyperparameters: dict[str, Any]  # as trained: `auto` has become a number
    trained_tokens: int | None
    usd: Usd
    checkpoints: list[CheckpointRecord]


class VariantScores(TypedDict):
    """What a variant's model answered to the test rows."""

    settings: str  # SHA-256 of the test rows and of all settings that decide answers and scores
    metric: str
    score: float
    low: float  # 95 % interval over the test rows
    high: float
    failed: int  # rows without an answer
    rows: str  # the score of each test row, separated by spaces


class VariantRecord(TypedDict):
    """models/variants/<name>.json: a training with another seed or fewer rows than that of models/model.json, or that.

    It has no model before the job has ended, and no scores before the test rows are answered.
    """

    provider: str
    base: str
    recipe: str  # SHA-256 of the whole data and of all settings but the seed, which variants have in common
    seed: int
    share: float  # of the training rows
    rows: int
    fingerprint: str  # of the job, as in models/model.json
    files: FilesRecord
    job: str
    model: NotRequired[str]
    checkpoints: NotRequired[list[str]]  # all models of the job
    step: NotRequired[int | None]  # of the chosen checkpoint
    choice: NotRequired[str]  # what has chosen it (`choice_of` in scoring/trainings.py)
    n_epochs: NotRequired[int | str | None]
    trained_tokens: NotRequired[int | None]
    usd: NotRequired[Usd]
    scores: NotRequired[VariantScores]


class LedgerRow(TypedDict):
    """One line of reports/ledger.csv: what a job was estimated to take, and what it took. Cells are texts when read."""

    job: str
    provider: str
    base: str
    n_epochs: Any
    counted_tokens: Any
    billed_tokens: Any
    estimated_usd: Any
    billed_usd: Any
    estimated_seconds: Any
    seconds: Any


class DeploymentRecord(TypedDict):
    """models/deployment.json: the name to ask a deployed model by."""

    provider: str
    model: str
    name: str
    source: NotRequired[str]  # what was deployed: a checkpoint's ID at Azure, the job's and a checkpoint's at Nebius


# Answers

Alternatives = list[tuple[str, float | None]]  # one token: the chosen one, then others, each with its log-probability


class Prediction(TypedDict):
    """One row of predictions/*.jsonl: what was asked, expected and answered."""

    asked: str
    expected: str
    answer: str
    prompt_tokens: int | None
    completion_tokens: int | None
    cached_tokens: NotRequired[int]  # of the prompt's, where the provider had some in its cache
    seconds: NotRequired[float]  # in memory only: a file with it would differ each time
    logprobs: NotRequired[list[Alternatives]]  # by token of the answer
    cut: NotRequired[bool]  # the answer ended at evaluate.max_tokens
    refused: NotRequired[bool]  # by the model or the provider's filter; `answer` is its refusal
    error: NotRequired[str]  # why there is no answer
    margin: NotRequired[float]  # of a preference: log-probability of the preferred answer less that of the other one


class KeptAnswers(TypedDict):
    """A line of `finetune answers list`: answers that are kept for all projects of this user.

    Of answers of an earlier version, provider, name and model are "", and the times are null.
    """

    provider: str
    asked: str  # the name by which the model was asked
    model: str  # what the provider says has answered, or that the deployment had
    fingerprint: str
    answers: int
    first: int | None  # in seconds since 1970
    last: int | None


class NamedPrediction(Prediction):
    """One row of predictions/compared.jsonl."""

    model: str  # `checkpoints.<step>` or `compared.<name>`
    commit: NotRequired[str]  # of `compared.<name>` when its model was asked, in 12 digits
    base: NotRequired[str]  # of `compared.<name>`, which decides its price


class RecordedAnswer(TypedDict):
    """One row of data/rescued/<name>/answers*.jsonl: a question to a model before it was shut down, and its answer."""

    messages: list[dict[str, Any]]  # that end with the model's answer, unless there is an error
    place: str  # file and row of the question
    expected: NotRequired[str]  # the answer in that file
    prompt_tokens: NotRequired[int | None]
    completion_tokens: NotRequired[int | None]
    logprobs: NotRequired[list[Alternatives]]
    cut: NotRequired[bool]
    max_tokens: NotRequired[int]  # at which it was cut
    refused: NotRequired[bool]
    error: NotRequired[str]
    trained: NotRequired[bool]  # in the file of evaluate.rescued: the model was trained on this question
    is_expected: NotRequired[bool]  # in that file: this answer counts as the right one, because there is no other


class RegressionPrediction(Prediction):
    """One row of predictions/base_also.jsonl and tuned_also.jsonl."""

    set: str  # the key in evaluate.also


class ExportedPrediction(Prediction):
    """One row of predictions/exported.jsonl."""

    format: str


class GraderReply(TypedDict):
    """One row of predictions/grader_replies.jsonl."""

    grader: str
    model: str
    reply: str | None  # None: refused


class JudgeReply(TypedDict):
    """One row of predictions/judge_replies.jsonl: two a test row, base first and then tuned first."""

    reply: str | None


class AnsweredBy(TypedDict):
    """predictions/answered_by.json: what the answers of the tuned model belong to."""

    model: str
    fingerprint: str  # of models/model.json
    test_rows: str  # SHA-256 of data/prepared/test.jsonl


class Latency(TypedDict, total=False):
    median_ms: float
    p95_ms: float


Latencies = dict[str, Latency]  # predictions/latency.json, predictions/tuned_latency.json and reports/latency.json


# Scores


class PairedDifference(TypedDict):
    """The mean difference of one set of answers to another on the same rows."""

    lift: float
    low: float
    high: float
    p_value: float
    test: str
    wins: int
    losses: int
    groups: int  # of rows, that are independent of each other; the number of rows where each is
    fresh_rows: int | None  # another test set of this size would show the difference in 4 of 5 cases


class LiftOnAnswered(TypedDict):
    """`lift_on_answered` of the evaluation: the difference to the base on the rows that both answered."""

    n: int  # rows that both answered
    base_unanswered: int
    tuned_unanswered: int
    lift: NotRequired[float]  # absent without such rows, with the figures after it
    low: NotRequired[float]
    high: NotRequired[float]
    p_value: NotRequired[float]
    verdict: str


class MetricRow(TypedDict):
    """One row of reports/metrics.csv: a metric of a model, and how much better or worse the tuned model is in it."""

    metric: str
    model: str
    value: float
    low: float
    high: float
    difference: float | str  # of tuned to the model; "" for tuned
    difference_low: float | str
    difference_high: float | str
    p_value: float | str


class CurveLevel(TypedDict):
    """The fitted score for a number of training rows, with its 95 % interval."""

    rows: int
    score: float
    low: float
    high: float


class CurveFit(TypedDict):
    """A power law through the scores by training rows, and what twice the rows would bring."""

    best_score: float  # with rows without end
    exponent: float
    spread_between_trainings: float  # standard deviation of the score at the largest number of rows
    spread_from_trainings: int  # repeated trainings that it comes from; 0: it is assumed
    fits: bool  # False: the scores do not follow such a law
    gain: float  # of twice the rows, over the fitted score at the largest number of rows
    gain_low: float
    gain_high: float
    now: CurveLevel  # at the largest number of rows, by the law, not as measured
    twice: CurveLevel
    line: list[CurveLevel]  # from the smallest number of rows to twice the largest


class CurveRow(TypedDict):
    """One row of reports/learning_curve.csv: a training, or a point of the fitted law."""

    kind: str  # trained or fitted
    rows: int
    seed: int | str  # "" for fitted
    n_epochs: Any
    score: float
    low: float  # 95 % interval: of a training over the test rows, of the law for another training and other test rows
    high: float
    usd: Any
    model: str


class LearningCurve(TypedDict):
    """The output of `finetune learning-curve --json`."""

    metric: str
    test_rows: int
    points: list[CurveRow]
    fit: CurveFit | None  # None: fewer than three numbers of rows
    verdict: str
    notes: list[str]


class PairRow(TypedDict):
    """One row of reports/pairs.csv: how much better a model is than another."""

    model: str
    against: str
    n: int
    difference: float
    low: float
    high: float
    p_value: float
    p_holm: float  # corrected for the number of pairs in the table, by Holm's method
    test: str
    verdict: str


class GroupRow(TypedDict):
    """One row of reports/groups.csv: a model's score over the test rows of a group."""

    group: str
    model: str
    n: int
    score: float
    low: float
    high: float


class RowToRead(TypedDict):
    """One row of reports/rows.csv: a test row that a person should read."""

    kind: str  # lost, won or wrong
    asked: str
    expected: str
    base: str
    tuned: str
    base_score: float
    tuned_score: float
    confidence: float | str  # "" without log-probabilities


class CommitComparison(TypedDict):
    """The output of `finetune compare --json`."""

    n: int  # rows that both answered
    metric: str
    left_out: int  # rows that only one of them answered
    before: Metrics  # with `revision`
    after: Metrics
    lift: PairedDifference
    verdict: str
    differences: dict[str, list[Any]]  # of their records: before and after


class RegressionResult(TypedDict):
    """`also.<name>` of the evaluation."""

    task: str
    metric: str
    n: int
    base: float
    tuned: float
    lift: float
    low: float
    high: float
    margin: float
    kept: int  # 1: shown to be worse by no more than the margin
    base_unanswered: NotRequired[int]  # rows that are left out; not in evaluations of earlier versions
    tuned_unanswered: NotRequired[int]  # rows that count as wrong
    verdict: str
    groups: NotRequired[int]  # of rows, that are independent of each other; absent where each row is


class JudgeResult(TypedDict):
    """`judge` of the evaluation: how often the tuned model's answer is preferred."""

    n: int
    wins: int
    losses: int
    ties: int
    flipped: int  # ties because the choice changed with the order
    unreadable: int
    p_value: float
    first_share: float | None  # of all choices, how many fell on the answer shown first
    verdict: str


class PreferenceResult(TypedDict):
    """`preferences` of the evaluation, for train.method dpo: how probable the preferred answers of the test pairs are.

    The numbers after the first two are missing if no pair was measured.
    """

    pairs: int  # test pairs that both models scored
    not_measured: int  # further test pairs
    base: NotRequired[float]  # share of the pairs in which the preferred answer is the more probable one
    tuned: NotRequired[float]
    lift: NotRequired[float]  # of that share, with its 95 % interval
    lift_low: NotRequired[float]
    lift_high: NotRequired[float]
    p_value: NotRequired[float]
    base_margin: NotRequired[float]  # mean difference of the two answers' log-probabilities
    tuned_margin: NotRequired[float]
    margin_lift: NotRequired[float]  # of that mean, with its 95 % interval
    margin_low: NotRequired[float]
    margin_high: NotRequired[float]
    margin_p_value: NotRequired[float]
    verdict: str


class Trainings(TypedDict):
    """`trainings` of the evaluation: how much the score differs between trainings with different seeds.

    The other figures of the evaluation are of one of them; their intervals are over the test rows.
    """

    n: int
    seeds: list[int]
    mean: float
    least: float
    most: float
    sd: float  # standard deviation between trainings
    sd_low: float  # its 95 % interval
    sd_high: float | None  # None: the scores are all the same, which does not show how much more trainings differ
    rank: int  # of the evaluated model among the trainings; 1 is the best
    share_of_lift: float | None  # sd, as a share of the lift over base; None where that is 0
    share_of_rival_lift: NotRequired[float | None]  # the same for the strongest other model
    above_rival: NotRequired[int]  # trainings that score above it
    verdict: str


class Evaluation(TypedDict):
    """reports/evaluation.json. Names that users choose are keys of `compared`, `also` and `graders` only."""

    task: str
    evaluated: NotRequired[AnsweredBy]  # not in evaluations of earlier versions
    metric: str  # the name of the metric that models are compared by
    n: int  # test rows
    groups: NotRequired[int]  # of test rows, that are independent of each other; absent where each row is
    base: Metrics
    few_shot: NotRequired[Metrics]
    tuned: Metrics
    checkpoints: NotRequired[dict[str, Metrics]]  # by step; each with its own `lift`
    rescued: NotRequired[Metrics]  # a model that was shut down, with `lift`, `margin`, `kept`, `verdict` and `model`
    compared: NotRequired[dict[str, Metrics]]  # by the name in evaluate.compare; each with its own `lift`
    floors: NotRequired[dict[str, Metrics]]  # what costs nothing, by name; each with its own `lift`
    lift: Metrics  # of tuned over base
    lift_on_answered: NotRequired[LiftOnAnswered]  # where one of them did not answer some rows
    rival: NotRequired[Metrics]  # of tuned over the strongest other model, whose name is `name`
    lift_over_few_shot: NotRequired[Metrics]
    trainings: NotRequired[Trainings]  # with `finetune repeat`
    graders: NotRequired[dict[str, dict[str, Any]]]  # by name: base, few_shot, tuned, lift, checkpoints, compared
    judge: NotRequired[JudgeResult]
    preferences: NotRequired[PreferenceResult]  # with train.method dpo
    also: dict[str, RegressionResult]
    saved_prompt_tokens: NotRequired[float]  # of a call, against few_shot
    saved_usd_per_1000: NotRequired[float]  # of 1,000 calls, against few_shot
    gates_met: NotRequired[int]  # with evaluate.require
    gates_failed: NotRequired[list[str]]


# What ships


class ExportedFile(TypedDict):
    sha256: str
    bytes: int


class ExportManifest(TypedDict):
    """exports/<format>/manifest.json: where the files come from, and what was measured with them."""

    format: str
    files: dict[str, ExportedFile]  # by name; all of the folder but this one
    model: str
    job: str
    fingerprint: str  # of models/model.json
    base: str
    base_weights: str  # SHA-256 of the digests of the base's weights
    commit: str  # of the project, when it was exported; "" outside of Git
    data: str | None  # SHA-256 of the training file
    scores: "ExportScores"


class ExportScores(TypedDict):
    """How a format's answers to the test rows compare with those of the tuned model that was measured."""

    agreement: float  # share of equal answers
    metric: str
    score: float
    low: float  # 95 % interval
    high: float
    difference: float  # to the measured model
    difference_low: float
    difference_high: float
    p_value: float
    test: str
    margin: float
    kept: int  # 1: shown to be worse by no more than the margin
    logprob_difference: NotRequired[float]  # mean absolute difference of a token's log-probability, in equal answers
    failed: int  # rows without an answer
    bytes: int  # of all files
    verdict: str


class ExportReport(TypedDict):
    """reports/export.json. Without formats, `export` is empty and only that is there."""

    export: dict[str, ExportScores]  # by format
    n: NotRequired[int]  # test rows
    evaluated: NotRequired[AnsweredBy]  # what the formats are compared with
    tuned: NotRequired[float]  # score of the measured model
    gates_met: NotRequired[int]  # with export.require
    gates_failed: NotRequired[list[str]]


class ExportSpeed(Latency, total=False):
    """One format in reports/export_speed.json. It differs from run to run, so report.md is without it."""

    tokens_per_second: float  # of answers
