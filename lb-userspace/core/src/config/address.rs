//! Parses IP addresses of hosts.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use super::diagnostics::Message;

/// The expected form of an address.
pub(super) const EXPECTED: &str = "an IPv4 or IPv6 address such as \"192.0.2.10\" or \"2001:db8::10\"";

/// Parses the address of one host.
pub(super) fn unicast(text: &str) -> Result<IpAddr, Message> {
    let address: IpAddr = text.parse().map_err(|_| no_address(text))?;
    let refused = |why: &str| Err(Message::new(format!("{address} is {why}"), "the address of one host"));
    match address {
        _ if address.is_unspecified() => refused("the unspecified address"),
        _ if address.is_multicast() => refused("a multicast address"),
        _ if address.is_loopback() => refused("a loopback address; packets to it never reach an interface"),
        IpAddr::V4(Ipv4Addr::BROADCAST) => refused("the broadcast address"),
        IpAddr::V4(v4) if v4.octets()[0] == 0 => refused("in 0.0.0.0/8, which is not a valid destination"),
        IpAddr::V6(v6) => match v6.to_ipv4_mapped() {
            Some(v4) => Err(Message::new(
                format!("{v6} is an IPv4-mapped address"),
                format!("\"{v4}\""),
            )),
            None => Ok(address),
        },
        IpAddr::V4(_) => Ok(address),
    }
}

/// The message for `text` if it looks like a host name. `expected` is what the key takes.
pub(super) fn host_name(text: &str, expected: &str) -> Option<Message> {
    let problem = || format!("\"{}\" is a host name; names are not resolved yet", text.escape_debug());
    is_host_name(text).then(|| Message::new(problem(), expected))
}

/// Why `text` is not an IP address.
fn no_address(text: &str) -> Message {
    if let Some(message) = host_name(text, EXPECTED) {
        return message;
    }
    let expected = match text {
        _ if text.contains('/') => "an address without a prefix length",
        _ if text.contains('%') => "an address without a zone",
        _ if text.parse::<SocketAddr>().is_ok() => "only the address; the port is a separate key",
        _ => EXPECTED,
    };
    Message::new(format!("\"{}\" is not an IP address", text.escape_debug()), expected)
}

/// Whether `text` looks like a host name, with or without a port.
fn is_host_name(text: &str) -> bool {
    let (name, port) = text.rsplit_once(':').unwrap_or((text, "0"));
    let is_label = |label: &str| {
        let is_word = label
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_');
        is_word && !label.is_empty() && !label.starts_with('-')
    };
    let has_letter = name.bytes().any(|byte| byte.is_ascii_alphabetic());
    has_letter && port.parse::<u16>().is_ok() && name.trim_end_matches('.').split('.').all(is_label)
}

/// `IPv4` or `IPv6`.
pub(super) fn family(address: IpAddr) -> &'static str {
    if address.is_ipv4() { "IPv4" } else { "IPv6" }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_address_of_one_host_is_accepted() {
        for text in ["192.0.2.10", "10.0.0.1", "2001:db8::10", "fd00::1"] {
            assert_eq!(unicast(text), Ok(text.parse().unwrap()), "{text}");
        }
        for (text, message, expected) in [
            ("", "not an IP address", "such as"),
            ("example.org", "a host name; names are not resolved yet", "such as"),
            ("web-1.example.org.", "a host name", "such as"),
            ("localhost", "a host name", "such as"),
            ("example.org:80", "a host name", "such as"),
            ("example.org/24", "not an IP address", "without a prefix length"),
            ("192.0.2.300", "not an IP address", "such as"),
            ("2001:db8::zz", "not an IP address", "such as"),
            ("a b", "not an IP address", "such as"),
            ("192.0.2.10/24", "not an IP address", "without a prefix length"),
            ("192.0.2.10:80", "not an IP address", "the port is a separate key"),
            ("[2001:db8::1]:80", "not an IP address", "the port is a separate key"),
            ("fe80::1%eth0", "not an IP address", "without a zone"),
            ("0.0.0.0", "unspecified", "one host"),
            ("::", "unspecified", "one host"),
            ("224.0.0.18", "multicast", "one host"),
            ("ff02::12", "multicast", "one host"),
            ("127.0.0.1", "loopback", "one host"),
            ("::1", "loopback", "one host"),
            ("255.255.255.255", "broadcast", "one host"),
            ("0.1.2.3", "not a valid destination", "one host"),
            ("::ffff:192.0.2.10", "IPv4-mapped", "\"192.0.2.10\""),
        ] {
            let problem = unicast(text).unwrap_err();
            assert!(problem.text.contains(message), "{text}: {problem:?}");
            assert!(problem.expected.contains(expected), "{text}: {problem:?}");
        }
    }
}
