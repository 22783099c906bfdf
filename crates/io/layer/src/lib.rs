//! Trees of files, as scans and feeds need them: a folder, an archive, one mapped file. Nothing is unpacked to disk, no
//! link is followed, and no file is read beyond the cap that its reader sets.

mod archive;
mod content;
mod digest;
mod image;
mod layer;
mod mapped;
mod members;
mod tar;
mod tree;

pub use archive::{ArchiveError, Content, walk_archive};
pub use content::{ReadFile, opened};
pub use image::{
    Image, ImageError, ImageLayer, ImageManifest, ImageStore, IndexEntry, Manifest, Part, PartError,
};
pub use layer::{LayerChange, LayerDigests, LayerEntry, LayerError, walk_layer};
pub use mapped::{MapError, MappedFile};
pub use members::Members;
pub use tree::{Entry, TreeError, Visit, walk_tree};
