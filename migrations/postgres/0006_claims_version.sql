-- Why: claims may change while a session lives, and an access token with older ones must not be accepted any more. The
-- session counts its changes, each token carries the count, and the log says which is the least that is still accepted.
-- Versions are compared, never times: a refresh under way may sign older claims later.

ALTER TABLE session ADD COLUMN claims_version BIGINT NOT NULL DEFAULT 0
    CHECK (claims_version BETWEEN 0 AND 4294967295);

-- Of an entry with the reason `claims`; else null.
ALTER TABLE revocation ADD COLUMN claims_version BIGINT;
