//! Tests on bytes that are written out by hand, never by the code under test.

mod capture_files;
mod filters;
mod fragments;
mod frames;
