//! What operators may store. Every refusal says what is wrong in a sentence that can be shown to them.

mod group;
mod profile;
mod refusal;
mod rule;

use nv_model::group::Origin;

pub use group::{create_group, criteria, delete_group, kind_of, update_group};
pub use profile::{files, process_rule, profile};
pub use refusal::{Refusal, RefusalKind};
pub use rule::{delete_rule, rule};

/// Longest comment, in characters.
pub const MAX_COMMENT_CHARS: usize = 256;
/// Most conditions of a group.
pub const MAX_CRITERIA: usize = 128;
/// Most user-made groups.
pub const MAX_GROUPS: usize = 10_000;
/// Most lines of a process profile.
pub const MAX_PROCESS_RULES: usize = 4096;
/// Most lines of a file profile.
pub const MAX_FILE_RULES: usize = 512;
/// Most applications of one file rule.
pub const MAX_FILE_APPLICATIONS: usize = 128;
/// Longest name of a program, in bytes.
pub const MAX_PROCESS_NAME_BYTES: usize = 255;
/// Highest priority of a custom resource's rule.
pub const MAX_PRIORITY: u32 = 100;

fn comment(text: &str) -> Result<(), Refusal> {
    let chars = text.chars().count();
    if chars > MAX_COMMENT_CHARS { Err(Refusal::Comment { chars }) } else { Ok(()) }
}

fn too_many(what: &'static str, count: usize, max: usize) -> Result<(), Refusal> {
    if count > max { Err(Refusal::TooMany { what, count, max }) } else { Ok(()) }
}

/// What a custom resource or the federation owns is changed by it alone.
fn writable(what: String, held: Origin, by: Origin) -> Result<(), Refusal> {
    match held {
        Origin::Ground | Origin::Federal if held != by => Err(Refusal::ReadOnly { what, origin: held }),
        Origin::SystemDefined => Err(Refusal::ReadOnly { what, origin: held }),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests;
