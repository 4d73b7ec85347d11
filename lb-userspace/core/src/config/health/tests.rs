//! The keys of health checks: which are accepted, what they mean, and the errors of those that are
//! refused.

use std::{sync::Arc, time::Duration};

use crate::config::{CheckTarget, Config, Flaps, HealthCheck, Initial, Pattern, Probe, Timing, model::Tls, parse};

/// A service on one line, with these keys.
fn config(protocol: &str, health: &str, backends: &str) -> Result<Config, String> {
    let text = format!(
        "node = {{ name = \"n\", interfaces = [\"eth0\"] }}\n[[service]]\nname = \"s\"\naddress = \"192.0.2.1\"\n\
         port = 80\nprotocol = \"{protocol}\"\n{health}\n{backends}\n"
    );
    parse("lbd.toml", &text).map_err(|error| {
        let found: Vec<_> = error.diagnostics().iter().map(|found| found.message.clone()).collect();
        found.join("; ")
    })
}

fn check_of(protocol: &str, health: &str) -> Result<Arc<HealthCheck>, String> {
    let backends = "[[service.backend]]\naddress = \"10.0.0.1\"";
    let config = config(protocol, &format!("health = {{ {health} }}"), backends)?;
    Ok(config.services[0].backends[0].health.clone().unwrap())
}

#[test]
fn every_type_accepts_its_keys() {
    for (protocol, health) in [
        ("tcp", "type = 'tcp'"),
        ("tcp", "type = 'http', headers = { x-a = 'b' }, body_contains = 'ok'"),
        ("tcp", "type = 'https', verify = false"),
        (
            "tcp",
            "type = 'https', host = 'a.example:8443', ca_file = '/ca', certificate = '/c', key = '/k', body_matches = '^a'",
        ),
        ("tcp", "type = 'grpc', grpc_service = 'shop.Cart', host = 'a.example'"),
        ("tcp", "type = 'grpc', tls = true, server_name = 'a.example'"),
        ("udp", "type = 'udp', send = 'ping', reply_contains = 'pong'"),
        ("udp", "type = 'udp', send_hex = '00 ff', reply_matches = '(?-u)^\\x00'"),
        ("udp", "type = 'udp', send = 'x', require_reply = false"),
        (
            "udp",
            "type = 'dns', query = 'example.org', record = 'MX', answers = ['10 mail.example.org']",
        ),
        ("tcp", "type = 'icmp'"),
        (
            "tcp",
            "type = 'command', argv = ['/bin/check', '-x'], environment = { A = 'b' }, user = 'daemon'",
        ),
    ] {
        let found = check_of(protocol, health);
        assert!(found.is_ok(), "{health}: {found:?}");
    }
}

#[test]
fn keys_have_their_documented_meaning() {
    let check = check_of(
        "tcp",
        "type = 'https', host = 'a.example:8443', interval = '4s', fast_interval = '500ms', jitter = 0, timeout = '2s', \
         initial = 'up', flap_limit = 3, certificate = '/c', key = '/k', body_contains = 'ok'",
    )
    .unwrap();
    let seconds = Duration::from_secs;
    let timing = Timing {
        interval: seconds(4),
        fast_interval: Duration::from_millis(500),
        jitter: 0,
        timeout: seconds(2),
    };
    assert_eq!(check.timing, timing);
    let flaps = Flaps {
        limit: 3,
        period: seconds(300),
    };
    assert_eq!((check.rules.initial, check.rules.flaps), (Initial::Up, Some(flaps)));
    let Probe::Http(probe) = &check.probe else {
        panic!("{check:?}")
    };
    assert_eq!(probe.body, Some(Pattern::contains("ok")));
    let tls = probe.tls.as_ref().unwrap();
    // The server name comes from `host`, without the port.
    assert_eq!((tls.server_name.as_deref(), tls.verify), (Some("a.example"), true));
    let identity = Tls {
        certificate: "/c".into(),
        key: "/k".into(),
    };
    assert_eq!(tls.identity, Some(identity));

    let Probe::Udp(probe) = &check_of("udp", "type = 'udp', send_hex = '00ff'").unwrap().probe else {
        panic!("not UDP")
    };
    assert_eq!((probe.payload.as_slice(), probe.require_reply), (&[0, 255][..], true));
    for (protocol, tcp) in [("udp", false), ("tcp", true)] {
        let check = check_of(protocol, "type = 'dns', query = 'Example.org.'").unwrap();
        let Probe::Dns(probe) = &check.probe else {
            panic!("{check:?}")
        };
        assert_eq!(
            (probe.name.as_str(), probe.record.as_str(), probe.tcp),
            ("Example.org", "A", tcp)
        );
    }
}

/// Keys of a check, and part of the error that they cause.
const INVALID: &[(&str, &str)] = &[
    ("type = 'htp'", "unknown type of health check \"htp\""),
    (
        "type = 'tcp', body_contains = 'a'",
        "`body_contains` belongs to health checks of type \"http\" or \"https\"",
    ),
    ("type = 'icmp', port = 7", "`port` belongs to"),
    (
        "type = 'http', ca_file = '/x'",
        "`ca_file` belongs to health checks of type \"https\" or \"grpc\"",
    ),
    ("type = 'http', body_contains = ''", "the text is empty"),
    (
        "type = 'http', body_contains = 'a', body_matches = 'b'",
        "`body_contains` and `body_matches` exclude each other",
    ),
    (
        "type = 'http', body_matches = '('",
        "\"(\" is not a regular expression: unclosed group",
    ),
    (
        "type = 'http', body_matches = '\\w{1000}{1000}'",
        "is not a regular expression: ",
    ),
    (
        "type = 'http', method = 'HEAD', body_contains = 'a'",
        "a response to HEAD has no body",
    ),
    (
        "type = 'http', headers = { Host = 'a' }",
        "the header \"Host\" cannot be set here",
    ),
    (
        "type = 'http', headers = { X-Probe = 'a', y = 'b', x-probe = 'c' }",
        "duplicate header \"x-probe\"",
    ),
    (
        "type = 'http', headers = { 'a b' = 'c' }",
        "\"a b\" is not a header name",
    ),
    (
        "type = 'http', headers = { a = \"b\\n\" }",
        "\"b\\n\" is not a valid header value",
    ),
    (
        "type = 'https', ca_file = 'ca.pem'",
        "\"ca.pem\" is not an absolute path",
    ),
    (
        "type = 'https', ca_file = '/ca', verify = false",
        "`ca_file` has no meaning with `verify` = false",
    ),
    ("type = 'https', certificate = '/c'", "`certificate` without `key`"),
    ("type = 'https', key = '/c'", "`key` without `certificate`"),
    ("type = 'https', server_name = 'a b'", "\"a b\" is not a server name"),
    (
        "type = 'grpc', server_name = 'a'",
        "`server_name` has no meaning without TLS",
    ),
    ("type = 'grpc', path = '/'", "`path` belongs to"),
    ("type = 'udp'", "`send` is missing"),
    ("type = 'udp', send = ''", "the payload is empty"),
    (
        "type = 'udp', send = 'a', send_hex = '00'",
        "`send` and `send_hex` exclude each other",
    ),
    ("type = 'udp', send_hex = '0'", "\"0\" is not hexadecimal"),
    (
        "type = 'udp', send = 'a', reply_contains = 'b', require_reply = false",
        "`require_reply` = false excludes `reply_contains`",
    ),
    ("type = 'dns'", "`query` is missing"),
    ("type = 'dns', query = 'a..b'", "\"a..b\" is not a domain name"),
    ("type = 'dns', query = 'a', record = 'a'", "unknown record type \"a\""),
    (
        "type = 'dns', query = 'a', record = 'ANY'",
        "unknown record type \"ANY\"",
    ),
    (
        "type = 'dns', query = 'a', answers = ['2001:db8::1']",
        "\"2001:db8::1\" is not an IPv4 address",
    ),
    ("type = 'command'", "`argv` is missing"),
    ("type = 'command', argv = []", "`argv` has 0 items"),
    (
        "type = 'command', argv = ['check']",
        "\"check\" is not an absolute path",
    ),
    (
        "type = 'command', argv = ['/check'], user = 'root'",
        "checks do not run commands as root",
    ),
    (
        "type = 'command', argv = ['/check'], environment = { LBD_PORT = '1' }",
        "\"LBD_PORT\" is not allowed as an environment variable",
    ),
    (
        "type = 'tcp', fast_interval = '3s'",
        "the fast interval 3s is longer than the interval",
    ),
    ("type = 'tcp', jitter = 51", "jitter 51 is out of range"),
    ("type = 'tcp', initial = 'healthy'", "unknown initial state \"healthy\""),
    (
        "type = 'tcp', flap_period = '5s'",
        "`flap_period` has no meaning without `flap_limit`",
    ),
    ("type = 'tcp', flap_limit = 101", "flap limit 101 is out of range"),
    (
        "type = 'tcp', panic_threshold = 101",
        "panic threshold 101 is out of range",
    ),
    (
        "type = 'tcp', panic_threshold = -1",
        "panic threshold -1 is out of range",
    ),
];

#[test]
fn invalid_keys_are_reported() {
    for (health, message) in INVALID {
        let found = check_of("tcp", health).expect_err(health);
        assert!(found.contains(message), "{health}: {found}");
        assert!(!found.contains("; "), "{health}: reported once: {found}");
    }
}

/// The target of a check with these keys, of a service in this mode.
fn target_of(mode: &str, health: &str) -> Result<CheckTarget, String> {
    let tunnel = if mode == "ipip" {
        "tunnel_source = \"198.18.0.0/24\"\n"
    } else {
        ""
    };
    let keys = format!("mode = \"{mode}\"\n{tunnel}health = {{ {health} }}");
    let config = config("tcp", &keys, "[[service.backend]]\naddress = \"10.0.0.1\"")?;
    Ok(config.services[0].backends[0].health.clone().unwrap().target)
}

#[test]
fn the_virtual_address_can_be_checked_in_modes_that_keep_it() {
    let source = |source: Option<&str>| CheckTarget::Virtual {
        source: source.map(|source| source.parse().unwrap()),
    };
    for (mode, health, then) in [
        ("dsr", "type = 'tcp'", CheckTarget::Backend),
        ("dsr", "type = 'http', target = 'virtual'", source(None)),
        (
            "ipip",
            "type = 'tcp', target = 'virtual', source = '192.0.2.9'",
            source(Some("192.0.2.9")),
        ),
        ("nat", "type = 'tcp', target = 'backend'", CheckTarget::Backend),
    ] {
        assert_eq!(target_of(mode, health), Ok(then), "{mode} {health}");
    }
}

#[test]
fn a_target_that_does_not_fit_the_service_is_refused() {
    for (mode, health, message) in [
        (
            "nat",
            "type = 'tcp', target = 'virtual'",
            "has no meaning in the mode \"nat\"",
        ),
        (
            "dnat",
            "type = 'tcp', target = 'virtual'",
            "has no meaning in the mode \"dnat\"",
        ),
        ("dsr", "type = 'icmp', target = 'virtual'", "`target` belongs to"),
        (
            "dsr",
            "type = 'tcp', target = 'virtul'",
            "unknown target of health checks \"virtul\"",
        ),
        (
            "dsr",
            "type = 'tcp', source = '192.0.2.9'",
            "`source` has no meaning without",
        ),
        (
            "dsr",
            "type = 'tcp', target = 'virtual', source = '2001:db8::1'",
            "is IPv6 and the service's address",
        ),
    ] {
        let found = target_of(mode, health).expect_err(health);
        assert!(found.contains(message), "{health}: {found}");
    }
}

#[test]
fn a_check_needs_a_source_when_the_tunnel_is_of_another_family() {
    let crossed = |health: &str| {
        let keys = format!(
            "mode = \"ipip\"\ntunnel_source = \"2001:db8:18::/112\"\nhealth = {{ type = 'tcp', target = 'virtual'{health} }}"
        );
        config("tcp", &keys, "[[service.backend]]\naddress = \"2001:db8::7\"").map(drop)
    };
    let found = crossed("").unwrap_err();
    assert!(found.contains("need an IPv4 source address"), "{found}");
    assert_eq!(crossed(", source = '192.0.2.9'"), Ok(()));
}

/// The check of a backend with these keys of its own.
fn merged(service: &str, own: &str) -> Result<Option<Arc<HealthCheck>>, String> {
    let service = if service.is_empty() {
        String::new()
    } else {
        format!("health = {{ {service} }}")
    };
    let backends = format!(
        "[[service.backend]]\naddress = \"10.0.0.1\"\nhealth = {{ {own} }}\n[[service.backend]]\naddress = \"10.0.0.2\""
    );
    config("tcp", &service, &backends).map(|config| config.services[0].backends[0].health.clone())
}

#[test]
fn a_backend_inherits_the_keys_that_it_does_not_have() {
    let service = "type = 'http', path = '/a', host = 'h', interval = '4s', timeout = '3s', fall = 7, port = 81";
    for (own, same_as) in [
        (
            "path = '/b'",
            "type = 'http', path = '/b', host = 'h', interval = '4s', timeout = '3s', fall = 7, port = 81",
        ),
        (
            "type = 'http', path = '/b'",
            "type = 'http', path = '/b', host = 'h', interval = '4s', timeout = '3s', fall = 7, port = 81",
        ),
        // The keys of another type are not inherited, and neither is the port.
        (
            "type = 'tcp'",
            "type = 'tcp', interval = '4s', timeout = '3s', fall = 7",
        ),
        (
            "type = 'icmp', fall = 1",
            "type = 'icmp', interval = '4s', timeout = '3s', fall = 1",
        ),
        // With another interval, the timeout is not inherited.
        (
            "interval = '1s'",
            "type = 'http', path = '/a', host = 'h', interval = '1s', fall = 7, port = 81",
        ),
    ] {
        let own_check = merged(service, own).unwrap().unwrap();
        assert_eq!(own_check, check_of("tcp", same_as).unwrap(), "{own}");
    }
}

#[test]
fn a_backend_that_does_not_verify_inherits_no_ca_file() {
    let unverified = merged("type = 'https', ca_file = '/ca'", "verify = false").unwrap();
    assert_eq!(
        unverified.unwrap(),
        check_of("tcp", "type = 'https', verify = false").unwrap()
    );
}

#[test]
fn a_backend_may_have_the_only_check_of_its_service() {
    assert_eq!(
        merged("", "type = 'tcp'").unwrap().as_deref(),
        Some(&*check_of("tcp", "type = 'tcp'").unwrap())
    );
}

#[test]
fn keys_of_a_backend_are_reported_once_where_they_are_wrong() {
    for (service, own, message) in [
        ("", "fall = 1", "`type` is missing"),
        (
            "type = 'tcp'",
            "panic_threshold = 1",
            "`panic_threshold` applies to all backends",
        ),
        ("type = 'tcp'", "path = '/'", "`path` belongs to"),
        (
            "type = 'tcp', interval = '1s'",
            "timeout = '2s'",
            "the timeout 2s is longer",
        ),
        // An error of the service is reported once, at the service.
        ("type = 'tcp', fall = 0", "rise = 1", "fall 0 is out of range"),
    ] {
        let found = merged(service, own).expect_err(own);
        assert!(found.contains(message) && !found.contains("; "), "{own}: {found}");
    }
}

#[test]
fn backends_without_keys_of_a_service_without_a_check_are_not_checked() {
    let config = config(
        "tcp",
        "",
        "[[service.backend]]\naddress = \"10.0.0.1\"\nhealth = { type = 'tcp' }\n[[service.backend]]\naddress = \"10.0.0.2\"\n\
         [[service.fallback]]\naddress = \"10.0.0.9\"\nhealth = { type = 'icmp' }",
    )
    .unwrap();
    let checked: Vec<_> = config.services[0]
        .backends
        .iter()
        .map(|backend| backend.health.is_some())
        .collect();
    assert_eq!(checked, [true, false, true]);
}
