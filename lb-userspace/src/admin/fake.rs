//! A controller for tests: two services, three backends, three flows, all made up.

use std::{collections::BTreeMap, path::Path, sync::Arc};

use tokio::{runtime::Runtime, sync::oneshot, task::JoinHandle};

use super::{
    Entrance, Inspect, InspectError, Listeners,
    fake_control::FakeControl,
    model::{
        BackendStatus, FlowCount, FlowFilter, FlowPage, FlowStatus, FlowTable, FlowTables, HealthStatus,
        InterfaceStatus, NextHopStatus, NodeStatus, ReconcileStatus, ServiceStatus, TrackStatus, VrrpStatus,
    },
    server,
};
use lb_core::config::Api;

/// The fake controller.
#[derive(Debug, Default)]
pub(crate) struct Fake {
    /// Whether flows cannot be read.
    pub(crate) broken: bool,
}

impl Inspect for Fake {
    fn node(&self) -> Result<NodeStatus, InspectError> {
        Ok(node())
    }

    fn services(&self) -> Result<Vec<ServiceStatus>, InspectError> {
        Ok(services())
    }

    fn backends(&self, service: Option<&str>) -> Result<Vec<BackendStatus>, InspectError> {
        let wanted = |backend: &BackendStatus| service.is_none_or(|name| name == backend.service);
        Ok(backends().into_iter().filter(wanted).collect())
    }

    fn vrrp(&self) -> Result<Vec<VrrpStatus>, InspectError> {
        Ok(vec![vrrp()])
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
        let found = flows().into_iter().enumerate().filter(|(_, flow)| filter.admits(flow));
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
    entrance: Arc<Entrance>,
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
        let entrance = listeners.entrance();
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
            entrance,
            stop: Some(stop),
            served: Some(served),
        }
    }

    /// Serves it by other ways, as a reload does.
    pub(crate) fn change(&self, api: &Api) -> Result<(), String> {
        let _context = self.runtime.enter();
        let put = self.entrance.prepare(api).and_then(|ways| self.entrance.put(ways));
        put.map(drop).map_err(|error| error.to_string())
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

pub(crate) fn node() -> NodeStatus {
    NodeStatus {
        name: "lb1".to_owned(),
        version: "0.1.0".to_owned(),
        pid: 4711,
        started_at: "2026-11-20T08:00:00.123Z".to_owned(),
        uptime_seconds: 93_784,
        config_path: "/etc/lbd/lbd.toml".into(),
        map_abi: 1,
        interfaces: vec![
            interface("eth0", 2, "native", "auto"),
            interface("eth1", 3, "generic", "native"),
        ],
        services: BTreeMap::from([("healthy".to_owned(), 2), ("no-backend".to_owned(), 1)]),
        outcomes: BTreeMap::from([
            ("forwarded".to_owned(), 1_234_567),
            ("not_ours".to_owned(), 42),
            ("from_a_newer_lbd".to_owned(), 1),
            ("malformed".to_owned(), 0),
        ]),
        flows: FlowTables {
            v4: table(262_144, 1_048_576),
            v6: table(0, 262_144),
        },
        reconcile: ReconcileStatus {
            runs: 17,
            last_change: Some("2026-11-20T08:00:01.500Z".to_owned()),
            last_error: None,
        },
        warnings: vec!["eth1 runs in generic mode, which is slower".to_owned()],
    }
}

fn interface(name: &str, ifindex: u32, xdp_mode: &str, wanted_mode: &str) -> InterfaceStatus {
    InterfaceStatus {
        name: name.to_owned(),
        ifindex,
        xdp_mode: xdp_mode.to_owned(),
        wanted_mode: wanted_mode.to_owned(),
        problem: None,
    }
}

fn table(entries: u64, capacity: u64) -> FlowTable {
    FlowTable { entries, capacity }
}

pub(crate) fn vrrp() -> VrrpStatus {
    VrrpStatus {
        name: "web".to_owned(),
        interface: "eth0".to_owned(),
        router_id: 51,
        version: 3,
        addresses: vec!["192.0.2.10/24".to_owned()],
        role: "backup".to_owned(),
        since: "2026-01-02T03:04:05.678Z".to_owned(),
        cause: "it listens".to_owned(),
        group: Some("edge".to_owned()),
        priority: 100,
        effective_priority: 100,
        maintained: false,
        interval_ms: 1000,
        master: Some([192, 0, 2, 2].into()),
        master_priority: Some(150),
        graced: false,
        asked: 7,
        answered: 7,
        tracks: vec![TrackStatus {
            what: "service web".to_owned(),
            up: false,
            cause: Some("service web has 0 of 1 backends that must be up".to_owned()),
            weight: Some(-20),
        }],
        sent: 0,
        received: 42,
        refused: [("checksum".to_owned(), 1)].into(),
    }
}

pub(crate) fn services() -> Vec<ServiceStatus> {
    vec![
        service("web", "192.0.2.10", 80, "tcp", [1, 2]),
        service("dns", "2001:db8::53", 53, "udp", [1, 1]),
    ]
}

fn service(name: &str, address: &str, port: u16, protocol: &str, [up, all]: [u64; 2]) -> ServiceStatus {
    ServiceStatus {
        name: name.to_owned(),
        address: address.parse().expect("an address"),
        port,
        last_port: port,
        protocol: protocol.to_owned(),
        mode: "nat".to_owned(),
        scheduler: "round-robin".to_owned(),
        on_backend_down: "reset".to_owned(),
        condition: if up > 0 { "healthy" } else { "no-backend" }.to_owned(),
        backends_up: up,
        backends_total: all,
        active: 1200,
        embryonic: 3,
        total: 1_234_567,
    }
}

pub(crate) fn backends() -> Vec<BackendStatus> {
    let up = backend("web", "w1", "198.51.100.1:8080", "up");
    let down = BackendStatus {
        weight: 10,
        cause: "3 checks in a row failed: connection refused".to_owned(),
        health: Some(HealthStatus {
            verdict: "down".to_owned(),
            since: "2026-11-20T09:30:00.250Z".to_owned(),
            cause: "connection refused".to_owned(),
            suspect: None,
            progress: None,
            last_failure: None,
            checks: 1000,
            failures: 3,
            last_duration_ms: Some(0.31),
        }),
        next_hop: None,
        next_hop_problem: Some("no answer to ARP on eth0".to_owned()),
        ..backend("web", "w2", "198.51.100.2:8080", "down")
    };
    let unchecked = BackendStatus {
        health: None,
        cause: "not checked".to_owned(),
        ..backend("dns", "[2001:db8::1:1]:53", "[2001:db8::1:1]:53", "up")
    };
    vec![up, down, unchecked]
}

fn backend(service: &str, name: &str, address: &str, state: &str) -> BackendStatus {
    BackendStatus {
        service: service.to_owned(),
        name: name.to_owned(),
        address: address.parse().expect("an address and a port"),
        weight: 1,
        configured_weight: 1,
        overridden: None,
        fallback: false,
        state: state.to_owned(),
        cause: "2 checks in a row succeeded".to_owned(),
        health: Some(HealthStatus {
            verdict: state.to_owned(),
            since: "2026-11-20T08:00:04.000Z".to_owned(),
            cause: "status 200".to_owned(),
            suspect: None,
            progress: None,
            last_failure: None,
            checks: 46_890,
            failures: 0,
            last_duration_ms: Some(12.5),
        }),
        next_hop: Some(NextHopStatus {
            interface: "eth0".to_owned(),
            mac: "02:00:00:00:00:01".to_owned(),
        }),
        next_hop_problem: None,
        active: 1200,
        embryonic: 3,
        total: 1_234_567,
        to_worker_packets: 9_000_000,
        to_worker_bytes: 1_500_000_000,
        to_client_packets: 12_000_000,
        to_client_bytes: 18_000_000_000,
    }
}

pub(crate) fn flows() -> Vec<FlowStatus> {
    vec![
        flow("203.0.113.7:50000", "w1", "198.51.100.1:8080", 1500),
        flow("203.0.113.7:50001", "w2", "198.51.100.2:8080", 12),
        flow("203.0.113.8:50000", "w1", "198.51.100.1:8080", 200_000),
    ]
}

fn flow(client: &str, backend_name: &str, backend: &str, idle_ms: u64) -> FlowStatus {
    let socket = |text: &str| text.parse().expect("an address and a port");
    FlowStatus {
        protocol: "tcp".to_owned(),
        client: socket(client),
        virtual_address: socket("192.0.2.10:80"),
        source: socket("192.0.2.10:20000"),
        backend: socket(backend),
        service: "web".to_owned(),
        backend_name: backend_name.to_owned(),
        phase: "established".to_owned(),
        idle_ms,
    }
}
