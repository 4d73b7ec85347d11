//! Events of an interface: the difference between two readings of its state. Pure.

use std::{collections::BTreeSet, net::IpAddr};

use crate::{
    api::InterfaceStatus,
    events::{Happening, Kind},
};

/// The mode of an interface without the program.
pub(super) const NONE: &str = "none";

/// The state of an interface at one moment.
#[derive(Clone, Debug)]
pub(super) struct Seen {
    pub(super) status: InterfaceStatus,
    /// How the program came to be on it; `None`: the program is not on it.
    pub(super) program: Option<Program>,
    /// Whether it has a link.
    pub(super) is_up: bool,
    /// Its addresses with prefix lengths, without link-local ones; `None`: not known.
    pub(super) addresses: Option<BTreeSet<(IpAddr, u8)>>,
}

/// How the program came to be on an interface.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Program {
    /// It was attached at this reading.
    Attached,
    /// It was attached before.
    Found,
}

/// What changed since the reading before; without one, what the first reading found.
pub(super) fn changes(before: Option<&Seen>, now: &Seen) -> Vec<Happening> {
    let mut events = Vec::new();
    let mut record = |kind, cause: String| events.push(Happening::new(kind, cause).of_interface(&now.status.name));
    if let Some((kind, cause)) = program_change(before, now) {
        record(kind, cause);
    }
    if now.program.is_none() {
        return events;
    }
    let had_program = |seen: &&Seen| seen.program.is_some();
    let was_up = before.filter(had_program).is_none_or(|before| before.is_up);
    match (was_up, now.is_up) {
        (true, false) => record(Kind::LinkDown, "no carrier, or set down".to_owned()),
        (false, true) => record(Kind::LinkUp, String::new()),
        _ => {}
    }
    // The addresses of a new interface are not compared: they went and came with it.
    let known = before.filter(had_program);
    let known = known.filter(|before| before.status.ifindex == now.status.ifindex);
    if let (Some(before), Some(now)) = (known.and_then(|before| before.addresses.as_ref()), &now.addresses) {
        for (address, length) in before.difference(now) {
            record(Kind::AddressRemoved, format!("{address}/{length}"));
        }
        for (address, length) in now.difference(before) {
            record(Kind::AddressAdded, format!("{address}/{length}"));
        }
    }
    events
}

/// What happened to the program on the interface.
fn program_change(before: Option<&Seen>, now: &Seen) -> Option<(Kind, String)> {
    let InterfaceStatus { ifindex, xdp_mode, .. } = &now.status;
    let program = format!("in {xdp_mode} mode, as interface {ifindex}");
    let had_program = |seen: &Seen| seen.program.is_some();
    let problem = || now.status.problem.clone().unwrap_or_default();
    Some(match (before, now.program) {
        (None, Some(Program::Found)) => {
            let cause = format!("adopted {program}; an earlier start attached it");
            (Kind::ProgramAttached, cause)
        }
        (None, Some(Program::Attached)) => (Kind::ProgramAttached, program),
        (None, None) => (Kind::InterfaceMissing, problem()),
        (Some(before), Some(_)) if !had_program(before) => (Kind::InterfaceReturned, format!("attached {program}")),
        (Some(before), Some(_)) if before.status.ifindex != *ifindex => {
            let cause = format!(
                "it was recreated, or another interface took its name: attached {program}; it was interface {}",
                before.status.ifindex
            );
            (Kind::InterfaceReturned, cause)
        }
        (Some(_), Some(Program::Attached)) => {
            let cause = format!("the program was detached by others: attached again {program}");
            (Kind::ProgramAttached, cause)
        }
        (Some(before), None) if had_program(before) || before.status.problem != now.status.problem => {
            (Kind::InterfaceMissing, problem())
        }
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seen(ifindex: u32, program: Option<Program>, is_up: bool, addresses: &[&str]) -> Seen {
        let addresses = addresses.iter().map(|text| (text.parse().unwrap(), 24)).collect();
        Seen {
            status: InterfaceStatus {
                name: "eth0".to_owned(),
                ifindex,
                xdp_mode: if program.is_some() { "native" } else { NONE }.to_owned(),
                wanted_mode: "auto".to_owned(),
                problem: program.is_none().then(|| "eth0 does not exist".to_owned()),
            },
            program,
            is_up,
            addresses: Some(addresses),
        }
    }

    #[test]
    fn every_change_is_recorded_once_with_its_cause() {
        use Program::{Attached, Found};
        let missing = || seen(0, None, false, &[]);
        let fine = |program| seen(2, Some(program), true, &["192.0.2.1"]);
        // The reading before, the one now, and the events.
        type Case = (Option<Seen>, Seen, &'static [(&'static str, &'static str)]);
        let given_then: &[Case] = &[
            (None, fine(Attached), &[("program-attached", "in native mode")]),
            (None, fine(Found), &[("program-attached", "adopted")]),
            (None, missing(), &[("interface-missing", "eth0 does not exist")]),
            (Some(missing()), missing(), &[]),
            (Some(fine(Attached)), fine(Found), &[]),
            (
                Some(fine(Found)),
                fine(Attached),
                &[("program-attached", "was detached by others")],
            ),
            (
                Some(fine(Found)),
                missing(),
                &[("interface-missing", "eth0 does not exist")],
            ),
            (
                Some(missing()),
                seen(3, Some(Attached), true, &["192.0.2.9"]),
                &[("interface-returned", "as interface 3")],
            ),
            (
                Some(fine(Found)),
                seen(3, Some(Attached), true, &[]),
                &[("interface-returned", "was interface 2")],
            ),
            (
                Some(fine(Found)),
                seen(2, Some(Found), false, &["192.0.2.1"]),
                &[("link-down", "no carrier")],
            ),
            (
                Some(seen(2, Some(Found), false, &["192.0.2.1"])),
                fine(Found),
                &[("link-up", "")],
            ),
            (
                Some(fine(Found)),
                seen(2, Some(Found), true, &["192.0.2.2"]),
                &[("address-removed", "192.0.2.1/24"), ("address-added", "192.0.2.2/24")],
            ),
        ];
        for (before, now, expected) in given_then {
            let events = changes(before.as_ref(), now);
            let kinds: Vec<_> = events.iter().map(|event| event.kind().word()).collect();
            let wanted: Vec<_> = expected.iter().map(|(kind, _)| *kind).collect();
            assert_eq!(kinds, wanted, "{before:?} {now:?}");
            for (event, (_, words)) in events.iter().zip(*expected) {
                let cause = event.cause();
                assert!(cause.contains(words), "{cause:?} has no {words:?}");
            }
        }
    }
}
