//! Prefixes of addresses.

use std::net::IpAddr;

use ipnet::IpNet;

use super::{
    address::{self, family, unicast},
    diagnostics::Message,
};

/// What a prefix looks like.
pub(super) const EXPECTED: &str = "a prefix such as \"192.0.2.0/24\" or \"2001:db8::/64\"";

/// A prefix without host bits; an address alone is the prefix of only itself.
pub(super) fn prefix(text: &str) -> Result<IpNet, Message> {
    if let Ok(address) = text.parse::<IpAddr>() {
        return Ok(IpNet::from(address));
    }
    let prefix: IpNet = text
        .parse()
        .map_err(|_| Message::new(format!("\"{}\" is not a prefix", text.escape_debug()), EXPECTED))?;
    if prefix.addr() != prefix.network() {
        let problem = format!("{prefix} has bits behind its length of {} bits", prefix.prefix_len());
        return Err(Message::new(problem, format!("\"{}\"", prefix.trunc())));
    }
    Ok(prefix)
}

/// A prefix of the family of `like`; `why` says why it must be.
pub(super) fn of_family(text: &str, like: Option<IpAddr>, why: &str) -> Result<IpNet, Message> {
    let prefix = prefix(text)?;
    match like {
        Some(like) if like.is_ipv4() != prefix.addr().is_ipv4() => Err(Message::new(
            format!(
                "{prefix} is {} and the service's address {like} is {}",
                family(prefix.addr()),
                family(like)
            ),
            format!("an {} prefix: {why}", family(like)),
        )),
        _ => Ok(prefix),
    }
}

/// Addresses of this balancer, of which a word of 32 bits at most is chosen by the flow.
pub(super) fn source(text: &str) -> Result<IpNet, Message> {
    let prefix = prefix(text)?;
    unicast(&prefix.addr().to_string())?;
    let (least, most) = if prefix.addr().is_ipv4() { (8, 32) } else { (96, 128) };
    if !(least..=most).contains(&prefix.prefix_len()) {
        let problem = format!("{prefix} is too wide for a tunnel's source");
        let expected = format!("/{least} to /{most}: at most 32 bits are filled from the flow");
        return Err(Message::new(problem, expected));
    }
    Ok(prefix)
}

/// A [`source`] that is IPv4 or IPv6, as its key says.
pub(super) fn source_of<T>(text: &str, what: &str, take: impl Fn(IpNet) -> Option<T>) -> Result<T, Message> {
    let source = source(text)?;
    take(source).ok_or_else(|| {
        let problem = format!("{source} is {}", address::family(source.addr()));
        Message::new(problem, format!("an {what} prefix"))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_prefix_has_no_host_bits() {
        for (text, expected) in [
            ("10.0.0.0/8", Ok("10.0.0.0/8")),
            ("0.0.0.0/0", Ok("0.0.0.0/0")),
            ("192.0.2.1", Ok("192.0.2.1/32")),
            ("2001:db8::/32", Ok("2001:db8::/32")),
            ("2001:db8::1", Ok("2001:db8::1/128")),
            ("10.0.0.1/8", Err("\"10.0.0.0/8\"")),
            ("2001:db8::1/64", Err("\"2001:db8::/64\"")),
            ("10.0.0.0/33", Err(EXPECTED)),
            ("10.0.0/8", Err(EXPECTED)),
            ("", Err(EXPECTED)),
        ] {
            let found = prefix(text)
                .map(|prefix| prefix.to_string())
                .map_err(|problem| problem.expected);
            assert_eq!(found, expected.map(str::to_owned).map_err(str::to_owned), "{text}");
        }
    }

    #[test]
    fn a_tunnel_begins_at_addresses_of_which_32_bits_at_most_are_free() {
        for (text, expected) in [
            ("10.0.0.0/8", Ok(())),
            ("10.1.2.3", Ok(())),
            ("fd00:1::/96", Ok(())),
            ("fd00:1::1", Ok(())),
            ("8.0.0.0/7", Err("too wide")),
            ("fd00:1::/64", Err("too wide")),
            ("224.0.0.0/8", Err("multicast")),
            ("127.0.0.0/8", Err("loopback")),
        ] {
            match (source(text), expected) {
                (Ok(_), Ok(())) => {}
                (Err(problem), Err(message)) => assert!(problem.text.contains(message), "{text}: {problem:?}"),
                (found, _) => panic!("{text}: {found:?}"),
            }
        }
    }
}
