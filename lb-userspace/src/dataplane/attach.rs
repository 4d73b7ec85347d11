//! Attaches the program to interfaces by pinned links, so that it stays when the controller ends.

use std::io;

use aya::programs::{
    ProgramError, Xdp, XdpMode,
    links::{FdLink, LinkError, PinnedLink},
    xdp::XdpLink,
};
use nix::{libc, net::if_::if_nametoindex};

use super::{
    DataplaneError, Loaded, Pins,
    links::{self, Presence},
};
use lb_core::config;

/// How the program is attached to an interface.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AttachedMode {
    /// In the driver (native).
    Native,
    /// In the kernel's generic receive path.
    Generic,
    /// As it was: an existing link was adopted.
    Adopted,
}

/// An interface with the program.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Attached {
    /// Name of the interface.
    pub interface: String,
    /// Its index.
    pub ifindex: u32,
    /// How the program was attached.
    pub mode: AttachedMode,
    /// Why native mode failed; `None`: it worked or was not tried.
    pub fallback: Option<String>,
}

impl Loaded {
    /// Attaches the program to an interface. If a link is pinned it is adopted: its program is
    /// replaced between two packets.
    ///
    /// # Errors
    ///
    /// When the interface does not exist, or no allowed mode works.
    pub fn attach(&mut self, pins: &Pins, interface: &str, mode: config::XdpMode) -> Result<Attached, DataplaneError> {
        let ifindex = if_nametoindex(interface).map_err(|_| DataplaneError::NoInterface(interface.to_owned()))?;
        let program = self.program()?;
        let attached = |mode, fallback| Attached {
            interface: interface.to_owned(),
            ifindex,
            mode,
            fallback,
        };
        if links::presence(pins, interface)? == Presence::Bare {
            // A link of a former interface with the same name.
            detach(pins, interface)?;
        }
        if adopt(program, pins, interface)? {
            return Ok(attached(AttachedMode::Adopted, None));
        }
        match mode {
            config::XdpMode::Native => {
                create(program, pins, interface, ifindex, XdpMode::Driver)?;
                Ok(attached(AttachedMode::Native, None))
            }
            config::XdpMode::Generic => {
                create(program, pins, interface, ifindex, XdpMode::Skb)?;
                Ok(attached(AttachedMode::Generic, None))
            }
            config::XdpMode::Auto => match create(program, pins, interface, ifindex, XdpMode::Driver) {
                Ok(()) => Ok(attached(AttachedMode::Native, None)),
                Err(error) => {
                    create(program, pins, interface, ifindex, XdpMode::Skb)?;
                    Ok(attached(AttachedMode::Generic, Some(error.to_string())))
                }
            },
        }
    }
}

/// Puts the program into the pinned link of the interface. Returns whether a usable link existed.
fn adopt(program: &mut Xdp, pins: &Pins, interface: &str) -> Result<bool, DataplaneError> {
    let pin = pins.link(interface);
    if !pin.exists() {
        return Ok(false);
    }
    let failed = |cause: String| DataplaneError::Attach {
        interface: interface.to_owned(),
        mode: "the adopted",
        cause,
    };
    let link = PinnedLink::from_pin(&pin).map_err(|error| failed(describe(&error)))?;
    let link = XdpLink::try_from(FdLink::from(link)).map_err(|error| failed(describe(&error)))?;
    match program.attach_to_link(link) {
        Ok(id) => {
            // The pin keeps the link; this handle can be closed.
            let _ = program.take_link(id);
            Ok(true)
        }
        // The interface was deleted, and perhaps created again: the link leads nowhere.
        Err(ProgramError::SyscallError(error)) if error.io_error.raw_os_error() == Some(libc::ENOLINK) => {
            std::fs::remove_file(&pin).map_err(|error| failed(error.to_string()))?;
            Ok(false)
        }
        Err(error) => Err(failed(describe(&error))),
    }
}

fn create(program: &mut Xdp, pins: &Pins, interface: &str, ifindex: u32, mode: XdpMode) -> Result<(), DataplaneError> {
    let name = if matches!(mode, XdpMode::Driver) {
        "native"
    } else {
        "generic"
    };
    let failed = |cause: String| DataplaneError::Attach {
        interface: interface.to_owned(),
        mode: name,
        cause,
    };
    let id = program
        .attach_to_if_index(ifindex, mode)
        .map_err(|error| failed(describe(&error)))?;
    let link = program.take_link(id).map_err(|error| failed(describe(&error)))?;
    // A link that cannot be pinned would end with this process. That is an error; dropping the link
    // detaches it.
    let link =
        FdLink::try_from(link).map_err(|error: LinkError| failed(format!("no pinnable link: {}", describe(&error))))?;
    link.pin(pins.link(interface))
        .map_err(|error| failed(describe(&error)))?;
    Ok(())
}

/// Detaches the program from an interface.
///
/// # Errors
///
/// When the pin of the link cannot be removed.
pub fn detach(pins: &Pins, interface: &str) -> Result<(), DataplaneError> {
    let path = pins.link(interface);
    match std::fs::remove_file(&path) {
        Ok(()) => Ok(()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(cause) => Err(DataplaneError::Folder { path, cause }),
    }
}

/// An error with its causes, and a hint for the frequent one.
pub(super) fn describe(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    let mut busy = false;
    while let Some(inner) = cause {
        if let Some(io) = inner.downcast_ref::<io::Error>() {
            busy |= matches!(io.raw_os_error(), Some(libc::EBUSY | libc::EEXIST));
        }
        text = format!("{text}: {inner}");
        cause = inner.source();
    }
    if busy {
        text.push_str(" (another XDP program is attached; `bpftool net` shows it)");
    }
    text
}
