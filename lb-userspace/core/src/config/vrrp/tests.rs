//! Valid and invalid `[[vrrp]]` tables.

use super::*;

fn routers(tables: &[&str]) -> Result<Vec<Vrrp>, String> {
    let tables: Vec<_> = tables.iter().map(|table| format!("{{ {table} }}")).collect();
    let text = format!(
        "vrrp = [{}]\n[node]\nname = \"n\"\ninterfaces = [\"eth0\"]\n",
        tables.join(", ")
    );
    let config = crate::config::parse("lbd.toml", &text).map_err(|error| {
        let found: Vec<_> = error.diagnostics().iter().map(|found| found.message.clone()).collect();
        found.join("; ")
    })?;
    Ok(config.vrrp)
}

const MINIMAL: &str = "name = 'a', interface = 'eth0', router_id = 1, addresses = ['192.0.2.10/24']";

#[test]
fn missing_keys_have_their_defaults() {
    let [found] = routers(&[MINIMAL]).unwrap().try_into().unwrap();
    assert_eq!((found.version, found.priority, found.preempt), (3, 100, true));
    assert_eq!(
        (found.interval, found.preempt_delay),
        (Duration::from_secs(1), Duration::ZERO)
    );
    assert_eq!((found.peers.len(), found.source, found.password), (0, None, None));
    assert_eq!(found.parameters().interval, 1_000_000);
    assert!(found.accept && !found.router_mac);
    assert_eq!(found.refresh(), 60_000_000);
    let never = routers(&[&format!("{MINIMAL}, refresh = '0s'")]).unwrap();
    assert_eq!(never[0].refresh(), 0);
    let with_mac = routers(&[&format!("{MINIMAL}, router_mac = true")]).unwrap();
    assert!(with_mac[0].router_mac);
    let secret = routers(&[&format!("{MINIMAL}, version = 2, password = 'secret'")]).unwrap();
    assert_eq!(secret[0].password, Some(*b"secret\0\0"));
}

#[test]
fn invalid_keys_are_refused_with_a_reason() {
    for (keys, message) in [
        ("interval = '5ms'", "5ms is out of range"),
        ("interval = '15ms'", "adverts cannot contain an interval of 15ms"),
        ("interval = '41s'", "41s is out of range"),
        (
            "version = 2, interval = '1500ms'",
            "adverts cannot contain an interval of 1s 500ms",
        ),
        ("refresh = '500ms'", "500ms is out of range"),
        ("refresh = '25h'", "25h is out of range"),
        ("version = 4", "version 4 is out of range"),
        ("priority = 0", "priority 0 is out of range"),
        ("peers = ['2001:db8::1']", "is IPv6 and the virtual addresses are IPv4"),
        ("source = 'a'", "\"a\" is not an address"),
        ("peers = ['224.0.0.18']", "224.0.0.18 is a multicast address"),
        ("peers = ['192.0.2.10']", "192.0.2.10 is a virtual address: it moves"),
        ("group = ''", "the name of the group is empty"),
        (
            "preempt = false, preempt_delay = '5s'",
            "`preempt_delay` requires `preempt = true`",
        ),
        ("checksum = 'none'", "unknown form of the checksum \"none\""),
        (
            "version = 2, checksum = 'message'",
            "version 2 and IPv6 have only one form of the checksum",
        ),
        (
            "accept = false, priority = 255",
            "the owner of the addresses always accepts",
        ),
        (
            "router_mac = true, priority = 255",
            "uses the MAC address of its interface",
        ),
        (
            "router_mac = true, peers = ['192.0.2.9']",
            "only from multicast adverts",
        ),
        ("password = 'secret'", "`password` belongs to version 2"),
        ("version = 2, password = '123456789'", "the password has 9 bytes"),
    ] {
        let found = routers(&[&format!("{MINIMAL}, {keys}")]).expect_err(keys);
        assert!(found.contains(message) && !found.contains("; "), "{keys}: {found}");
    }
    let with = |addresses: &str, keys: &str| {
        let table = format!("name = 'a', interface = 'eth0', router_id = 1, addresses = {addresses}{keys}");
        routers(&[&table]).map(drop)
    };
    for (addresses, keys, message) in [
        ("[]", "", "0 addresses"),
        ("['192.0.2.1', '2001:db8::1']", "", "of two families"),
        ("['2001:db8::1/64']", ", version = 2", "version 2 does not support IPv6"),
        ("['224.0.0.1']", "", "multicast"),
        ("['192.0.2.0/33']", "", "is not an address"),
        (
            "['192.0.2.0/24']",
            "",
            "192.0.2.0/24 is a network, or its broadcast address",
        ),
        ("['192.0.2.255/24']", "", "192.0.2.255/24 is a network"),
        ("['2001:db8::/64']", "", "2001:db8::/64 is a network"),
    ] {
        let found = with(addresses, keys).expect_err(addresses);
        assert!(found.contains(message), "{addresses}: {found}");
    }
    assert_eq!(with("['fe80::1/64', '2001:db8::1/64']", ""), Ok(()));
    let other = "name = 'b', interface = 'eth0', router_id = 1, addresses = ['2001:db8::1/64']";
    assert_eq!(
        routers(&[MINIMAL, other]).map(|found| found.len()),
        Ok(2),
        "one for each family"
    );
    for (other, message) in [
        (MINIMAL, "two virtual routers have the name \"a\""),
        (
            "name = 'b', interface = 'eth0', router_id = 1, addresses = ['192.0.2.20']",
            "two virtual routers of eth0 have `router_id` 1",
        ),
        (
            "name = 'b', router_id = 2, addresses = ['192.0.2.20']",
            "`interface` is missing",
        ),
    ] {
        let found = routers(&[MINIMAL, other]).unwrap_err();
        assert!(found.contains(message), "{found}");
    }
}

#[test]
fn an_interface_has_each_address_from_one_virtual_router() {
    let router = |number: u8, keys: &str| format!("name = 'r{number}', router_id = {number}, {keys}");
    let first = router(1, "interface = 'eth0', addresses = ['192.0.2.9/24', '192.0.2.10/24']");
    for (keys, then) in [
        ("interface = 'eth1', addresses = ['192.0.2.10/24']", Ok(2)),
        ("interface = 'eth0', addresses = ['192.0.2.11/24']", Ok(2)),
        (
            "interface = 'eth0', addresses = ['192.0.2.11/24', '192.0.2.10/32']",
            Err("192.0.2.10 is twice among the virtual addresses of eth0".to_owned()),
        ),
        (
            "interface = 'eth1', addresses = ['192.0.2.11/24', '192.0.2.11/32']",
            Err("192.0.2.11 is twice among the virtual addresses of eth1".to_owned()),
        ),
    ] {
        let found = routers(&[&first, &router(2, keys)]).map(|found| found.len());
        assert_eq!(found, then, "{keys}");
    }
}

#[test]
fn a_track_has_one_condition() {
    let track = |table: &str| {
        let found = routers(&[&format!("{MINIMAL}, track = [{table}]")])?;
        let [track] = &found[0].tracks[..] else {
            panic!("{} tracks", found[0].tracks.len())
        };
        Ok::<_, String>((track.what.to_string(), track.weight))
    };
    for (table, then) in [
        ("{ interface = 'eth1' }", ("interface eth1", None)),
        (
            "{ file = '/run/x', expect = 'absent', weight = -253 }",
            ("file /run/x", Some(-253)),
        ),
        ("{ argv = ['/bin/true'], weight = 7 }", ("command /bin/true", Some(7))),
    ] {
        assert_eq!(track(table), Ok((then.0.to_owned(), then.1)), "{table}");
    }
    for (table, message) in [
        ("{ weight = 1 }", "nothing is tracked"),
        (
            "{ interface = 'eth1', file = '/x' }",
            "`interface` and `file` are two conditions",
        ),
        ("{ service = 'web' }", "there is no service \"web\""),
        (
            "{ interface = 'eth1', quorum = 2 }",
            "`quorum` belongs to `service`, and this track has `interface`",
        ),
        ("{ interface = 'eth1', weight = 0 }", "weight 0 is out of range"),
        ("{ interface = 'eth1', weight = 254 }", "weight 254 is out of range"),
        (
            "{ interface = 'eth1' }, { interface = 'eth1', weight = 3 }",
            "interface eth1 is tracked twice",
        ),
        ("{ argv = ['true'] }", "absolute"),
        ("{ argv = ['/bin/true'], user = 'root' }", "do not run commands as root"),
        (
            "{ argv = ['/bin/true'], timeout = '2s' }",
            "the timeout 2s is longer than the interval",
        ),
        ("{ file = '/x', expect = 'gone' }", "unknown state of a file \"gone\""),
    ] {
        let found = track(table).expect_err(table);
        assert!(found.contains(message), "{table}: {found}");
    }
    let owner = format!("{MINIMAL}, priority = 255, track = [{{ interface = 'eth1', weight = 3 }}]");
    assert!(routers(&[&owner]).unwrap_err().contains("the owner of the addresses"));
}

#[test]
fn a_hook_may_run_as_root() {
    let found = routers(&[&format!("{MINIMAL}, hook = {{ argv = ['/bin/true'], user = 'root' }}")]).unwrap();
    let hook = found[0].hook.as_ref().unwrap();
    assert_eq!(
        (hook.command.user.as_str(), hook.timeout),
        ("root", Duration::from_secs(10))
    );
    let found = routers(&[&format!("{MINIMAL}, hook = {{ timeout = '1s' }}")]).unwrap_err();
    assert!(found.contains("`argv` is missing"), "{found}");
}

#[test]
fn virtual_routers_of_a_sync_group_have_the_same_keys() {
    let router = |name: &str, number: u8, keys: &str| {
        format!(
            "name = '{name}', interface = 'eth0', router_id = {number}, addresses = ['192.0.2.{number}/24'], group = \
             'edge'{keys}"
        )
    };
    let pair = |keys: &str| routers(&[&router("a", 1, ""), &router("b", 2, keys)]);
    assert_eq!(pair("").unwrap()[1].group.as_deref(), Some("edge"));
    for (keys, message) in [
        (", priority = 7", "`priority` differs from that of \"a\""),
        (", preempt = false", "`preempt` differs"),
        (", preempt_delay = '1s'", "`preempt_delay` differs"),
        (", grace = '1s'", "`grace` differs"),
    ] {
        let found = pair(keys).unwrap_err();
        assert!(found.contains(message), "{found}");
    }
}
