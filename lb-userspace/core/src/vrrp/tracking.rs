//! Tracking: how the conditions that a virtual router depends on change its role and priority.
//! Pure.

use std::{collections::BTreeMap, net::IpAddr};

use super::instance::OWNER;

/// Health of each service, by its name.
pub type Services = BTreeMap<String, ServiceHealth>;

/// Whether a service can serve.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ServiceHealth {
    /// Number of backends that are not known to be down, and that no operator took out.
    pub up: u32,
    /// The address of the service, if it refuses new connections because checks found all backends
    /// down.
    pub refuses_at: Option<IpAddr>,
}

/// A tracked condition.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TrackRule {
    /// What is tracked, for people, such as "interface eth1".
    pub what: String,
    /// Negative (-253 to -1): added to the priority while the condition is down. Positive (1 to
    /// 253): added while it is up. `None`: the virtual router is in a fault while the condition is
    /// down.
    pub weight: Option<i16>,
}

/// Last observation of a tracked condition: why it is down. `None`: it is not observed yet.
pub type Observation = Option<Result<(), String>>;

/// State of a tracked condition, as the API shows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TrackState {
    /// What is tracked, for people.
    pub what: String,
    /// Why it is down. `None`: it is up.
    pub down: Option<String>,
    /// See [`TrackRule::weight`].
    pub weight: Option<i16>,
}

/// What all tracked conditions of a virtual router result in.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TrackResult {
    /// Why the virtual router is in a fault. `None`: it can be active.
    pub fault: Option<String>,
    /// Sum of the weights that count. It is added to the priority.
    pub weight: i32,
    /// Whether every condition was observed.
    pub is_complete: bool,
    /// The state of each condition.
    pub states: Vec<TrackState>,
}

impl TrackResult {
    /// The effective priority for a configured `priority`. RFC 9568, section 5.2.4, leaves 1 to 254
    /// to balancers that do not own the addresses.
    pub fn effective(&self, priority: u8) -> u8 {
        if priority == OWNER {
            return priority;
        }
        (i32::from(priority) + self.weight).clamp(1, 254) as u8
    }
}

/// Whether a service has as many backends up as `quorum` requires.
///
/// # Errors
///
/// Why it has not, for people.
pub fn check_service(services: &Services, name: &str, quorum: u32) -> Result<(), String> {
    // A service that is not known yet serves as it did before this start.
    let up = services.get(name).map_or(quorum, |health| health.up);
    if up >= quorum {
        return Ok(());
    }
    Err(format!("service {name} has {up} of {quorum} required backends up"))
}

/// Evaluates the observations of all rules. Both slices have the same order.
pub fn evaluate(rules: &[TrackRule], observations: &[Observation]) -> TrackResult {
    let mut result = TrackResult {
        is_complete: observations.iter().all(Option::is_some),
        ..TrackResult::default()
    };
    for (rule, observation) in rules.iter().zip(observations) {
        let down = match observation {
            Some(Ok(())) => None,
            Some(Err(why)) => Some(why.clone()),
            None => Some(format!("the state of {} is not known yet", rule.what)),
        };
        match (rule.weight, &down) {
            (None, Some(why)) if result.fault.is_none() => result.fault = Some(why.clone()),
            (Some(weight), Some(_)) if weight < 0 => result.weight += i32::from(weight),
            (Some(weight), None) if weight > 0 => result.weight += i32::from(weight),
            _ => {}
        }
        result.states.push(TrackState {
            what: rule.what.clone(),
            down,
            weight: rule.weight,
        });
    }
    result
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rule(name: &str, weight: Option<i16>) -> TrackRule {
        TrackRule {
            what: format!("interface {name}"),
            weight,
        }
    }

    fn down() -> Observation {
        Some(Err("interface x is down".to_owned()))
    }

    #[test]
    fn weights_add_up_and_conditions_without_weight_are_faults() {
        // Weight, observation; then whether it is a fault, and what is added.
        for (weight, observation, fault, added) in [
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
            let found = evaluate(&[rule("x", weight)], std::slice::from_ref(&observation));
            assert_eq!(
                (found.fault.is_some(), found.weight),
                (fault, added),
                "{weight:?} {observation:?}"
            );
        }
        let rules = [rule("a", Some(-20)), rule("b", Some(30)), rule("c", Some(-5))];
        let found = evaluate(&rules, &[down(), Some(Ok(())), down()]);
        assert_eq!((found.weight, found.effective(100)), (5, 105));
    }

    #[test]
    fn priorities_stay_within_1_to_254_and_an_owner_keeps_255() {
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
        assert_eq!(check_service(&services, "web", 1), Ok(()));
        let why = check_service(&services, "web", 2).unwrap_err();
        assert_eq!(why, "service web has 1 of 2 required backends up");
        assert_eq!(check_service(&services, "dns", 2), Ok(()), "not known yet");
    }
}
