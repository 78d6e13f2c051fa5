//! The commands of the `portcullis` binary.

pub mod demo;
