//! Converts the state of the parts to the model of the admin API. Pure.

use std::time::Duration;

use jiff::Timestamp;
use lb_common::{Backend, BackendState};

use crate::{
    api::{HealthStatus, NextHopStatus, OverrideStatus, TrackStatus, VrrpStatus, timestamp},
    network::neighbour::NextHopState,
    vrrp,
};
use lb_core::{
    config,
    health::{Health, Verdict},
    overrides::{Intent, Override},
    text::duration,
};

/// The state of a backend in the packet path, and its cause.
pub(super) fn backend_state(
    entry: Option<&Backend>,
    weight: u32,
    health: Option<&Health>,
    panics: bool,
) -> (&'static str, String) {
    let verdict = health.map(|health| health.verdict);
    let cause = health.map_or_else(|| "not checked".to_owned(), cause);
    match entry.map(|entry| entry.status.state()) {
        Some(BackendState::Up) if verdict == Some(Verdict::Down) && panics => (
            "up",
            format!("used although down: fewer healthy backends than `panic_threshold`; {cause}"),
        ),
        Some(BackendState::Up) => ("up", cause),
        Some(BackendState::Draining) if weight == 0 => ("draining", "weight 0".to_owned()),
        Some(BackendState::Draining) if verdict == Some(Verdict::Unknown) => ("unknown", cause),
        Some(BackendState::Draining) => ("draining", cause),
        Some(BackendState::Down) => ("down", cause),
        Some(BackendState::Free) | None => ("unknown", "not in the maps yet".to_owned()),
    }
}

/// What decided the verdict, and the last failure if that is another one.
fn cause(health: &Health) -> String {
    match &health.last_failure {
        Some(failure) if health.verdict == Verdict::Down && !health.cause.contains(failure.as_str()) => {
            format!("{}; now: {failure}", health.cause)
        }
        _ => health.cause.clone(),
    }
}

pub(super) fn is_down(health: Option<&Health>) -> bool {
    health.is_some_and(|health| health.verdict == Verdict::Down)
}

/// The state of a backend with an override, and its cause.
pub(super) fn overridden(intent: Intent, now: Timestamp) -> (&'static str, String) {
    match intent {
        Intent::Disable { .. } => ("down", "disabled by an operator".to_owned()),
        Intent::Drain { deadline: None, .. } => ("draining", "drained by an operator".to_owned()),
        Intent::Drain {
            deadline: Some(deadline),
            ..
        } if deadline > now => (
            "draining",
            format!(
                "drained by an operator; its flows are kept for {}",
                time_left(deadline, now)
            ),
        ),
        Intent::Drain { .. } => ("down", "drained by an operator; the deadline has passed".to_owned()),
    }
}

/// The time until `until`, in whole seconds, as text.
pub(super) fn time_left(until: Timestamp, now: Timestamp) -> String {
    let seconds = until.duration_since(now).as_secs().max(0).unsigned_abs();
    duration(Duration::from_secs(seconds))
}

pub(super) fn override_status(own: &Override, now: Timestamp) -> OverrideStatus {
    let (intent, since, deadline) = match own.intent {
        None => (None, None, None),
        Some(Intent::Drain { since, deadline }) => (Some("drain"), Some(since), deadline),
        Some(Intent::Disable { since }) => (Some("disable"), Some(since), None),
    };
    let text = |moment: Timestamp| timestamp(moment.into());
    OverrideStatus {
        intent: intent.map(str::to_owned),
        since: since.map(text),
        deadline: deadline.map(text),
        seconds_left: deadline.map(|deadline| deadline.duration_since(now).as_secs().max(0).unsigned_abs()),
        weight: own.weight,
    }
}

pub(super) fn health_status(health: &Health) -> HealthStatus {
    let verdict = match health.verdict {
        Verdict::Unknown => "unknown",
        Verdict::Up => "up",
        Verdict::Down => "down",
    };
    HealthStatus {
        verdict: verdict.to_owned(),
        since: timestamp(health.since),
        cause: health.cause.clone(),
        suspect: health.suspicion.clone(),
        progress: health.progress.clone(),
        last_failure: health.last_failure.clone(),
        checks: health.checks,
        failures: health.failures,
        last_duration_ms: health.last_duration.map(milliseconds),
    }
}

pub(super) fn vrrp_status(config: &config::Vrrp, status: &vrrp::Status) -> VrrpStatus {
    let word = |reason: &lb_core::vrrp::advert::Refused| {
        let known = lb_core::vrrp::advert::Refused::ALL
            .iter()
            .find(|(known, _)| known == reason);
        known.map_or_else(String::new, |(_, word)| (*word).to_owned())
    };
    VrrpStatus {
        name: config.name.clone(),
        interface: config.interface.clone(),
        router_id: config.router,
        version: config.version,
        addresses: config.addresses.iter().map(ToString::to_string).collect(),
        role: status.role.word().to_owned(),
        since: timestamp(status.since),
        cause: status.cause.clone(),
        group: config.group.clone(),
        priority: config.priority,
        effective_priority: status.priority,
        maintained: status.is_maintained,
        interval_ms: u64::try_from(config.interval.as_millis()).unwrap_or(u64::MAX),
        master: status.master.map(|(master, _)| master),
        master_priority: status.master.map(|(_, priority)| priority),
        graced: status.is_in_grace,
        asked: status.echoes_sent,
        answered: status.echo_replies,
        tracks: status
            .tracks
            .iter()
            .map(|track| TrackStatus {
                what: track.what.clone(),
                up: track.down.is_none(),
                cause: track.down.clone(),
                weight: track.weight,
            })
            .collect(),
        sent: status.sent,
        received: status.received,
        refused: status
            .refused
            .iter()
            .map(|(reason, count)| (word(reason), *count))
            .collect(),
    }
}

fn milliseconds(duration: Duration) -> f64 {
    (duration.as_secs_f64() * 1e6).round() / 1e3
}

pub(super) fn next_hop_status(state: &NextHopState) -> Option<NextHopStatus> {
    let mac = state.hop?.destination().map(|byte| format!("{byte:02x}")).join(":");
    Some(NextHopStatus {
        interface: state.interface.clone(),
        mac,
    })
}
