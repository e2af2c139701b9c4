"""The types of what prepare writes: examples, rows of the test split, and the account of all rows."""

from typing import Any

from typing_extensions import NotRequired, TypedDict

Example = dict[str, Any]  # one line of a training file, as the API defines it


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
