//! Our side of the bench: packed as `entracte pack` does, shipped as between two machines.

use std::io::{BufReader, Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::atomic::AtomicBool;

use entracte_model::record::Base;
use entracte_model::{Manifest, UnixMs, Version};
use entracte_package::archive;
use entracte_package::scan::{self, Rules};
use entracte_package::thin::{self, Inbox, Level, Offer, Olds, Parcel, Wants};
use entracte_package::{PackageError, keys, pack, stage};

use super::link::Link;
use super::{Cost, measure, same};

static GO: AtomicBool = AtomicBool::new(false);

fn rules(ignore_files: bool) -> Rules {
    Rules { ignore_files, skip: vec![], file_bytes_max: u64::MAX }
}

pub fn tree(root: &Path) -> Manifest {
    scan::tree(root, &rules(false), None, &mut |_| {}).expect("the tree is scanned").manifest
}

/// Scans as `entracte status` does; gives how many files had to be read.
pub fn scan(root: &Path, cache: &Path) -> u64 {
    scan::tree(root, &rules(true), Some(cache), &mut |_| {}).expect("the tree is scanned").hashed
}

/// A packed update.
pub struct Packed {
    base: Manifest,
    new: Manifest,
}

/// Packs the update of `place`; that is not measured, as it is made once and signed.
pub fn packed(place: &Path) -> Packed {
    let desk = desk(place);
    let root = place.join("new");
    let (base, new) = (tree(&place.join("old")), tree(&root));
    let text = serde_json::to_vec(&base).expect("a manifest has a JSON form");
    std::fs::write(place.join("base.json"), text).expect("the base manifest");
    let [before, version] = ["1.0", "1.1"].map(|text| text.parse().expect("a version"));
    let builds_upon = Base { version: before, manifest: base.hash() };
    let request =
        pack::Request { base: Some((builds_upon, &base)), ..request(&desk, &root, &new, &version) };
    pack::write(&request, &mut |_| {}).expect("it is packed");
    Packed { base, new }
}

/// Ships it to the tree at `there`.
pub fn measured(place: &Path, there: &Path, link: Link) -> Cost {
    for name in ["inbox", "arrived"] {
        let _ = std::fs::remove_dir_all(place.join(name));
    }
    let mut command = Command::new(std::env::current_exe().expect("this program has a path"));
    command.arg("send").arg(place).arg(link.shell(place)).arg(there);
    measure("us", place, &mut command)
}

/// Where packages of the bench go, and the key that signs them.
pub struct Desk {
    dist: PathBuf,
    key: PathBuf,
}

/// The desk of `place`.
pub fn desk(place: &Path) -> Desk {
    let key = place.join("key");
    if !key.exists() {
        let public = keys::generate(&key).expect("a key");
        std::fs::write(place.join("key.pub"), public.0).expect("the public key");
    }
    Desk { dist: place.join("dist"), key }
}

/// A package of the whole tree at `root`.
pub fn request<'a>(
    desk: &'a Desk,
    root: &'a Path,
    tree: &'a Manifest,
    version: &'a Version,
) -> pack::Request<'a> {
    pack::Request {
        project: "bench",
        environment: "production",
        version,
        sequence: 2,
        base: None,
        tree,
        root,
        scripts: vec![],
        documents: vec![],
        fragments: vec![],
        created: UnixMs(1_700_000_000_000),
        expires: UnixMs(1_800_000_000_000),
        least_tool: "0.1".parse().expect("a version"),
        out_dir: &desk.dist,
        secret_key: &desk.key,
    }
}

/// What arrived gives exactly the new tree, staged beside the one at `there`.
pub fn stage_and_compare(place: &Path, packed: &Packed, there: &Path) {
    let trusted = [std::fs::read_to_string(place.join("key.pub")).expect("the public key")];
    let archive = archive::open(&place.join("arrived"), &trusted).expect("the archive");
    let staged = place.join("staged");
    let request = stage::Request {
        live: there,
        staged: &staged,
        base: &packed.base,
        new: &packed.new,
        archive: &archive,
        persist: &[],
        persist_from: &place.join("shared"),
        hardlink: true,
    };
    let started = std::time::Instant::now();
    stage::build(&request, &mut |_| {}, &GO).expect("it is staged");
    eprintln!("  staged in {:.2} s", started.elapsed().as_secs_f64());
    same(&place.join("new"), &staged);
    stage::remove(&staged).expect("removed");
}

fn base(place: &Path) -> Result<Manifest, String> {
    let text = std::fs::read(place.join("base.json")).map_err(|error| error.to_string())?;
    serde_json::from_slice(&text).map_err(|error| error.to_string())
}

fn say(error: impl Into<PackageError>) -> String {
    let error = error.into();
    format!("{error}: {:?}", std::error::Error::source(&error))
}

fn put(to: &mut impl Write, bytes: &[u8]) -> Result<(), String> {
    let length = u32::try_from(bytes.len()).map_err(|_| "too long")?.to_le_bytes();
    let write = || {
        to.write_all(&length)?;
        to.write_all(bytes)?;
        to.flush()
    };
    let mut write = write;
    write().map_err(|error: std::io::Error| error.to_string())
}

fn take(from: &mut impl Read) -> Result<Vec<u8>, String> {
    let mut length = [0; 4];
    from.read_exact(&mut length).map_err(|error| error.to_string())?;
    let mut bytes = vec![0; u32::from_le_bytes(length) as usize];
    from.read_exact(&mut bytes).map_err(|error| error.to_string())?;
    Ok(bytes)
}

/// `send PLACE SHELL THERE`
pub fn send(args: &[String]) -> Result<(), String> {
    let [place, shell, there] = args else { return Err("send PLACE SHELL THERE".into()) };
    let place = Path::new(place);
    let trusted =
        [std::fs::read_to_string(place.join("key.pub")).map_err(|error| error.to_string())?];
    let archive = archive::open(&place.join("dist/bench-1.1.0.tar.zst"), &trusted).map_err(say)?;
    let base = base(place)?;
    let program = std::env::current_exe().map_err(|error| error.to_string())?;
    let line =
        format!("exec {shell} there {} receive {} {there}", program.display(), place.display());
    let mut child = Command::new("sh")
        .args(["-c", &line])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .map_err(|error| error.to_string())?;
    let mut to = child.stdin.take().ok_or("no stdin")?;
    let mut from = BufReader::new(child.stdout.take().ok_or("no stdout")?);
    put(&mut to, &Offer::of(archive.verified()).to_bytes())?;
    let wants: Wants =
        serde_json::from_slice(&take(&mut from)?).map_err(|error| error.to_string())?;
    let mut olds = Olds::none().tree(&place.join("old"));
    let parcel = Parcel { archive: &archive, base: &base, wants: &wants, level: Level::Measured };
    thin::send(&parcel, &mut olds, &mut to, &mut |_| {}, &GO).map_err(say)?;
    take(&mut from)?;
    drop(to);
    child.wait().map_err(|error| error.to_string())?;
    Ok(())
}

/// `receive PLACE THERE`, at the other end of the link.
pub fn receive(args: &[String]) -> Result<(), String> {
    let [place, there] = args else { return Err("receive PLACE THERE".into()) };
    let (place, there) = (Path::new(place), Path::new(there));
    let trusted =
        [std::fs::read_to_string(place.join("key.pub")).map_err(|error| error.to_string())?];
    let mut from = BufReader::with_capacity(64 * 1024, std::io::stdin());
    let offer = Offer::from_bytes(&take(&mut from)?).map_err(|error| error.to_string())?;
    let verified = offer.verify(&trusted).map_err(say)?;
    let mut inbox = Inbox::open(&place.join("inbox"), &verified, &base(place)?).map_err(say)?;
    let wants = serde_json::to_vec(&inbox.wants()).map_err(|error| error.to_string())?;
    put(&mut std::io::stdout(), &wants)?;
    inbox.receive(&mut from, there, &mut |_| {}, &GO).map_err(say)?;
    inbox.finish(&place.join("arrived")).map_err(say)?;
    put(&mut std::io::stdout(), b"done")
}
