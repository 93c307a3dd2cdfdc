//! Each way in which an archive is not to be believed has its own error.

use entracte_model::Hash;
use entracte_model::manifest::BadDelta;
use entracte_model::path::BadPath;
use entracte_model::record::FORMAT;

/// Why an archive is not believed. Where it was damaged on its way, sending it again mends it;
/// the rest is somebody's doing.
#[derive(Debug, thiserror::Error)]
pub enum BadArchive {
    /// Not compressed by zstd.
    #[error("it is not a zstd archive; a package's .tar.zst is expected")]
    NotZstd,
    /// Compressed so that decoding needs too much memory.
    #[error("it asks for a window of {found} bytes to decode; at most {max} are given")]
    Window {
        /// What it asks for.
        found: u64,
        /// What is given.
        max: u64,
    },
    /// Compressed with a dictionary.
    #[error("it needs dictionary {0} to decode; packages are compressed without any")]
    Dictionary(u32),
    /// The compressed data are not what the compressor wrote, or declare another size.
    #[error("its compressed data are damaged; transfer it again")]
    Damaged(#[source] std::io::Error),
    /// It ends too early.
    #[error("it ends in the middle; transfer it again")]
    Truncated,
    /// Something behind the end of the archive.
    #[error("something follows behind its end; a package is one frame with one tar")]
    Trailing,
    /// A tar header that is none.
    #[error("its tar is damaged at byte {0}; transfer it again")]
    Header(u64),
    /// It does not begin as a package does.
    #[error("it does not begin as a package does: found {found:?}, expected {expected}")]
    NotAPackage {
        /// What stood there.
        found: String,
        /// What should.
        expected: &'static str,
    },
    /// There is no signature.
    #[error("it is not signed: {0:?} stands where the signature should")]
    Unsigned(String),
    /// The record or the signature is too long.
    #[error("{name} is {size} bytes long; at most {max} are read")]
    TooLong {
        /// Which.
        name: String,
        /// Its declared size.
        size: u64,
        /// The limit.
        max: u64,
    },
    /// The record is not of the form.
    #[error("its record cannot be read")]
    Record(#[source] serde_json::Error),
    /// The record's text is another than this program would write.
    #[error("its record is not in the one form that a record has; it was not written by entracte")]
    NotCanonical,
    /// The record has a newer format.
    #[error("its record has format {0}; this program reads up to {FORMAT}, update it")]
    Format(u64),
    /// The record changed between two readings.
    #[error("it was replaced while it was read")]
    Replaced,
    /// The folder in it is that of another version.
    #[error("its folder is {found:?}, the record is for {expected:?}")]
    Folder {
        /// What it is.
        found: String,
        /// What it should be.
        expected: String,
    },
    /// The delta is none that can be.
    #[error(transparent)]
    Delta(#[from] BadDelta),
    /// The base is another one.
    #[error("it builds upon another tree than this one ({found})")]
    Base {
        /// The hash of the tree that was given.
        found: Hash,
    },
    /// Base and delta do not give the tree that was signed.
    #[error("base and delta give the tree {found}, the record promises {expected}")]
    Manifest {
        /// What was signed.
        expected: Hash,
        /// What came out.
        found: Hash,
    },
    /// A link out of the tree.
    #[error("the link {path} to {target:?} could lead out of the tree")]
    LinkLeaves {
        /// The link.
        path: String,
        /// Its target.
        target: String,
    },
    /// A name that is kept for git or for this program.
    #[error("{0} has a reserved name")]
    Reserved(String),
    /// A script's name that is not one, or is listed twice.
    #[error("{0} cannot be listed among the scripts or documents")]
    Listing(String),
    /// A path that starts at the root of the file system.
    #[error("it holds the absolute path {0:?}")]
    Absolute(String),
    /// A path that climbs out.
    #[error("it holds the path {0:?}, which climbs out of it")]
    Climbs(String),
    /// Another path that is none.
    #[error("it holds a path that is none")]
    Path(#[source] BadPath),
    /// A path that is not UTF-8.
    #[error("it holds a path that is not UTF-8: {0}")]
    NotUtf8(String),
    /// A path outside the package's folders.
    #[error("it holds {0:?}, which is no place in a package")]
    Stray(String),
    /// Something that the record does not list.
    #[error("it holds {0:?}, which the record does not list")]
    Unlisted(String),
    /// The same path again.
    #[error("it holds {0:?} twice")]
    Duplicate(String),
    /// A hard link.
    #[error("{0:?} is a hard link; packages hold none")]
    HardLink(String),
    /// A device.
    #[error("{0:?} is a device; packages hold none")]
    Device(String),
    /// A FIFO.
    #[error("{0:?} is a FIFO; packages hold none")]
    Fifo(String),
    /// A kind that is not known.
    #[error("{path:?} is of the unknown kind {kind:?}")]
    Kind {
        /// Where.
        path: String,
        /// The type flag of the tar header.
        kind: char,
    },
    /// setuid, setgid or sticky.
    #[error("{path:?} has the mode {mode:o}; no special bits are taken")]
    SetUid {
        /// Where.
        path: String,
        /// Its mode.
        mode: u32,
    },
    /// A file where the record lists a link, or the like.
    #[error("{0:?} is of another kind than the record lists")]
    OtherKind(String),
    /// Another size than the record lists.
    #[error("{path:?} is {found} bytes long, the record lists {expected}")]
    Size {
        /// Where.
        path: String,
        /// The size in the tar header.
        found: u64,
        /// The size in the record.
        expected: u64,
    },
    /// Another content than the record lists.
    #[error("{0:?} has another content than the record lists")]
    Content(String),
    /// Something that the record lists is not there.
    #[error("it lacks {0:?}, which the record lists")]
    Missing(String),
    /// Somebody asked for what the record does not list.
    #[error("the record does not list {0:?}")]
    NotListed(String),
}
