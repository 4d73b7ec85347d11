//! What the states of all that a virtual router depends on mean to it. Pure.

use std::{collections::BTreeMap, net::IpAddr};

use crate::config::{Track, Tracked};

/// Of each service: how many backends can take packets.
pub type Services = BTreeMap<String, ServiceHealth>;

/// Whether a service can serve.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ServiceHealth {
    /// Backends that are up, or not known to be down, and that operators let take packets.
    pub up: u32,
    /// Its address, where new connections are refused because checks took its backends down.
    pub refuses_at: Option<IpAddr>,
}

/// What is known of something that is depended on: why it is down; `None`: it was not looked at yet.
pub type Seen = Option<Result<(), String>>;

/// Something that a virtual router depends on, as the API shows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TrackState {
    /// What it is.
    pub what: String,
    /// Why it is down; `None`: it is up.
    pub down: Option<String>,
    /// What it adds to the priority, see [`Track::weight`].
    pub weight: Option<i16>,
}

/// What all of it together means.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TrackResult {
    /// Why this balancer cannot take part.
    pub fault: Option<String>,
    /// What is added to the priority.
    pub weight: i32,
    /// Whether all of it was looked at.
    pub is_settled: bool,
    /// Each by itself.
    pub states: Vec<TrackState>,
}

impl TrackResult {
    /// The priority with what is added: RFC 9568, section 5.2.4, leaves 1 to 254 to who is not the owner.
    pub fn effective(&self, priority: u8) -> u8 {
        if priority == 255 {
            return priority;
        }
        (i32::from(priority) + self.weight).clamp(1, 254) as u8
    }
}

/// Whether a service can serve, given how many backends must be up.
pub fn service(services: &Services, name: &str, quorum: u32) -> Result<(), String> {
    // One that is not known yet serves as it did before this start.
    let up = services.get(name).map_or(quorum, |health| health.up);
    if up >= quorum {
        return Ok(());
    }
    Err(format!("service {name} has {up} of {quorum} backends that must be up"))
}

/// What is seen of all tracks means this.
pub fn evaluate(tracks: &[Track], seen: &[Seen]) -> TrackResult {
    let mut found = TrackResult {
        is_settled: seen.iter().all(Option::is_some),
        ..TrackResult::default()
    };
    for (track, seen) in tracks.iter().zip(seen) {
        let down = match seen {
            Some(Ok(())) => None,
            Some(Err(why)) => Some(why.clone()),
            None => Some(format!("{} was not looked at yet", track.what)),
        };
        match (track.weight, &down) {
            (None, Some(why)) if found.fault.is_none() => found.fault = Some(why.clone()),
            (Some(weight), Some(_)) if weight < 0 => found.weight += i32::from(weight),
            (Some(weight), None) if weight > 0 => found.weight += i32::from(weight),
            _ => {}
        }
        found.states.push(TrackState {
            what: track.what.to_string(),
            down,
            weight: track.weight,
        });
    }
    found
}

/// What nothing has to be waited for: whatever is not looked at yet is unknown.
pub fn unknown(tracks: &[Track]) -> Vec<Seen> {
    let first = |track: &Track| match &track.what {
        Tracked::Service { .. } => Some(Ok(())),
        _ => None,
    };
    tracks.iter().map(first).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn track(name: &str, weight: Option<i16>) -> Track {
        Track {
            what: Tracked::Interface(name.to_owned()),
            weight,
        }
    }

    fn down() -> Seen {
        Some(Err("interface x is down".to_owned()))
    }

    #[test]
    fn weights_add_up_and_faults_are_told() {
        // Weight, what is seen; then the fault and what is added.
        for (weight, seen, fault, added) in [
            (None, Some(Ok(())), false, 0),
            (None, down(), true, 0),
            (None, None, true, 0),
            (Some(-20), Some(Ok(())), false, 0),
            (Some(-20), down(), false, -20),
            (Some(-20), None, false, -20),
            (Some(20), Some(Ok(())), false, 20),
            (Some(20), down(), false, 0),
            (Some(20), None, false, 0),
        ] {
            let found = evaluate(&[track("x", weight)], std::slice::from_ref(&seen));
            assert_eq!(
                (found.fault.is_some(), found.weight),
                (fault, added),
                "{weight:?} {seen:?}"
            );
        }
        let tracks = [track("a", Some(-20)), track("b", Some(30)), track("c", Some(-5))];
        let found = evaluate(&tracks, &[down(), Some(Ok(())), down()]);
        assert_eq!((found.weight, found.effective(100)), (5, 105));
    }

    #[test]
    fn a_priority_stays_within_its_bounds_and_an_owner_keeps_its_own() {
        let with = |weight| TrackResult {
            weight,
            ..TrackResult::default()
        };
        assert_eq!([with(-253).effective(100), with(253).effective(100)], [1, 254]);
        assert_eq!(with(-253).effective(255), 255);
    }

    #[test]
    fn a_service_needs_its_quorum() {
        let services: Services = [(
            "web".to_owned(),
            ServiceHealth {
                up: 1,
                ..ServiceHealth::default()
            },
        )]
        .into();
        assert_eq!(service(&services, "web", 1), Ok(()));
        let why = service(&services, "web", 2).unwrap_err();
        assert_eq!(why, "service web has 1 of 2 backends that must be up");
        assert_eq!(service(&services, "dns", 2), Ok(()), "not known yet");
    }
}
