//! Telling the players: change fragments, patch notes, the news pages and feeds, and the channels.
//!
//! What is told never decides a release: a message that cannot be delivered is retried from the
//! outbox, which belongs to whoever keeps the journal. This crate renders and sends; it keeps
//! nothing of its own except the pages that it writes.

pub mod channel;
pub mod fragment;
pub mod language;
pub mod markdown;
pub mod news;
pub mod notes;
pub mod outbox;

mod file;
