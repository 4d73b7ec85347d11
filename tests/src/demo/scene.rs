//! What is on stage: the traffic, and what the daemon says about it.

use std::{net::SocketAddr, time::Duration};

use anyhow::{Context as _, Result};

use crate::{
    client::{Load, Report, Traffic},
    lab::Lab,
    lbd::Lbd,
};

/// Clients at the same time: half with a connection per request, half with fifty requests on each
/// connection.
pub(super) const CLIENTS: usize = 32;

/// The running demo.
pub(super) struct Scene<'a> {
    lbd: &'a Lbd<'a>,
    traffic: [Traffic; 2],
    names: Vec<String>,
}

/// One moment of it.
pub(super) struct Frame {
    /// Requests answered so far, by worker.
    pub(super) per_worker: Vec<(String, u64)>,
    /// State of each backend, in the same order.
    pub(super) states: Vec<String>,
    /// Requests failed so far.
    pub(super) errors: u64,
    /// Established flows now.
    pub(super) active: u64,
}

impl<'a> Scene<'a> {
    /// Lets the clients begin.
    pub(super) fn start(lab: &Lab, lbd: &'a Lbd<'a>, target: SocketAddr) -> Self {
        // Modest: the machine may have two cores, and an overloaded one would be what the demo
        // shows. New connections stay below 800 a second, so that a minute of them fits into one
        // client's ports.
        let mut load = Load::new(target)
            .concurrency(CLIENTS / 2)
            .endless(Duration::from_millis(20));
        load.patience = Duration::from_secs(3);
        let mut kept = load.clone().endless(Duration::from_millis(5));
        kept.per_connection = 50;
        let traffic = [load, kept].map(|load| load.start(&lab.client.namespace));
        Self {
            lbd,
            traffic,
            names: lab.workers.iter().map(|worker| worker.label.clone()).collect(),
        }
    }

    /// The state that the daemon shows for a backend.
    pub(super) fn state_of(&self, name: &str) -> Result<String> {
        let states = self.lbd.backend_states("web")?;
        let state = states.into_iter().find(|(backend, _)| backend == name);
        Ok(state.with_context(|| format!("lbctl does not list backend {name}"))?.1)
    }

    /// What there is to see now.
    pub(super) fn frame(&self) -> Result<Frame> {
        let report = self.report();
        let states = self
            .names
            .iter()
            .map(|name| self.state_of(name))
            .collect::<Result<_>>()?;
        let services = self.lbd.lbctl(&["service", "list"])?;
        let active = services[0]["active"]
            .as_u64()
            .context("no number `active` in `lbctl service list`")?;
        let per_worker = self.names.iter().map(|name| (name.clone(), report.of(name))).collect();
        Ok(Frame {
            per_worker,
            states,
            errors: report.failures.len() as u64,
            active,
        })
    }

    /// Lets every client finish its request.
    pub(super) fn finish(self) -> Report {
        join(self.traffic.map(Traffic::stop))
    }

    fn report(&self) -> Report {
        join(self.traffic.each_ref().map(Traffic::report))
    }
}

fn join(reports: [Report; 2]) -> Report {
    let [mut whole, other] = reports;
    whole.merge(other);
    whole
}
