-- Why: all replicas sign and verify with the same keys. The keys rest sealed under the master key; its fingerprint stands
-- beside them, so that a replica with another master key stops before it writes anything.

-- Its row is also the lock under which keys are changed.
CREATE TABLE IF NOT EXISTS master_key (
    id          INT           NOT NULL PRIMARY KEY CHECK (id = 1),
    fingerprint VARBINARY(16) NOT NULL CHECK (LENGTH(fingerprint) = 16)
) ENGINE = InnoDB ROW_FORMAT = DYNAMIC;

CREATE TABLE IF NOT EXISTS signing_key (
    id         VARCHAR(64)      NOT NULL PRIMARY KEY,
    algorithm  VARCHAR(16)      NOT NULL,
    sealed     VARBINARY(16384) NOT NULL,
    created_at BIGINT           NOT NULL
) ENGINE = InnoDB ROW_FORMAT = DYNAMIC CHARACTER SET ascii COLLATE ascii_bin;
