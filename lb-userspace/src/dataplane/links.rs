//! Reads what pinned links are attached to, and which program they run.

use std::path::PathBuf;

use aya::programs::ProgramInfo;
use lb_common::maps;
use nix::net::if_::if_nametoindex;

use super::{
    DataplaneError, Pins,
    migration::{self, FormerLayout},
    syscall::{self, LinkInfo},
};

/// Whether the program is on an interface.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Presence {
    /// The interface does not exist.
    Missing,
    /// The interface exists without the program.
    Bare,
    /// The program is on the interface with this index.
    Attached(u32),
}

/// Reads the link of an interface. A link to another interface, such as one that had the same name
/// before, does not count.
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

/// Whether any pinned link is attached to an interface.
pub(super) fn any_live(pins: &Pins) -> Result<bool, DataplaneError> {
    for interface in pins.linked_interfaces()? {
        if info(pins, &interface)?.is_some_and(|link| link.ifindex != 0) {
            return Ok(true);
        }
    }
    Ok(false)
}

/// Whose maps the programs on the interfaces use.
#[derive(Debug)]
pub enum Running {
    /// This version's maps, or no program runs: the start can proceed.
    Own,
    /// The maps of a former layout, on all interfaces. The flows can be adopted.
    Former(&'static FormerLayout),
    /// Some use those of a former layout and some already this version's: an interrupted migration,
    /// which this start completes.
    Between,
    /// Maps whose flows cannot be adopted: another layout, replaced, or removed.
    Foreign {
        /// The interfaces.
        interfaces: Vec<String>,
        /// The other maps that are pinned, and why their flows are lost, as text.
        others: String,
    },
}

/// Finds out whose maps the programs on the interfaces use.
///
/// # Errors
///
/// When a pin cannot be read.
pub fn running(pins: &Pins) -> Result<Running, DataplaneError> {
    let own = program_ids(pins)?;
    // Versions that pinned no programs: if only these maps exist, the program uses them.
    let is_only = pins.map(maps::FLOWS_V4.name).exists() && pins.other_versions().is_empty();
    let is_own = |program: u32| own.contains(&program) || (own.is_empty() && is_only);
    let mut live = Vec::new();
    for interface in pins.linked_interfaces()? {
        if let Some(link) = info(pins, &interface)?.filter(|link| link.ifindex != 0) {
            live.push((interface, link.program));
        }
    }
    let (own, others): (Vec<_>, Vec<_>) = live.into_iter().partition(|(_, program)| is_own(*program));
    if others.is_empty() {
        return Ok(Running::Own);
    }
    let layouts = pins.other_layouts();
    for former in layouts.iter().copied().filter_map(migration::known) {
        let programs = program_ids(&pins.of_version(former.version))?;
        // The same for former versions that pinned no programs.
        let is_only = programs.is_empty() && pins.other_versions().len() == 1;
        if is_only || others.iter().all(|(_, program)| programs.contains(program)) {
            return Ok(if own.is_empty() {
                Running::Former(former)
            } else {
                Running::Between
            });
        }
    }
    let describe = |folder: &PathBuf| {
        let name = folder.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        let layout = name.strip_prefix('v').and_then(|version| version.parse().ok());
        let reason = layout.map_or("replaced earlier".to_owned(), migration::why_not);
        format!("{}: {reason}", folder.display())
    };
    let folders: Vec<_> = pins.other_versions().iter().map(describe).collect();
    Ok(Running::Foreign {
        interfaces: others.into_iter().map(|(interface, _)| interface).collect(),
        others: if folders.is_empty() {
            "its maps are not pinned any more".to_owned()
        } else {
            folders.join("; ")
        },
    })
}

/// The ids of the pinned programs.
fn program_ids(pins: &Pins) -> Result<Vec<u32>, DataplaneError> {
    let id = |pin: PathBuf| ProgramInfo::from_pin(&pin).map(|program| program.id());
    let ids = pins.own_programs().into_iter().map(id).collect::<Result<_, _>>();
    ids.map_err(|cause| DataplaneError::Load(cause.into()))
}

/// Reads a link; `None`: no link is pinned.
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
