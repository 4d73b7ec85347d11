//! What pinned links are attached to, and whose program they run.

use aya::programs::ProgramInfo;
use lb_common::maps;
use nix::net::if_::if_nametoindex;

use super::{
    DataplaneError, Pins,
    syscall::{self, LinkInfo},
};

/// What an interface has of its program.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Presence {
    /// There is no such interface.
    Missing,
    /// The interface is there, but the program is not on it.
    Bare,
    /// The program is on the interface with this index.
    Attached(u32),
}

/// Looks at the link of an interface. One that is attached to another interface, such as one that had the name before,
/// does not count.
///
/// # Errors
///
/// When the pin of the link cannot be read.
pub fn presence(pins: &Pins, interface: &str) -> Result<Presence, DataplaneError> {
    let Ok(ifindex) = if_nametoindex(interface) else {
        return Ok(Presence::Missing);
    };
    Ok(match info(pins, interface)? {
        Some(link) if link.ifindex == ifindex => Presence::Attached(ifindex),
        _ => Presence::Bare,
    })
}

/// Whether a pinned link leads packets to its program.
pub(super) fn any_live(pins: &Pins) -> Result<bool, DataplaneError> {
    for interface in pins.linked_interfaces()? {
        if info(pins, &interface)?.is_some_and(|link| link.ifindex != 0) {
            return Ok(true);
        }
    }
    Ok(false)
}

/// The interfaces on which a program runs that is not over this version's pinned maps: one of another version of `lbd` with
/// another layout, or one whose maps were replaced or removed.
///
/// # Errors
///
/// When a pin cannot be read.
pub fn foreign(pins: &Pins) -> Result<Vec<String>, DataplaneError> {
    let mut own = Vec::new();
    for pin in pins.own_programs() {
        let program = ProgramInfo::from_pin(&pin).map_err(|cause| DataplaneError::Load(cause.into()))?;
        own.push(program.id());
    }
    // Whoever pins no programs, but these maps and no others, loaded the program over them.
    let is_only = pins.map(maps::FLOWS_V4.name).exists() && pins.other_versions().is_empty();
    let is_own = |link: &LinkInfo| own.contains(&link.program) || (own.is_empty() && is_only);
    let mut found = Vec::new();
    for interface in pins.linked_interfaces()? {
        if info(pins, &interface)?.is_some_and(|link| link.ifindex != 0 && !is_own(&link)) {
            found.push(interface);
        }
    }
    Ok(found)
}

/// `None` where no link is pinned.
fn info(pins: &Pins, interface: &str) -> Result<Option<LinkInfo>, DataplaneError> {
    let pin = pins.link(interface);
    if !pin.exists() {
        return Ok(None);
    }
    syscall::link_info(&pin)
        .map(Some)
        .map_err(|cause| DataplaneError::Attach {
            interface: interface.to_owned(),
            mode: "the adopted",
            cause: format!("{}: {cause}", pin.display()),
        })
}
