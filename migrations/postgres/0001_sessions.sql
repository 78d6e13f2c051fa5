-- Why: one row per login on one device. Access tokens are accepted without a look at this table; it is asked when a
-- refresh token is exchanged, when a session is listed or ended, and by a replica that cannot trust its memory.
--
-- No column holds a token: `refresh_hash` is a keyed hash and `secret` derives nothing without the master key, which is
-- not in the store. Times are milliseconds since the Unix epoch. Texts are compared byte for byte, whatever the database's
-- locale is.

CREATE TABLE session (
    handle              BYTEA  NOT NULL PRIMARY KEY CHECK (octet_length(handle) = 16),
    user_id             TEXT   COLLATE "C" NOT NULL,
    secret              BYTEA  NOT NULL CHECK (octet_length(secret) = 32),
    generation          BIGINT NOT NULL CHECK (generation BETWEEN 0 AND 4294967295),
    used_at             BIGINT,
    predecessor_used_at BIGINT,
    idle_expires_at     BIGINT NOT NULL,
    expires_at          BIGINT NOT NULL,
    refresh_hash        BYTEA  NOT NULL CHECK (octet_length(refresh_hash) = 32),
    claims              TEXT   NOT NULL,
    data                TEXT   NOT NULL,
    created_at          BIGINT NOT NULL,
    last_seen_at        BIGINT NOT NULL,
    access_expires_at   BIGINT NOT NULL,
    address             TEXT   NOT NULL,
    user_agent          TEXT   NOT NULL,
    -- The clean-up looks at the idle end alone.
    CHECK (idle_expires_at <= expires_at)
);

CREATE INDEX session_by_user ON session (user_id, handle);
CREATE INDEX session_by_idle_expiry ON session (idle_expires_at);
