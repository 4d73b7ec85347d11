//! Checksums over whole headers and messages, computed from all bytes.

use std::net::IpAddr;

/// The one's complement sum of RFC 1071 over pieces that each start at an even offset, modulo
/// 65535.
fn sum(pieces: &[&[u8]]) -> u32 {
    let mut sum = 0_u64;
    for piece in pieces {
        for pair in piece.chunks(2) {
            sum += u64::from(pair[0]) << 8 | u64::from(pair.get(1).copied().unwrap_or(0));
        }
    }
    (sum % 65535) as u32
}

/// Sets the checksum field at `at` in `new`, which replaces `old`: a right one is right again, and
/// a wrong one stays as wrong as it was, so that no earlier error is hidden.
/// `old_outside` and `new_outside` count too, as a pseudo-header does.
pub fn mend(old: &[u8], old_outside: &[u8], new: &mut [u8], new_outside: &[u8], at: usize) {
    new[at..at + 2].fill(0);
    let error = sum(&[old, old_outside]);
    let field = (error + 65535 - sum(&[new, new_outside])) % 65535;
    new[at..at + 2].copy_from_slice(&(field as u16).to_be_bytes());
}

/// As [`mend`] for UDP. RFC 768: "If the computed checksum is zero, it is transmitted as all ones",
/// and zero means that there is none.
pub fn mend_udp(old: &[u8], old_outside: &[u8], new: &mut [u8], new_outside: &[u8], at: usize) {
    if old[at..at + 2] == [0, 0] {
        return;
    }
    mend(old, old_outside, new, new_outside, at);
    if new[at..at + 2] == [0, 0] {
        new[at..at + 2].fill(0xff);
    }
}

/// Sets the right checksum at `at`.
pub fn set(bytes: &mut [u8], outside: &[u8], at: usize) {
    mend(&[], &[], bytes, outside, at);
}

/// The pseudo-header of RFC 9293 or RFC 8200; the sum is the same for both layouts of length and
/// protocol.
pub fn pseudo(source: IpAddr, destination: IpAddr, protocol: u8, length: usize) -> Vec<u8> {
    let mut header = [octets(source), octets(destination)].concat();
    header.extend((length as u32).to_be_bytes());
    header.extend([0, 0, 0, protocol]);
    header
}

/// The bytes of an address.
pub fn octets(address: IpAddr) -> Vec<u8> {
    match address {
        IpAddr::V4(v4) => v4.octets().to_vec(),
        IpAddr::V6(v6) => v6.octets().to_vec(),
    }
}
