//! `lbctl backend drain|undrain|disable|enable|weight`

use std::{
    io::Write,
    time::{Duration, Instant},
};

use hyper::Method;

use crate::{
    api::BackendStatus,
    cli::{
        args::{BackendName, BackendVerb},
        client::{Client, escape},
        error::CliError,
        output::print_json,
    },
};
use lb_core::text::number;

/// Interval at which the flows of a drain are counted.
const STEP: Duration = Duration::from_secs(1);
/// Longest time that `lbd` may be away, for a restart, while a drain is followed.
const PATIENCE: Duration = Duration::from_secs(60);

pub(super) async fn run(verb: BackendVerb, client: &Client, json: bool, out: &mut dyn Write) -> Result<(), CliError> {
    let (target, verb, wait) = match verb {
        BackendVerb::Drain { target, deadline, wait } => {
            let query = deadline.map(|text| format!("?deadline={}", escape(&text)));
            (target, format!("drain{}", query.unwrap_or_default()), wait)
        }
        BackendVerb::Undrain { target } => (target, "undrain".to_owned(), false),
        BackendVerb::Disable { target } => (target, "disable".to_owned(), false),
        BackendVerb::Enable { target } => (target, "enable".to_owned(), false),
        BackendVerb::Weight {
            target,
            weight: Some(weight),
            ..
        } => (target, format!("weight?value={weight}"), false),
        BackendVerb::Weight { target, .. } => (target, "reset-weight".to_owned(), false),
        // `backend::run` handles it.
        BackendVerb::List { .. } => return Ok(()),
    };
    let BackendName { service, backend } = &target;
    let path = format!("/v1/services/{}/backends/{}/{verb}", escape(service), escape(backend));
    let () = client.send(Method::POST, &path).await?;
    if wait {
        return follow(&target, client, json, out).await;
    }
    let status = status(&target, client).await?;
    if json {
        return print_json(&status, out);
    }
    Ok(writeln!(out, "{}", sentence(&status))?)
}

/// Follows a drain to its end, and shows each change of the number of flows.
async fn follow(target: &BackendName, client: &Client, json: bool, out: &mut dyn Write) -> Result<(), CliError> {
    let mut shown = None;
    loop {
        let status = status_after_restart(target, client).await?;
        let flows = status.active + status.embryonic;
        let step = step(&status, shown);
        if shown.replace(flows) != Some(flows) || step != Step::Draining {
            if json {
                print_json(&status, out)?;
            } else {
                writeln!(out, "{}", words(&status, step))?;
            }
            out.flush()?;
        }
        match step {
            Step::Draining => tokio::time::sleep(STEP).await,
            Step::Drained | Step::DeadlineReached { .. } => return Ok(()),
            Step::Cancelled => {
                let name = format!("{}/{}", status.service, status.name);
                return Err(CliError::NotDrained {
                    name,
                    state: status.state,
                    cause: status.cause,
                });
            }
        }
    }
}

/// The status of a backend. The drain continues while `lbd` restarts, so this waits for it to come
/// back.
async fn status_after_restart(target: &BackendName, client: &Client) -> Result<BackendStatus, CliError> {
    let begin = Instant::now();
    loop {
        match status(target, client).await {
            Err(error) if error.is_absence() && begin.elapsed() <= PATIENCE => tokio::time::sleep(STEP).await,
            answered => return answered,
        }
    }
}

/// Progress of a drain.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Step {
    /// Flows remain.
    Draining,
    /// No flow remains.
    Drained,
    /// The deadline came while flows remained.
    DeadlineReached {
        /// Flows when they were last counted.
        flows: u64,
    },
    /// The drain was ended or replaced by another override.
    Cancelled,
}

/// The progress that a status shows. `before` is the number of flows in the status before it.
fn step(status: &BackendStatus, before: Option<u64>) -> Step {
    let flows = status.active + status.embryonic;
    let own = status.overridden.as_ref();
    if own.and_then(|own| own.intent.as_deref()) != Some("drain") {
        return Step::Cancelled;
    }
    if own.and_then(|own| own.seconds_left) == Some(0) && status.state != "draining" {
        return match before.unwrap_or(flows).max(flows) {
            0 => Step::Drained,
            flows => Step::DeadlineReached { flows },
        };
    }
    if flows == 0 { Step::Drained } else { Step::Draining }
}

fn words(status: &BackendStatus, step: Step) -> String {
    let BackendStatus { service, name, .. } = status;
    match step {
        Step::Draining | Step::Cancelled => sentence(status),
        Step::Drained => format!("{service}/{name} is drained: no flows remain"),
        Step::DeadlineReached { flows } => {
            let ended = match flows {
                1 => "1 remaining flow was".to_owned(),
                flows => format!("{flows} remaining flows were"),
            };
            format!("{service}/{name} is drained: the deadline came, and {ended} ended (on_backend_down)")
        }
    }
}

async fn status(target: &BackendName, client: &Client) -> Result<BackendStatus, CliError> {
    let path = format!("/v1/backends?service={}", escape(&target.service));
    let backends: Vec<BackendStatus> = client.get(&path).await?;
    let mut backends = backends.into_iter();
    backends
        .find(|status| status.name == target.backend)
        .ok_or_else(|| CliError::Gone(format!("{}/{}", target.service, target.backend)))
}

fn sentence(status: &BackendStatus) -> String {
    let BackendStatus {
        service,
        name,
        state,
        cause,
        weight,
        ..
    } = status;
    let flows = number(status.active + status.embryonic, "flow");
    format!("{service}/{name} is {state} ({cause}), weight {weight}, {flows}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::{OverrideStatus, samples};

    #[test]
    fn a_drain_lasts_until_no_flow_remains_the_deadline_or_another_override() {
        // Intent, seconds left, state, flows now and in the status before; then the step.
        for (intent, left, state, flows, before, then) in [
            (Some("drain"), None, "draining", 2, None, Step::Draining),
            (Some("drain"), None, "draining", 0, Some(2), Step::Drained),
            // The worker died during the drain.
            (Some("drain"), None, "down", 2, Some(2), Step::Draining),
            (Some("drain"), Some(9), "draining", 2, Some(2), Step::Draining),
            (
                Some("drain"),
                Some(0),
                "down",
                0,
                Some(2),
                Step::DeadlineReached { flows: 2 },
            ),
            (Some("drain"), Some(0), "down", 0, Some(0), Step::Drained),
            (None, None, "up", 2, Some(2), Step::Cancelled),
            (None, None, "up", 0, Some(2), Step::Cancelled),
            (Some("disable"), None, "down", 0, Some(2), Step::Cancelled),
        ] {
            let mut status = samples::backends().remove(0);
            status.state = state.to_owned();
            (status.active, status.embryonic) = (flows, 0);
            status.overridden = Some(OverrideStatus {
                intent: intent.map(str::to_owned),
                since: None,
                deadline: None,
                seconds_left: left,
                weight: None,
            });
            assert_eq!(
                step(&status, before),
                then,
                "{intent:?} {left:?} {state} {flows} {before:?}"
            );
        }
    }
}
