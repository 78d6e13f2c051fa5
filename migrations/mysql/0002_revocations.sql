-- Why: a logout must be known to every replica before it is answered. The log says what ended, the head gives each
-- transaction that ends something its number in commit order, and the replica rows say who has read how far.

-- Updated last in every transaction that ends sessions, so that the order of numbers is the order of commits.
CREATE TABLE IF NOT EXISTS revocation_head (
    id       INT    NOT NULL PRIMARY KEY CHECK (id = 1),
    sequence BIGINT NOT NULL
) ENGINE = InnoDB ROW_FORMAT = DYNAMIC;

-- All entries of one transaction share its sequence and its mark: random bytes that tell this history from another one
-- that counted as far. An entry of a user who had no session names none: its handle is empty.
CREATE TABLE IF NOT EXISTS revocation (
    sequence BIGINT        NOT NULL,
    handle   VARBINARY(16) NOT NULL CHECK (LENGTH(handle) IN (0, 16)),
    reason   VARCHAR(32)   NOT NULL,
    expires  BIGINT        NOT NULL,
    mark     VARBINARY(8)  NOT NULL CHECK (LENGTH(mark) = 8),
    PRIMARY KEY (sequence, handle),
    INDEX revocation_by_expiry (expires)
) ENGINE = InnoDB ROW_FORMAT = DYNAMIC CHARACTER SET ascii COLLATE ascii_bin;

INSERT IGNORE INTO revocation_head (id, sequence) VALUES (1, 0);
INSERT IGNORE INTO revocation (sequence, handle, reason, expires, mark)
    VALUES (0, '', 'created', 0, UNHEX(LEFT(SHA2(CONCAT(UUID(), RAND()), 256), 16)));

-- The last time that all sessions of a user were ended: a login that began before must not open another one. A login
-- makes the row too, with the sequence 0: whoever has its lock is the only one to open or end sessions of that user.
CREATE TABLE IF NOT EXISTS user_revocation (
    user_id    VARBINARY(512) NOT NULL PRIMARY KEY,
    sequence   BIGINT         NOT NULL,
    revoked_at BIGINT         NOT NULL,
    INDEX user_revocation_by_time (revoked_at)
) ENGINE = InnoDB ROW_FORMAT = DYNAMIC;

-- One row per running process; `id` is drawn when it starts, `beat` counts its renewals.
CREATE TABLE IF NOT EXISTS replica (
    id       VARBINARY(16) NOT NULL PRIMARY KEY CHECK (LENGTH(id) = 16),
    beat     BIGINT        NOT NULL,
    applied  BIGINT        NOT NULL,
    lease_ms BIGINT        NOT NULL
) ENGINE = InnoDB ROW_FORMAT = DYNAMIC;
