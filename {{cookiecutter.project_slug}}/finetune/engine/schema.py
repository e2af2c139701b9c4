"""The engine's database: the schema of its tables, and the types of the rows that queries return.

`digests` has the SHA-256 of files and adapters as they were written, by their paths below the home. Homes of earlier
versions have none for their older files. A column whose comment says JSON holds JSON as text. Times are Unix seconds.
`n` counts the rows of a table in the order in which they were added. `places` has the `n` of deleted rows by their IDs,
so that a client that lists the rows can continue after one that was deleted.
"""

from typing_extensions import TypedDict

SCHEMA = """
CREATE TABLE IF NOT EXISTS files (
    n INTEGER PRIMARY KEY, id TEXT UNIQUE, created_at INTEGER, filename TEXT, purpose TEXT, bytes INTEGER);
CREATE TABLE IF NOT EXISTS jobs (
    n INTEGER PRIMARY KEY, id TEXT UNIQUE, created_at INTEGER, finished_at INTEGER, status TEXT, model TEXT,
    suffix TEXT, seed INTEGER, training_file TEXT, validation_file TEXT, asked TEXT, resolved TEXT, metadata TEXT,
    threads INTEGER, dtype TEXT, starts INTEGER DEFAULT 0, fine_tuned_model TEXT, trained_tokens INTEGER,
    result_file TEXT, error TEXT);
CREATE TABLE IF NOT EXISTS parents (job TEXT PRIMARY KEY, base TEXT);
CREATE TABLE IF NOT EXISTS events (
    n INTEGER PRIMARY KEY, id TEXT UNIQUE, job TEXT, created_at INTEGER, level TEXT, type TEXT, message TEXT,
    data TEXT, step INTEGER);
CREATE TABLE IF NOT EXISTS steps (job TEXT, step INTEGER, data TEXT, PRIMARY KEY (job, step));
CREATE TABLE IF NOT EXISTS checkpoints (
    n INTEGER PRIMARY KEY, id TEXT UNIQUE, job TEXT, created_at INTEGER, step INTEGER, model TEXT, metrics TEXT,
    files TEXT, UNIQUE (job, step));
CREATE TABLE IF NOT EXISTS models (
    n INTEGER PRIMARY KEY, id TEXT UNIQUE, created_at INTEGER, job TEXT, base TEXT, dtype TEXT, folder TEXT);
CREATE TABLE IF NOT EXISTS uploads (
    n INTEGER PRIMARY KEY, id TEXT UNIQUE, created_at INTEGER, filename TEXT, purpose TEXT, bytes INTEGER, status TEXT);
CREATE TABLE IF NOT EXISTS parts (n INTEGER PRIMARY KEY, id TEXT UNIQUE, upload TEXT, created_at INTEGER);
CREATE TABLE IF NOT EXISTS batches (
    n INTEGER PRIMARY KEY, id TEXT UNIQUE, created_at INTEGER, status TEXT, input_file TEXT, metadata TEXT, model TEXT,
    total INTEGER DEFAULT 0, completed INTEGER DEFAULT 0, failed INTEGER DEFAULT 0, usage TEXT, errors TEXT,
    output_file TEXT, error_file TEXT, in_progress_at INTEGER, finalizing_at INTEGER, completed_at INTEGER,
    failed_at INTEGER, cancelling_at INTEGER, cancelled_at INTEGER);
CREATE TABLE IF NOT EXISTS permissions (
    n INTEGER PRIMARY KEY, id TEXT UNIQUE, created_at INTEGER, checkpoint TEXT, project TEXT,
    UNIQUE (checkpoint, project));
CREATE TABLE IF NOT EXISTS places (id TEXT PRIMARY KEY, list TEXT, n INTEGER);
CREATE TABLE IF NOT EXISTS digests (path TEXT PRIMARY KEY, sha256 TEXT);
CREATE TABLE IF NOT EXISTS notes (key TEXT PRIMARY KEY, value REAL);
CREATE INDEX IF NOT EXISTS files_of_purpose ON files (purpose);
CREATE INDEX IF NOT EXISTS jobs_of_status ON jobs (status);
CREATE INDEX IF NOT EXISTS jobs_of_metadata ON jobs (metadata) WHERE metadata IS NULL;
CREATE INDEX IF NOT EXISTS batches_of_status ON batches (status);
CREATE INDEX IF NOT EXISTS events_of_job ON events (job);
CREATE INDEX IF NOT EXISTS checkpoints_of_job ON checkpoints (job);
CREATE INDEX IF NOT EXISTS parts_of_upload ON parts (upload);
CREATE TRIGGER IF NOT EXISTS place_of_file AFTER DELETE ON files BEGIN
    INSERT OR REPLACE INTO places VALUES (OLD.id, 'files', OLD.n); END;
CREATE TRIGGER IF NOT EXISTS place_of_event AFTER DELETE ON events BEGIN
    INSERT OR REPLACE INTO places VALUES (OLD.id, 'events ' || OLD.job, OLD.n); END;
CREATE TRIGGER IF NOT EXISTS place_of_checkpoint AFTER DELETE ON checkpoints BEGIN
    INSERT OR REPLACE INTO places VALUES (OLD.id, 'checkpoints ' || OLD.job, OLD.n); END;
CREATE TRIGGER IF NOT EXISTS place_of_permission AFTER DELETE ON permissions BEGIN
    INSERT OR REPLACE INTO places VALUES (OLD.id, 'permissions ' || OLD.checkpoint, OLD.n); END;
"""
# Columns that later versions added to a table. Homes of earlier versions get them when they are opened.
ADDED_COLUMNS = (
    ("files", "expires_at", "INTEGER"),
    ("uploads", "expires_after", "INTEGER"),
    ("jobs", "integrations", "TEXT"),
    ("jobs", "events_read", "TEXT"),
    ("jobs", "method", "TEXT DEFAULT 'supervised'"),
    ("batches", "endpoint", "TEXT DEFAULT '/v1/chat/completions'"),
    ("batches", "output_expires_after", "INTEGER"),
)
# Indexes of those columns.
ADDED_INDEXES = "CREATE INDEX IF NOT EXISTS files_that_expire ON files (expires_at) WHERE expires_at IS NOT NULL"
# The metadata of jobs again, a row for each key, so that a list of jobs need not read all of them. A trigger fills the
# table, also for the processes of earlier versions that share the home. When it is created, it gets the older jobs.
JOB_METADATA = (
    # The columns are in the order of the key: SQLite 3.40 takes another order for damage (PRAGMA quick_check).
    "CREATE TABLE job_metadata (key TEXT, value TEXT, job INTEGER, PRIMARY KEY (key, value, job)) WITHOUT ROWID",
    "CREATE TRIGGER copy_metadata AFTER INSERT ON jobs WHEN NEW.metadata IS NOT NULL BEGIN"
    " INSERT OR IGNORE INTO job_metadata SELECT key, value, NEW.n FROM json_each(NEW.metadata); END",
    "INSERT OR IGNORE INTO job_metadata SELECT key, value, jobs.n"
    " FROM (SELECT n, metadata FROM jobs WHERE json_valid(metadata)) AS jobs, json_each(jobs.metadata)",
)
# Jobs with their `base`, which differs from `model` where a job continues from a fine-tuned model.
JOBS = "SELECT jobs.*, COALESCE(parents.base, model) AS base FROM jobs LEFT JOIN parents ON parents.job = jobs.id"


class FileRow(TypedDict):
    """An uploaded or generated file. Its content is files/<id>."""

    n: int
    id: str
    created_at: int
    filename: str
    purpose: str
    bytes: int
    expires_at: int | None  # when no request finds it any longer; None for a file that does not expire


class JobRow(TypedDict):
    """A fine-tuning job, as the query JOBS returns it."""

    n: int
    id: str
    created_at: int
    finished_at: int | None
    status: str  # validating_files, queued, running, paused, succeeded, failed or cancelled
    model: str  # the model that the request named
    base: str  # the base model to load
    suffix: str | None
    seed: int
    training_file: str
    validation_file: str | None
    asked: str  # JSON: the hyperparameters of the request, each a number or "auto"
    resolved: (
        str | None
    )  # JSON: the hyperparameters as numbers, set when the files are validated, and when training starts
    metadata: str | None  # JSON
    threads: int | None  # of each process; set when training first starts, and kept when it is resumed
    dtype: str | None  # likewise
    starts: int  # of the trainer since the last checkpoint; while files are validated, of a worker
    fine_tuned_model: str | None
    trained_tokens: int | None
    result_file: str | None
    error: str | None  # JSON: code, message and param
    integrations: str | None  # JSON: the integrations of the request, each with the ID of its run once it has begun
    method: str  # supervised or dpo
    events_read: str | None  # the folder of an attempt, and how many bytes of its events are in this database


class EventRow(TypedDict):
    """An event of a job."""

    n: int
    id: str
    job: str
    created_at: int
    level: str  # info, warn or error
    type: str  # message or metrics
    message: str
    data: str  # JSON: the metrics of a step; {} for other events
    step: int | None


class CheckpointRow(TypedDict):
    """A published checkpoint of a job."""

    n: int
    id: str
    job: str
    created_at: int
    step: int
    model: str
    metrics: str  # JSON
    files: str  # JSON: the IDs of the adapter's files


class ModelRow(TypedDict):
    """A fine-tuned model. Its adapter is models/<folder>."""

    n: int
    id: str
    created_at: int
    job: str | None  # None: an adapter from elsewhere
    base: str
    dtype: str | None
    folder: str


class UploadRow(TypedDict):
    """An upload in parts."""

    n: int
    id: str
    created_at: int
    filename: str
    purpose: str
    bytes: int  # the size of the whole file, as the client announced it
    status: str  # pending, completed, cancelled or expired
    expires_after: int | None  # seconds from the file's creation until it expires


class PartRow(TypedDict):
    """A part of an upload. Its content is uploads/<upload>/<id> until the upload ends."""

    id: str
    upload: str
    created_at: int


class PermissionRow(TypedDict):
    """The permission of a project to use a checkpoint."""

    n: int
    id: str
    created_at: int
    checkpoint: str  # the name of its model
    project: str


class BatchRow(TypedDict):
    """A batch of requests. Its results are in batches/<id>.jsonl until the batch ends."""

    n: int
    id: str
    created_at: int
    status: str  # validating, in_progress, finalizing, completed, failed, cancelling or cancelled
    input_file: str
    metadata: str | None  # JSON
    model: str | None  # the model of all requests, set when the input file is validated
    total: int
    completed: int
    failed: int
    usage: str | None  # JSON: prompt_tokens, completion_tokens and total_tokens
    errors: str | None  # JSON: code, message, param and line of each error in the input file
    output_file: str | None
    error_file: str | None
    in_progress_at: int | None
    finalizing_at: int | None
    completed_at: int | None
    failed_at: int | None
    cancelling_at: int | None
    cancelled_at: int | None
    endpoint: str  # the path that answers its requests: /v1/chat/completions or /v1/completions
    output_expires_after: int | None  # seconds from the creation of its result files until they expire
