//! The contract of the session store: one suite, run on every database, and what is particular to each.
//!
//! A test of the suite is a function over a [`SessionStore`](portcullis::store::SessionStore), or over two that are open on
//! the same database as two processes would be. It is listed below once and runs as `on_sqlite::<its name>`,
//! `on_postgres::<its name>` and `on_mysql::<its name>`.

#![expect(
    clippy::unwrap_used,
    reason = "clippy.toml allows it in test functions, and these are their helpers"
)]

mod claims;
mod full_disk;
mod keys;
mod killed_under_load;
mod link;
mod logins;
mod migrate;
mod moving;
mod mysql;
mod postgres;
mod postgres_server;
mod postgres_trouble;
mod pruning;
mod races;
mod replicas;
mod revocation;
mod rotation;
mod sessions;
mod sqlite;
mod support;
mod users;

/// Makes a test per database of each function named.
macro_rules! contract {
    (one store: $one:tt two stores: $two:tt) => {
        contract! { on_sqlite, crate::sqlite::File::new(), one store: $one two stores: $two }
        contract! { on_mysql, crate::mysql::Database::new().await, one store: $one two stores: $two }
        contract! { on_postgres, crate::postgres::Database::new().await, one store: $one two stores: $two }
    };
    (
        $module:ident, $database:expr,
        one store: { $($one_subject:ident::$one:ident,)* } two stores: { $($two_subject:ident::$two:ident,)* }
    ) => {
        mod $module {
            $(
                #[tokio::test(flavor = "multi_thread", worker_threads = 4)]
                async fn $one() {
                    let database = $database;
                    let store = database.open().await;
                    crate::$one_subject::$one(&store).await;
                    store.close().await;
                    database.remove().await;
                }
            )*
            $(
                #[tokio::test(flavor = "multi_thread", worker_threads = 4)]
                async fn $two() {
                    let database = $database;
                    let (one, other) = (database.open().await, database.open().await);
                    crate::$two_subject::$two(&one, &other).await;
                    one.close().await;
                    other.close().await;
                    database.remove().await;
                }
            )*
        }
    };
}

contract! {
    one store: {
    sessions::a_session_is_written_and_read_back,
    sessions::a_session_is_live_until_either_end,
    sessions::a_handle_opens_one_session_only,
    sessions::sessions_are_listed_in_pages,
    sessions::user_ids_are_compared_byte_for_byte,
    sessions::data_is_replaced,
    sessions::what_is_over_is_removed_but_not_revoked,
    rotation::a_rotation_is_written_once,
    rotation::a_rotation_never_shortens_what_is_remembered,
    rotation::another_access_token_extends_what_is_remembered,
    rotation::the_first_use_is_noted_once_and_for_the_newest_generation,
    revocation::a_revocation_ends_the_session_and_is_logged,
    revocation::a_batch_has_one_sequence_and_one_mark,
    revocation::what_is_gone_gives_the_newest_sequence,
    revocation::an_entry_outlives_the_access_token_and_the_revocation,
    revocation::a_user_is_revoked_in_one_transaction,
    revocation::a_user_without_sessions_takes_a_sequence,
    revocation::the_log_tells_histories_apart_by_their_marks,
    claims::a_change_is_counted_and_logged,
    claims::who_read_older_claims_makes_no_token_of_them,
    users::a_disabled_user_has_no_session_until_enabled,
    users::the_log_is_read_in_pages_of_whole_sequences,
    logins::a_login_replaces_the_session_of_its_browser,
    logins::a_login_that_began_before_the_user_was_revoked_is_overtaken,
    logins::an_overtaken_login_leaves_the_old_session_alone,
    pruning::the_log_keeps_what_an_access_token_may_need,
    pruning::the_log_keeps_its_newest_entry,
    pruning::numbers_are_not_given_out_again,
    pruning::user_revocations_are_kept_longer_than_a_login_takes,
    replicas::a_replica_joins_renews_and_leaves,
    replicas::a_replica_that_renewed_is_not_reaped,
    keys::keys_are_initialised_once,
    keys::another_master_key_is_refused,
    keys::a_key_is_published_signs_verifies_and_goes,
    keys::a_revoked_key_has_a_successor_at_once,
    keys::keys_that_do_not_sign_are_revoked_without_a_successor,
    keys::liveness_covers_the_key,
    }
    two stores: {
    races::a_revoked_session_stays_revoked,
    races::sequences_are_in_commit_order,
    races::one_of_many_rotations_wins,
    races::no_login_survives_the_revocation_of_its_user,
    races::a_user_is_revoked_all_or_nothing,
    races::of_many_revocations_one_ends_the_session,
    races::the_other_sees_what_was_answered,
    races::one_of_many_initialisations_wins,
    races::one_of_many_successors_wins,
    }
}
