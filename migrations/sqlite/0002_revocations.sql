-- Why: a logout must be known to every replica before it is answered. The log says what ended, the head gives each
-- transaction that ends something its number in commit order, and the replica rows say who has read how far.

-- Updated last in every transaction that ends sessions, so that the order of numbers is the order of commits.
CREATE TABLE revocation_head (
    id       INTEGER NOT NULL PRIMARY KEY CHECK (id = 1),
    sequence INTEGER NOT NULL
) STRICT;

-- All entries of one transaction share its sequence and its mark: random bytes that tell this history from another one
-- that counted as far. An entry of a user who had no session names none: its handle is empty.
CREATE TABLE revocation (
    sequence INTEGER NOT NULL,
    handle   BLOB    NOT NULL CHECK (length(handle) IN (0, 16)),
    reason   TEXT    NOT NULL,
    expires  INTEGER NOT NULL,
    mark     BLOB    NOT NULL CHECK (length(mark) = 8),
    PRIMARY KEY (sequence, handle)
) STRICT, WITHOUT ROWID;

CREATE INDEX revocation_by_expiry ON revocation (expires);

INSERT INTO revocation_head (id, sequence) VALUES (1, 0);
INSERT INTO revocation (sequence, handle, reason, expires, mark) VALUES (0, x'', 'created', 0, randomblob(8));

-- The last time that all sessions of a user were ended: a login that began before must not open another one.
CREATE TABLE user_revocation (
    user_id    TEXT    NOT NULL PRIMARY KEY,
    sequence   INTEGER NOT NULL,
    revoked_at INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

CREATE INDEX user_revocation_by_time ON user_revocation (revoked_at);

-- One row per running process; `id` is drawn when it starts, `beat` counts its renewals.
CREATE TABLE replica (
    id       BLOB    NOT NULL PRIMARY KEY CHECK (length(id) = 16),
    beat     INTEGER NOT NULL,
    applied  INTEGER NOT NULL,
    lease_ms INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
