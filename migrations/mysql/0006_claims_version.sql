-- Why: claims may change while a session lives, and an access token with older ones must not be accepted any more. The
-- session counts its changes, each token carries the count, and the log says which is the least that is still accepted.
-- Versions are compared, never times: a refresh under way may sign older claims later.

SET @change = IF(
    EXISTS (SELECT 1 FROM information_schema.columns
            WHERE table_schema = DATABASE() AND table_name = 'session' AND column_name = 'claims_version'),
    'DO 0',
    'ALTER TABLE session ADD COLUMN claims_version BIGINT NOT NULL DEFAULT 0
         CHECK (claims_version BETWEEN 0 AND 4294967295)');
PREPARE change_table FROM @change;
EXECUTE change_table;
DEALLOCATE PREPARE change_table;

-- Of an entry with the reason `claims`; else null.
SET @change = IF(
    EXISTS (SELECT 1 FROM information_schema.columns
            WHERE table_schema = DATABASE() AND table_name = 'revocation' AND column_name = 'claims_version'),
    'DO 0',
    'ALTER TABLE revocation ADD COLUMN claims_version BIGINT');
PREPARE change_table FROM @change;
EXECUTE change_table;
DEALLOCATE PREPARE change_table;
