//! A package, from the tree that is to be installed: the folder, the signed record, the archive.

mod source;
pub(crate) mod tarball;

use std::fs;
use std::path::{Path, PathBuf};

use entracte_model::manifest::Delta;
use entracte_model::record::{Base, FORMAT, Named, Record};
use entracte_model::{Hash, Manifest, RelPath, UnixMs, Version};

use crate::archive::{self, layout};
use crate::error::At;
use crate::files::{Scrap, beside, part_of, sync_dir};
use crate::scripts::{self, Ordered};
use crate::{PackageError, Progress, changes, keys};

/// What is to be packed. Times are given, never read from a clock: the same input, the same bytes.
#[derive(Debug)]
pub struct Request<'a> {
    /// The game.
    pub project: &'a str,
    /// The environment that it is for.
    pub environment: &'a str,
    /// The version that it installs.
    pub version: &'a Version,
    /// Higher than any before it in this environment.
    pub sequence: u64,
    /// What production holds: `None` packs the complete tree.
    pub base: Option<(Base, &'a Manifest)>,
    /// The tree to install, as scanned.
    pub tree: &'a Manifest,
    /// Where that tree is.
    pub root: &'a Path,
    /// The database scripts, in any order; with their `.down.sql` where there are any.
    pub scripts: Vec<PathBuf>,
    /// The files of `documentation/`, by name. `CHANGES.md` is added.
    pub documents: Vec<(String, Vec<u8>)>,
    /// The change fragments that this release announces.
    pub fragments: Vec<Named>,
    /// Now.
    pub created: UnixMs,
    /// When production stops taking it.
    pub expires: UnixMs,
    /// The oldest Entracte that can install it.
    pub least_tool: Version,
    /// Where the folder and the archive are put. Made if missing.
    pub out_dir: &'a Path,
    /// The secret key that signs.
    pub secret_key: &'a Path,
}

/// A finished package.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Packed {
    /// The folder, `v1.1.0`.
    pub folder: PathBuf,
    /// The archive of it, `<project>-1.1.0.tar.zst`.
    pub archive: PathBuf,
    /// What was signed.
    pub record: Record,
    /// The size of the archive in bytes.
    pub archive_bytes: u64,
}

/// Why a package cannot be made.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PackFault {
    /// A name that cannot be part of a file's name.
    #[error(
        "{0:?} cannot name a project: letters, digits, `-`, `_` and `.` are expected, a letter or digit first"
    )]
    ProjectName(String),
    /// The manifest that was given is not the one that the base names.
    #[error(
        "the base manifest has the hash {found}, the base names {expected}; ask production again"
    )]
    BaseDiffers {
        /// What the base names.
        expected: Hash,
        /// What was given.
        found: Hash,
    },
    /// Written to between the scan and the copy.
    #[error("{0} was changed after it was scanned; stop what writes it and pack again")]
    Changed(RelPath),
    /// A document's name that is not one.
    #[error(
        "{0:?} cannot be a document's name: a plain file name is expected, not a script's, and given once"
    )]
    DocumentName(String),
    /// The delta, scripts or documents are such as no reader would take.
    #[error("the package would be refused by production: {0}")]
    Unacceptable(String),
    /// A person edited what an earlier run wrote.
    #[error("{} was edited since it was packed, and packing again would lose that; keep the edited text where the documents come from, or move it away", .0.display())]
    Edited(PathBuf),
    /// A folder of that name is there, and this program did not make it.
    #[error("{} holds {found:?}, which no package holds; move that folder away or give another output folder", folder.display())]
    ForeignFolder {
        /// The folder.
        folder: PathBuf,
        /// What does not belong there.
        found: String,
    },
}

/// Everything about a package but its time and place.
struct Contents {
    delta: Delta,
    scripts: Vec<Named>,
    documents: Vec<Named>,
}

/// Writes the package: its folder, and the archive of it.
///
/// Both are made under other names and renamed when complete and synced, the archive last. A
/// crash can cost left-overs named `.part` and `.old`, which the next run removes, and can leave
/// the new folder beside an older archive of the same version; packing again makes both fit.
pub fn write(
    request: &Request<'_>,
    progress: &mut dyn FnMut(Progress),
) -> Result<Packed, PackageError> {
    check(request)?;
    let ordered = scripts::order(request.scripts.clone())?;
    fs::create_dir_all(request.out_dir).at("create the folder", request.out_dir)?;
    let folder = request.out_dir.join(request.version.folder());
    let archive = request.out_dir.join(format!("{}-{}.tar.zst", request.project, request.version));
    layout::check_ours(&folder)?;
    source::check_unedited(&folder, &request.documents)?;

    let part = request.out_dir.join(format!(".{}.part", request.version.folder()));
    source::remove_left_over(&part)?;
    fs::create_dir(&part).at("create the folder", &part)?;
    let scrap = Scrap::new(&part);
    let contents = fill(request, &ordered, &part, progress)?;
    let record = record(request, &contents);
    archive::record::check(&record).map_err(|bad| PackFault::Unacceptable(bad.to_string()))?;
    let text = archive::record::text(&record);
    let signature = signature(request, &folder, &text)?;
    source::put(&part, layout::RECORD, &text)?;
    source::put(&part, layout::SIGNATURE, signature.as_bytes())?;

    let archive_part = part_of(&archive);
    let archive_scrap = Scrap::new(&archive_part);
    let head = tarball::Head { text: &text, signature: &signature };
    let content = |name: &str, _: &Hash, _| -> Result<Box<dyn std::io::Read>, PackageError> {
        let path = part.join(name);
        Ok(Box::new(fs::File::open(&path).at("open", &path)?))
    };
    let archive_bytes = tarball::write(&head, &content, &record, &archive_part, progress)?;
    source::sync_all(&part)?;
    take_place(&part, &folder)?;
    scrap.keep();
    fs::rename(&archive_part, &archive).at("rename", &archive_part)?;
    archive_scrap.keep();
    sync_dir(request.out_dir)?;
    Ok(Packed { folder, archive, record, archive_bytes })
}

fn check(request: &Request<'_>) -> Result<(), PackFault> {
    let project = request.project;
    let fits = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
    if !project.starts_with(|c: char| c.is_ascii_alphanumeric()) || !project.chars().all(fits) {
        return Err(PackFault::ProjectName(project.to_owned()));
    }
    if let Some((base, manifest)) = &request.base {
        let found = manifest.hash();
        if found != base.manifest {
            return Err(PackFault::BaseDiffers { expected: base.manifest, found });
        }
    }
    request.tree.check().map_err(|bad| PackFault::Unacceptable(bad.to_string()))
}

/// Copies everything but the record into the folder, and says what it is.
fn fill(
    request: &Request<'_>,
    ordered: &Ordered,
    part: &Path,
    progress: &mut dyn FnMut(Progress),
) -> Result<Contents, PackageError> {
    for folder in layout::FOLDERS {
        let folder = part.join(folder);
        fs::create_dir(&folder).at("create the folder", &folder)?;
    }
    let nothing = Manifest::default();
    let old = request.base.as_ref().map_or(&nothing, |(_, manifest)| *manifest);
    let delta = old.delta_to(request.tree);
    source::copy(request.root, &delta, &part.join(layout::SOURCE), progress)?;

    let sql = part.join(layout::SQL);
    let scripts = source::copy_scripts(&ordered.up, &sql)?;
    let base = request.base.as_ref().map(|(base, _)| base);
    let changes = changes::text(request.version, base, old, &delta, &scripts).into_bytes();
    let written = (changes::NAME.to_owned(), changes);
    let mut documents = Vec::new();
    for (name, bytes) in request.documents.iter().chain([&written]) {
        documents.push(source::document(&part.join(layout::DOCUMENTATION), name, bytes)?);
    }
    documents.extend(source::copy_scripts(&ordered.down, &sql)?);
    documents.sort_by(|a, b| a.name.cmp(&b.name));
    Ok(Contents { delta, scripts, documents })
}

fn record(request: &Request<'_>, contents: &Contents) -> Record {
    Record {
        format: FORMAT,
        project: request.project.to_owned(),
        environment: request.environment.to_owned(),
        version: request.version.clone(),
        sequence: request.sequence,
        base: request.base.as_ref().map(|(base, _)| base.clone()),
        manifest: request.tree.hash(),
        delta: contents.delta.clone(),
        scripts: contents.scripts.clone(),
        documents: contents.documents.clone(),
        fragments: request.fragments.clone(),
        files: request.tree.files(),
        bytes: request.tree.bytes(),
        created: request.created,
        expires: request.expires,
        least_tool: request.least_tool.clone(),
    }
}

/// Signs the record; takes the signature of an earlier run where it is for the very same record,
/// since signing again would give other bytes.
fn signature(request: &Request<'_>, folder: &Path, text: &[u8]) -> Result<String, PackageError> {
    let public = keys::public(request.secret_key)?;
    let earlier = fs::read(folder.join(layout::RECORD)).is_ok_and(|earlier| earlier == text);
    if earlier
        && let Ok(signature) = fs::read_to_string(folder.join(layout::SIGNATURE))
        && keys::verify(std::slice::from_ref(&public.0), text, &signature).is_ok()
    {
        return Ok(signature);
    }
    let comment = format!(
        "entracte {} {} {} sequence {}",
        request.project, request.environment, request.version, request.sequence
    );
    keys::sign(request.secret_key, text, &comment)
}

/// Puts the finished folder in its place; an earlier one of the same version goes.
fn take_place(part: &Path, folder: &Path) -> Result<(), PackageError> {
    let old = beside(part, ".old");
    source::remove_left_over(&old)?;
    if folder.symlink_metadata().is_ok() {
        fs::rename(folder, &old).at("move away", folder)?;
    }
    fs::rename(part, folder).at("rename", part)?;
    source::remove_left_over(&old)
}
