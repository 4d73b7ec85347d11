//! From a TOML file to a configuration that cannot be wrong.

pub mod model;

pub use model::*;
