//! One suite over every kind of database, on the real thing: SQLite; MariaDB as its
//! administrator with the data directory within reach; MariaDB as an ordinary account without;
//! PostgreSQL as an owner who may create databases, and as one who may not.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

#[path = "conformance/ahead.rs"]
mod ahead;
#[path = "conformance/binlog.rs"]
mod binlog;
#[path = "conformance/child.rs"]
mod child;
#[path = "conformance/dump.rs"]
mod dump;
#[path = "conformance/facts.rs"]
mod facts;
#[path = "conformance/fence.rs"]
mod fence;
#[path = "conformance/fixture.rs"]
mod fixture;
#[path = "conformance/floats.rs"]
mod floats;
#[path = "conformance/mariadb_only.rs"]
mod mariadb_only;
#[path = "conformance/point.rs"]
mod point;
#[path = "conformance/postgres_only.rs"]
mod postgres_only;
#[path = "conformance/scripts.rs"]
mod scripts;
#[path = "conformance/sqlite_only.rs"]
mod sqlite_only;
#[path = "conformance/sweep.rs"]
mod sweep;

/// Each test of the suite over each back end.
macro_rules! suite {
    ($($module:ident :: $test:ident),* $(,)?) => {
        suite!(@backend sqlite: $($module::$test),*);
        suite!(@backend mariadb_admin: $($module::$test),*);
        suite!(@backend mariadb_user: $($module::$test),*);
        suite!(@backend postgres_creator: $($module::$test),*);
        suite!(@backend postgres_user: $($module::$test),*);
    };
    (@backend $backend:ident: $($module:ident :: $test:ident),*) => {
        mod $backend {
            $(#[test] fn $test() { crate::$module::$test(&crate::fixture::Fixture::$backend()); })*
        }
    };
}

suite! {
    dump::a_dump_brings_everything_into_an_empty_database,
    dump::a_dump_replaces_what_was_there,
    dump::a_cut_dump_is_refused,
    dump::what_a_dump_holds_is_what_comes_back,
    floats::numbers_come_back_to_the_last_bit,
    facts::tables_and_version_are_known,
    facts::sums_see_every_kind_of_change,
    facts::questions_are_answered_and_changes_refused,
    fence::a_quiet_database_is_proven_quiet,
    fence::who_writes_is_waited_for_and_named,
    fence::a_worker_that_goes_on_is_told_of,
    point::the_point_brings_everything_back,
    point::an_incomplete_point_is_none_and_is_taken_again,
    point::a_restore_that_was_killed_is_repeated,
    point::a_point_of_another_database_is_refused,
    point::an_empty_database_has_a_point_too,
    scripts::statements_are_logged_before_and_after,
    scripts::a_failing_statement_is_named_and_ends_the_scripts,
    scripts::a_script_that_cannot_be_read_stops_all_before_the_first,
    scripts::nothing_is_executed_that_could_not_be_logged,
    scripts::a_long_statement_is_ended_when_asked,
    scripts::an_open_transaction_is_refused,
    scripts::a_script_may_have_its_own_transaction,
    scripts::what_one_script_sets_does_not_reach_the_next,
    scripts::a_script_is_read_from_its_file_and_placeholders_are_filled,
    scripts::the_mirror_of_the_journal_is_kept_and_is_no_part_of_the_game,
}
