-- Why: one row per login on one device. Access tokens are accepted without a look at this table; it is asked when a
-- refresh token is exchanged, when a session is listed or ended, and by a replica that cannot trust its memory.
--
-- No column holds a token: `refresh_hash` is a keyed hash and `secret` derives nothing without the master key, which is
-- not in the store. Times are milliseconds since the Unix epoch.
--
-- Not WITHOUT ROWID: claims and data make rows too long for an index tree.

CREATE TABLE session (
    handle              BLOB    NOT NULL PRIMARY KEY CHECK (length(handle) = 16),
    user_id             TEXT    NOT NULL,
    secret              BLOB    NOT NULL CHECK (length(secret) = 32),
    generation          INTEGER NOT NULL CHECK (generation BETWEEN 0 AND 4294967295),
    used_at             INTEGER,
    predecessor_used_at INTEGER,
    idle_expires_at     INTEGER NOT NULL,
    expires_at          INTEGER NOT NULL,
    refresh_hash        BLOB    NOT NULL CHECK (length(refresh_hash) = 32),
    claims              TEXT    NOT NULL,
    data                TEXT    NOT NULL,
    created_at          INTEGER NOT NULL,
    last_seen_at        INTEGER NOT NULL,
    access_expires_at   INTEGER NOT NULL,
    address             TEXT    NOT NULL,
    user_agent          TEXT    NOT NULL,
    -- The clean-up looks at the idle end alone.
    CHECK (idle_expires_at <= expires_at)
) STRICT;

CREATE INDEX session_by_user ON session (user_id, handle);
CREATE INDEX session_by_idle_expiry ON session (idle_expires_at);
