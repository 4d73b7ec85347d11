//! What is reported, and how often.

use super::*;

/// Version 3, one second between adverts, one address.
fn expected() -> ExpectedAdverts {
    ExpectedAdverts {
        version: 3,
        router: 51,
        priority: 100,
        interval: 1_000_000,
        peers: Vec::new(),
        password: None,
        checksum: ChecksumCoverage::PseudoHeader,
        addresses: BTreeSet::from([[192, 0, 2, 10].into()]),
    }
}

fn other() -> IpAddr {
    [192, 0, 2, 3].into()
}

fn advert(priority: u8, interval: u64, addresses: &[IpAddr]) -> Advert {
    Advert {
        version: 3,
        router: 51,
        priority,
        interval,
        addresses: addresses.to_vec(),
        password: None,
    }
}

#[test]
fn a_refusal_is_reported_once_an_hour_for_each_reason_and_balancer() {
    let expected = ExpectedAdverts {
        version: 2,
        password: Some(*b"secret\0\0"),
        ..expected()
    };
    let mut mismatches = Mismatches::default();
    let mut report = |reason, now| mismatches.refused(reason, other(), &expected, now);
    assert_eq!(
        report(Refused::Router, 1),
        None,
        "multicast delivers adverts of other virtual routers"
    );
    assert_eq!(
        report(Refused::Password, 1).unwrap(),
        "adverts of 192.0.2.3 are refused: wrong password"
    );
    assert_eq!(report(Refused::Password, REPORT_INTERVAL), None);
    assert_eq!(
        report(Refused::Version, 2).unwrap(),
        "adverts of 192.0.2.3 are refused: expected version 2"
    );
    assert!(report(Refused::Password, 1 + REPORT_INTERVAL).is_some());
    assert!(
        report(Refused::OwnAddress, 3)
            .unwrap()
            .ends_with("the address of this balancer")
    );
    let third = mismatches.refused(Refused::Password, [192, 0, 2, 4].into(), &expected, 4);
    assert!(third.is_some(), "another balancer is reported on its own");
    for last in 0..=255 {
        mismatches.refused(Refused::HopLimit, [198, 51, 100, last].into(), &expected, 5);
    }
    assert_eq!(mismatches.0.len(), MAX_REPORTS);
}

#[test]
fn mismatches_of_accepted_adverts_are_reported_once() {
    let address: IpAddr = [192, 0, 2, 10].into();
    let same = advert(100, 1_000_000, &[address]);
    // Own priority, advert, what its checksum covers; then words of the reports.
    for (priority, advert, coverage, words) in [
        (100, same.clone(), ChecksumCoverage::PseudoHeader, &[][..]),
        (
            100,
            same.clone(),
            ChecksumCoverage::Message,
            &["the other form of the checksum"],
        ),
        (
            100,
            advert(100, 10_000, &[address, [192, 0, 2, 11].into()]),
            ChecksumCoverage::PseudoHeader,
            &[
                "an advert every 10ms, this balancer every 1s",
                "other addresses: 192.0.2.10, 192.0.2.11; this balancer has 192.0.2.10",
            ],
        ),
        (
            255,
            advert(255, 1_000_000, &[address]),
            ChecksumCoverage::PseudoHeader,
            &["both keep the addresses"],
        ),
    ] {
        let expected = ExpectedAdverts { priority, ..expected() };
        let mut mismatches = Mismatches::default();
        let reports = mismatches.accepted((&advert, coverage), other(), &expected, 1);
        assert_eq!(reports.len(), words.len(), "{reports:?}");
        for (report, words) in reports.iter().zip(words) {
            assert!(report.contains(words), "{report}");
        }
        assert!(
            mismatches
                .accepted((&advert, coverage), other(), &expected, 2)
                .is_empty()
        );
    }
}
