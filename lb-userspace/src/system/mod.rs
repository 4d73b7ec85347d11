//! The machine around the daemon: files, rights, limits, clocks and programs of operators.

pub mod capabilities;
pub(crate) mod command;
pub mod config_file;
pub mod fd_limit;
pub mod lock;
pub(crate) mod overrides_file;
pub mod wall_clock;
