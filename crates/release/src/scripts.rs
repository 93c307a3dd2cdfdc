//! Which scripts of a package still have to run.

use entracte_db::{Script, normalised_hash};
use entracte_model::Hash;
use entracte_model::journal::Fault;
use entracte_package::archive::Archive;

use crate::context::Context;
use crate::fault::{Doing, refused};

/// The scripts of a package that production has not had, in order.
///
/// A script runs once. The same name with the same content is passed over and said; the same name
/// with another content is refused: somebody rewrote what production already ran.
pub(crate) fn to_run(cx: &mut Context<'_>, archive: &Archive) -> Result<Vec<Script>, Fault> {
    let mut scripts = Vec::new();
    for (name, bytes) in archive.scripts().doing("reading the scripts")? {
        let Some(applied) = cx.store.script(&name).doing("reading the store")? else {
            scripts.push(Script { name, bytes });
            continue;
        };
        if applied.hash != normalised_hash(&bytes) {
            return Err(refused(format!(
                "{name} ran in {} with another content; a script that ran is never changed",
                applied.release
            ))
            .hint("put the change into a new script with a higher number"));
        }
        if applied.raw_hash != Hash::of(&bytes) {
            cx.info(format!(
                "{name} differs from what ran in {} by line ends only",
                applied.release
            ));
        }
        cx.info(format!("{name} ran in {} already and is passed over", applied.release));
    }
    Ok(scripts)
}
