//! Slow start: when backends returned from being down, for services that raise their weight slowly.

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use lb_core::{
    config::{BackendId, Config},
    health::{HealthChange, Verdict},
};

/// When each backend returned, for as long as its weight is still raised.
#[derive(Debug, Default)]
pub(in crate::daemon) struct SlowStarts(BTreeMap<BackendId, Instant>);

impl SlowStarts {
    /// Notes a health change. The first verdict on a backend is no return: it may have been up for
    /// long.
    pub(super) fn note(&mut self, change: &HealthChange, now: Instant) {
        match (change.from, change.to) {
            (Verdict::Down, Verdict::Up) => drop(self.0.insert(change.target.clone(), now)),
            _ => drop(self.0.remove(&change.target)),
        }
    }

    /// Forgets backends that have their full weight.
    pub(super) fn forget_finished(&mut self, config: &Config, now: Instant) {
        self.0
            .retain(|target, since| now.saturating_duration_since(*since) < length(config, &target.service));
    }

    /// How long ago each backend returned whose weight is still raised.
    pub(super) fn elapsed(&self, config: &Config, now: Instant) -> BTreeMap<BackendId, Duration> {
        let elapsed = |(target, since): (&BackendId, &Instant)| (target.clone(), now.saturating_duration_since(*since));
        let is_raised = |(target, elapsed): &(BackendId, Duration)| *elapsed < length(config, &target.service);
        self.0.iter().map(elapsed).filter(is_raised).collect()
    }

    /// Whether there are any.
    pub(super) fn any(&self) -> bool {
        !self.0.is_empty()
    }
}

/// How long a service takes to raise the weight of a backend.
fn length(config: &Config, name: &str) -> Duration {
    let service = config.services.iter().find(|service| service.name == name);
    service.map_or(Duration::ZERO, |service| service.slow_start)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_backend_that_was_down_starts_slowly_and_only_for_a_while() {
        let text = "[node]\nname = \"a\"\ninterfaces = [\"eth0\"]\n[[service]]\nname = \"web\"\naddress = \"192.0.2.1\"\n\
                    port = 80\nslow_start = \"30s\"\n[[service]]\nname = \"other\"\naddress = \"192.0.2.2\"\nport = 80\n";
        let config = lb_core::config::parse("lbd.toml", text).unwrap();
        let start = Instant::now();
        let target = |service: &str| BackendId {
            service: service.to_owned(),
            backend: "w1".to_owned(),
        };
        let change = |service: &str, from, to| HealthChange {
            target: target(service),
            from,
            to,
            cause: String::new(),
        };
        let seconds = Duration::from_secs;
        let mut returned = SlowStarts::default();
        returned.note(&change("web", Verdict::Unknown, Verdict::Up), start);
        assert!(!returned.any(), "at the start of the daemon");
        returned.note(&change("web", Verdict::Down, Verdict::Up), start);
        returned.note(&change("other", Verdict::Down, Verdict::Up), start);
        assert_eq!(
            returned.elapsed(&config, start + seconds(10)),
            [(target("web"), seconds(10))].into()
        );
        returned.note(&change("web", Verdict::Up, Verdict::Down), start);
        returned.forget_finished(&config, start);
        assert!(!returned.any());
        returned.note(&change("web", Verdict::Down, Verdict::Up), start);
        assert_eq!(returned.elapsed(&config, start + seconds(30)), BTreeMap::new());
        assert!(returned.any());
        returned.forget_finished(&config, start + seconds(30));
        assert!(!returned.any());
    }
}
