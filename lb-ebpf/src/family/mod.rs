//! The two address families in the packet path: IP headers, maps, and functions with one body for
//! both.

mod headers;
pub mod subprogram;
mod tables;
mod v4;
mod v6;

pub use headers::Headers;
pub use tables::Tables;

/// An address family in the packet path.
pub trait Ip: Headers + Tables {}

impl<F: Headers + Tables> Ip for F {}
