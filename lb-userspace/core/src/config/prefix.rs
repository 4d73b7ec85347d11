//! Parses address prefixes.

use std::net::IpAddr;

use ipnet::IpNet;

use super::{
    address::{self, family, unicast},
    diagnostics::Message,
};

/// The expected form of a prefix.
pub(super) const EXPECTED: &str = "a prefix such as \"192.0.2.0/24\" or \"2001:db8::/64\"";

/// Parses a prefix without host bits. An address without length is a prefix of one address.
pub(super) fn prefix(text: &str) -> Result<IpNet, Message> {
    if let Ok(address) = text.parse::<IpAddr>() {
        return Ok(IpNet::from(address));
    }
    let wrong = || {
        // A word without a dot, such as "any", is hardly a host name here.
        let name = text.contains('.').then(|| address::host_name(text, EXPECTED)).flatten();
        name.unwrap_or_else(|| Message::new(format!("\"{}\" is not a prefix", text.escape_debug()), EXPECTED))
    };
    let prefix: IpNet = text.parse().map_err(|_| wrong())?;
    if prefix.addr() != prefix.network() {
        let problem = format!("{prefix} has host bits: bits after the first {}", prefix.prefix_len());
        return Err(Message::new(problem, format!("\"{}\"", prefix.trunc())));
    }
    Ok(prefix)
}

/// Parses a prefix of the family of `like`. `why` is the reason for that, for the error.
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

/// Parses source addresses of tunnels: a prefix with at most 32 free bits, which are filled from
/// the flow.
pub(super) fn source(text: &str) -> Result<IpNet, Message> {
    let prefix = prefix(text)?;
    unicast(&prefix.addr().to_string())?;
    let (least, most) = if prefix.addr().is_ipv4() { (8, 32) } else { (96, 128) };
    if !(least..=most).contains(&prefix.prefix_len()) {
        let problem = format!("the prefix {prefix} of tunnel sources is too short");
        let expected = format!("/{least} to /{most}");
        return Err(Message::new(problem, expected));
    }
    Ok(prefix)
}

/// Parses a [`source`] of one family. `what` names the family; `take` returns `None` for the other
/// one.
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
            ("example.org", Err(EXPECTED)),
            ("", Err(EXPECTED)),
        ] {
            let found = prefix(text)
                .map(|prefix| prefix.to_string())
                .map_err(|problem| problem.expected);
            assert_eq!(found, expected.map(str::to_owned).map_err(str::to_owned), "{text}");
        }
    }

    #[test]
    fn a_prefix_of_tunnel_sources_has_at_most_32_free_bits() {
        for (text, expected) in [
            ("10.0.0.0/8", Ok(())),
            ("10.1.2.3", Ok(())),
            ("fd00:1::/96", Ok(())),
            ("fd00:1::1", Ok(())),
            ("8.0.0.0/7", Err("too short")),
            ("fd00:1::/64", Err("too short")),
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
