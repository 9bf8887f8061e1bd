"""The tables of jobs in SQLite. How many there are of each kind is counted by triggers, so asking costs nothing."""

from typing import Final

SCHEMA: Final = """
BEGIN IMMEDIATE;
CREATE TABLE IF NOT EXISTS jobs (
    seq INTEGER PRIMARY KEY AUTOINCREMENT,
    id TEXT NOT NULL UNIQUE,
    queue TEXT NOT NULL,
    key TEXT,
    task TEXT NOT NULL,
    status TEXT NOT NULL,
    priority INTEGER NOT NULL,
    due REAL NOT NULL,
    envelope TEXT NOT NULL,
    attempts INTEGER NOT NULL DEFAULT 0,
    fence INTEGER NOT NULL DEFAULT 0,
    token TEXT,
    settled TEXT,
    lease_until REAL,
    redelivered INTEGER NOT NULL DEFAULT 0,
    cancelled INTEGER NOT NULL DEFAULT 0,
    result TEXT,
    error TEXT,
    finished REAL
);
CREATE UNIQUE INDEX IF NOT EXISTS jobs_key ON jobs (queue, key) WHERE key IS NOT NULL;
CREATE INDEX IF NOT EXISTS jobs_next ON jobs (queue, status, priority DESC, seq);
CREATE INDEX IF NOT EXISTS jobs_due ON jobs (queue, status, due);
CREATE INDEX IF NOT EXISTS jobs_lease ON jobs (queue, status, lease_until) WHERE status = 'active';
CREATE INDEX IF NOT EXISTS jobs_finished ON jobs (queue, status, finished) WHERE finished IS NOT NULL;
CREATE TABLE IF NOT EXISTS bills (
    id TEXT NOT NULL,
    fence INTEGER NOT NULL,
    cost REAL NOT NULL,
    PRIMARY KEY (id, fence)
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS counts (
    queue TEXT NOT NULL,
    status TEXT NOT NULL,
    jobs INTEGER NOT NULL,
    PRIMARY KEY (queue, status)
) WITHOUT ROWID;
CREATE TRIGGER IF NOT EXISTS jobs_come AFTER INSERT ON jobs BEGIN
    INSERT INTO counts VALUES (new.queue, new.status, 1)
        ON CONFLICT (queue, status) DO UPDATE SET jobs = jobs + 1;
END;
CREATE TRIGGER IF NOT EXISTS jobs_change AFTER UPDATE OF status ON jobs WHEN old.status <> new.status BEGIN
    UPDATE counts SET jobs = jobs - 1 WHERE queue = old.queue AND status = old.status;
    INSERT INTO counts VALUES (new.queue, new.status, 1)
        ON CONFLICT (queue, status) DO UPDATE SET jobs = jobs + 1;
END;
CREATE TRIGGER IF NOT EXISTS jobs_go AFTER DELETE ON jobs BEGIN
    UPDATE counts SET jobs = jobs - 1 WHERE queue = old.queue AND status = old.status;
    DELETE FROM bills WHERE id = old.id;
END;
COMMIT;
"""
