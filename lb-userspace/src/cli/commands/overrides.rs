//! `lbctl backend drain|undrain|disable|enable|weight`

use std::{
    io::Write,
    time::{Duration, Instant},
};

use hyper::Method;

use super::print_json;
use crate::{
    admin::model::BackendStatus,
    cli::{
        CliError,
        args::{BackendName, BackendVerb},
        client::{Client, escape},
    },
};
use lb_core::text::number;

/// How often the flows of a drain are counted.
const STEP: Duration = Duration::from_secs(1);
/// How long `lbd` may take to come back meanwhile.
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
        // The caller's own.
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

/// Follows a drain to its end.
async fn follow(target: &BackendName, client: &Client, json: bool, out: &mut dyn Write) -> Result<(), CliError> {
    let mut shown = None;
    let mut lost = None;
    loop {
        let status = match status(target, client).await {
            // The drain goes on while lbd restarts.
            Err(error) if error.is_absence() => {
                if lost.get_or_insert_with(Instant::now).elapsed() > PATIENCE {
                    return Err(error);
                }
                tokio::time::sleep(STEP).await;
                continue;
            }
            found => found?,
        };
        lost = None;
        let flows = status.active + status.embryonic;
        let step = step(&status, shown);
        if shown.replace(flows) != Some(flows) || step != Step::GoesOn {
            if json {
                print_json(&status, out)?;
            } else {
                writeln!(out, "{}", words(&status, step))?;
            }
            out.flush()?;
        }
        match step {
            Step::GoesOn => tokio::time::sleep(STEP).await,
            Step::Drained | Step::Late { .. } => return Ok(()),
            Step::Ended => {
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

/// How far a drain has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Step {
    GoesOn,
    /// No flows are left.
    Drained,
    /// The deadline came, when there were still so many flows as far as one has seen.
    Late {
        flows: u64,
    },
    /// Somebody decided otherwise.
    Ended,
}

/// `before`: how many flows there were a moment ago.
fn step(status: &BackendStatus, before: Option<u64>) -> Step {
    let flows = status.active + status.embryonic;
    let own = status.overridden.as_ref();
    if own.and_then(|own| own.intent.as_deref()) != Some("drain") {
        return Step::Ended;
    }
    if own.and_then(|own| own.seconds_left) == Some(0) && status.state != "draining" {
        return match before.unwrap_or(flows).max(flows) {
            0 => Step::Drained,
            flows => Step::Late { flows },
        };
    }
    if flows == 0 { Step::Drained } else { Step::GoesOn }
}

fn words(status: &BackendStatus, step: Step) -> String {
    let BackendStatus { service, name, .. } = status;
    match step {
        Step::GoesOn | Step::Ended => sentence(status),
        Step::Drained => format!("{service}/{name} is drained: it has no flows any more"),
        Step::Late { flows } => {
            let flows = number(flows, "flow");
            format!(
                "{service}/{name} is drained: the deadline came, and {flows} went by `on_backend_down` of the service"
            )
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
    use crate::admin::{fake, model::OverrideStatus};

    #[test]
    fn a_drain_goes_on_until_no_flows_are_left_or_somebody_ends_it() {
        // Intent, seconds left, state, flows now and a moment ago, and what that means.
        for (intent, left, state, flows, before, then) in [
            (Some("drain"), None, "draining", 2, None, Step::GoesOn),
            (Some("drain"), None, "draining", 0, Some(2), Step::Drained),
            // Its worker died meanwhile.
            (Some("drain"), None, "down", 2, Some(2), Step::GoesOn),
            (Some("drain"), Some(9), "draining", 2, Some(2), Step::GoesOn),
            (Some("drain"), Some(0), "down", 0, Some(2), Step::Late { flows: 2 }),
            (Some("drain"), Some(0), "down", 0, Some(0), Step::Drained),
            (None, None, "up", 2, Some(2), Step::Ended),
            (None, None, "up", 0, Some(2), Step::Ended),
            (Some("disable"), None, "down", 0, Some(2), Step::Ended),
        ] {
            let mut status = fake::backends().remove(0);
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
