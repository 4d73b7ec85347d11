//! `lbctl backend drain|undrain|disable|enable|weight`

use std::{io::Write, time::Duration};

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

/// How often the flows of a drain are counted.
const STEP: Duration = Duration::from_secs(1);

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
    let mut last = None;
    loop {
        let status = status(&target, client).await?;
        let flows = status.active + status.embryonic;
        let is_over = !wait || flows == 0 || status.state != "draining";
        if is_over && json {
            return print_json(&status, out);
        }
        if last.replace(flows) != Some(flows) && !json || is_over {
            writeln!(out, "{}", sentence(&status))?;
            out.flush()?;
        }
        if is_over {
            return Ok(());
        }
        tokio::time::sleep(STEP).await;
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
    let flows = status.active + status.embryonic;
    format!("{service}/{name} is {state} ({cause}), weight {weight}, {flows} flows")
}
