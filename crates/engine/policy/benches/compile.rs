//! Compilation, measured.
fn main() {
    divan::main();
}
