//! What is proposed is what is needed: of random pairs of schemas on the real servers, the first is
//! made into the second by the proposed statements, run as a release runs a script.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

#[path = "schema/mariadb.rs"]
mod mariadb;
#[path = "schema/pairs.rs"]
mod pairs;
#[path = "schema/postgres.rs"]
mod postgres;
#[path = "schema/seeds.rs"]
mod seeds;
#[path = "schema/sqlite.rs"]
mod sqlite;
