//! What is told of interfaces: the difference between two looks at one of them. Pure.

use std::{collections::BTreeSet, net::IpAddr};

use crate::{
    api::InterfaceStatus,
    events::{Happening, Kind},
};

/// The mode of an interface without the program.
pub(super) const NONE: &str = "none";

/// What one look at an interface found.
#[derive(Clone, Debug)]
pub(super) struct Seen {
    pub(super) status: InterfaceStatus,
    /// How the program came to be on it; `None`: it is not.
    pub(super) program: Option<Program>,
    /// Whether it has a link.
    pub(super) is_up: bool,
    /// Its addresses with the lengths of their prefixes; without those of the link alone. `None`: not known.
    pub(super) addresses: Option<BTreeSet<(IpAddr, u8)>>,
}

/// How the program came to be on an interface.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Program {
    /// It was attached just now.
    Attached,
    /// A program was there already.
    Found,
}

/// What happened to an interface since the look before; without one, since it is looked at.
pub(super) fn happenings(before: Option<&Seen>, now: &Seen) -> Vec<Happening> {
    let mut all = Vec::new();
    let mut tell = |kind, cause: String| all.push(Happening::new(kind, cause).of_interface(&now.status.name));
    let InterfaceStatus { ifindex, xdp_mode, .. } = &now.status;
    let program = format!("in {xdp_mode} mode, as interface {ifindex}");
    let was = |seen: &Seen| seen.program.is_some();
    let problem = || now.status.problem.clone().unwrap_or_default();
    match (before, now.program) {
        (None, Some(Program::Found)) => {
            let cause = format!("taken over {program}; what an earlier start attached goes on");
            tell(Kind::ProgramAttached, cause);
        }
        (None, Some(Program::Attached)) => tell(Kind::ProgramAttached, program),
        (None, None) => tell(Kind::InterfaceMissing, problem()),
        (Some(before), Some(_)) if !was(before) => tell(Kind::InterfaceReturned, format!("attached {program}")),
        (Some(before), Some(_)) if before.status.ifindex != *ifindex => {
            let cause = format!(
                "it was made anew, or another took its name: attached {program}; it was interface {}",
                before.status.ifindex
            );
            tell(Kind::InterfaceReturned, cause);
        }
        (Some(_), Some(Program::Attached)) => {
            tell(
                Kind::ProgramAttached,
                format!("it had been taken off: attached again {program}"),
            );
        }
        (Some(before), None) if was(before) || before.status.problem != now.status.problem => {
            tell(Kind::InterfaceMissing, problem());
        }
        _ => {}
    }
    if now.program.is_none() {
        return all;
    }
    let was_up = before.filter(|before| was(before)).is_none_or(|before| before.is_up);
    match (was_up, now.is_up) {
        (true, false) => tell(Kind::LinkDown, "no carrier, or set down".to_owned()),
        (false, true) => tell(Kind::LinkUp, String::new()),
        _ => {}
    }
    // Addresses that went with their interface come back with it: each would be news without a cause of its own.
    let known = before.filter(|before| was(before) && before.status.ifindex == *ifindex);
    if let (Some(before), Some(now)) = (known.and_then(|before| before.addresses.as_ref()), &now.addresses) {
        for (address, length) in before.difference(now) {
            tell(Kind::AddressRemoved, format!("{address}/{length}"));
        }
        for (address, length) in now.difference(before) {
            tell(Kind::AddressAdded, format!("{address}/{length}"));
        }
    }
    all
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
                problem: program.is_none().then(|| "eth0 is missing".to_owned()),
            },
            program,
            is_up,
            addresses: Some(addresses),
        }
    }

    #[test]
    fn every_change_is_told_once_with_its_cause() {
        use Program::{Attached, Found};
        let missing = || seen(0, None, false, &[]);
        let fine = |program| seen(2, Some(program), true, &["192.0.2.1"]);
        // The look before, the one now, and what is told.
        type Case = (Option<Seen>, Seen, &'static [(&'static str, &'static str)]);
        let given_then: &[Case] = &[
            (None, fine(Attached), &[("program-attached", "in native mode")]),
            (None, fine(Found), &[("program-attached", "taken over")]),
            (None, missing(), &[("interface-missing", "eth0 is missing")]),
            (Some(missing()), missing(), &[]),
            (Some(fine(Attached)), fine(Found), &[]),
            (
                Some(fine(Found)),
                fine(Attached),
                &[("program-attached", "had been taken off")],
            ),
            (
                Some(fine(Found)),
                missing(),
                &[("interface-missing", "eth0 is missing")],
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
            let told: Vec<_> = happenings(before.as_ref(), now)
                .into_iter()
                .map(|happening| (happening.kind().word(), happening.cause().to_owned()))
                .collect();
            let kinds: Vec<_> = told.iter().map(|(kind, _)| *kind).collect();
            let wanted: Vec<_> = expected.iter().map(|(kind, _)| *kind).collect();
            assert_eq!(kinds, wanted, "{before:?} {now:?}");
            for ((_, cause), (_, words)) in told.iter().zip(*expected) {
                assert!(cause.contains(words), "{cause:?} has no {words:?}");
            }
        }
    }
}
