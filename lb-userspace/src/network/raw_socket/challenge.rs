//! Challenge: a TCP segment that makes a silent client send a challenge ACK.
//!
//! When a backend is down, its flows must end with an RST. An RST must have exactly the sequence
//! number that the client expects next (RFC 5961, section 3.2), and only the client knows that
//! number. So the client is asked. RFC 9293, section 3.10.7.4: "If an incoming segment is not
//! acceptable, an acknowledgment should be sent in reply (unless the RST bit is set, if so drop the
//! segment and return)". The XDP program sees that acknowledgment, finds the flow's backend down,
//! and replies with an exact RST.

use lb_common::{
    Family, FlowKey, V4, V6,
    checksum::full,
    wire::{ipv4, ipv6, tcp},
};

/// The timestamps option in the layout of RFC 7323, appendix A: two no-operations, kind 8, length
/// 10, TSval 1, TSecr 0.
const TIMESTAMPS: [u8; 12] = [1, 1, 8, 10, 0, 0, 0, 1, 0, 0, 0, 0];

const TTL: u8 = 64;

/// Makes the challenge to the client of a TCP flow: a packet with its IP header.
///
/// `key` is the 5-tuple of the client's packets. The challenge goes in the opposite direction and
/// must be sent through a socket ([`super::Sender`]), not through XDP. It is an ACK without data.
/// `attempt` is 0 for the first challenge and grows by 1 while the client does not reply. Leave at
/// least half a second between two attempts: clients limit the rate of challenge ACKs.
///
/// - The sequence number is `attempt` times 2^30, the acknowledgment number 2^31 more. The number
///   must not be in the client's receive window. A window has at most 2^30 bytes (RFC 7323, section
///   2.3), so of two consecutive attempts at most one is inside.
/// - Attempts 2 and 3 of every four have a timestamps option. RFC 7323, section 3.2: "If a
///   non-<RST> segment is received without a TSopt, a TCP SHOULD silently drop the segment" once
///   the option was negotiated. Most stacks do not drop it. Recent Linux (6.18) is silent if both
///   timestamp and sequence number of an ACK are old, which happens by chance in one of four cases.
///   So the first attempts have no option.
pub fn challenge<F: ChallengeFamily>(key: &FlowKey<F>, attempt: u32) -> Vec<u8> {
    let segment = segment(key, attempt);
    let mut packet = F::header(key, segment.len() as u16);
    packet.extend(segment);
    packet
}

/// A family for which the IP header of a challenge can be written.
pub trait ChallengeFamily: Family {
    /// The IP header of a packet to the source of `key` that carries a segment of `length` bytes.
    #[doc(hidden)]
    fn header(key: &FlowKey<Self>, length: u16) -> Vec<u8>;
}

impl ChallengeFamily for V4 {
    fn header(key: &FlowKey<Self>, length: u16) -> Vec<u8> {
        let mut header = vec![0; ipv4::LENGTH];
        header[ipv4::VERSION_IHL] = 0x45;
        put(
            &mut header,
            ipv4::TOTAL_LENGTH,
            (ipv4::LENGTH as u16 + length).to_be_bytes(),
        );
        put(&mut header, ipv4::FRAGMENT, 0x4000_u16.to_be_bytes()); // do not fragment
        header[ipv4::TTL] = TTL;
        header[ipv4::PROTOCOL] = tcp::PROTOCOL;
        put(&mut header, ipv4::SOURCE, key.destination[0].to_ne_bytes());
        put(&mut header, ipv4::DESTINATION, key.source[0].to_ne_bytes());
        let checksum = full(&header, 0);
        put(&mut header, ipv4::CHECKSUM, checksum.to_ne_bytes());
        header
    }
}

impl ChallengeFamily for V6 {
    fn header(key: &FlowKey<Self>, length: u16) -> Vec<u8> {
        let mut header = vec![0; ipv6::LENGTH];
        header[ipv6::VERSION] = 0x60;
        put(&mut header, ipv6::PAYLOAD_LENGTH, length.to_be_bytes());
        header[ipv6::NEXT_HEADER] = tcp::PROTOCOL;
        header[ipv6::HOP_LIMIT] = TTL;
        for (i, (source, destination)) in key.destination.into_iter().zip(key.source).enumerate() {
            put(&mut header, ipv6::SOURCE + 4 * i, source.to_ne_bytes());
            put(&mut header, ipv6::DESTINATION + 4 * i, destination.to_ne_bytes());
        }
        header
    }
}

fn segment<F: Family>(key: &FlowKey<F>, attempt: u32) -> Vec<u8> {
    let options: &[u8] = if attempt & 2 == 0 { &[] } else { &TIMESTAMPS };
    let sequence = attempt.wrapping_mul(1 << 30);
    let mut segment = vec![0; tcp::LENGTH];
    put(&mut segment, tcp::SOURCE_PORT, key.ports.reversed().0.to_ne_bytes());
    put(&mut segment, tcp::SEQUENCE, sequence.to_be_bytes());
    put(
        &mut segment,
        tcp::ACKNOWLEDGMENT,
        sequence.wrapping_add(1 << 31).to_be_bytes(),
    );
    segment.extend(options);
    segment[tcp::DATA_OFFSET] = (segment.len() as u8 / 4) << 4;
    segment[tcp::FLAGS] = tcp::ACK;
    // RFC 9293, section 3.1: the checksum covers a pseudo-header of addresses, protocol and length.
    let addresses: u64 = key
        .source
        .as_ref()
        .iter()
        .chain(key.destination.as_ref())
        .map(|word| u64::from(*word))
        .sum();
    let pseudo = addresses + u64::from(u16::from(tcp::PROTOCOL).to_be()) + u64::from((segment.len() as u16).to_be());
    let checksum = full(&segment, pseudo);
    put(&mut segment, tcp::CHECKSUM, checksum.to_ne_bytes());
    segment
}

fn put<const N: usize>(bytes: &mut [u8], offset: usize, value: [u8; N]) {
    bytes[offset..offset + N].copy_from_slice(&value);
}

#[cfg(test)]
mod tests {
    use super::*;
    use lb_common::{Be16, Ports, family::address};

    fn key<F: Family>(client: &str, virtual_address: &str) -> FlowKey<F> {
        FlowKey {
            source: F::narrow(&address::to_words(client.parse().unwrap())),
            destination: F::narrow(&address::to_words(virtual_address.parse().unwrap())),
            ports: Ports::new(Be16::from_host(40000), Be16::from_host(443)),
            protocol: tcp::PROTOCOL,
            ..FlowKey::ZERO
        }
    }

    #[test]
    fn challenges_are_bare_acknowledgments_from_the_virtual_address() {
        let bare = [
            0x45, 0, 0, 40, 0, 0, 0x40, 0, 64, 6, 0, 0, 198, 51, 100, 7, 192, 0, 2, 1, // IPv4
            0x01, 0xbb, 0x9c, 0x40, 0x40, 0, 0, 0, 0xc0, 0, 0, 0, 0x50, 0x10, 0, 0, 0, 0, 0, 0, // TCP
        ];
        let with_option = [
            0x45, 0, 0, 52, 0, 0, 0x40, 0, 64, 6, 0, 0, 198, 51, 100, 7, 192, 0, 2, 1, // IPv4
            0x01, 0xbb, 0x9c, 0x40, 0x80, 0, 0, 0, 0, 0, 0, 0, 0x80, 0x10, 0, 0, 0, 0, 0, 0, // TCP
            1, 1, 8, 10, 0, 0, 0, 1, 0, 0, 0, 0, // timestamps
        ];
        for (attempt, expected) in [(1, &bare[..]), (2, &with_option)] {
            let mut packet = challenge(&key::<V4>("192.0.2.1", "198.51.100.7"), attempt);
            packet[ipv4::CHECKSUM..][..2].fill(0);
            packet[ipv4::LENGTH + tcp::CHECKSUM..][..2].fill(0);
            assert_eq!(packet, expected);
        }
    }

    #[test]
    fn checksums_are_right_in_both_families() {
        // The sum over everything that a checksum covers, itself included, is all ones; `full`
        // returns its complement.
        let is_right = |packet: &[u8], addresses: usize, header: usize| {
            let length = (packet.len() - header) as u8;
            let covered = [
                &packet[addresses..header],
                &[0, tcp::PROTOCOL, 0, length],
                &packet[header..],
            ]
            .concat();
            full(&covered, 0) == 0
        };
        for attempt in 0..4 {
            let v4 = challenge(&key::<V4>("192.0.2.1", "198.51.100.7"), attempt);
            assert_eq!(full(&v4[..ipv4::LENGTH], 0), 0);
            assert!(is_right(&v4, ipv4::SOURCE, ipv4::LENGTH));
            let v6 = challenge(&key::<V6>("2001:db8::1", "2001:db8:ffff::7"), attempt);
            assert!(is_right(&v6, ipv6::SOURCE, ipv6::LENGTH));
        }
    }

    #[test]
    fn of_two_consecutive_attempts_at_most_one_can_be_in_a_window() {
        let sequence = |attempt| {
            let packet = challenge(&key::<V4>("192.0.2.1", "198.51.100.7"), attempt);
            u32::from_be_bytes(packet[ipv4::LENGTH + tcp::SEQUENCE..][..4].try_into().unwrap())
        };
        for attempt in 0..8 {
            assert_eq!(sequence(attempt + 1).wrapping_sub(sequence(attempt)), 1 << 30);
        }
    }
}
