//! Validates numbers and ranges: ports, weights, counts, rates, status codes.

use super::{
    PortRange,
    diagnostics::Message,
    raw::{Number, RATE_EXPECTED, Rate, STATUS_EXPECTED, Status},
};

/// Highest rate, per second.
pub(super) const MOST_RATE: u32 = 100_000_000;

/// Lowest source port for `nat`. Some servers trust source ports below it.
const LOWEST_NAT_PORT: u16 = 1024;

/// Smallest number of source ports for `nat`, so that a busy worker does not exhaust them at once.
const FEWEST_NAT_PORTS: u32 = 1024;

/// A check for numbers from `low` to `high`. `what` names the number in the error.
pub(super) fn number(what: &str, low: u32, high: u32) -> impl Fn(&Number) -> Result<u32, Message> {
    move |number| {
        u32::try_from(*number)
            .ok()
            .filter(|number| (low..=high).contains(number))
            .ok_or_else(|| {
                Message::new(
                    format!("{what} {number} is out of range"),
                    format!("an integer from {low} to {high}"),
                )
            })
    }
}

/// Validates a port.
pub(super) fn port(number: &Number) -> Result<u16, Message> {
    u16::try_from(*number)
        .ok()
        .filter(|port| *port != 0)
        .ok_or_else(|| Message::new(format!("port {number} is out of range"), "an integer from 1 to 65535"))
}

/// Parses the ports of a service: two or more, such as `8000-8099`, or `any`.
pub(super) fn ports(text: &str) -> Result<PortRange, Message> {
    let shape = "first and last port, such as \"8000-8099\", or \"any\"";
    if text == "any" {
        return Ok(PortRange { low: 1, high: u16::MAX });
    }
    let (low, high) = range(text)
        .ok_or_else(|| Message::new(format!("\"{}\" is not a range of ports", text.escape_debug()), shape))?;
    if low == 0 {
        return Err(Message::new("port 0 is out of range", "ports from 1 to 65535"));
    }
    if low > high {
        let problem = format!("the first port {low} is above the last port {high}");
        return Err(Message::new(problem, shape));
    }
    if low == high {
        let problem = format!("the range {low}-{high} is a single port");
        return Err(Message::new(problem, format!("`port` = {low} instead of `ports`")));
    }
    Ok(PortRange { low, high })
}

/// Parses a rate, per second.
pub(super) fn rate(rate: &Rate) -> Result<u32, Message> {
    let (number, text) = match rate {
        Rate::Number(number) => (u32::try_from(*number).ok(), number.to_string()),
        Rate::Words(words) => {
            let number = words.strip_suffix("/s").unwrap_or(words).trim();
            let is_number = !number.is_empty() && number.bytes().all(|byte| byte.is_ascii_digit());
            let number = if is_number { number.parse().ok() } else { None };
            (number, format!("\"{}\"", words.escape_debug()))
        }
    };
    number.filter(|number| (1..=MOST_RATE).contains(number)).ok_or_else(|| {
        let expected = format!("{RATE_EXPECTED}, from 1 to {MOST_RATE} per second");
        Message::new(format!("{text} is not a rate"), expected)
    })
}

/// Parses the source ports for `nat`, such as `20000-56999`.
pub(super) fn nat_ports(text: &str) -> Result<PortRange, Message> {
    let shape = "first and last port, such as \"20000-56999\"";
    let (low, high) = range(text)
        .ok_or_else(|| Message::new(format!("\"{}\" is not a range of ports", text.escape_debug()), shape))?;
    if low > high {
        return Err(Message::new(
            format!("the first port {low} is above the last port {high}"),
            shape,
        ));
    }
    if low < LOWEST_NAT_PORT {
        let expected = format!("ports from {LOWEST_NAT_PORT} on; lower ports are privileged");
        return Err(Message::new(format!("port {low} is too low"), expected));
    }
    let ports = PortRange { low, high };
    if ports.count() < FEWEST_NAT_PORTS {
        let problem = format!("only {} ports", ports.count());
        return Err(Message::new(problem, format!("at least {FEWEST_NAT_PORTS} ports")));
    }
    Ok(ports)
}

/// Parses an inclusive range of status codes.
pub(super) fn status(status: &Status) -> Result<(u16, u16), Message> {
    let (range, text) = match status {
        Status::Code(code) => (u16::try_from(*code).ok().map(|code| (code, code)), code.to_string()),
        Status::Range(text) => {
            let single = || digits(text).map(|code| (code, code));
            (range(text).or_else(single), format!("\"{}\"", text.escape_debug()))
        }
    };
    range
        .filter(|(low, high)| low <= high && *low >= 100 && *high <= 599)
        .ok_or_else(|| Message::new(format!("{text} is not a status"), STATUS_EXPECTED))
}

fn range(text: &str) -> Option<(u16, u16)> {
    let (low, high) = text.split_once('-')?;
    Some((digits(low.trim())?, digits(high.trim())?))
}

/// Parses digits. Unlike `parse`, refuses a sign.
fn digits(text: &str) -> Option<u16> {
    text.bytes()
        .all(|byte| byte.is_ascii_digit())
        .then(|| text.parse().ok())?
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn source_ports_are_a_large_unprivileged_range() {
        for (text, expected) in [
            ("20000-56999", Ok((20000, 56999))),
            ("1024 - 65535", Ok((1024, 65535))),
            ("20000-21023", Ok((20000, 21023))),
            ("20000-21022", Err("only 1023 ports")),
            ("1023-9999", Err("port 1023 is too low")),
            ("30000-20000", Err("the first port 30000 is above the last port 20000")),
            ("20000", Err("\"20000\" is not a range of ports")),
            ("20000-65536", Err("\"20000-65536\" is not a range of ports")),
            ("+20000-30000", Err("\"+20000-30000\" is not a range of ports")),
            ("-", Err("\"-\" is not a range of ports")),
            ("", Err("\"\" is not a range of ports")),
        ] {
            let ports = nat_ports(text)
                .map(|ports| (ports.low, ports.high))
                .map_err(|problem| problem.text);
            assert_eq!(ports, expected.map_err(str::to_owned), "{text}");
        }
    }

    #[test]
    fn ports_of_a_service_are_a_range_or_any() {
        for (text, expected) in [
            ("8000-8099", Ok((8000, 8099))),
            ("1 - 65535", Ok((1, 65535))),
            ("any", Ok((1, 65535))),
            ("0-80", Err("port 0 is out of range")),
            ("80-80", Err("the range 80-80 is a single port")),
            ("81-80", Err("the first port 81 is above the last port 80")),
            ("80", Err("\"80\" is not a range of ports")),
            ("all", Err("\"all\" is not a range of ports")),
            ("1-65536", Err("\"1-65536\" is not a range of ports")),
        ] {
            let found = ports(text)
                .map(|ports| (ports.low, ports.high))
                .map_err(|problem| problem.text);
            assert_eq!(found, expected.map_err(str::to_owned), "{text}");
        }
    }

    #[test]
    fn a_rate_is_a_number_per_second() {
        let words = |text: &str| rate(&Rate::Words(text.to_owned())).ok();
        assert_eq!(words("100/s"), Some(100));
        assert_eq!(words("100 /s"), Some(100));
        assert_eq!(words("100"), Some(100));
        for text in [
            "",
            "/s",
            "0/s",
            "100/m",
            "-1/s",
            "+1/s",
            "1.5/s",
            "100000001/s",
            "99999999999/s",
        ] {
            assert_eq!(words(text), None, "{text}");
        }
        for (number, expected) in [(i64::MIN, None), (0, None), (1, Some(1)), (100_000_001, None)] {
            assert_eq!(rate(&Rate::Number(number)).ok(), expected, "{number}");
        }
    }

    #[test]
    fn a_status_is_a_code_or_a_range_of_codes() {
        let range = |text: &str| status(&Status::Range(text.to_owned())).ok();
        assert_eq!(range("200-399"), Some((200, 399)));
        assert_eq!(range("204"), Some((204, 204)));
        assert_eq!(status(&Status::Code(304)), Ok((304, 304)));
        for text in ["", "-", "2xx", "99", "600", "300-200", "200-", "200-700"] {
            assert_eq!(range(text), None, "{text}");
        }
        for code in [i64::MIN, -200, 0, 99, 600, 65736] {
            assert!(status(&Status::Code(code)).is_err(), "{code}");
        }
    }

    #[test]
    fn ports_and_numbers_outside_their_range_are_refused() {
        for (number, expected) in [(-1, None), (0, None), (1, Some(1)), (65535, Some(65535)), (65536, None)] {
            assert_eq!(port(&number).ok(), expected, "{number}");
        }
        let weight = number("weight", 0, 1000);
        for (number, expected) in [
            (i128::MIN, None),
            (0, Some(0)),
            (1000, Some(1000)),
            (1001, None),
            (1 << 32, None),
        ] {
            assert_eq!(weight(&number).ok(), expected, "{number}");
        }
    }
}
