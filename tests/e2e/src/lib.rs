//! End-to-end tests: the real product on real containers. They are in `tests/`.
