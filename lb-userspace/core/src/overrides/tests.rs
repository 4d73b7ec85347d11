//! Tests of changes, deadlines and the document.

use super::*;

fn id(backend: &str) -> BackendId {
    BackendId {
        service: "web".to_owned(),
        backend: backend.to_owned(),
    }
}

fn at(second: i64) -> Timestamp {
    Timestamp::from_second(second).unwrap()
}

fn drain(seconds: u64) -> Verb {
    Verb::Drain {
        deadline: Some(Duration::from_secs(seconds)),
    }
}

#[test]
fn verbs_and_deadlines_change_state_and_weight() {
    use AdminState::*;
    // Verbs, one each second from 100; then the state at a second, and the weight where the
    // configuration has 5.
    let given_then: &[(&[Verb], i64, AdminState, u32)] = &[
        (&[], 1000, Enabled, 5),
        (&[Verb::Drain { deadline: None }], i64::from(u32::MAX), Draining, 5),
        (&[drain(60)], 159, Draining, 5),
        (&[drain(60)], 160, Down, 5),
        (&[drain(60), drain(600)], 200, Draining, 5),
        (&[drain(60), Verb::Undrain], 1000, Enabled, 5),
        (&[Verb::Disable], 100, Down, 5),
        (&[Verb::Disable, Verb::Enable], 101, Enabled, 5),
        (&[Verb::Disable, drain(60)], 120, Draining, 5),
        (&[Verb::SetWeight(9)], 100, Enabled, 9),
        (&[Verb::SetWeight(9), Verb::Disable, Verb::Enable], 200, Enabled, 9),
        (&[Verb::SetWeight(9), Verb::ResetWeight], 200, Enabled, 5),
        (&[Verb::Undrain, Verb::Enable, Verb::ResetWeight], 200, Enabled, 5),
    ];
    for (verbs, second, state, weight) in given_then {
        let mut overrides = Overrides::default();
        for (when, verb) in (100..).zip(*verbs) {
            overrides.change(&id("w1"), *verb, at(when)).unwrap();
        }
        assert_eq!(overrides.admin_state(&id("w1"), at(*second)), *state, "{verbs:?}");
        assert_eq!(overrides.weight(&id("w1"), 5), *weight, "{verbs:?}");
        assert_eq!(overrides.admin_state(&id("w2"), at(*second)), Enabled);
        if *state == Enabled && *weight == 5 {
            assert_eq!(overrides, Overrides::default(), "nothing is left of {verbs:?}");
        }
    }
}

#[test]
fn a_verb_for_another_state_is_refused_and_names_the_right_verb() {
    for (first, second, word) in [
        (Verb::Disable, Verb::Undrain, "enable"),
        (drain(60), Verb::Enable, "undrain"),
    ] {
        let mut overrides = Overrides::default();
        assert_eq!(overrides.change(&id("w1"), first, at(0)), Ok(true));
        let before = overrides.clone();
        let refused = overrides.change(&id("w1"), second, at(1)).unwrap_err();
        assert!(refused.0.contains(word), "{refused}");
        assert_eq!(overrides, before);
    }
    let mut overrides = Overrides::default();
    let endless = Verb::Drain {
        deadline: Some(Duration::MAX),
    };
    assert!(overrides.change(&id("w1"), endless, at(0)).is_err());
    assert_eq!(overrides.change(&id("w1"), Verb::Disable, at(0)), Ok(true));
    assert_eq!(
        overrides.change(&id("w1"), Verb::Disable, at(9)),
        Ok(false),
        "as it was"
    );
}

#[test]
fn the_next_deadline_is_the_first_one_in_the_future() {
    let mut overrides = Overrides::default();
    assert_eq!(overrides.next_deadline(at(0)), None);
    overrides.change(&id("w1"), drain(100), at(0)).unwrap();
    overrides.change(&id("w2"), drain(50), at(0)).unwrap();
    for (now, next) in [(0, Some(50)), (49, Some(50)), (50, Some(100)), (100, None)] {
        assert_eq!(overrides.next_deadline(at(now)), next.map(at), "{now}");
    }
}

fn config(backends: &str) -> Config {
    let text = format!(
        "[node]\nname = \"a\"\ninterfaces = [\"eth0\"]\n[[service]]\nname = \"web\"\naddress = \"192.0.2.1\"\nport = 80\n{backends}"
    );
    crate::config::parse("lbd.toml", &text).unwrap()
}

fn leaving(host: u8) -> Leaving {
    Leaving {
        service: "web".to_owned(),
        backend: format!("w{host}"),
        address: SocketAddr::from(([10, 0, 0, host], 80)),
        since: at(0),
        deadline: at(100),
    }
}

#[test]
fn overrides_of_removed_backends_are_dropped() {
    let mut overrides = Overrides::default();
    for backend in ["w1", "w2"] {
        overrides.change(&id(backend), Verb::Disable, at(0)).unwrap();
    }
    overrides.leave(leaving(1));
    overrides.leave(leaving(3));
    let config = config("backend = [{ name = \"w1\", address = \"10.0.0.1\" }]\n");
    let void = |backend, cause| Voided { id: id(backend), cause };
    assert_eq!(
        overrides.prune(&config),
        [void("w2", "it was removed from the configuration")]
    );
    assert!(overrides.of(&id("w1")).is_some());
    let service = &config.services[0];
    assert_eq!(overrides.leaving(service).collect::<Vec<_>>(), [&leaving(3)]);
    assert_eq!(overrides.gone(|leaving| leaving.deadline <= at(100)), [leaving(3)]);
    assert!(overrides.all_leaving().is_empty());
    overrides.change(&id("w1"), Verb::SetWeight(3), at(0)).unwrap();
    let fallback = self::config("fallback = [{ name = \"w1\", address = \"10.0.0.1\" }]\n");
    assert_eq!(
        overrides.prune(&fallback),
        [void("w1", "it is now a fallback backend; these have no weight")]
    );
    assert_eq!(overrides.weight(&id("w1"), 1), 1);
    assert_eq!(
        overrides.admin_state(&id("w1"), at(0)),
        AdminState::Down,
        "the rest stays"
    );
    let mut empty = config;
    empty.services.clear();
    assert_eq!(
        overrides.prune(&empty),
        [void("w1", "its service was removed from the configuration")]
    );
    assert_eq!(overrides, Overrides::default());
}

#[test]
fn a_configured_weight_that_an_override_hides_is_reported() {
    let weights = |one: u32, two: u32| {
        config(&format!(
            "backend = [{{ name = \"w1\", address = \"10.0.0.1\", weight = {one} }},
             {{ name = \"w2\", address = \"10.0.0.2\", weight = {two} }}]\n"
        ))
    };
    let mut overrides = Overrides::default();
    overrides.change(&id("w1"), Verb::SetWeight(7), at(0)).unwrap();
    let shadowed = |next: &Config| overrides.shadowed(&weights(1, 1), next);
    assert_eq!(shadowed(&weights(1, 2)), []);
    assert_eq!(shadowed(&weights(7, 1)), [], "both say the same");
    assert_eq!(shadowed(&weights(2, 2)), [(id("w1"), 7, 2)]);
    assert_eq!(shadowed(&config("")), []);
}

#[test]
fn overrides_survive_in_the_document() {
    let mut overrides = Overrides::default();
    overrides.change(&id("w1"), drain(60), at(100)).unwrap();
    overrides.change(&id("w1"), Verb::SetWeight(7), at(100)).unwrap();
    overrides.change(&id("w2"), Verb::Disable, at(100)).unwrap();
    overrides
        .change(&id("w3"), Verb::Drain { deadline: None }, at(100))
        .unwrap();
    overrides.change(&id("w4"), Verb::SetWeight(0), at(100)).unwrap();
    overrides.end_drain(id("w3"));
    overrides.leave(leaving(1));
    let mut loaded = from_json(&to_json(&overrides)).unwrap();
    assert_eq!(loaded, overrides);
    assert_eq!(loaded.drains().collect::<Vec<_>>(), [(&id("w1"), Some(at(160)))]);
    loaded.change(&id("w3"), drain(60), at(200)).unwrap();
    assert_eq!(loaded.drains().count(), 2, "the new drain has not ended");
    let none = from_json(&to_json(&Overrides::default())).unwrap();
    assert_eq!(none, Overrides::default());
}

#[test]
fn overrides_follow_a_renamed_service() {
    let mut overrides = Overrides::default();
    overrides.change(&id("w1"), drain(60), at(100)).unwrap();
    overrides.end_drain(id("w1"));
    overrides.leave(Leaving {
        service: "web".to_owned(),
        backend: "w2".to_owned(),
        address: "192.0.2.2:80".parse().unwrap(),
        since: at(100),
        deadline: at(200),
    });
    overrides.rename(&[("web".to_owned(), "site".to_owned())].into());
    let renamed = BackendId {
        service: "site".to_owned(),
        ..id("w1")
    };
    assert_eq!(
        (overrides.of(&id("w1")), overrides.of(&renamed).is_some()),
        (None, true)
    );
    assert_eq!(overrides.drains().count(), 0, "its end is already recorded");
    assert_eq!(overrides.all_leaving()[0].service, "site");
}
