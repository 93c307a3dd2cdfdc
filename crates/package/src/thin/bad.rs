//! Each way in which a thin stream is not to be believed has its own error.

use entracte_model::Hash;

use super::FORMAT;

/// Why a transfer is not believed. What was taken before it stays; what is asked for again after
/// it is only what is still missing.
#[derive(Debug, thiserror::Error)]
pub enum BadThin {
    /// Not a thin stream.
    #[error("what arrives is not a thin stream of Entracte")]
    NotThin,
    /// Another version of it.
    #[error(
        "the stream has version {0}, this program reads version {FORMAT}; put the same Entracte on both machines"
    )]
    Format(u16),
    /// For another release.
    #[error("the stream is for the tree {found}, expected is {expected}")]
    OtherTree {
        /// What the stream names.
        found: Hash,
        /// The tree of the verified record.
        expected: Hash,
    },
    /// Upon another base.
    #[error("the stream builds upon the tree {found}, this machine's base is {expected}")]
    OtherBase {
        /// What the stream names.
        found: Hash,
        /// The base that is here.
        expected: Hash,
    },
    /// It ends too early: the connection was cut.
    #[error("the stream ends in the middle; what arrived is kept, and the rest is asked for again")]
    Truncated,
    /// Something that no unit begins with.
    #[error("a unit begins with byte {0}, which is none of copy, data, patch and end")]
    Unit(u8),
    /// A number in no form that a sender writes.
    #[error("a number of the stream is over its limit")]
    Number,
    /// A number beyond the record's objects.
    #[error("the stream names object {0}; the record has fewer")]
    NoObject(u32),
    /// A number beyond the base's files.
    #[error("the stream names base file {0}; the base has fewer")]
    NoBase(u32),
    /// Something that was not asked for, or came already.
    #[error("the stream brings {0}, which is not wanted (any more)")]
    NotWanted(Hash),
    /// Not from where it was asked for.
    #[error("the stream brings {hash} from byte {found}, wanted is byte {expected}")]
    Offset {
        /// Of what.
        hash: Hash,
        /// Where the stream begins.
        found: u64,
        /// Where what is here ends.
        expected: u64,
    },
    /// A unit of more than one object, one of them not from its beginning; or too many.
    #[error("a unit holds {0} objects, more than go together")]
    Group(u64),
    /// A base that would need too much memory.
    #[error("a patch builds upon {found} bytes; at most {max} are held in memory")]
    BaseTooLarge {
        /// What it names.
        found: u64,
        /// The limit.
        max: u64,
    },
    /// A window that would need too much memory.
    #[error("a patch asks for a window of {found} bytes to decode; at most {max} are given")]
    Window {
        /// What it asks for.
        found: u64,
        /// What is given.
        max: u64,
    },
    /// Compressed with a dictionary that nobody has.
    #[error("a patch needs dictionary {0} to decode; none is used")]
    Dictionary(u32),
    /// Not zstd, or damaged.
    #[error("the compressed data of {0} are damaged; the transfer is to be done again")]
    Damaged(Hash, #[source] std::io::Error),
    /// A frame that says that it holds another size than the record does.
    #[error("the data of {hash} have {found} bytes, the record lists {expected}")]
    Size {
        /// Of what.
        hash: Hash,
        /// At least so many.
        found: u64,
        /// The record's.
        expected: u64,
    },
    /// An instruction of a patch that says nothing, or gives more than the content's length.
    #[error("the patch of {0} holds an instruction that cannot be")]
    Instruction(Hash),
    /// A patch that copies what its base does not have.
    #[error("the patch of {hash} copies {count} bytes from byte {from} on of a file of {size}")]
    Beyond {
        /// Of what.
        hash: Hash,
        /// From where it copies.
        from: u64,
        /// How much.
        count: u64,
        /// How long the base file is.
        size: u64,
    },
    /// Something behind the end of a frame.
    #[error("something follows behind the data of {0}")]
    Trailing(Hash),
    /// A piece longer than a sender writes.
    #[error("a piece of the stream is {found} bytes long; at most {max} are read")]
    Piece {
        /// What it says.
        found: u64,
        /// The limit.
        max: u64,
    },
    /// The content is another one than the record lists.
    #[error("what arrived as {0} is another content; it is asked for again from its beginning")]
    Content(Hash),
    /// Wants that cannot be.
    #[error("what the other side asks for cannot be: {0}")]
    Wants(&'static str),
    /// An offer that is none.
    #[error("what arrives is not the offer of a package")]
    Offer,
    /// An offer that is too long.
    #[error("the offer is longer than {0} bytes, the most that is read")]
    OfferTooLong(u64),
    /// Something is still missing.
    #[error("{0} of the package's objects are still missing; receive them first")]
    Missing(u64),
    /// The archive does not hold what the record lists.
    #[error("the sender has no content for {0}; pack again")]
    NothingFor(Hash),
    /// The folder holds what belongs to another package.
    #[error("{} is not an inbox of this program; move it away", .0.display())]
    Foreign(std::path::PathBuf),
}
