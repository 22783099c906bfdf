//! Questions and notices about files on the real kernel. Needs root: without it the tests fail.

#[cfg(test)]
mod overlay;
