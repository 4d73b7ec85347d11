//! The desired state: what the maps must hold, as a pure function of configuration, health,
//! overrides, next hops and time.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::{IpAddr, SocketAddr},
    time::Duration,
};

use ipnet::IpNet;
use jiff::Timestamp;
use lb_common::{BackendState, Mode, NextHop, OnBackendDown, Scheduler};

use crate::{
    config::{self, BackendId, Config, Guard, Initial, PortRange},
    health::Verdict,
    overrides::{AdminState, Overrides},
    reconcile::VirtualAddress,
    reconcile::panic,
    schedule::ramp,
};

/// What the maps must hold.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Desired {
    /// The services. No two have the same address, protocol and port, except that a single port may
    /// be inside a range.
    pub services: Vec<DesiredService>,
    /// Addresses that accept only packets of services.
    pub refusing: BTreeSet<IpAddr>,
}

/// The desired state of a service.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DesiredService {
    /// What clients connect to; for several ports, the first one.
    pub at: VirtualAddress,
    /// The last port; the port of `at` if there is only one.
    pub last_port: u16,
    /// Forwarding mode.
    pub mode: Mode,
    /// How a backend is chosen.
    pub scheduler: Scheduler,
    /// Number of leading bits of the client's address that `source-hash` uses.
    pub source_prefix: u8,
    /// What happens to the flows of a backend that is down.
    pub on_backend_down: OnBackendDown,
    /// Source addresses for `nat`.
    pub sources: Vec<IpAddr>,
    /// Source ports for `nat`.
    pub nat_ports: PortRange,
    /// Whether workers get the client's address in a TCP option.
    pub toa: bool,
    /// Which sources may begin flows, and how many.
    pub guard: Guard,
    /// The backends. Each address occurs at most once.
    pub backends: Vec<DesiredBackend>,
}

impl DesiredService {
    /// Whether it has more than one port.
    pub fn is_ranged(&self) -> bool {
        self.last_port > self.at.port
    }
}

/// The desired state of a backend.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DesiredBackend {
    /// Address and port; port 0: the port of the packet.
    pub address: SocketAddr,
    /// Whether it takes new flows only while no other backend is up.
    pub fallback: bool,
    /// Weight: its share of new flows.
    pub weight: u32,
    /// Whether it takes packets; `None`: unknown, so the present state is kept.
    pub state: Option<BackendState>,
    /// The state in which it begins if it is not in the maps and `state` is unknown.
    pub begins: BackendState,
    /// Its next hop; zero: there is none; `None`: unknown, so the present one is kept.
    pub next_hop: Option<NextHop>,
    /// The tunnel to it, in the tunnel modes.
    pub tunnel: Option<DesiredTunnel>,
}

/// The tunnel to a backend.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DesiredTunnel {
    /// Outer source addresses. The host bits come from the flow.
    pub source: IpNet,
    /// UDP port at the far end; 0 in `ipip`.
    pub port: u16,
}

/// What is known of workers and neighbours, and the overrides.
#[derive(Clone, Copy, Debug)]
pub struct Known<'a> {
    /// Operators' overrides. They have priority over health checks.
    pub overrides: &'a Overrides,
    /// The present time, for deadlines.
    pub now: Timestamp,
    /// The verdicts of health checks.
    pub verdicts: &'a BTreeMap<BackendId, Verdict>,
    /// Backends that returned from being down, and how long ago.
    pub returned: &'a BTreeMap<BackendId, Duration>,
    /// Next hops that are resolved.
    pub next_hops: &'a BTreeMap<IpAddr, NextHop>,
}

/// The desired state for a configuration, with overrides and what is known of workers and
/// neighbours.
pub fn desired(config: &Config, known: Known<'_>) -> Desired {
    let services = config.services.iter().map(|service| DesiredService {
        at: service.into(),
        last_port: service.ports.high,
        mode: service.mode,
        scheduler: service.scheduler,
        source_prefix: service.source_prefix,
        on_backend_down: service.on_backend_down,
        sources: service.sources.clone(),
        nat_ports: config.node.nat_ports,
        toa: service.toa,
        guard: service.guard.clone(),
        backends: backends(service, known),
    });
    Desired {
        services: services.collect(),
        refusing: config
            .vrrp
            .iter()
            .filter(|vrrp| !vrrp.accept)
            .flat_map(config::Vrrp::hosts)
            .collect(),
    }
}

fn backends(service: &config::Service, known: Known<'_>) -> Vec<DesiredBackend> {
    let weights = weights(service, known);
    let panics = panic::panics(service, known);
    let backends = service.backends.iter().zip(weights);
    let configured = backends.map(|(backend, weight)| DesiredBackend {
        address: backend.address,
        fallback: backend.fallback,
        weight,
        state: state(service, backend, known, panics),
        begins: begins(backend),
        next_hop: known.next_hops.get(&backend.address.ip()).copied(),
        tunnel: tunnel(service, backend.address.ip()),
    });
    let leaving = known.overrides.leaving(service).map(|leaving| DesiredBackend {
        address: leaving.address,
        fallback: false,
        weight: 0,
        // After its deadline it counts as down, so that its clients are reset.
        state: Some(if leaving.deadline > known.now {
            BackendState::Draining
        } else {
            BackendState::Down
        }),
        begins: BackendState::Draining,
        next_hop: known.next_hops.get(&leaving.address.ip()).copied(),
        tunnel: tunnel(service, leaving.address.ip()),
    });
    configured.chain(leaving).collect()
}

/// Whether a backend takes packets. An override has priority over health, but a backend that is
/// down does not drain. In panic mode backends that are down take packets too.
fn state(service: &config::Service, backend: &config::Backend, known: Known<'_>, panics: bool) -> Option<BackendState> {
    let id = target(service, backend);
    let verdict = match backend.health {
        None => Verdict::Up,
        Some(_) => known.verdicts.get(&id).copied().unwrap_or_default(),
    };
    let admin_state = known.overrides.admin_state(&id, known.now);
    let verdict = match verdict {
        Verdict::Down if panics && !backend.fallback && admin_state == AdminState::Enabled => Verdict::Up,
        verdict => verdict,
    };
    match (admin_state, verdict) {
        (AdminState::Down, _) | (_, Verdict::Down) => Some(BackendState::Down),
        (AdminState::Draining, _) => Some(BackendState::Draining),
        (AdminState::Enabled, Verdict::Up) => Some(in_service(known.overrides.weight(&id, backend.weight))),
        (AdminState::Enabled, Verdict::Unknown) => None,
    }
}

/// The state in which a backend of unknown health begins. Without weight or with an override it
/// never begins by taking flows.
fn begins(backend: &config::Backend) -> BackendState {
    match &backend.health {
        Some(check) if check.rules.initial == Initial::Up && backend.weight > 0 => BackendState::Up,
        _ => BackendState::Draining,
    }
}

fn target(service: &config::Service, backend: &config::Backend) -> BackendId {
    BackendId {
        service: service.name.clone(),
        backend: backend.name.clone(),
    }
}

/// The weights of all backends in their order, reduced for those that returned recently. Fallback
/// backends have their full weight at once.
fn weights(service: &config::Service, known: Known<'_>) -> Vec<u32> {
    let own = |backend: &config::Backend| known.overrides.weight(&target(service, backend), backend.weight);
    let share = |backend: &config::Backend| {
        let elapsed = known.returned.get(&target(service, backend)).copied();
        let elapsed = elapsed.unwrap_or(Duration::MAX);
        (own(backend), ramp::share(elapsed, service.slow_start))
    };
    let ordinary: Vec<_> = service
        .backends
        .iter()
        .filter(|backend| !backend.fallback)
        .map(share)
        .collect();
    let mut ramped = ramp::weights(service.scheduler, &ordinary).into_iter();
    service
        .backends
        .iter()
        .map(|backend| {
            let ramped = if backend.fallback { None } else { ramped.next() };
            ramped.unwrap_or_else(|| own(backend))
        })
        .collect()
}

fn tunnel(service: &config::Service, worker: IpAddr) -> Option<DesiredTunnel> {
    let source = service.tunnel.source(worker)?;
    match service.mode {
        Mode::Ipip => Some(DesiredTunnel { source, port: 0 }),
        Mode::Gue => Some(DesiredTunnel {
            source,
            port: service.tunnel.gue_port,
        }),
        Mode::Nat | Mode::Dnat | Mode::Dsr => None,
    }
}

/// A backend with weight 0 takes no new flows and keeps its flows.
fn in_service(weight: u32) -> BackendState {
    if weight == 0 {
        BackendState::Draining
    } else {
        BackendState::Up
    }
}

#[cfg(test)]
mod tests {
    use lb_common::{Backend, Guards, Options, Ring, Service, family::address};

    use super::*;
    use crate::reconcile::{
        classes::{bits, classes},
        entries,
    };

    const NODE: &str = "[node]\nname = \"lb1\"\ninterfaces = [\"eth0\"]\n\
                        tunnel = { source_v4 = \"198.18.0.0/24\", source_v6 = \"2001:db8:18::/112\" }\n";

    /// The desired state for a file in which a backend named `back` returned `returned` ago.
    fn desired_of(service: &str, returned: Option<Duration>) -> DesiredService {
        let text = format!("{NODE}[[service]]\nname = \"s\"\naddress = \"192.0.2.1\"\n{service}");
        let config = crate::config::parse("lbd.toml", &text).unwrap_or_else(|error| panic!("{error}"));
        let target = BackendId {
            service: "s".to_owned(),
            backend: "back".to_owned(),
        };
        let known = Known {
            overrides: &Overrides::default(),
            now: Timestamp::UNIX_EPOCH,
            verdicts: &BTreeMap::new(),
            returned: &returned.map(|elapsed| (target, elapsed)).into_iter().collect(),
            next_hops: &BTreeMap::new(),
        };
        desired(&config, known).services.remove(0)
    }

    /// The entries of a service and of its first backend.
    fn entries_of(service: &DesiredService) -> (Service, Backend) {
        let backend = &service.backends[0];
        (
            entries::service(service, Ring(0), None),
            entries::backend((7, service), 3, backend, BackendState::Up, 1),
        )
    }

    #[test]
    fn the_tunnel_to_a_worker_depends_on_the_mode() {
        let (v4, v6) = ("10.0.0.1", "2001:db8:1::1");
        // Mode, worker, port; then the entry's source, spread and port of the tunnel.
        for (mode, worker, source, spread, port) in [
            ("nat", v4, "0.0.0.0", 0, 0),
            ("dnat", v4, "0.0.0.0", 0, 0),
            ("dsr", v4, "0.0.0.0", 0, 0),
            ("ipip", v4, "198.18.0.0", 0xff, 0),
            ("ipip", v6, "2001:db8:18::", 0xffff, 0),
            ("gue", v4, "198.18.0.0", 0xff, 6080),
            ("gue", v6, "2001:db8:18::", 0xffff, 6080),
        ] {
            let text = format!("port = 80\nmode = \"{mode}\"\nbackend = [{{ address = \"{worker}\" }}]\n");
            let (service, backend) = entries_of(&desired_of(&text, None));
            assert_eq!((service.mode, service.family), (backend.mode, backend.family));
            assert_eq!(
                address::from_words(4, backend.virtual_address),
                Some("192.0.2.1".parse().unwrap())
            );
            assert_eq!(backend.status.family(), address::family(worker.parse().unwrap()));
            assert_eq!(
                address::from_words(if source.contains(':') { 6 } else { 4 }, backend.tunnel_source),
                Some(source.parse().unwrap()),
                "{mode} {worker}"
            );
            assert_eq!(
                (u32::from_be(backend.tunnel_spread), backend.tunnel_port.host()),
                (spread, port)
            );
            assert_eq!(service.source_count, u32::from(mode == "nat"));
        }
    }

    #[test]
    fn keys_of_a_service_are_written_to_its_entry() {
        let text = "ports = \"8000-8099\"\nscheduler = \"source-hash\"\nsource_prefix = 24\ntoa = true\nallow = [\"10.0.0.0/8\"]\n\
                    deny = [\"10.1.0.0/16\"]\nconnection_limit = 5\nsource_rate = 6\nsource_burst = 7\n\
                    backend = [{ address = \"10.0.0.1\" }]\n";
        let (service, backend) = entries_of(&desired_of(text, None));
        assert_eq!((service.port.host(), service.last_port.host()), (8000, 8099));
        assert_eq!((service.source_prefix, service.options), (24, Options::TOA));
        assert_eq!(service.guards, Guards::ALLOW | Guards::DENY);
        assert_eq!(
            (service.connection_limit, service.source_rate, service.source_burst),
            (5, 6, 7)
        );
        assert_eq!(service.flood_rate, 0);
        assert_eq!(backend.status.port().host(), 0, "as the packet");
    }

    #[test]
    fn a_backend_that_returns_gets_its_weight_after_a_while() {
        let seconds = |seconds| Some(Duration::from_secs(seconds));
        let backends = "backend = [{ address = \"10.0.0.1\", name = \"back\", weight = 2 }, { address = \"10.0.0.2\", weight = 2 }]\n\
                        fallback = [{ address = \"10.0.0.9\" }]\n";
        for (slow_start, returned, weights) in [
            ("", None, [2, 2, 1]),
            ("", seconds(1), [2, 2, 1]),
            ("slow_start = \"30s\"\n", None, [2, 2, 1]),
            ("slow_start = \"30s\"\n", seconds(0), [10, 100, 1]),
            ("slow_start = \"30s\"\n", seconds(15), [55, 100, 1]),
            ("slow_start = \"30s\"\n", seconds(30), [2, 2, 1]),
        ] {
            let service = desired_of(&format!("port = 80\n{slow_start}{backends}"), returned);
            let found: Vec<_> = service.backends.iter().map(|backend| backend.weight).collect();
            assert_eq!(found, weights, "{slow_start:?} {returned:?}");
            let states: Vec<_> = service.backends.iter().map(|backend| backend.state).collect();
            assert_eq!(states, [Some(BackendState::Up); 3]);
        }
    }

    fn two_backends() -> Config {
        let text = format!(
            "{NODE}[[service]]\nname = \"s\"\naddress = \"192.0.2.1\"\nport = 80\nhealth = {{ type = \"tcp\" }}\n\
             backend = [{{ name = \"a\", address = \"10.0.0.1\", weight = 2 }}, {{ name = \"b\", address = \"10.0.0.2\" }}]\n"
        );
        crate::config::parse("lbd.toml", &text).unwrap()
    }

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    #[test]
    fn an_override_has_priority_over_health() {
        use crate::overrides::Verb;
        use BackendState::{Down, Draining, Up};
        let config = two_backends();
        let id = |backend: &str| BackendId {
            service: "s".to_owned(),
            backend: backend.to_owned(),
        };
        let drain = Verb::Drain {
            deadline: Some(Duration::from_secs(60)),
        };
        // What is done to `a` at 0, its verdict, the second; then its state and weight.
        for (verbs, verdict, second, state, weight) in [
            (&[][..], Verdict::Up, 10, Some(Up), 2),
            (&[], Verdict::Unknown, 10, None, 2),
            (&[drain], Verdict::Up, 59, Some(Draining), 2),
            (&[drain], Verdict::Unknown, 59, Some(Draining), 2),
            (&[drain], Verdict::Down, 59, Some(Down), 2),
            (&[drain], Verdict::Up, 60, Some(Down), 2),
            (&[Verb::Disable], Verdict::Up, 0, Some(Down), 2),
            (&[Verb::Disable, Verb::Enable], Verdict::Up, 0, Some(Up), 2),
            (&[Verb::SetWeight(7)], Verdict::Up, 0, Some(Up), 7),
            (&[Verb::SetWeight(0)], Verdict::Up, 0, Some(Draining), 0),
            (&[Verb::SetWeight(7)], Verdict::Down, 0, Some(Down), 7),
        ] {
            let mut overrides = Overrides::default();
            for verb in verbs {
                overrides.change(&id("a"), *verb, at(0)).unwrap();
            }
            let known = Known {
                overrides: &overrides,
                now: at(second),
                verdicts: &[(id("a"), verdict), (id("b"), Verdict::Up)].into(),
                returned: &BTreeMap::new(),
                next_hops: &BTreeMap::new(),
            };
            let service = desired(&config, known).services.remove(0);
            let [a, b] = &service.backends[..] else {
                panic!("two backends")
            };
            assert_eq!((a.state, a.weight), (state, weight), "{verbs:?} {verdict:?} {second}");
            assert_eq!((b.state, b.weight), (Some(Up), 1), "the other one is unchanged");
        }
    }

    #[test]
    fn a_removed_backend_drains_until_its_deadline() {
        use crate::overrides::Leaving;
        use BackendState::{Down, Draining};
        let config = two_backends();
        let mut overrides = Overrides::default();
        overrides.leave(Leaving {
            service: "s".to_owned(),
            backend: "c".to_owned(),
            address: "10.0.0.3:80".parse().unwrap(),
            since: at(0),
            deadline: at(60),
        });
        for (second, states) in [
            (59, vec![None, None, Some(Draining)]),
            (60, vec![None, None, Some(Down)]),
        ] {
            let known = Known {
                overrides: &overrides,
                now: at(second),
                verdicts: &BTreeMap::new(),
                returned: &BTreeMap::new(),
                next_hops: &BTreeMap::new(),
            };
            let service = desired(&config, known).services.remove(0);
            let found: Vec<_> = service.backends.iter().map(|backend| backend.state).collect();
            assert_eq!(found, states, "{second}");
        }
    }

    #[test]
    fn addresses_have_the_classes_of_their_use() {
        use lb_common::AddressClass as Class;
        let backend = "backend = [{ address = \"10.0.0.1\" }]\n";
        for (service, virtual_address, source, worker) in [
            (
                "port = 80\nsource = [\"192.0.2.7\"]\n",
                Class::VIRTUAL,
                Class::SOURCE,
                0,
            ),
            (
                "ports = \"any\"\nsource = [\"192.0.2.7\"]\n",
                Class::VIRTUAL | Class::RANGES,
                Class::SOURCE,
                0,
            ),
            ("port = 80\n", Class::VIRTUAL | Class::SOURCE, 0, 0),
            ("port = 80\nmode = \"dnat\"\n", Class::VIRTUAL, 0, Class::WORKER),
            ("port = 80\nmode = \"dsr\"\n", Class::VIRTUAL, 0, 0),
            ("port = 80\nmode = \"gue\"\n", Class::VIRTUAL, 0, 0),
        ] {
            let table = classes(&Desired {
                services: vec![desired_of(&format!("{service}{backend}"), None)],
                ..Desired::default()
            });
            let found = ["192.0.2.1", "192.0.2.7", "10.0.0.1"].map(|text| bits(&table, text.parse().unwrap()).0);
            assert_eq!(found, [virtual_address, source, worker], "{service}");
        }
    }
}
