//! The decisions of the controller: from configuration, health and operators' orders to what the
//! maps should hold, and the VRRP protocol.
//!
//! Everything here is a function of its arguments, time included. The crate depends on no runtime,
//! no map library and no clock; `clippy.toml` refuses the functions of the standard library that
//! would bring them in. The shell around it is `lb-userspace`.

#![cfg_attr(test, allow(clippy::disallowed_methods, reason = "tests need some first moment"))]

pub mod config;
pub mod flows;
pub mod health;
pub mod neighbour;
pub mod overrides;
pub mod port_set;
pub mod printable;
pub mod reconcile;
pub mod reload;
pub mod schedule;
pub mod text;
pub mod vrrp;
