//! Very many small files on their whole way: scanned, packed, staged, exchanged, verified; first all of
//! them, then an update of one in a hundred. Each phase is a process of its own, whose memory is that
//! of the phase.

use std::path::Path;
use std::process::Command;
use std::sync::atomic::AtomicBool;
use std::time::Instant;

use entracte_model::Manifest;
use entracte_model::record::Base;
use entracte_package::{archive, pack, stage, verify};
use rustix::fs::{CWD, RenameFlags, renameat_with};

use super::{memory, ours, trees};

static GO: AtomicBool = AtomicBool::new(false);

/// The whole way; a table of time and memory.
pub fn trip(dir: &Path, count: usize) -> String {
    let place = dir.join("round");
    std::fs::create_dir_all(place.join("live")).expect("a folder");
    trees::make_many(&place.join("dev"), count);
    rustix::fs::sync();
    let mut text = format!("| {count} small files | time | memory |\n|---|---|---|\n");
    let mut run = |about: &str, phase: &[&str]| {
        let mut command = Command::new(std::env::current_exe().expect("this program has a path"));
        command.arg("phase").args(phase).arg(&place);
        let started = Instant::now();
        let (status, here, _) = memory::watch(command.spawn().expect("a phase starts"));
        assert!(status.success(), "{about}: {status}");
        let line = format!(
            "| {about} | {:.2} s | {:.0} MiB |\n",
            started.elapsed().as_secs_f64(),
            here as f64 / 1_048_576.0
        );
        eprint!("{line}");
        text.push_str(&line);
    };
    run("look at all of them, for the first time", &["scan"]);
    run("again", &["scan"]);
    run("pack all of them", &["pack", "1"]);
    run("stage", &["stage", "1"]);
    run("exchange", &["exchange"]);
    run("verify", &["verify", "1"]);
    trees::edit_many(&place.join("dev"), count);
    run("pack an update of one in a hundred", &["pack", "2"]);
    run("stage it beside the live tree (copies)", &["stage", "2"]);
    run("exchange", &["exchange"]);
    run("verify", &["verify", "2"]);
    std::fs::remove_dir_all(&place).expect("the trees are removed");
    text.push('\n');
    text
}

/// `phase NAME [NUMBER] PLACE`
pub fn phase(args: &[String]) -> Result<(), String> {
    let (name, number, place) = match args {
        [name, place] => (name, "", place),
        [name, number, place] => (name, number.as_str(), place),
        _ => return Err("phase NAME [NUMBER] PLACE".into()),
    };
    let place = Path::new(place);
    match name.as_str() {
        "scan" => drop(ours::scan(&place.join("dev"), &place.join("cache"))),
        "pack" => pack_it(place, number),
        "stage" => stage_it(place, number),
        "exchange" => {
            let [live, staged] = ["live", "staged"].map(|name| place.join(name));
            renameat_with(CWD, &live, CWD, &staged, RenameFlags::EXCHANGE)
                .map_err(|error| error.to_string())?;
            std::fs::remove_dir_all(staged).map_err(|error| error.to_string())?;
        }
        _ => {
            let wanted = manifest(place, number);
            let cache = place.join("live-cache");
            let differs =
                verify::tree(&place.join("live"), &wanted, &[], Some(&cache), &mut |_| {});
            let differs = differs.map_err(|error| error.to_string())?;
            assert!(differs.is_empty(), "{} things differ", differs.len());
        }
    }
    Ok(())
}

fn manifest(place: &Path, number: &str) -> Manifest {
    match number {
        "0" => Manifest::default(),
        number => {
            let text = std::fs::read(place.join(format!("manifest-{number}")));
            serde_json::from_slice(&text.expect("a manifest")).expect("a manifest")
        }
    }
}

fn before(number: &str) -> &'static str {
    if number == "1" { "0" } else { "1" }
}

fn pack_it(place: &Path, number: &str) {
    let (desk, dev) = (ours::desk(place), place.join("dev"));
    let tree = ours::tree(&dev);
    let text = serde_json::to_vec(&tree).expect("a manifest has a JSON form");
    std::fs::write(place.join(format!("manifest-{number}")), text).expect("the manifest");
    let base = manifest(place, before(number));
    let version = |number: &str| format!("1.{number}").parse().expect("a version");
    let (old, new) = (version(before(number)), version(number));
    let builds_upon = Base { version: old, manifest: base.hash() };
    let request = pack::Request {
        base: (number != "1").then_some((builds_upon, &base)),
        ..ours::request(&desk, &dev, &tree, &new)
    };
    pack::write(&request, &mut |_| {}).expect("it is packed");
}

fn stage_it(place: &Path, number: &str) {
    let trusted = [std::fs::read_to_string(place.join("key.pub")).expect("the public key")];
    let path = place.join(format!("dist/bench-1.{number}.0.tar.zst"));
    let archive = archive::open(&path, &trusted).expect("the archive");
    let request = stage::Request {
        live: &place.join("live"),
        staged: &place.join("staged"),
        base: &manifest(place, before(number)),
        new: &manifest(place, number),
        archive: &archive,
        persist: &[],
        persist_from: &place.join("shared"),
        hardlink: false,
    };
    stage::build(&request, &mut |_| {}, &GO).expect("it is staged");
}
