-- Why: a user who is disabled must stay out even if the application's own login lets the user in. Looked at in the
-- transaction that opens a session, so that no login slips past the one that disables.

CREATE TABLE disabled_user (
    user_id     TEXT   COLLATE "C" NOT NULL PRIMARY KEY,
    disabled_at BIGINT NOT NULL
);
