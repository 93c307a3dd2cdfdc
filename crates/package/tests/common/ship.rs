//! A package on its way through the thin stream.
#![allow(dead_code, reason = "each test file uses its own part")]

use std::fs;
use std::path::PathBuf;
use std::sync::atomic::AtomicBool;

use entracte_model::Manifest;
use entracte_package::archive::{Archive, Verified};
use entracte_package::thin::{self, BadThin, Inbox, Level, Olds, Parcel, Received, Sent, Wants};
use entracte_package::{PackageError, archive};

use crate::common::{Game, quiet, scanned};

macro_rules! refused_as {
    ($error:expr, $($pattern:tt)+) => {
        let error = $error;
        assert!(matches!(&error, $($pattern)+), "{error:?}");
    };
}

pub static GO: AtomicBool = AtomicBool::new(false);

/// A packed game, and the machine that is to have it.
pub struct Ship {
    pub game: Game,
    pub archive: Archive,
    pub base: Manifest,
}

pub fn ship(game: Game) -> Ship {
    let packed = game.pack();
    let archive = game.open(&packed.archive).unwrap();
    let base = scanned(&game.live);
    Ship { game, archive, base }
}

impl Ship {
    pub fn verified(&self) -> &Verified {
        self.archive.verified()
    }

    pub fn inbox_dir(&self) -> PathBuf {
        self.game.path("inbox")
    }

    pub fn inbox(&self) -> Inbox {
        Inbox::open(&self.inbox_dir(), self.verified(), &self.base).unwrap()
    }

    pub fn olds(&self) -> Olds {
        Olds::none().tree(&self.game.live)
    }

    pub fn stream_with(&self, wants: &Wants, mut olds: Olds) -> (Vec<u8>, Sent) {
        let parcel =
            Parcel { archive: &self.archive, base: &self.base, wants, level: Level::Fixed(3) };
        let mut out = Vec::new();
        let sent = thin::send(&parcel, &mut olds, &mut out, &mut quiet(), &GO).unwrap();
        (out, sent)
    }

    pub fn stream(&self, wants: &Wants) -> (Vec<u8>, Sent) {
        self.stream_with(wants, self.olds())
    }

    pub fn receive(&self, inbox: &mut Inbox, bytes: &[u8]) -> Result<Received, PackageError> {
        let mut from = bytes;
        let received = inbox.receive(&mut from, &self.game.live, &mut quiet(), &GO);
        received.inspect(|received| {
            assert_eq!(received.bytes + from.len() as u64, bytes.len() as u64);
        })
    }

    /// What arrived is a package, and the file that is made of it is the one that was packed, to the
    /// byte.
    pub fn finished_is_the_same(&self, inbox: Inbox) {
        let (arrived, file) = (self.game.path("arrived"), self.game.path("saved.tar.zst"));
        inbox.finish(&arrived).unwrap();
        let archive = archive::open(&arrived, &self.game.trusted).unwrap();
        archive.verify_all(&mut quiet()).unwrap();
        archive.save(&file, &mut quiet()).unwrap();
        assert_eq!(fs::read(&file).unwrap(), fs::read(self.archive.path()).unwrap());
        archive::open(&file, &self.game.trusted).unwrap().verify_all(&mut quiet()).unwrap();
    }

    /// A stream as an enemy would write it: a good header, then `units`.
    pub fn forged(&self, units: &[u8]) -> Vec<u8> {
        let (good, _) = self.stream(&Wants::default());
        [&good[..good.len() - 1], units].concat()
    }

    pub fn refused(&self, bytes: &[u8]) -> BadThin {
        let _ = fs::remove_dir_all(self.inbox_dir());
        match self.receive(&mut self.inbox(), bytes).expect_err("the stream was taken") {
            PackageError::Thin(bad) => bad,
            other => panic!("expected a bad stream, found {other:?}"),
        }
    }
}

pub fn noise(seed: u64, bytes: usize) -> Vec<u8> {
    let mut hasher = blake3::Hasher::new();
    hasher.update(&seed.to_le_bytes());
    let mut noise = vec![0; bytes];
    hasher.finalize_xof().fill(&mut noise);
    noise
}
