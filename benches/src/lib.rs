//! The promised numbers; they are in `benches/`.
