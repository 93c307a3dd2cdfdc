//! Production's store, as much of it as a development machine needs.

use std::io::Read;

use entracte_host::wire::Ask;
use entracte_model::Manifest;
use entracte_release::{Store, Target};

use super::Remote;
use crate::config::Config;
use crate::exit::Failure;

/// The longest excerpt, as it is sent and as it is.
const EXCERPT_BYTES_MAX: u64 = 256 << 20;
/// Where the manifest of production is kept, so that it is not sent again and again.
const CACHE: &str = ".production-manifest";

/// An excerpt of production's store.
pub fn store(remote: &mut Remote, config: &Config, _: &Target) -> Result<Store, Failure> {
    let cache = config.at(&config.file.source.dist).join(CACHE);
    // What cannot be read is only not known: it is sent.
    let known = std::fs::read(&cache).ok();
    let known: Option<Manifest> = known.and_then(|bytes| serde_json::from_slice(&bytes).ok());
    let have = known.as_ref().map(Manifest::hash);
    remote.ask(&Ask::Excerpt { have })?;
    let packed = remote.hear_blob(EXCERPT_BYTES_MAX)?;
    let mut bytes = Vec::new();
    zstd::Decoder::new(&packed[..])?.take(EXCERPT_BYTES_MAX).read_to_end(&mut bytes)?;
    let path = remote.dir.path().join("store.sqlite");
    std::fs::write(&path, bytes)?;
    let store = Store::open_existing(&path)?;
    if let Some(production) = store.production()? {
        let wanted = production.base.manifest;
        match known.filter(|known| known.hash() == wanted) {
            Some(known) => store.keep_manifest(&known)?,
            None => keep(&store.manifest(&wanted)?, &cache)?,
        }
    }
    Ok(store)
}

fn keep(manifest: &Manifest, cache: &std::path::Path) -> Result<(), Failure> {
    if let Some(folder) = cache.parent() {
        std::fs::create_dir_all(folder)?;
    }
    let bytes = serde_json::to_vec(manifest)?;
    Ok(entracte_host::durable::write(cache, &bytes, 0o644)?)
}
