-- Why: all replicas sign and verify with the same keys. The keys rest sealed under the master key; its fingerprint stands
-- beside them, so that a replica with another master key stops before it writes anything.

CREATE TABLE master_key (
    id          BIGINT NOT NULL PRIMARY KEY CHECK (id = 1),
    fingerprint BYTEA  NOT NULL CHECK (octet_length(fingerprint) = 16)
);

CREATE TABLE signing_key (
    id         TEXT   COLLATE "C" NOT NULL PRIMARY KEY,
    algorithm  TEXT   NOT NULL,
    sealed     BYTEA  NOT NULL,
    created_at BIGINT NOT NULL
);
