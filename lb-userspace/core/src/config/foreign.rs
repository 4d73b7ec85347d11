//! Words of keepalived, HAProxy, nginx and IPVS, and the keys and values that take their place.

/// The answer to a word of another program: what to write instead.
struct Foreign {
    /// The word in lower case, with `_` in place of `-`.
    word: &'static str,
    /// What to write instead: a phrase that names our key.
    instead: &'static str,
}

macro_rules! foreign {
    ($( $($word:literal),+ => $instead:literal; )+) => {
        &[ $( $( Foreign { word: $word, instead: $instead }, )+ )+ ]
    };
}

/// Keys. What is a key of ours in every table where it could appear is not in the list.
const KEYS: &[Foreign] = foreign! {
    // keepalived, VRRP
    "advert_int" => "`interval`, such as \"1s\"";
    "virtual_router_id", "vrid" => "`router_id`";
    "router_id" => "`name`; the number of a virtual router is `router_id` in `[[vrrp]]`";
    "nopreempt" => "`preempt` = false";
    "state" => "only `priority`: the balancer with the highest one becomes master";
    "virtual_ipaddress", "virtual_ipaddress_excluded", "vip" => "`addresses`, such as [\"192.0.2.10/24\"]";
    "unicast_peer" => "`peers`, such as [\"192.0.2.3\"]";
    "unicast_src_ip", "mcast_src_ip" => "`source`";
    "authentication", "auth_type", "auth_pass" => "`password`, with `version` = 2";
    "garp_master_refresh" => "`refresh`, such as \"1m\"";
    "use_vmac" => "`router_mac` = true";
    "vrrp_version" => "`version`";
    "track_interface" => "a table `[[vrrp.track]]` with `interface`";
    "track_file" => "a table `[[vrrp.track]]` with `file`";
    "track_script", "vrrp_script" => "a table `[[vrrp.track]]` with `argv`";
    "notify", "notify_master", "notify_backup", "notify_fault", "notify_stop" => "a table `[vrrp.hook]` with `argv`";
    "vrrp_instance" => "a table `[[vrrp]]`";
    "vrrp_sync_group", "sync_group" => "`group` in `[[vrrp]]`";
    "global_defs", "global" => "a table `[node]`";
    // keepalived and IPVS, services
    "virtual_server" => "a table `[[service]]`";
    "real_server" => "a table `[[service.backend]]`";
    "sorry_server" => "a table `[[service.fallback]]`";
    "lb_algo", "lvs_sched" => "`scheduler`";
    "lb_kind", "lvs_method" => "`mode`";
    "persistence_timeout" => "`scheduler` = \"source-hash\"";
    "persistence_granularity" => "`source_prefix`";
    "delay_loop" => "`interval` in `[service.health]`";
    "delay_before_retry" => "`fast_interval` in `[service.health]`";
    "retry" => "`fall` in `[service.health]`";
    "connect_timeout" => "`timeout` in `[service.health]`";
    "connect_port" => "`port` in `[service.health]`";
    "status_code" => "`status` in `[service.health]`";
    "misc_path" => "`argv` in `[service.health]`";
    "misc_timeout" => "`timeout` in `[service.health]`";
    "tcp_check" => "`type` = \"tcp\" in `[service.health]`";
    "http_get" => "`type` = \"http\" in `[service.health]`";
    "ssl_get" => "`type` = \"https\" in `[service.health]`";
    "misc_check" => "`type` = \"command\" in `[service.health]`";
    "dns_check" => "`type` = \"dns\" in `[service.health]`";
    "udp_check" => "`type` = \"udp\" in `[service.health]`";
    // HAProxy
    "frontend" => "a table `[[service]]`";
    "backend", "backends" => "tables `[[service.backend]]` behind a `[[service]]`";
    "services" => "tables `[[service]]`";
    "defaults" => "these keys in each `[[service]]`";
    "balance" => "`scheduler`";
    "bind" => "`address` and `port`";
    "server" => "a table `[[service.backend]]`";
    "check", "option", "httpchk" => "a table `[service.health]`";
    "inter" => "`interval` in `[service.health]`";
    "fastinter" => "`fast_interval` in `[service.health]`";
    "maxconn" => "`connection_limit` in `[[service]]`";
    "slowstart" => "`slow_start` in `[[service]]`";
    "backup" => "a table `[[service.fallback]]` in place of `[[service.backend]]`";
    "stick", "stick_table" => "`scheduler` = \"source-hash\"";
    "on_marked_down" => "`on_backend_down`";
    "send_proxy" => "`toa` = true, or a `mode` that keeps the client's address";
    "acl", "use_backend", "default_backend" => "one set of backends for each service; for more, put HAProxy behind lbd";
    "ssl", "crt", "ssl_certificate", "ssl_certificate_key" => "no TLS here: put HAProxy or nginx behind lbd";
    // nginx
    "upstream" => "a table `[[service]]`";
    "listen" => "`address` and `port` in `[[service]]`";
    "proxy_pass" => "a table `[[service.backend]]`";
    "least_conn" => "`scheduler` = \"least-connection\"";
    "ip_hash" => "`scheduler` = \"source-hash\"";
    "max_fails" => "`fall` in `[service.health]`";
    "fail_timeout" => "`interval` in `[service.health]`";
    "location" => "no HTTP rules here: put HAProxy or nginx behind lbd";
    "http", "stream" => "a table `[[service]]`";
};

/// Values, by what is chosen (the `WHAT` of the choice).
const VALUES: &[(&str, &[Foreign])] = &[
    (
        "scheduler",
        foreign! {
            "rr", "wrr", "roundrobin", "static_rr" => "round-robin";
            "lc", "wlc", "leastconn", "least_conn" => "least-connection";
            "sh", "source", "ip_hash" => "source-hash";
            "mh" => "maglev";
        },
    ),
    (
        "forwarding mode",
        foreign! {
            "masq", "masquerading" => "nat";
            "dr", "gate", "gatewaying" => "dsr";
            "tun" => "ipip";
        },
    ),
    (
        "type of health check",
        foreign! {
            "tcp_check" => "tcp";
            "http_get", "httpchk" => "http";
            "ssl_get" => "https";
            "misc_check", "external_check", "exec" => "command";
            "ping" => "icmp";
        },
    ),
];

/// What to write in place of a key of another program.
pub(super) fn key(word: &str) -> Option<&'static str> {
    find(KEYS, word)
}

/// The value to write in place of one of another program. `what` is what is chosen.
pub(super) fn value(what: &str, word: &str) -> Option<&'static str> {
    let (_, words) = VALUES.iter().find(|(known, _)| *known == what)?;
    find(words, word)
}

fn find(list: &[Foreign], word: &str) -> Option<&'static str> {
    let word = word.to_lowercase().replace('-', "_");
    list.iter()
        .find(|foreign| foreign.word == word)
        .map(|foreign| foreign.instead)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::config::parse;

    const NODE: &str = "[node]\nname = \"a\"\ninterfaces = [\"eth0\"]\n";
    const SERVICE: &str = "[[service]]\nname = \"web\"\naddress = \"192.0.2.1\"\nport = 80\n";
    const HEALTH: &str = "[service.health]\ntype = \"tcp\"\n";
    const VRRP: &str = "[[vrrp]]\nname = \"v\"\ninterface = \"eth0\"\nrouter_id = 1\naddresses = [\"192.0.2.9/24\"]\n";

    #[test]
    fn a_key_of_another_program_is_answered_with_our_key() {
        let service = format!("{NODE}{SERVICE}");
        let health = format!("{service}{HEALTH}");
        let backend = format!("{service}[[service.backend]]\naddress = \"198.51.100.1\"\n");
        let vrrp = format!("{NODE}{VRRP}");
        for (before, line, instead) in [
            (&vrrp, "advert_int = 1", "`interval`, such as \"1s\""),
            (&vrrp, "virtual_router_id = 51", "`router_id`"),
            (&vrrp, "nopreempt = true", "`preempt` = false"),
            (
                &vrrp,
                "state = \"MASTER\"",
                "only `priority`: the balancer with the highest",
            ),
            (&vrrp, "virtual_ipaddress = [\"192.0.2.1\"]", "`addresses`"),
            (&vrrp, "unicast_peer = [\"192.0.2.1\"]", "`peers`"),
            (&service, "balance = \"roundrobin\"", "`scheduler`"),
            (&service, "bind = \"*:80\"", "`address` and `port`"),
            (&service, "listen = 80", "`address` and `port`"),
            (&service, "server = \"w1\"", "`[[service.backend]]`"),
            (&service, "real-server = \"w1\"", "`[[service.backend]]`"),
            (&service, "lb_algo = \"rr\"", "`scheduler`"),
            (&service, "lb_kind = \"DR\"", "`mode`"),
            (&service, "delay_loop = 5", "`interval` in `[service.health]`"),
            (&service, "HTTP_GET = true", "`type` = \"http\" in `[service.health]`"),
            (&health, "inter = \"2s\"", "`interval` in `[service.health]`"),
            (&backend, "maxconn = 5", "`connection_limit` in `[[service]]`"),
            (&NODE.to_owned(), "router_id = \"lb1\"", "`name`"),
            (&String::new(), "global = {}", "`[node]`"),
            (&String::new(), "upstream = []", "`[[service]]`"),
            (&String::new(), "frontend = []", "`[[service]]`"),
            (&String::new(), "backend = []", "`[[service.backend]]`"),
        ] {
            let word = line.split(' ').next().unwrap();
            let error = parse("lbd.toml", &format!("{before}{line}\n")).expect_err(line);
            let found = &error.diagnostics()[0];
            assert_eq!(found.message, format!("unknown key `{word}`"), "{error}");
            assert!(found.expected.contains(instead), "{error}");
        }
    }

    #[test]
    fn a_value_of_another_program_is_answered_with_our_value() {
        for (line, instead) in [
            ("scheduler = \"rr\"", "round-robin"),
            ("scheduler = \"leastconn\"", "least-connection"),
            ("scheduler = \"source\"", "source-hash"),
            ("mode = \"DR\"", "dsr"),
            ("mode = \"TUN\"", "ipip"),
            ("health.type = \"HTTP_GET\"", "http"),
        ] {
            let error = parse("lbd.toml", &format!("{NODE}{SERVICE}{line}\n")).expect_err(line);
            assert_eq!(error.diagnostics()[0].suggestion.as_deref(), Some(instead), "{error}");
        }
    }

    #[test]
    fn every_word_of_other_programs_in_the_reference_is_answered() {
        let reference = include_str!("../../../../docs/configuration.md");
        let rows = reference.lines().filter_map(|line| {
            let mut cells = line.split('|').map(str::trim).skip(1);
            let program = cells.next()?;
            ["keepalived", "HAProxy", "nginx"]
                .contains(&program)
                .then(|| cells.next())?
        });
        let words: Vec<_> = rows.flat_map(|cell| cell.split('`').skip(1).step_by(2)).collect();
        assert!(words.len() > 20, "{words:?}");
        for word in words {
            assert!(key(word).is_some(), "{word}");
        }
    }

    #[test]
    fn no_word_is_listed_twice() {
        let words: BTreeSet<_> = KEYS.iter().map(|foreign| foreign.word).collect();
        assert_eq!(words.len(), KEYS.len());
    }
}
