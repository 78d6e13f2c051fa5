-- Why: a logout must be known to every replica before it is answered. The log says what ended, the head gives each
-- transaction that ends something its number in commit order, and the replica rows say who has read how far.

-- Updated last in every transaction that ends sessions, so that the order of numbers is the order of commits. Most pages of
-- these small hot tables stay half empty, so that a new version of a row finds room beside the old one.
CREATE TABLE revocation_head (
    id       BIGINT NOT NULL PRIMARY KEY CHECK (id = 1),
    sequence BIGINT NOT NULL
) WITH (fillfactor = 50);

-- All entries of one transaction share its sequence and its mark: random bytes that tell this history from another one
-- that counted as far. An entry of a user who had no session names none: its handle is empty.
CREATE TABLE revocation (
    sequence BIGINT NOT NULL,
    handle   BYTEA  NOT NULL CHECK (octet_length(handle) IN (0, 16)),
    reason   TEXT   NOT NULL,
    expires  BIGINT NOT NULL,
    mark     BYTEA  NOT NULL CHECK (octet_length(mark) = 8),
    PRIMARY KEY (sequence, handle)
);

CREATE INDEX revocation_by_expiry ON revocation (expires);

INSERT INTO revocation_head (id, sequence) VALUES (1, 0);
INSERT INTO revocation (sequence, handle, reason, expires, mark)
VALUES (0, '', 'created', 0, decode(substr(md5(random()::text || clock_timestamp()::text), 1, 16), 'hex'));

-- The last time that all sessions of a user were ended: a login that began before must not open another one.
CREATE TABLE user_revocation (
    user_id    TEXT   COLLATE "C" NOT NULL PRIMARY KEY,
    sequence   BIGINT NOT NULL,
    revoked_at BIGINT NOT NULL
);

CREATE INDEX user_revocation_by_time ON user_revocation (revoked_at);

-- One row per running process; `id` is drawn when it starts, `beat` counts its renewals.
CREATE TABLE replica (
    id       BYTEA  NOT NULL PRIMARY KEY CHECK (octet_length(id) = 16),
    beat     BIGINT NOT NULL,
    applied  BIGINT NOT NULL,
    lease_ms BIGINT NOT NULL
) WITH (fillfactor = 50);
