-- The read model: everything here is derived from JOURNAL and can be dropped, except that `commits` outlives what the
-- stream has trimmed. Only text and 64-bit integers, so that another database needs another file like this and no more.

-- How far each subject of JOURNAL has been projected; advanced by compare-and-set in the transaction that projects.
CREATE TABLE positions (
    subject TEXT NOT NULL PRIMARY KEY,
    sequence BIGINT NOT NULL,
    hash TEXT NOT NULL
);

-- The archive: what `cdflow journal restore` is fed with.
CREATE TABLE commits (
    subject TEXT NOT NULL,
    sequence BIGINT NOT NULL,
    hash TEXT NOT NULL,
    body BLOB NOT NULL,
    PRIMARY KEY (subject, sequence)
);

CREATE TABLE runs (
    id TEXT NOT NULL PRIMARY KEY,
    project TEXT NOT NULL,
    number BIGINT NOT NULL,
    pipeline TEXT NOT NULL,
    status TEXT NOT NULL,
    outcome TEXT NOT NULL,
    summary TEXT NOT NULL,
    view TEXT NOT NULL
);
CREATE INDEX runs_by_number ON runs (project, number);
CREATE INDEX runs_by_status ON runs (project, status, number);

CREATE TABLE approvals (
    id TEXT NOT NULL PRIMARY KEY,
    run_id TEXT NOT NULL,
    view TEXT NOT NULL
);
CREATE INDEX approvals_by_run ON approvals (run_id);

-- What comparisons have counted so far.
CREATE TABLE evidence (
    id TEXT NOT NULL PRIMARY KEY,
    run_id TEXT NOT NULL,
    view TEXT NOT NULL
);
CREATE INDEX evidence_by_run ON evidence (run_id);

-- Where the history of a run is in the archive.
CREATE TABLE history (
    run_id TEXT NOT NULL,
    sequence BIGINT NOT NULL,
    subject TEXT NOT NULL,
    PRIMARY KEY (run_id, sequence, subject)
);

-- What is live, by service, environment and infrastructure.
CREATE TABLE live (
    project TEXT NOT NULL,
    service TEXT NOT NULL,
    environment TEXT NOT NULL,
    infrastructure TEXT NOT NULL,
    version TEXT NOT NULL,
    previous TEXT NOT NULL,
    since_ms BIGINT NOT NULL,
    run_number BIGINT NOT NULL,
    rolled_back BIGINT NOT NULL,
    PRIMARY KEY (project, service, environment, infrastructure)
);

CREATE TABLE trigger_events (
    sequence BIGINT NOT NULL,
    position BIGINT NOT NULL,
    project TEXT NOT NULL,
    view TEXT NOT NULL,
    PRIMARY KEY (sequence, position)
);

-- What became of the commands of people, and which signals were refused.
CREATE TABLE answers (
    signal_id TEXT NOT NULL PRIMARY KEY,
    aggregate TEXT NOT NULL,
    aggregate_id TEXT NOT NULL,
    time_ms BIGINT NOT NULL,
    code TEXT NOT NULL,
    message TEXT NOT NULL
);
