//! Tests of whole files: what is accepted, and how refusals are explained.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use lb_common::{Mode, OnBackendDown, Scheduler};
use proptest::prelude::*;

use super::*;

const EXAMPLE: &str = include_str!("../../../../examples/lbd.toml");

/// Lines 1 to 3 of a file under test.
const NODE: &str = "[node]\nname = \"lb1\"\ninterfaces = [\"eth0\"]\n";

/// Lines 1 to 7 of a file under test.
const WEB: &str = "[node]\nname = \"lb1\"\ninterfaces = [\"eth0\"]\n\
                   [[service]]\nname = \"web\"\naddress = \"192.0.2.10\"\nport = 80\n";

fn accepted(text: &str) -> Config {
    parse("lbd.toml", text).unwrap_or_else(|error| panic!("{error}"))
}

fn refused(text: &str) -> ConfigError {
    parse("lbd.toml", text).expect_err(text)
}

/// Asserts that a file has exactly these problems: line, column, part of the message, part of what
/// is expected.
#[track_caller]
fn check(text: &str, diagnostics: &[(usize, usize, &str, &str)]) {
    let error = refused(text);
    let found = error.diagnostics();
    assert_eq!(found.len(), diagnostics.len(), "{text}\n{error}");
    for (found, (line, column, message, expected)) in found.iter().zip(diagnostics) {
        assert_eq!((found.line, found.column), (*line, *column), "{text}\n{error}");
        assert!(found.message.contains(message), "{message:?} is not in {found:?}");
        assert!(found.expected.contains(expected), "{expected:?} is not in {found:?}");
    }
}

#[test]
fn the_example_is_valid_and_means_what_it_says() {
    let config = accepted(EXAMPLE);
    assert_eq!(config.node.name, "lb1");
    assert_eq!(config.node.capacity, Capacity::default());
    assert_eq!(config.node.nat_ports, PortRange::default());
    let [router] = config.vrrp.as_slice() else {
        panic!("{} virtual routers", config.vrrp.len())
    };
    assert_eq!(
        (router.router, router.interval, router.addresses.len()),
        (51, Duration::from_secs(1), 2)
    );
    let [web, mail, dns, media, far] = config.services.as_slice() else {
        panic!("{} services", config.services.len())
    };
    assert_eq!(web.timeouts, Timeouts::default());
    assert_eq!(web.backends[0].weight, 3);
    let Some(HealthCheck {
        probe: Probe::Http(http),
        port: Some(8081),
        ..
    }) = web.backends[0].health.as_deref()
    else {
        panic!("{:?}", web.backends[0])
    };
    assert_eq!(http.status, [(200, 299), (304, 304)]);
    assert_eq!(web.slow_start, Duration::from_secs(30));
    assert_eq!((web.guard.source_rate, web.guard.source_burst), (100, 500));
    assert_eq!((web.guard.allow.len(), web.guard.deny.len()), (3, 1));
    assert_eq!(web.guard.flood_rate, 0);
    assert_eq!(
        (web.backends[2].name.as_str(), web.backends[2].fallback),
        ("sorry", true)
    );
    assert_eq!(mail.backends[1].name, "[2001:db8:1::12]:25");
    assert_eq!(mail.backends[0].health, None);
    assert_eq!(
        (dns.protocol, dns.scheduler),
        (Protocol::Udp, Scheduler::LeastConnection)
    );
    assert_eq!(
        (media.mode, media.ports, media.source_prefix),
        (Mode::Dsr, PortRange { low: 8000, high: 8099 }, 24)
    );
    assert_eq!((media.sources.as_slice(), media.guard.flood_rate), (&[][..], 50_000));
    assert_eq!(media.backends[0].address.port(), 0);
    assert_eq!(media.backends[0].name, "198.51.100.31");
    assert_eq!((far.mode, far.tunnel.gue_port), (Mode::Gue, 6081));
    let source = |backend: usize| {
        far.tunnel
            .source(far.backends[backend].address.ip())
            .map(|source| source.to_string())
    };
    assert_eq!(
        [source(0).as_deref(), source(1).as_deref()],
        [Some("198.18.1.0/24"), Some("2001:db8:ffff::/112")]
    );
    assert_eq!(
        dns.backends[0].health.as_ref().map(|health| health.timing.timeout),
        Some(Duration::from_millis(500))
    );
}

#[test]
fn keys_that_are_not_set_have_their_defaults() {
    let text = format!("{WEB}[service.health]\ntype = \"http\"\n[[service.backend]]\naddress = \"198.51.100.1\"\n");
    let expected = Config {
        vrrp: Vec::new(),
        api: Api::default(),
        node: Node {
            name: "lb1".into(),
            interfaces: vec!["eth0".into()],
            xdp_mode: XdpMode::Auto,
            state_dir: "/var/lib/lbd/lb1".into(),
            bpffs: "/sys/fs/bpf".into(),
            socket: "/run/lbd/lb1.sock".into(),
            packet_log: PacketLog::Off,
            nat_ports: PortRange {
                low: 20000,
                high: 56999,
            },
            tunnel: Tunnel {
                source_v4: None,
                source_v6: None,
                gue_port: 6080,
            },
            capacity: Capacity::default(),
        },
        services: vec![Service {
            name: "web".into(),
            address: "192.0.2.10".parse().unwrap(),
            ports: PortRange { low: 80, high: 80 },
            protocol: Protocol::Tcp,
            mode: Mode::Nat,
            scheduler: Scheduler::RoundRobin,
            source_prefix: 32,
            slow_start: Duration::ZERO,
            sources: vec!["192.0.2.10".parse().unwrap()],
            toa: false,
            tunnel: Tunnel::default(),
            guard: Guard::default(),
            on_backend_down: OnBackendDown::Reset,
            drain_timeout: Duration::from_secs(600),
            timeouts: Timeouts::default(),
            panic_threshold: 0,
            passive: true,
            backends: vec![Backend {
                name: "198.51.100.1:80".into(),
                address: "198.51.100.1:80".parse().unwrap(),
                fallback: false,
                weight: 1,
                health: Some(Arc::new(HealthCheck {
                    probe: Probe::Http(HttpProbe {
                        method: "GET".into(),
                        path: "/".into(),
                        host: None,
                        headers: BTreeMap::new(),
                        status: vec![(200, 399)],
                        body: None,
                        tls: None,
                    }),
                    target: CheckTarget::Backend,
                    port: None,
                    timing: Timing {
                        interval: Duration::from_secs(2),
                        fast_interval: Duration::from_secs(2),
                        jitter: 10,
                        timeout: Duration::from_secs(1),
                    },
                    rules: Rules {
                        rise: 2,
                        fall: 3,
                        initial: Initial::Unknown,
                        flaps: None,
                    },
                })),
            }],
        }],
    };
    assert_eq!(accepted(&text), expected);
}

#[test]
fn small_files_and_all_forms_of_toml_are_valid() {
    assert_eq!(accepted(NODE).services, []);
    assert_eq!(accepted(WEB).services[0].backends, []);
    // A byte order mark, Windows line ends, dotted keys and inline tables are all TOML.
    accepted(&format!("\u{feff}{}", WEB.replace('\n', "\r\n")));
    accepted("node.name = 'a'\nnode.interfaces = ['eth0']\nnode.capacity.services = 16");
    accepted(&format!(
        "service = [{{ name = 'a', address = '192.0.2.1', port = 1 }}]\n{NODE}"
    ));
}

#[test]
fn tcp_and_udp_may_share_address_and_port_and_services_may_share_sources() {
    let service = "[[service]]\nname = \"b\"\naddress = \"192.0.2.10\"\nport = 80\nprotocol = \"udp\"\n";
    assert_eq!(accepted(&format!("{WEB}{service}")).services.len(), 2);
}

#[test]
fn syntax_errors_are_all_reported() {
    check("[node", &[(1, 6, "unclosed table", "`]`")]);
    check(
        "[node]\nname = lb1\ninterfaces = [\"eth0\"]\nxdp_mode = auto\n",
        &[
            (2, 8, "the value of `name` has no quotes", "in quotes: \"lb1\""),
            (4, 12, "the value of `xdp_mode` has no quotes", "in quotes: \"auto\""),
        ],
    );
    check(
        &format!("{NODE}name = \"b\"\n"),
        &[(4, 1, "duplicate key", "each key once")],
    );
}

#[test]
fn a_value_without_quotes_is_answered_with_the_value_in_quotes() {
    for value in [
        "192.0.2.1",
        "2001:db8::1",
        "www.example.org",
        "198.51.100.0/24",
        "20000-56999",
        "10s",
        "100/s",
        "least-connection",
        "/etc/lbd/key",
    ] {
        let text = format!("{NODE}[[service]]\naddress = {value}  # a comment\n");
        let expected = format!("\"{value}\"");
        check(&text, &[(5, 11, "the value of `address` has no quotes", &expected)]);
    }
    check(
        &format!("{NODE}[[vrrp]]\npreempt = yes\n"),
        &[(5, 11, "`preempt` is not a TOML boolean", "true")],
    );
    // Entries of a list are left to the parser of TOML.
    check(&NODE.replace("\"eth0\"", "eth0"), &[(3, 15, "quoted", "string")]);
}

#[test]
fn unknown_keys_and_wrong_types_are_all_reported() {
    check(
        "nod = 1\n[node]\nname = 5\nintrfaces = [\"eth0\"]\n[[service]]\nport = \"80\"\nsource = [1, \"a\", 2.0]\n\
         [service.timeouts]\nudp = 10\n[[service.backend]]\nweigth = 1\n",
        &[
            (1, 1, "unknown key `nod`", "one of `node`, `api`, `service`"),
            (3, 8, "`name` is an integer", "a string"),
            (4, 1, "unknown key `intrfaces`", "`interfaces`"),
            (6, 8, "`port` is a string", "an integer"),
            (7, 11, "an entry of `source` is an integer", "a string"),
            (7, 19, "an entry of `source` is a float", "a string"),
            (9, 7, "`udp` is an integer", "such as \"10s\""),
            (11, 1, "unknown key `weigth`", "`weight`"),
        ],
    );
    check(
        "[service]\nname = \"a\"\n",
        &[(1, 1, "`service` is a table", "headed by `[[service]]`")],
    );
    check(
        "[[service]]\n[service.backend]\naddress = \"a\"\n",
        &[(2, 1, "`backend` is a table", "headed by `[[service.backend]]`")],
    );
    check("node = 1970-01-01", &[(1, 8, "`node` is a date", "a table")]);
    let many_digits = "9".repeat(50);
    check(
        &format!("{WEB}[[service.backend]]\nport = {many_digits}"),
        &[(9, 8, "`port` is an integer", "a smaller")],
    );
}

#[test]
fn misspelt_keys_and_words_are_answered_with_the_nearest_known_one() {
    for (text, suggestion) in [
        (format!("{NODE}xpd_mode = \"auto\""), Some("xdp_mode")),
        (format!("{NODE}xdp_mode = \"natve\""), Some("native")),
        (format!("{WEB}protocol = \"TCP\""), Some("tcp")),
        (
            format!("{WEB}scheduler = \"least_connections\""),
            Some("least-connection"),
        ),
        (format!("{WEB}scheduler = \"magelv\""), Some("maglev")),
        (format!("{WEB}mode = \"tunnel\""), None),
        (format!("{WEB}on_backend_down = \"rest\""), Some("reset")),
        (format!("{WEB}[service.health]\ntype = \"htpp\""), Some("http")),
        (
            format!("{WEB}[service.health]\ntype = \"http\"\nmethod = \"get\""),
            Some("GET"),
        ),
        (format!("{WEB}[service.health]\ntype = \"http\"\nzzz = 1"), None),
    ] {
        let error = refused(&text);
        assert_eq!(error.diagnostics()[0].suggestion.as_deref(), suggestion, "{error}");
    }
}

#[test]
fn missing_keys_are_named() {
    check("", &[(1, 1, "`[node]` is missing", "`name` and `interfaces`")]);
    check(
        "[node]",
        &[
            (1, 1, "`name` is missing", "`name` ="),
            (1, 1, "`interfaces` is missing", "eth0"),
        ],
    );
    check(
        &format!("{NODE}[[service]]\n[service.health]\n[[service.backend]]\n"),
        &[
            (4, 1, "`name` is missing", "`name` ="),
            (4, 1, "`address` is missing", "192.0.2.10"),
            (4, 1, "`port` is missing", "1 to 65535"),
            (5, 1, "`type` is missing", "\"tcp\", \"http\""),
            (6, 1, "`address` is missing", "192.0.2.10"),
        ],
    );
}

#[test]
fn values_of_the_node_are_checked() {
    let node = |name: &str, interfaces: &str| format!("[node]\nname = {name}\ninterfaces = {interfaces}\n");
    check(&node("\"\"", "[\"a\"]"), &[(2, 8, "is empty", "1 to 32")]);
    check(
        &node("\"a b\"", "[\"a\"]"),
        &[(2, 8, "the character ' '", "letters, digits")],
    );
    check(
        &node(&format!("\"{}\"", "a".repeat(33)), "[\"a\"]"),
        &[(2, 8, "33 characters", "1 to 32")],
    );
    check(&node("\"a\"", "[]"), &[(3, 14, "0 interfaces", "1 to 16")]);
    check(
        &node("\"a\"", &format!("[{}]", "\"a\",".repeat(17))),
        &[(3, 14, "17 interfaces", "1 to 16")],
    );
    check(
        &node("\"a\"", "[\"a\", \"a\"]"),
        &[(3, 20, "duplicate entry", "differ")],
    );
    for wrong in ["", "a/b", "a b", "..", "0123456789abcdef", "a\\u0000"] {
        check(
            &node("\"a\"", &format!("[\"{wrong}\"]")),
            &[(3, 15, "is not a valid interface name", "1 to 15 bytes")],
        );
    }
    for (line, column, message, expected) in [
        ("state_dir = \"var\"", 13, "not an absolute path", "begins with `/`"),
        ("bpffs = \"\"", 9, "not an absolute path", "begins with `/`"),
        ("bpffs = \"/a\\u0000\"", 9, "NUL", "absolute path"),
        ("socket = \"lbd.sock\"", 10, "not an absolute path", "begins with `/`"),
        (
            "packet_log = \"on\"",
            14,
            "unknown packet log \"on\"",
            "\"off\" or \"debug\" or \"trace\"",
        ),
        ("nat_ports = \"80-90\"", 13, "port 80 is too low", "1024"),
        ("capacity.flows_v4 = 15", 21, "a capacity of 15", "16 to 67108864"),
        (
            "capacity.flows_v6 = 67108865",
            21,
            "a capacity of 67108865",
            "16 to 67108864",
        ),
    ] {
        check(&format!("{NODE}{line}"), &[(4, column, message, expected)]);
    }
    let path = format!("/{}", "a".repeat(107));
    check(
        &format!("{NODE}socket = \"{path}\""),
        &[(4, 10, "108 bytes", "at most 107")],
    );
    accepted(&format!("{NODE}socket = \"{}\"", &path[..107]));
}

#[test]
fn values_of_a_service_are_checked() {
    for (line, column, message, expected) in [
        (
            "mode = \"tunnel\"",
            8,
            "unknown forwarding mode \"tunnel\"",
            "\"nat\" or \"dnat\" or \"dsr\" or \"ipip\" or \"gue\"",
        ),
        ("source = []", 10, "0 source addresses", "1 to 4"),
        (
            "source = [\"2001:db8::1\"]",
            11,
            "2001:db8::1 is IPv6 and the service's address 192.0.2.10 is IPv4",
            "IPv4",
        ),
        (
            "source = [\"192.0.2.1\", \"192.0.2.1\"]",
            24,
            "duplicate entry",
            "differ",
        ),
        (
            "source = [\"1.0.0.1\",\"1.0.0.2\",\"1.0.0.3\",\"1.0.0.4\",\"1.0.0.5\"]",
            10,
            "5 source addresses",
            "1 to 4",
        ),
        ("timeouts.udp = \"500ms\"", 16, "500ms is out of range", "1s to 168h"),
        ("timeouts.closed = \"169h\"", 19, "169h is out of range", "1s to 168h"),
        (
            "health = { type = \"tcp\", path = \"/\" }",
            33,
            "`path` belongs to health checks of type \"http\"",
            "no `path`",
        ),
        (
            "health = { type = \"tcp\", status = [200] }",
            35,
            "`status` belongs to",
            "no `status`",
        ),
        (
            "health = { type = \"tcp\", interval = \"9ms\" }",
            37,
            "9ms is out of range",
            "10ms",
        ),
        (
            "health = { type = \"tcp\", timeout = \"3s\" }",
            36,
            "3s is longer than the interval",
            "2s",
        ),
        ("health = { type = \"tcp\", rise = 0 }", 33, "rise 0", "1 to 100"),
        ("health = { type = \"tcp\", fall = 101 }", 33, "fall 101", "1 to 100"),
        ("health = { type = \"tcp\", port = 0 }", 33, "port 0", "1 to 65535"),
        (
            "health = { type = \"http\", path = \"a\" }",
            34,
            "does not begin with `/`",
            "/healthz",
        ),
        (
            "health = { type = \"http\", path = \"/a b\" }",
            34,
            "is not valid in a request",
            "/healthz",
        ),
        (
            "health = { type = \"http\", path = \"/a#b\" }",
            34,
            "is not valid in a request",
            "/healthz",
        ),
        (
            "health = { type = \"http\", host = \"a b\" }",
            34,
            "not a host",
            "example.org",
        ),
        (
            "health = { type = \"http\", host = \"a@b\" }",
            34,
            "not a host",
            "example.org",
        ),
        (
            "health = { type = \"http\", method = \"G T\" }",
            36,
            "not a method",
            "\"GET\"",
        ),
        (
            "health = { type = \"http\", status = [\"2xx\"] }",
            37,
            "\"2xx\" is not a status",
            "200-299",
        ),
        (
            "health = { type = \"http\", status = [] }",
            36,
            "0 status codes",
            "1 to 32",
        ),
    ] {
        check(&format!("{WEB}{line}"), &[(8, column, message, expected)]);
    }
    check(
        &format!("{NODE}[[service]]\nname = \"a/b\"\naddress = \"224.0.0.1\"\nport = 65536\n"),
        &[
            (5, 8, "the character '/'", "1 to 64"),
            (6, 11, "multicast", "one host"),
            (7, 8, "port 65536 is out of range", "1 to 65535"),
        ],
    );
}

#[test]
fn what_a_mode_cannot_do_is_refused_with_the_reason() {
    let tunnel = format!("{NODE}tunnel.source_v4 = \"198.18.0.0/24\"\n{}", &WEB[NODE.len()..]);
    let backend = |address: &str, port: &str| format!("backend = [{{ address = \"{address}\"{port} }}]\n");
    let (v4, v6) = ("10.0.0.1", "2001:db8::1");
    for (mode, address, port, refusal) in [
        ("nat", v4, ", port = 8080", None),
        ("dnat", v4, ", port = 8080", None),
        ("dsr", v4, ", port = 80", None),
        ("ipip", v4, "", None),
        ("gue", v4, "", None),
        (
            "dsr",
            v4,
            ", port = 8080",
            Some((43, "port 8080 differs from the service's port 80", "80 or no `port`")),
        ),
        (
            "ipip",
            v4,
            ", port = 81",
            Some((43, "port 81", "\"ipip\" does not change the port")),
        ),
        (
            "gue",
            v4,
            ", port = 81",
            Some((43, "port 81", "\"gue\" does not change the port")),
        ),
        (
            "nat",
            v6,
            "",
            Some((
                24,
                "is IPv6 and the service's address 192.0.2.10 is IPv4",
                "the mode \"nat\"",
            )),
        ),
        ("dnat", v6, "", Some((24, "is IPv6", "the mode \"dnat\""))),
        ("dsr", v6, "", Some((24, "is IPv6", "the mode \"dsr\""))),
        (
            "ipip",
            v6,
            "",
            Some((24, "no IPv6 source address", "`source_v6` in `[node.tunnel]`")),
        ),
        (
            "gue",
            v6,
            "",
            Some((24, "no IPv6 source address", "an IPv6 `tunnel_source`")),
        ),
    ] {
        let text = format!("{tunnel}{}mode = \"{mode}\"\n", backend(address, port));
        match refusal {
            None => drop(accepted(&text)),
            Some((column, message, expected)) => check(&text, &[(9, column, message, expected)]),
        }
    }
    for (lines, column, message, expected) in [
        (
            "source = [\"192.0.2.1\"]\nmode = \"dnat\"",
            10,
            "`source` has no meaning in the mode \"dnat\"",
            "`mode` = \"nat\"",
        ),
        (
            "toa = true\nmode = \"dsr\"",
            7,
            "`toa` has no meaning in the mode \"dsr\"",
            "no `toa`",
        ),
        (
            "toa = true\nprotocol = \"udp\"",
            7,
            "`toa` needs TCP",
            "`protocol` = \"tcp\"",
        ),
        (
            "tunnel_source = \"10.0.0.0/24\"",
            17,
            "the mode \"nat\"",
            "\"ipip\" or \"gue\"",
        ),
        (
            "gue_port = 1\nmode = \"ipip\"",
            12,
            "`gue_port` has no meaning in the mode \"ipip\"",
            "\"gue\"",
        ),
        (
            "syn_flood_rate = 1",
            18,
            "the mode \"nat\"",
            "\"dsr\" or \"ipip\" or \"gue\"",
        ),
        (
            "source_prefix = 24",
            17,
            "with the scheduler \"round-robin\"",
            "\"source-hash\"",
        ),
        (
            "source_prefix = 33\nscheduler = \"source-hash\"",
            17,
            "a prefix of 33",
            "1 to 32",
        ),
    ] {
        check(&format!("{WEB}{lines}\n"), &[(8, column, message, expected)]);
    }
    accepted(&format!("{WEB}toa = false\nmode = \"dsr\"\n"));
    accepted(&format!("{WEB}toa = true\n"));
}

#[test]
fn passive_checks_are_accepted_only_where_replies_pass_the_balancer() {
    let passive = |keys: &str, health: &str| accepted(&format!("{WEB}{keys}\n{health}\n")).services[0].passive;
    const CHECK: &str = "[service.health]\ntype = \"tcp\"";
    for (keys, health, expected) in [
        ("", "", false),
        ("", CHECK, true),
        ("mode = \"dnat\"", CHECK, true),
        ("mode = \"dsr\"", CHECK, false),
        ("protocol = \"udp\"", CHECK, false),
        ("", "[service.health]\ntype = \"tcp\"\npassive = false", false),
        (
            "mode = \"gue\"\ntunnel_source = \"10.0.0.0/8\"",
            "[service.health]\ntype = \"tcp\"\npassive = false",
            false,
        ),
        (
            "mode = \"dnat\"",
            "[service.health]\ntype = \"tcp\"\npassive = true",
            true,
        ),
    ] {
        assert_eq!(passive(keys, health), expected, "{keys} {health}");
    }
    for (key, message, expected) in [
        (
            "mode = \"dsr\"",
            "`passive` has no meaning in the mode \"dsr\"",
            "`mode` = \"nat\" or \"dnat\"",
        ),
        (
            "protocol = \"udp\"",
            "`passive` needs TCP, and the service is UDP",
            "`protocol` = \"tcp\"",
        ),
    ] {
        let text = format!("{WEB}{key}\n[service.health]\ntype = \"tcp\"\npassive = true\n");
        check(&text, &[(11, 11, message, expected)]);
    }
}

#[test]
fn the_source_of_a_tunnel_is_that_of_the_service_or_else_of_the_node() {
    for (line, column, message, expected) in [
        (
            "tunnel.source_v4 = \"fd00::/96\"",
            20,
            "fd00::/96 is IPv6",
            "an IPv4 prefix",
        ),
        (
            "tunnel.source_v6 = \"10.0.0.0/8\"",
            20,
            "10.0.0.0/8 is IPv4",
            "an IPv6 prefix",
        ),
        ("tunnel.source_v6 = \"fd00::/64\"", 20, "too short", "/96 to /128"),
        (
            "tunnel.source_v4 = \"10.0.0.1/24\"",
            20,
            "has host bits",
            "\"10.0.0.0/24\"",
        ),
        ("tunnel.gue_port = 0", 19, "port 0", "1 to 65535"),
        ("tunnel.port = 1", 8, "unknown key `port`", "`gue_port`"),
    ] {
        check(&format!("{NODE}{line}"), &[(4, column, message, expected)]);
    }
    let service = |own: &str| {
        let text = format!(
            "{NODE}tunnel.source_v4 = \"198.18.0.0/24\"\n{}mode = \"ipip\"\n{own}backend = [{{ address = \"10.0.0.1\" }}]\n",
            &WEB[NODE.len()..]
        );
        let service = accepted(&text).services.remove(0);
        let source = service.tunnel.source(service.backends[0].address.ip());
        source.map(|source| source.to_string())
    };
    assert_eq!(service("").as_deref(), Some("198.18.0.0/24"));
    assert_eq!(
        service("tunnel_source = \"198.18.7.1\"\n").as_deref(),
        Some("198.18.7.1/32")
    );
    // What is said of the other family changes nothing.
    assert_eq!(
        service("tunnel_source = \"fd00::/96\"\n").as_deref(),
        Some("198.18.0.0/24")
    );
}

/// Lines 1 to 7: a service with a range of ports.
fn ranged(ports: &str) -> String {
    format!("{NODE}[[service]]\nname = \"range\"\naddress = \"192.0.2.10\"\nports = \"{ports}\"\n")
}

#[test]
fn a_service_has_a_port_or_a_range_of_them() {
    check(
        &format!("{WEB}ports = \"any\"\n"),
        &[(8, 9, "both `port` and `ports`", "one of the two")],
    );
    check(&ranged("8000"), &[(7, 9, "not a range", "8000-8099")]);
    check(
        &format!(
            "{}backend = [{{ address = \"10.0.0.1\", port = 80 }}]\n",
            ranged("8000-8099")
        ),
        &[(8, 43, "`port` is not allowed", "no `port`")],
    );
    check(
        &format!("{}health = {{ type = \"tcp\" }}\n", ranged("any")),
        &[(8, 10, "`port` is missing", "the port to check")],
    );
    check(
        &format!("{}backend = [{{ address = \"192.0.2.10\" }}]\n", ranged("any")),
        &[(
            8,
            24,
            "the backend 192.0.2.10 has the address of the service",
            "a worker",
        )],
    );
    let text = format!(
        "{}health = {{ type = \"tcp\", port = 22 }}\nbackend = [{{ address = \"10.0.0.1\" }}]\n",
        ranged("any")
    );
    let service = accepted(&text).services.remove(0);
    assert_eq!(service.ports, PortRange { low: 1, high: 65535 });
    assert_eq!(
        (service.backends[0].address.port(), service.backends[0].name.as_str()),
        (0, "10.0.0.1")
    );
}

#[test]
fn ranges_of_one_address_and_protocol_do_not_overlap() {
    let second = |lines: &str| {
        let first = ranged("8000-8099");
        format!("{first}[[service]]\nname = \"second\"\naddress = \"192.0.2.10\"\n{lines}\n")
    };
    for lines in [
        "ports = \"8099-8200\"",
        "ports = \"7000-9000\"",
        "ports = \"8010-8011\"",
        "ports = \"any\"",
    ] {
        check(
            &second(lines),
            &[(
                11,
                9,
                "overlap the ports 8000-8099 of the service \"range\"",
                "without common ports",
            )],
        );
    }
    for lines in [
        "ports = \"8100-8200\"",
        "ports = \"any\"\nprotocol = \"udp\"",
        "port = 8000",
        "port = 8050",
    ] {
        accepted(&second(lines));
    }
}

#[test]
fn values_of_a_guard_are_checked() {
    for (line, column, message, expected) in [
        ("allow = []", 9, "0 allowed prefixes", "1 to 4096"),
        (
            "allow = [\"10.0.0.0/8\", \"10.0.0.0/8\"]",
            24,
            "duplicate entry",
            "differ",
        ),
        ("allow = [\"10.0.0.1/8\"]", 10, "has host bits", "\"10.0.0.0/8\""),
        (
            "deny = [\"2001:db8::/32\"]",
            9,
            "is IPv6 and the service's address 192.0.2.10 is IPv4",
            "IPv4 prefix",
        ),
        ("deny = [\"everybody\"]", 9, "not a prefix", "192.0.2.0/24"),
        ("connection_limit = 0", 20, "a limit of 0", "1 to 1073741824"),
        ("source_rate = 0", 15, "0 is not a rate", "\"100/s\""),
        ("source_rate = \"100/m\"", 15, "\"100/m\" is not a rate", "\"100/s\""),
        ("source_rate = 1.5", 15, "`source_rate` is a float", "a rate such as"),
        (
            "source_burst = 5",
            16,
            "no meaning without `source_rate`",
            "`source_rate`",
        ),
        ("slow_start = \"500ms\"", 14, "500ms is out of range", "1s to 1h"),
    ] {
        check(&format!("{WEB}{line}"), &[(8, column, message, expected)]);
    }
    check(
        &format!("{WEB}allow = [\"10.0.0.0/8\", \"10.1.0.0/16\"]\ndeny = [\"10.1.0.0/16\"]\n"),
        &[(9, 9, "10.1.0.0/16 is in `allow` and in `deny`", "only one of the lists")],
    );
    let guard = |lines: &str| accepted(&format!("{WEB}{lines}")).services.remove(0).guard;
    assert_eq!(guard(""), Guard::default());
    assert_eq!(
        (
            guard("source_rate = 7").source_rate,
            guard("source_rate = 7").source_burst
        ),
        (7, 7)
    );
    assert_eq!(guard("source_rate = \"7/s\"\nsource_burst = 50").source_burst, 50);
    assert_eq!(guard("mode = \"dsr\"").flood_rate, 50_000);
    assert_eq!(guard("mode = \"dsr\"\nsyn_flood_rate = 0").flood_rate, 0);
    let lists = guard("allow = [\"0.0.0.0/0\"]\ndeny = [\"192.0.2.7\"]");
    assert_eq!(lists.deny[0].to_string(), "192.0.2.7/32");
}

#[test]
fn fallback_backends_are_backends_without_weight() {
    let both = "backend = [{ address = \"10.0.0.1\" }]\n";
    check(
        &format!("{WEB}fallback = [{{ address = \"10.0.0.9\", weight = 2 }}]"),
        &[(8, 37, "unknown key `weight`", "`name`")],
    );
    check(
        &format!("{WEB}{both}fallback = [{{ address = \"10.0.0.1\" }}]"),
        &[(9, 25, "two backends have the address 10.0.0.1:80", "differ")],
    );
    let service = accepted(&format!("{WEB}{both}fallback = [{{ address = \"10.0.0.9\" }}]"))
        .services
        .remove(0);
    let shown: Vec<_> = service
        .backends
        .iter()
        .map(|backend| (backend.name.as_str(), backend.fallback))
        .collect();
    assert_eq!(shown, [("10.0.0.1:80", false), ("10.0.0.9:80", true)]);
}

#[test]
fn ranges_and_guards_may_use_half_of_their_maps() {
    let service = |i: usize, lines: &str| format!("[[service]]\nname = \"s{i}\"\naddress = \"10.0.0.{i}\"\n{lines}\n");
    // Each of the widest ranges takes 30 blocks.
    let ranges = |count| -> String { (1..=count).map(|i| service(i, "ports = \"1-65534\"")).collect() };
    accepted(&format!("{NODE}{}", ranges(68)));
    check(
        &format!("{NODE}{}", ranges(70)),
        &[(
            4 + 68 * 4,
            1,
            "the services up to \"s69\" have too many blocks of ports",
            "at most 2048",
        )],
    );
    let denied: Vec<_> = (0..4000)
        .map(|i| format!("\"172.16.{}.{}\"", i / 250, i % 250))
        .collect();
    let guarded = |count| -> String {
        let lines = format!("port = 80\ndeny = [{}]", denied.join(", "));
        (1..=count).map(|i| service(i, &lines)).collect()
    };
    accepted(&format!("{NODE}{}", guarded(8)));
    check(
        &format!("{NODE}{}", guarded(9)),
        &[(4 + 8 * 5, 1, "too many allowed and denied prefixes", "at most 32768")],
    );
}

#[test]
fn values_of_a_backend_are_checked() {
    for (line, column, message, expected) in [
        (
            "{ address = \"2001:db8::1\" }",
            24,
            "2001:db8::1 is IPv6 and the service's address 192.0.2.10 is IPv4",
            "IPv4",
        ),
        (
            "{ address = \"192.0.2.10\" }",
            24,
            "the backend 192.0.2.10:80 has the address of the service",
            "a worker",
        ),
        (
            "{ address = \"192.0.2.10\", port = 81 }",
            24,
            "the backend 192.0.2.10:81 has the address of the service",
            "a worker",
        ),
        (
            "{ address = \"10.0.0.1\", weight = 1001 }",
            45,
            "weight 1001",
            "0 to 1000",
        ),
        ("{ address = \"10.0.0.1\", weight = -1 }", 45, "weight -1", "0 to 1000"),
        ("{ address = \"10.0.0.1\", port = 0 }", 43, "port 0", "1 to 65535"),
        (
            "{ address = \"10.0.0.1\", name = \"ä\" }",
            43,
            "the character 'ä'",
            "1 to 64",
        ),
        (
            "{ address = \"10.0.0.1\" }, { address = \"10.0.0.1\" }",
            50,
            "two backends have the address 10.0.0.1:80",
            "differ",
        ),
        (
            "{ address = \"10.0.0.1\", name = \"a\" }, { address = \"10.0.0.2\", name = \"a\" }",
            81,
            "the name \"a\"",
            "different names",
        ),
        (
            "{ address = \"10.0.0.1\" }, { address = \"10.0.0.2\", name = \"10.0.0.1:80\" }",
            69,
            "the name \"10.0.0.1:80\"",
            "different",
        ),
    ] {
        check(&format!("{WEB}backend = [{line}]"), &[(8, column, message, expected)]);
    }
}

#[test]
fn services_differ_in_name_and_in_address_port_and_protocol() {
    check(
        &format!("{WEB}[[service]]\nname = \"web\"\naddress = \"192.0.2.10\"\nport = 80\n"),
        &[
            (9, 8, "two services have the name \"web\"", "different names"),
            (
                10,
                11,
                "two services have the address 192.0.2.10:80 (tcp)",
                "differ in address, port or protocol",
            ),
        ],
    );
}

fn backends(weights: impl IntoIterator<Item = u32>) -> String {
    let backend = |(i, weight)| {
        format!(
            "{{ address = \"10.0.{}.{}\", weight = {weight} }}",
            i / 250,
            i % 250 + 1
        )
    };
    format!(
        "backend = [{}]\n",
        weights
            .into_iter()
            .enumerate()
            .map(backend)
            .collect::<Vec<_>>()
            .join(", ")
    )
}

#[test]
fn a_file_that_does_not_fit_into_the_maps_is_refused() {
    let capacity = |line: &str, service: &str| format!("{NODE}capacity.{line}\n{}{service}", &WEB[NODE.len()..]);
    for (line, weights, needed) in [
        ("ring_slots = 16", vec![8], None),
        ("ring_slots = 16", vec![4, 4], None),
        ("ring_slots = 16", vec![3, 5], None),
        ("ring_slots = 16", vec![3, 6, 0], None),
        (
            "ring_slots = 16",
            vec![4, 5],
            Some("the file needs 18 ring_slots, but the capacity is 16"),
        ),
        (
            "ring_slots = 16",
            vec![999, 1000],
            Some("the file needs 3998 ring_slots"),
        ),
        ("backends = 16", vec![0; 16], None),
        (
            "backends = 16",
            vec![0; 17],
            Some("the file needs 17 backends, but the capacity is 16"),
        ),
    ] {
        let text = capacity(line, &backends(weights));
        match needed {
            None => drop(accepted(&text)),
            Some(message) => check(&text, &[(4, line.find("16").unwrap() + 10, message, "at least")]),
        }
    }
    for (service, needed) in [
        ("scheduler = \"maglev\"\n", 131_074),
        ("scheduler = \"source-hash\"\n", 131_074),
        ("scheduler = \"random\"\n", 18),
        ("slow_start = \"10s\"\n", 2 * 9 * 100),
        ("slow_start = \"10s\"\nscheduler = \"least-connection\"\n", 0),
    ] {
        let text = capacity("ring_slots = 16", &format!("{service}{}", backends([4, 5])));
        let message = format!("the file needs {needed} ring_slots");
        match needed {
            0 => drop(accepted(&text)),
            _ => check(&text, &[(4, 23, &message, "at least")]),
        }
    }
    let least = |count| {
        capacity(
            "ring_slots = 32",
            &format!("scheduler = \"least-connection\"\n{}", backends(vec![7; count])),
        )
    };
    accepted(&least(16));
    check(
        &least(17),
        &[(
            4,
            23,
            "needs 34 ring_slots",
            "`ring_slots` = at least 34 in `[node.capacity]`",
        )],
    );
}

#[test]
fn a_default_size_that_is_too_small_is_reported_at_the_first_service_that_does_not_fit() {
    let service = |i: usize| {
        format!(
            "[[service]]\nname = \"s{i}\"\naddress = \"192.0.2.1\"\nport = {}\n",
            i + 1
        )
    };
    let text: String = (0..4100).map(service).collect();
    check(
        &format!("{NODE}{text}"),
        &[(
            4 + 4096 * 4,
            1,
            "needs 4100 services, but the capacity is 4096",
            "at least 4100",
        )],
    );
}

#[test]
fn the_text_of_an_error_shows_the_place() {
    let error = refused("[node]\nname = \"lb1\"\ninterfaces = [\"eth0\", \"eth0\"]\nxdp_mode = \"natve\"\n");
    let expected = r#"
error: duplicate entry
 --> lbd.toml:3:23
  |
3 | interfaces = ["eth0", "eth0"]
  |               ------  ^^^^^^ expected interfaces that all differ
  |               |
  |               first here

error: unknown XDP mode "natve"
 --> lbd.toml:4:12
  |
4 | xdp_mode = "natve"
  |            ^^^^^^^ expected "auto" or "native" or "generic"
  |
  = help: did you mean `native`?

2 errors in lbd.toml"#;
    assert_eq!(error.to_string(), expected.trim_start());
}

#[test]
fn diagnostics_serialize_for_programs() {
    let error = refused("[node]\nname = \"lb1\"\ninterfaces = [\"eth0\"]\nxdp_mode = \"natve\"\nsocket = \"a\"\n");
    let expected = serde_json::json!([
        { "file": "lbd.toml", "line": 4, "column": 12, "message": "unknown XDP mode \"natve\"",
          "expected": "\"auto\" or \"native\" or \"generic\"", "suggestion": "native" },
        { "file": "lbd.toml", "line": 5, "column": 10, "message": "\"a\" is not an absolute path",
          "expected": "a path that begins with `/`" },
    ]);
    assert_eq!(serde_json::to_value(error.diagnostics()).unwrap(), expected);
}

#[test]
fn a_file_that_is_not_utf8_is_refused_at_the_first_wrong_byte() {
    let error = parse_bytes("lbd.toml", b"[node]\nname = \"\xc3\xa4\xff\xfe\"".to_vec()).unwrap_err();
    let [finding] = error.diagnostics() else {
        panic!("{error}")
    };
    assert_eq!((finding.line, finding.column), (2, 10));
    assert_eq!(finding.message, "byte 0xff is not UTF-8");
}

#[test]
fn hostile_files_are_refused_like_any_other() {
    for text in [
        "[".repeat(100_000),
        format!("a = {}", "[".repeat(100_000)),
        format!("a = {}", "{ a = ".repeat(100_000)),
        format!("{} = 1", vec!["a"; 100_000].join(".")),
        format!("[{}]", vec!["a"; 100_000].join(".")),
        "x = 1\n".repeat(10_000),
        (0..10_000).map(|i| format!("x{i} = 1\n")).collect(),
        format!("{NODE}name\u{1b}[31m = 1"),
        "[node]\nname = \"\\u001b[31m\u{202e}\"\ninterfaces = [\"\t\u{200b}\"]".to_owned(),
        "\0".to_owned(),
        "\r".to_owned(),
        "\u{feff}".to_owned(),
    ] {
        let error = refused(&text).to_string();
        assert!(!error.contains('\u{1b}'), "{error}");
    }
}

/// Values that may be invalid anywhere.
const PIECES: &[&str] = &[
    "0",
    "-1",
    "1e9",
    "nan",
    "99999999999999999999999999999999999999999",
    "true",
    "1979-05-27",
    "\"\"",
    "\"::1\"",
    "\"0-0\"",
    "\"10s\"",
    "[]",
    "{}",
    "{ a = 'b', A = 'c' }",
    "[[service]]",
    "[[service.backend]]",
    "[node]",
    "\u{1f980}",
    "\u{feff}",
    "\0",
];

fn mutations() -> impl Strategy<Value = Vec<(prop::sample::Index, usize, String)>> {
    let piece = prop_oneof![
        any::<char>().prop_map(String::from),
        "[\\[\\]{}=.,\"'#\n\r\t 0-9a-z_-]{0,6}",
        prop::sample::select(PIECES).prop_map(str::to_owned),
    ];
    prop::collection::vec((any::<prop::sample::Index>(), 0..12_usize, piece), 1..8)
}

/// How many tables of each kind the text has.
fn tables(text: &str) -> [usize; 5] {
    fn below<'a>(table: &'a toml::Value, key: &str) -> &'a [toml::Value] {
        table
            .get(key)
            .and_then(toml::Value::as_array)
            .map_or(&[], Vec::as_slice)
    }
    let file: toml::Value = toml::Value::Table(text.parse().unwrap());
    let within = |outer, inner| below(&file, outer).iter().map(|table| below(table, inner).len()).sum();
    [
        below(&file, "service").len(),
        within("service", "backend"),
        within("service", "fallback"),
        below(&file, "vrrp").len(),
        within("vrrp", "track"),
    ]
}

/// The same of a configuration.
fn tables_of(config: &Config) -> [usize; 5] {
    let backends = || config.services.iter().flat_map(|service| &service.backends);
    let fallback = backends().filter(|backend| backend.fallback).count();
    [
        config.services.len(),
        backends().count() - fallback,
        fallback,
        config.vrrp.len(),
        config.vrrp.iter().map(|vrrp| vrrp.tracks.len()).sum(),
    ]
}

/// Asserts that the result is either a configuration with all tables of the text, or an error that
/// points into the text.
fn accepted_or_refused(text: &str) -> Result<(), TestCaseError> {
    let error = match parse("lbd.toml", text) {
        Ok(config) => {
            prop_assert_eq!(tables_of(&config), tables(text));
            return Ok(());
        }
        Err(error) => error,
    };
    prop_assert!(!error.diagnostics().is_empty());
    for finding in error.diagnostics() {
        prop_assert!(finding.line <= text.matches('\n').count() + 1);
        prop_assert!(!finding.message.is_empty() && !finding.expected.is_empty());
        prop_assert!(!finding.message.contains("this is a bug in lbd"), "{}", error);
    }
    prop_assert!(error.to_string().starts_with("error: "));
    Ok(())
}

#[test]
fn headers_that_differ_only_in_case_are_refused_at_their_place() {
    let backend = "[[service.backend]]\naddress = \"10.0.0.1\"\n";
    let twice = "headers = { \"X-Probe\" = \"a\", \"x-probe\" = \"b\" }";
    let text = format!("{WEB}health = {{ type = \"http\", {twice} }}\n{backend}");
    check(&text, &[(8, 56, "duplicate header \"x-probe\"", "all differ")]);
    let text = format!("{WEB}{backend}health = {{ type = \"http\", {twice} }}\n");
    check(&text, &[(10, 56, "duplicate header \"x-probe\"", "all differ")]);
}

#[test]
fn a_table_that_is_refused_without_a_diagnostic_makes_the_file_invalid() {
    let mut diagnostics = diagnostics::Diagnostics::default();
    assert_eq!(diagnostics.table(3..5, |_| None::<()>), None);
    // The outer table adds no second diagnostic.
    assert_eq!(diagnostics.table(0..9, |_| None::<()>), None);
    let found = diagnostics.into_vec();
    assert_eq!((found.len(), &found[0].span), (1, &(3..5)));
}

#[test]
fn each_of_many_values_in_each_place_is_accepted_or_refused() {
    let lines: Vec<_> = EXAMPLE.lines().filter(|line| !line.starts_with('#')).collect();
    for (at, line) in lines.iter().enumerate() {
        let Some((key, _)) = line.split_once('=') else { continue };
        for piece in PIECES {
            let changed = format!("{key}= {piece}");
            let text = [&lines[..at], &[changed.as_str()], &lines[at + 1..]]
                .concat()
                .join("\n");
            accepted_or_refused(&text).unwrap_or_else(|error| panic!("{changed}: {error}"));
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 512, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_text_is_accepted_or_refused(text in any::<String>()) {
        accepted_or_refused(&text)?;
    }

    #[test]
    fn any_bytes_are_accepted_or_refused(bytes in any::<Vec<u8>>()) {
        drop(parse_bytes("lbd.toml", bytes));
    }

    #[test]
    fn any_change_of_the_bytes_of_the_example_is_accepted_or_refused(
        changes in prop::collection::vec((any::<prop::sample::Index>(), 0..64_usize, any::<Vec<u8>>()), 1..6),
    ) {
        let mut bytes = EXAMPLE.as_bytes().to_vec();
        for (at, removed, piece) in changes {
            let at = at.index(bytes.len() + 1);
            let end = (at + removed).min(bytes.len());
            bytes.splice(at..end, piece);
        }
        if let Err(error) = parse_bytes("lbd.toml", bytes) {
            prop_assert!(!error.diagnostics().is_empty());
        }
    }

    #[test]
    fn any_change_of_the_example_is_accepted_or_refused(mutations in mutations()) {
        let mut text: Vec<char> = EXAMPLE.chars().collect();
        for (at, removed, piece) in mutations {
            let at = at.index(text.len() + 1);
            let end = (at + removed).min(text.len());
            text.splice(at..end, piece.chars());
        }
        accepted_or_refused(&text.into_iter().collect::<String>())?;
    }

    #[test]
    fn any_value_in_any_place_is_accepted_or_refused(line in any::<prop::sample::Index>(), value in mutations()) {
        let mut lines: Vec<String> = EXAMPLE.lines().filter(|line| !line.starts_with('#')).map(str::to_owned).collect();
        for (_, _, value) in value {
            let line = line.get_mut(&mut lines);
            if let Some((key, _)) = line.split_once('=') {
                *line = format!("{key}={value}");
            }
            accepted_or_refused(&lines.join("\n"))?;
        }
    }
}

#[test]
fn the_file_in_the_readme_is_valid_and_has_the_backends_that_its_commands_name() {
    let readme = include_str!("../../../../README.md");
    let (_, rest) = readme.split_once("```toml\n").unwrap();
    let (text, commands) = rest.split_once("```").unwrap();
    let config = parse("README.md", text).unwrap_or_else(|error| panic!("{error}"));
    let names = config.services.iter().flat_map(|service| {
        service
            .backends
            .iter()
            .map(|backend| format!("{}/{}", service.name, backend.name))
    });
    let names: Vec<_> = names.collect();
    let named: Vec<_> = commands
        .lines()
        .filter_map(|line| line.strip_prefix("lbctl backend drain "))
        .filter_map(|rest| rest.split(' ').next())
        .collect();
    assert!(!named.is_empty());
    for name in named {
        assert!(names.iter().any(|known| known == name), "{name} is not in {names:?}");
    }
}
