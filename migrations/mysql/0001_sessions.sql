-- Why: one row per login on one device. Access tokens are accepted without a look at this table; it is asked when a
-- refresh token is exchanged, when a session is listed or ended, and by a replica that cannot trust its memory.
--
-- No column holds a token: `refresh_hash` is a keyed hash and `secret` derives nothing without the master key, which is
-- not in the store. Times are milliseconds since the Unix epoch.
--
-- User ids are bytes (UTF-8, up to 128 characters): two are the same user only if they are the same bytes, and MySQL and
-- MariaDB have no collation in common that says so of trailing spaces too.
--
-- A statement here commits by itself, so a migration may break off between two of them. Each can be run again.

CREATE TABLE IF NOT EXISTS session (
    handle              VARBINARY(16)  NOT NULL PRIMARY KEY CHECK (LENGTH(handle) = 16),
    user_id             VARBINARY(512) NOT NULL,
    secret              VARBINARY(32)  NOT NULL CHECK (LENGTH(secret) = 32),
    generation          BIGINT         NOT NULL CHECK (generation BETWEEN 0 AND 4294967295),
    used_at             BIGINT,
    predecessor_used_at BIGINT,
    idle_expires_at     BIGINT         NOT NULL,
    expires_at          BIGINT         NOT NULL,
    refresh_hash        VARBINARY(32)  NOT NULL CHECK (LENGTH(refresh_hash) = 32),
    claims              MEDIUMTEXT     NOT NULL,
    data                MEDIUMTEXT     NOT NULL,
    created_at          BIGINT         NOT NULL,
    last_seen_at        BIGINT         NOT NULL,
    access_expires_at   BIGINT         NOT NULL,
    address             TEXT           NOT NULL,
    user_agent          MEDIUMTEXT     NOT NULL,
    -- The clean-up looks at the idle end alone.
    CHECK (idle_expires_at <= expires_at),
    INDEX session_by_user (user_id, handle),
    INDEX session_by_idle_expiry (idle_expires_at)
) ENGINE = InnoDB ROW_FORMAT = DYNAMIC CHARACTER SET utf8mb4 COLLATE utf8mb4_bin;
