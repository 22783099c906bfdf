//! The repository's own checks and generators. `cargo xtask` lists them.

fn main() {}
