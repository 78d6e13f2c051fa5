-- Why: a signing key is replaced while replicas run. It is published before it signs and verifies for a while after, and a
-- compromised one is refused at once; so each key has a state. A key from before has no other than to sign.
--
-- `verifies_until`, of a key that verifies: when the last token that it signed has expired. `revoked_at`, of a revoked one:
-- since when. Else null. A revoked key's `sealed` is empty.
--
-- `turn` is there for its index, for want of partial ones: however many replicas rotate at once, one key signs, and one is
-- next.

SET @change = IF(
    EXISTS (SELECT 1 FROM information_schema.columns
            WHERE table_schema = DATABASE() AND table_name = 'signing_key' AND column_name = 'state'),
    'DO 0',
    'ALTER TABLE signing_key
         ADD COLUMN state VARCHAR(16) NOT NULL DEFAULT ''signing''
             CHECK (state IN (''published'', ''signing'', ''verifying'', ''revoked'')),
         ADD COLUMN verifies_until BIGINT,
         ADD COLUMN revoked_at BIGINT,
         ADD COLUMN turn VARCHAR(16) AS (CASE WHEN state IN (''published'', ''signing'') THEN state END) STORED,
         ADD UNIQUE INDEX signing_key_of_each_turn (turn)');
PREPARE change_table FROM @change;
EXECUTE change_table;
DEALLOCATE PREPARE change_table;
