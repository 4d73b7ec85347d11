//! A controller for tests that answers with the samples of `api`, and a server that serves it.

use std::{path::Path, sync::Arc};

use tokio::{runtime::Runtime, sync::oneshot, task::JoinHandle};

use super::{
    access_rules::RulesHandle,
    fake_control::FakeControl,
    inspect::{Inspect, InspectError},
    listeners::Listeners,
    server,
};
use crate::api::{BackendStatus, FlowCount, FlowFilter, FlowPage, NodeStatus, ServiceStatus, VrrpStatus, samples};
use lb_core::config::Api;

/// The fake controller.
#[derive(Debug, Default)]
pub(crate) struct Fake {
    /// Whether flows cannot be read.
    pub(crate) broken: bool,
}

impl Inspect for Fake {
    fn node(&self) -> Result<NodeStatus, InspectError> {
        Ok(samples::node())
    }

    fn services(&self) -> Result<Vec<ServiceStatus>, InspectError> {
        Ok(samples::services())
    }

    fn backends(&self, service: Option<&str>) -> Result<Vec<BackendStatus>, InspectError> {
        let wanted = |backend: &BackendStatus| service.is_none_or(|name| name == backend.service);
        Ok(samples::backends().into_iter().filter(wanted).collect())
    }

    fn vrrp(&self) -> Result<Vec<VrrpStatus>, InspectError> {
        Ok(vec![samples::vrrp()])
    }

    fn count_flows(&self, filter: &FlowFilter) -> Result<FlowCount, InspectError> {
        let flows = self.flows(filter, 0, usize::MAX)?.flows;
        let mut count = FlowCount {
            total: flows.len() as u64,
            ..FlowCount::default()
        };
        for flow in flows {
            *count.phases.entry(flow.phase).or_default() += 1;
            *count.services.entry(flow.service).or_default() += 1;
        }
        Ok(count)
    }

    fn flows(&self, filter: &FlowFilter, after: u64, limit: usize) -> Result<FlowPage, InspectError> {
        if self.broken {
            return Err(InspectError::new("map FLOWS_V4: Operation not permitted"));
        }
        let mut page = FlowPage::default();
        let found = samples::flows()
            .into_iter()
            .enumerate()
            .filter(|(_, flow)| filter.admits(flow));
        for (place, flow) in found.filter(|(place, _)| *place as u64 >= after) {
            if page.flows.len() == limit {
                page.cursor = Some(place.to_string());
                break;
            }
            page.flows.push(flow);
        }
        Ok(page)
    }
}

/// A running server. Ends, and removes its socket, when it is dropped.
pub(crate) struct Running {
    runtime: Runtime,
    rules: Arc<RulesHandle>,
    stop: Option<oneshot::Sender<()>>,
    served: Option<JoinHandle<()>>,
}

impl Running {
    /// Serves `fake` at `path`.
    pub(crate) fn start(path: &Path, fake: Fake) -> Self {
        Self::start_with(path, fake, &Api::default())
    }

    /// Serves `fake` at `path` and where `api` says.
    pub(crate) fn start_with(path: &Path, fake: Fake, api: &Api) -> Self {
        let runtime = Runtime::new().expect("a runtime");
        let (stop, stopped) = oneshot::channel();
        let listeners = {
            let _context = runtime.enter();
            Listeners::open(path, api).expect("an admin socket")
        };
        let rules = listeners.rules();
        let served = runtime.spawn(server::serve(
            listeners,
            Arc::new(fake),
            Arc::new(FakeControl::default()),
            async {
                let _ = stopped.await;
            },
        ));
        Self {
            runtime,
            rules,
            stop: Some(stop),
            served: Some(served),
        }
    }

    /// Changes the rules, as a reload does.
    pub(crate) fn change(&self, api: &Api) -> Result<(), String> {
        let _context = self.runtime.enter();
        let applied = self.rules.prepare(api).and_then(|rules| self.rules.apply(rules));
        applied.map(drop).map_err(|error| error.to_string())
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(served) = self.served.take() {
            self.runtime.block_on(served).expect("no panic");
        }
    }
}
