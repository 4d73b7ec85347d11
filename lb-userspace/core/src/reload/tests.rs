//! Tests of which changes are found, and which are refused.

use super::*;

const FILE: &str = r#"
[node]
name = "lb1"
interfaces = ["eth0"]
tunnel = { source_v4 = "198.18.0.0/24" }

[[service]]
name = "web"
address = "192.0.2.10"
port = 80
scheduler = "round-robin"

[service.health]
type = "tcp"
interval = "2s"

[[service.backend]]
name = "w1"
address = "198.51.100.1"

[[service.backend]]
address = "198.51.100.2"
weight = 2

[[service.fallback]]
name = "sorry"
address = "198.51.100.9"

[[service]]
name = "dns"
address = "192.0.2.53"
port = 53
protocol = "udp"
backend = [{ address = "198.51.100.53" }]
"#;

fn source(text: &str) -> Source {
    let config = config::parse("lbd.toml", text).unwrap_or_else(|error| panic!("{error}"));
    Source::new("lbd.toml", config, text.to_owned())
}

/// One line for each change.
fn lines(changes: &[Change]) -> Vec<String> {
    let of = |value: &Option<String>| value.clone().unwrap_or_else(|| "-".to_owned());
    changes
        .iter()
        .map(|change| {
            let owner = change.service.clone().or(change.vrrp.clone());
            let place = [&owner, &change.backend, &change.key].map(of).join(" ");
            format!(
                "{:?} {place}: {} > {}",
                change.action,
                of(&change.before),
                of(&change.after)
            )
        })
        .collect()
}

#[test]
fn changes_name_service_backend_and_key() {
    let given_then: &[(&str, &str, &[&str])] = &[
        ("", "", &[]),
        ("# a comment\n", "", &[]),
        // The same in other words.
        ("port = 80\n", "port = 80\nprotocol = \"tcp\"\n", &[]),
        ("interval = \"2s\"", "interval = \"2000ms\"", &[]),
        (
            "\"round-robin\"",
            "\"maglev\"",
            &["Changed web - scheduler: \"round-robin\" > \"maglev\""],
        ),
        (
            "interval = \"2s\"",
            "interval = \"3s\"\nrise = 5",
            &[
                "Changed web - health.interval: \"2s\" > \"3s\"",
                "Changed web - health.rise: - > 5",
            ],
        ),
        (
            "weight = 2",
            "weight = 3",
            &["Changed web 198.51.100.2:80 weight: 2 > 3"],
        ),
        ("weight = 2\n", "", &["Changed web 198.51.100.2:80 weight: 2 > -"]),
        (
            "\"198.51.100.1\"",
            "\"198.51.100.3\"",
            &["Changed web w1 address: \"198.51.100.1\" > \"198.51.100.3\""],
        ),
        (
            "\"w1\"",
            "\"w0\"",
            &["Added web w0 -: - > -", "Removed web w1 -: - > -"],
        ),
        (
            "\"198.51.100.9\"",
            "\"198.51.100.8\"",
            &["Changed web sorry address: \"198.51.100.9\" > \"198.51.100.8\""],
        ),
        (
            "name = \"dns\"",
            "name = \"names\"",
            &["Added names - -: - > -", "Removed dns - -: - > -"],
        ),
        (
            "[\"eth0\"]",
            "[\"eth0\", \"eth1\"]",
            &["Changed - - interfaces: [\"eth0\"] > [\"eth0\", \"eth1\"]"],
        ),
        (
            "[[service]]",
            "[[vrrp]]\nname = \"v\"\ninterface = \"eth0\"\nrouter_id = 1\naddresses = [\"192.0.2.99/24\"]\nversion = 2\n\
             password = \"secret\"\n\n[[service]]",
            &["Added v - -: - > -"],
        ),
        (
            "[[service]]",
            "[api]\nread_group = \"lbd\"\n\n[[service]]",
            &["Changed - - api.read_group: - > \"lbd\""],
        ),
    ];
    for (what, by, expected) in given_then {
        let text = if FILE.contains(what) {
            FILE.replacen(what, by, 1)
        } else {
            format!("{what}{FILE}")
        };
        assert_eq!(
            lines(&compare(&source(FILE), &source(&text))),
            *expected,
            "{what:?} by {by:?}"
        );
    }
}

#[test]
fn changes_that_end_flows_have_a_note() {
    let notes = |what: &str, by: &str| {
        let changes = compare(&source(FILE), &source(&FILE.replacen(what, by, 1)));
        changes.into_iter().filter_map(|change| change.note).collect::<Vec<_>>()
    };
    assert_eq!(
        notes("\"192.0.2.10\"", "\"192.0.2.11\""),
        ["ends the flows of the service"]
    );
    assert_eq!(notes("\"round-robin\"", "\"random\""), [""; 0]);
    let added = notes(
        "[[service.fallback]]",
        "[[service.backend]]\naddress = \"198.51.100.3\"\n\n[[service.fallback]]",
    );
    assert_eq!(added, ["198.51.100.3:80, weight 1"]);
    let renamed = notes("name = \"dns\"", "name = \"names\"");
    assert_eq!(renamed[1], "renamed to names; its flows continue", "{renamed:?}");
    let replaced = notes(
        "name = \"dns\"\naddress = \"192.0.2.53\"",
        "name = \"names\"\naddress = \"192.0.2.54\"",
    );
    assert!(replaced[1].ends_with("; ends the flows of the service"), "{replaced:?}");
}

#[test]
fn a_service_with_a_new_name_and_the_same_address_is_renamed() {
    let renamed = |what: &str, by: &str| {
        let next = source(&FILE.replace(what, by)).config;
        renamed(&source(FILE).config, &next).into_iter().collect::<Vec<_>>()
    };
    let pair = |old: &str, new: &str| (old.to_owned(), new.to_owned());
    assert_eq!(renamed("\"dns\"", "\"names\""), [pair("dns", "names")]);
    assert_eq!(renamed("\"dns\"", "\"dns\""), []);
    assert_eq!(renamed("name = \"web\"", "name = \"site\"\nmode = \"dnat\""), []);
    // They change names: each is there before and after.
    let swapped = FILE
        .replace("\"web\"", "\"x\"")
        .replace("\"dns\"", "\"web\"")
        .replace("\"x\"", "\"dns\"");
    assert_eq!(super::renamed(&source(FILE).config, &source(&swapped).config).len(), 0);
}

#[test]
fn keys_that_cannot_change_are_named_with_what_to_do() {
    type Case = (&'static str, &'static str, &'static [(&'static str, &'static str)]);
    let given_then: &[Case] = &[
        ("[\"eth0\"]", "[\"eth1\"]", &[]),
        ("198.18.0.0/24", "198.18.1.0/24", &[]),
        ("\"lb1\"\n", "\"lb1\"\nxdp_mode = \"auto\"\n", &[]),
        ("\"lb1\"", "\"lb2\"", &[("node.name", "lbd detach")]),
        (
            "\"lb1\"\n",
            "\"lb1\"\ncapacity = { flows_v4 = 2097152, backends = 100 }\n",
            &[
                ("node.capacity.backends", "--replace-maps"),
                ("node.capacity.flows_v4", "--replace-maps"),
            ],
        ),
        (
            "\"lb1\"\n",
            "\"lb1\"\npacket_log = \"debug\"\n",
            &[("node.packet_log", "restart lbd")],
        ),
        (
            "\"lb1\"\n",
            "\"lb1\"\nnat_ports = \"30000-40000\"\n",
            &[("node.nat_ports", "outside")],
        ),
        (
            "\"lb1\"\n",
            "\"lb1\"\nsocket = \"/run/x.sock\"\n",
            &[("node.socket", "restart lbd")],
        ),
    ];
    for (what, by, expected) in given_then {
        let found = fixed_keys(&source(FILE), &source(&FILE.replacen(what, by, 1)));
        assert_eq!(found.len(), expected.len(), "{by:?}: {found:?}");
        for (found, (key, word)) in found.iter().zip(*expected) {
            assert_eq!(found.key, *key);
            assert!(found.to_string().contains(word), "{found}");
        }
    }
}

#[test]
fn passwords_are_not_shown() {
    let with = |password: &str| {
        let router = format!(
            "[[vrrp]]\nname = \"v\"\ninterface = \"eth0\"\nrouter_id = 1\naddresses = [\"192.0.2.99/24\"]\nversion = 2\n\
             password = \"{password}\"\n\n[[service]]"
        );
        source(&FILE.replacen("[[service]]", &router, 1))
    };
    assert_eq!(
        lines(&compare(&with("secret"), &with("other"))),
        ["Changed v - password: (not shown) > (not shown)"]
    );
}
