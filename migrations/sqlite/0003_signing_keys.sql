-- Why: all replicas sign and verify with the same keys. The keys rest sealed under the master key; its fingerprint stands
-- beside them, so that a replica with another master key stops before it writes anything.

CREATE TABLE master_key (
    id          INTEGER NOT NULL PRIMARY KEY CHECK (id = 1),
    fingerprint BLOB    NOT NULL CHECK (length(fingerprint) = 16)
) STRICT;

CREATE TABLE signing_key (
    id         TEXT    NOT NULL PRIMARY KEY,
    algorithm  TEXT    NOT NULL,
    sealed     BLOB    NOT NULL,
    created_at INTEGER NOT NULL
) STRICT;
