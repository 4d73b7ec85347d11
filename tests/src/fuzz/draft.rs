//! Frames as they should be, before anything is broken.

use std::net::SocketAddr;

use crate::{
    fixture::{TCP, UDP},
    model::sums,
};

/// A frame that is put together.
#[derive(Clone, Debug)]
pub struct Draft {
    /// Link-layer addresses, destination first.
    pub macs: [[u8; 6]; 2],
    /// VLAN tags.
    pub tags: Vec<u16>,
    /// Where it comes from.
    pub from: SocketAddr,
    /// Where it goes to.
    pub to: SocketAddr,
    /// Type of service or traffic class.
    pub class: u8,
    /// Time to live or hop limit.
    pub ttl: u8,
    /// Protocol of the payload.
    pub protocol: u8,
    /// IPv4 options, a multiple of four bytes.
    pub options: Vec<u8>,
    /// IPv6 extension headers: kind, and units of eight bytes behind the first.
    pub extensions: Vec<(u8, u8)>,
    /// Identification, offset in bytes and "more" of a fragment.
    pub fragment: Option<(u32, u16, bool)>,
    /// What follows IP.
    pub payload: Vec<u8>,
}

impl Draft {
    /// A segment.
    pub fn tcp(from: SocketAddr, to: SocketAddr, numbers: [u32; 2], flags: u8, options: usize, data: &[u8]) -> Self {
        let mut segment = Vec::new();
        segment.extend(from.port().to_be_bytes());
        segment.extend(to.port().to_be_bytes());
        segment.extend(numbers[0].to_be_bytes());
        segment.extend(numbers[1].to_be_bytes());
        segment.extend([0x50 + 0x10 * options as u8, flags, 0xff, 0xff, 0, 0, 0, 0]);
        segment.extend(vec![1; 4 * options]);
        segment.extend(data);
        let outside = sums::pseudo(from.ip(), to.ip(), TCP, segment.len());
        sums::set(&mut segment, &outside, 16);
        Self::new(from, to, TCP, segment)
    }

    /// A datagram.
    pub fn udp(from: SocketAddr, to: SocketAddr, checksum: bool, data: &[u8]) -> Self {
        let mut datagram = Vec::new();
        datagram.extend(from.port().to_be_bytes());
        datagram.extend(to.port().to_be_bytes());
        datagram.extend((8 + data.len() as u16).to_be_bytes());
        datagram.extend([0, 0]);
        datagram.extend(data);
        if checksum {
            let outside = sums::pseudo(from.ip(), to.ip(), UDP, datagram.len());
            sums::set(&mut datagram, &outside, 6);
            if datagram[6..8] == [0, 0] {
                datagram[6..8].fill(0xff);
            }
        }
        Self::new(from, to, UDP, datagram)
    }

    /// An ICMP error that quotes bytes of a packet.
    pub fn error(from: SocketAddr, to: SocketAddr, kind: u8, code: u8, quote: &[u8]) -> Self {
        let mut message = vec![kind, code, 0, 0, 0, 0, 5, 0];
        message.extend(quote);
        let protocol = if from.is_ipv6() { 58 } else { 1 };
        let outside = if from.is_ipv6() {
            sums::pseudo(from.ip(), to.ip(), protocol, message.len())
        } else {
            Vec::new()
        };
        sums::set(&mut message, &outside, 2);
        Self::new(from, to, protocol, message)
    }

    fn new(from: SocketAddr, to: SocketAddr, protocol: u8, payload: Vec<u8>) -> Self {
        Self {
            macs: [[2, 0, 0, 0, 0, 2], [2, 0, 0, 0, 0, 1]],
            tags: Vec::new(),
            from,
            to,
            class: 0,
            ttl: 64,
            protocol,
            options: Vec::new(),
            extensions: Vec::new(),
            fragment: None,
            payload,
        }
    }

    /// The IP packet.
    pub fn packet(&self) -> Vec<u8> {
        let mut packet = Vec::new();
        if self.from.is_ipv4() {
            let length = 20 + self.options.len() + self.payload.len();
            packet.extend([0x45 + (self.options.len() / 4) as u8, self.class]);
            packet.extend((length as u16).to_be_bytes());
            let (id, offset, more) = self.fragment.unwrap_or((0x1234, 0, false));
            packet.extend((id as u16).to_be_bytes());
            packet.extend(((offset / 8) | if more { 0x2000 } else { 0 }).to_be_bytes());
            packet.extend([self.ttl, self.protocol, 0, 0]);
            packet.extend(sums::octets(self.from.ip()));
            packet.extend(sums::octets(self.to.ip()));
            packet.extend(&self.options);
            sums::set(&mut packet, &[], 10);
        } else {
            let (first, extensions) = self.extension_headers();
            let length = extensions.len() + self.payload.len();
            packet.extend((0x6000_0000 | u32::from(self.class) << 20).to_be_bytes());
            packet.extend((length as u16).to_be_bytes());
            packet.extend([first, self.ttl]);
            packet.extend(sums::octets(self.from.ip()));
            packet.extend(sums::octets(self.to.ip()));
            packet.extend(extensions);
        }
        packet.extend(&self.payload);
        packet
    }

    fn extension_headers(&self) -> (u8, Vec<u8>) {
        let mut next = self.protocol;
        let mut headers = Vec::new();
        if let Some((id, offset, more)) = self.fragment {
            let mut header = vec![next, 0];
            header.extend(((offset & !7) | u16::from(more)).to_be_bytes());
            header.extend(id.to_be_bytes());
            headers = header;
            next = 44;
        }
        for (kind, units) in self.extensions.iter().rev() {
            let unit = if *kind == 51 { 4 } else { 8 };
            let mut header = vec![0; 8 + unit * usize::from(*units)];
            header[0] = next;
            header[1] = *units;
            header.extend(&headers);
            headers = header;
            next = *kind;
        }
        (next, headers)
    }

    /// The frame.
    pub fn frame(&self) -> Vec<u8> {
        let mut frame = self.macs.concat();
        for (at, tag) in self.tags.iter().enumerate() {
            let kind: u16 = if at + 1 < self.tags.len() { 0x88a8 } else { 0x8100 };
            frame.extend(kind.to_be_bytes());
            frame.extend(tag.to_be_bytes());
        }
        frame.extend(if self.from.is_ipv4() {
            [0x08, 0x00]
        } else {
            [0x86, 0xdd]
        });
        frame.extend(self.packet());
        frame
    }
}
