//! Bytes of adverts: those of the RFCs, of keepalived, and random ones.

use proptest::prelude::*;

use super::*;

fn advert(version: u8, addresses: &[&str]) -> Advert {
    Advert {
        version,
        router: 51,
        priority: 100,
        interval: 1_000_000,
        addresses: addresses.iter().map(|address| address.parse().unwrap()).collect(),
        password: None,
    }
}

fn ends(v6: bool) -> (IpAddr, IpAddr) {
    if v6 {
        ("fe80::1".parse().unwrap(), GROUP_V6.into())
    } else {
        ("192.0.2.1".parse().unwrap(), GROUP_V4.into())
    }
}

#[test]
fn adverts_have_the_format_of_the_rfcs() {
    let (source, destination) = ends(false);
    let message = advert(3, &["192.0.2.10"]).bytes(source, destination, ChecksumCoverage::Message);
    // Version and type, router, priority, count, 100 centiseconds, checksum, address.
    assert_eq!(message[..6], [0x31, 51, 100, 1, 0, 100]);
    assert_eq!(message[8..], [192, 0, 2, 10]);
    assert_eq!(checksum::full(&message, 0), 0);
    // The sum by hand: 3133 + 6401 + 0064 + c000 + 020a = 157a2, folded 57a3, complement a85c.
    assert_eq!(message[6..8], [0xa8, 0x5c]);
    let message = advert(2, &["192.0.2.10"]).bytes(source, destination, ChecksumCoverage::PseudoHeader);
    assert_eq!(message[..6], [0x21, 51, 100, 1, 0, 1]);
    assert_eq!(message[8..], [192, 0, 2, 10, 0, 0, 0, 0, 0, 0, 0, 0]);
    let secret = Advert {
        password: Some(*b"secret\0\0"),
        ..advert(2, &["192.0.2.10"])
    };
    let message = secret.bytes(source, destination, ChecksumCoverage::PseudoHeader);
    assert_eq!((message[4], &message[12..]), (1, &b"secret\0\0"[..]));
}

/// Bytes in hexadecimal digits, then the addresses, version, interval and password in them.
type Vector = (&'static str, &'static [&'static str], u8, u64, Option<[u8; 8]>);

/// Adverts that keepalived 2.2.7 sent from 192.0.2.2 and fe80::2, without IP header.
const KEEPALIVED: [Vector; 4] = [
    ("313396010014d41ac000020a", &["192.0.2.10"], 3, 200_000, None),
    (
        "3133960200140e32fe80000000000000000000000000000a20010db8000000000000000000000010",
        &["fe80::a", "2001:db8::10"],
        3,
        200_000,
        None,
    ),
    (
        "21339601000186bfc000020a0000000000000000",
        &["192.0.2.10"],
        2,
        1_000_000,
        None,
    ),
    (
        "2133960101014973c000020a7365637265740000",
        &["192.0.2.10"],
        2,
        1_000_000,
        Some(*b"secret\0\0"),
    ),
];

#[test]
fn adverts_of_keepalived_are_parsed_and_built_alike() {
    for (hex, addresses, version, interval, password) in KEEPALIVED {
        let bytes: Vec<_> = (0..hex.len())
            .step_by(2)
            .map(|at| u8::from_str_radix(&hex[at..at + 2], 16).unwrap())
            .collect();
        let advert = Advert {
            priority: 150,
            interval,
            password,
            ..advert(version, addresses)
        };
        let (source, destination): (IpAddr, IpAddr) = if advert.addresses[0].is_ipv4() {
            ([192, 0, 2, 2].into(), GROUP_V4.into())
        } else {
            ("fe80::2".parse().unwrap(), GROUP_V6.into())
        };
        let covered = if version == 2 {
            ChecksumCoverage::Message
        } else {
            ChecksumCoverage::PseudoHeader
        };
        assert_eq!(advert.bytes(source, destination, covered), bytes, "{hex}");
        assert_eq!(
            Advert::parse(&bytes, source, destination),
            Ok((advert, covered)),
            "{hex}"
        );
    }
}

#[test]
fn built_adverts_are_parsed_and_damaged_ones_refused() {
    for (version, v6, covered) in [
        (2, false, ChecksumCoverage::Message),
        (3, false, ChecksumCoverage::Message),
        (3, false, ChecksumCoverage::PseudoHeader),
        (3, true, ChecksumCoverage::PseudoHeader),
    ] {
        let addresses: &[&str] = if v6 {
            &["fe80::10", "2001:db8::10"]
        } else {
            &["192.0.2.10", "192.0.2.11"]
        };
        let (source, destination) = ends(v6);
        let sent = advert(version, addresses);
        let message = sent.bytes(source, destination, covered);
        assert_eq!(
            Advert::parse(&message, source, destination),
            Ok((sent, covered)),
            "{version} {v6}"
        );
        for length in 0..message.len() {
            assert_eq!(
                Advert::parse(&message[..length], source, destination),
                Err(Refused::Short),
                "{length}"
            );
        }
        for bit in 0..message.len() * 8 {
            let mut wrong = message.clone();
            wrong[bit / 8] ^= 1 << (bit % 8);
            assert!(Advert::parse(&wrong, source, destination).is_err(), "bit {bit}");
        }
    }
}

#[test]
fn other_versions_and_types_are_refused() {
    let (source, destination) = ends(false);
    for (first, why) in [
        (0x11, Refused::Version),
        (0x41, Refused::Version),
        (0x32, Refused::Type),
    ] {
        let mut message = advert(3, &["192.0.2.10"]).bytes(source, destination, ChecksumCoverage::Message);
        message[0] = first;
        assert_eq!(Advert::parse(&message, source, destination), Err(why));
    }
}

#[test]
fn adverts_without_addresses_are_refused_in_version_3() {
    for (version, v6, is_valid) in [(2, false, true), (3, false, false), (3, true, false)] {
        let (source, destination) = ends(v6);
        let message = advert(version, &[]).bytes(source, destination, ChecksumCoverage::PseudoHeader);
        let parsed = Advert::parse(&message, source, destination).map(drop);
        let expected = if is_valid { Ok(()) } else { Err(Refused::NoAddresses) };
        assert_eq!(parsed, expected, "{version} {v6}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 100_000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_bytes_are_parsed_or_refused(message in prop::collection::vec(any::<u8>(), 0..80), v6: bool) {
        let (source, destination) = ends(v6);
        let _ = Advert::parse(&message, source, destination);
    }

    #[test]
    fn parsed_adverts_have_the_values_in_their_header(
        mut message in prop::collection::vec(any::<u8>(), 8..80),
        count in 0_u8..8,
        version in 2_u8..4,
        v6: bool,
    ) {
        // Type, count and checksum are valid. All other bytes are random.
        message[0] = version << 4 | ADVERTISEMENT;
        message[3] = count;
        message[6..8].fill(0);
        let (source, destination) = ends(v6);
        let size = if v6 { 16 } else { 4 };
        let end = HEADER + usize::from(count) * size + if version == 2 { PASSWORD } else { 0 };
        if let Some(whole) = message.get(..end) {
            let with = if version == 2 { 0 } else { pseudo_header(source, destination, end) };
            let sum = checksum::full(whole, with);
            message[6..8].copy_from_slice(&sum.to_ne_bytes());
        }
        match Advert::parse(&message, source, destination) {
            Ok((advert, _)) => {
                prop_assert_eq!(advert.addresses.len(), usize::from(count));
                prop_assert!(count != 0 || version == 2);
                prop_assert_eq!((advert.version, advert.router, advert.priority), (version, message[1], message[2]));
            }
            Err(Refused::NoAddresses) => prop_assert_eq!((version, count), (3, 0)),
            Err(why) => prop_assert!(matches!(why, Refused::Short) || v6 && version == 2, "{}", why),
        }
    }
}
