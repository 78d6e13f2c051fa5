-- Why: a signing key is replaced while replicas run. It is published before it signs and verifies for a while after, and a
-- compromised one is refused at once; so each key has a state. A key from before has no other than to sign.

ALTER TABLE signing_key ADD COLUMN state TEXT NOT NULL DEFAULT 'signing'
    CHECK (state IN ('published', 'signing', 'verifying', 'revoked'));

-- Of a key that verifies: when the last token that it signed has expired. Of a revoked one: since when. Else null. A revoked
-- key's `sealed` is empty.
ALTER TABLE signing_key ADD COLUMN verifies_until BIGINT;
ALTER TABLE signing_key ADD COLUMN revoked_at BIGINT;

-- However many replicas rotate at once: one key signs, and one is next.
CREATE UNIQUE INDEX signing_key_of_each_turn ON signing_key (state) WHERE state IN ('published', 'signing');
