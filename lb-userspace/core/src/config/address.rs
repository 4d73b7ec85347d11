//! Addresses that packets can be sent to.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use super::diagnostics::Message;

/// What an address looks like.
pub(super) const EXPECTED: &str = "an IPv4 or IPv6 address such as \"192.0.2.10\" or \"2001:db8::10\"";

/// The address of one host.
pub(super) fn unicast(text: &str) -> Result<IpAddr, Message> {
    let address: IpAddr = text.parse().map_err(|_| {
        let expected = if text.contains('/') {
            "an address without a prefix length".to_owned()
        } else if text.contains('%') {
            "an address without a zone".to_owned()
        } else if text.parse::<SocketAddr>().is_ok() {
            "an address alone; the port has a key of its own".to_owned()
        } else {
            EXPECTED.to_owned()
        };
        Message::new(format!("\"{}\" is not an IP address", text.escape_debug()), expected)
    })?;
    let refused = |why: &str| Err(Message::new(format!("{address} is {why}"), "the address of one host"));
    match address {
        _ if address.is_unspecified() => refused("the unspecified address"),
        _ if address.is_multicast() => refused("a multicast address"),
        _ if address.is_loopback() => refused("a loopback address, which no interface sees packets of"),
        IpAddr::V4(Ipv4Addr::BROADCAST) => refused("the broadcast address"),
        IpAddr::V4(v4) if v4.octets()[0] == 0 => refused("in 0.0.0.0/8, which is no destination"),
        IpAddr::V6(v6) => match v6.to_ipv4_mapped() {
            Some(v4) => Err(Message::new(
                format!("{v6} stands for an IPv4 address"),
                format!("\"{v4}\""),
            )),
            None => Ok(address),
        },
        IpAddr::V4(_) => Ok(address),
    }
}

/// `IPv4` or `IPv6`.
pub(super) fn family(address: IpAddr) -> &'static str {
    if address.is_ipv4() { "IPv4" } else { "IPv6" }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_address_of_one_host_is_an_address() {
        for text in ["192.0.2.10", "10.0.0.1", "2001:db8::10", "fd00::1"] {
            assert_eq!(unicast(text), Ok(text.parse().unwrap()), "{text}");
        }
        for (text, message, expected) in [
            ("", "not an IP address", "such as"),
            ("example.org", "not an IP address", "such as"),
            ("192.0.2.10/24", "not an IP address", "without a prefix length"),
            ("192.0.2.10:80", "not an IP address", "the port has a key of its own"),
            ("[2001:db8::1]:80", "not an IP address", "the port has a key of its own"),
            ("fe80::1%eth0", "not an IP address", "without a zone"),
            ("0.0.0.0", "unspecified", "one host"),
            ("::", "unspecified", "one host"),
            ("224.0.0.18", "multicast", "one host"),
            ("ff02::12", "multicast", "one host"),
            ("127.0.0.1", "loopback", "one host"),
            ("::1", "loopback", "one host"),
            ("255.255.255.255", "broadcast", "one host"),
            ("0.1.2.3", "no destination", "one host"),
            ("::ffff:192.0.2.10", "stands for an IPv4 address", "\"192.0.2.10\""),
        ] {
            let problem = unicast(text).unwrap_err();
            assert!(problem.text.contains(message), "{text}: {problem:?}");
            assert!(problem.expected.contains(expected), "{text}: {problem:?}");
        }
    }
}
