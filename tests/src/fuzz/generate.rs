//! Makes frames from numbers: mostly right ones of few flows, so that they meet; some broken.

use std::net::SocketAddr;

use lb_common::Phase;

use super::{
    Random,
    draft::Draft,
    scene::{self, Focus},
};
use crate::{
    fixture::{TCP, UDP},
    model::{Flow, Key, Model},
    packet::{ACK, FIN, PSH, RST, SYN},
};

/// The longest frame that a test run takes.
const LONGEST: usize = 3400;

/// The frame of a step. The same number makes the same frame of the same flow, as far as the flow
/// is bound the same way.
pub fn frame(number: u64, focus: Focus, model: &Model) -> Vec<u8> {
    let mut random = Random::new(number);
    let index = if random.once_in(10) {
        random.below(model.services.len())
    } else {
        random.one(&focus)
    };
    let (service, protocol) = model.services[index].at;
    let v6 = service.is_ipv6();
    let host = 1 + random.below(scene::CLIENTS.into()) as u8;
    let key = Key {
        client: scene::client(v6, host, random.one(&scene::PORTS)),
        service,
        protocol,
    };
    let mut draft = draft(&key, host, model, &mut random);
    decorate(&mut draft, &mut random);
    let mut frame = draft.frame();
    frame.truncate(LONGEST);
    if random.once_in(10) {
        mutate(&mut frame, draft.tags.len(), &mut random);
    }
    frame
}

/// The SYNs once more of all flows that were not answered, and whose answers the program would see.
pub fn again(number: u64, model: &Model) -> Vec<Vec<u8>> {
    let mut random = Random::new(number);
    let waits =
        |(_, flow): &(&Key, &Flow)| flow.phase == Phase::Opening && model.services[flow.service].mode.translates();
    let mut keys: Vec<&Key> = model.flows.iter().filter(waits).map(|(key, _)| key).collect();
    keys.retain(|key| key.protocol == TCP);
    keys.sort_by_key(|key| (key.client, key.service));
    let mut frame = |key: &Key| segment(key.client, key.service, TCP, &mut random, &[SYN]).frame();
    keys.into_iter().map(&mut frame).collect()
}

fn draft(key: &Key, host: u8, model: &Model, random: &mut Random) -> Draft {
    let flow = model.flows.get(key);
    let translates = flow.is_some_and(|flow| model.services[flow.service].mode.translates());
    match (random.below(20), flow) {
        (0..=5, Some(flow)) if translates => answer(key, flow, model, random),
        (6, Some(flow)) => error(key, flow, model, random),
        (7, _) => stray(key, random),
        _ => {
            let mut draft = segment(key.client, key.service, key.protocol, random, &REQUESTS);
            draft.macs[1][5] = host;
            if random.once_in(40) {
                draft.macs[1][4] = 9;
            }
            draft
        }
    }
}

/// Flags of segments, those of clients first.
const REQUESTS: [u8; 12] = [
    SYN,
    SYN,
    SYN,
    ACK,
    ACK,
    ACK,
    PSH | ACK,
    FIN | ACK,
    FIN | ACK,
    RST,
    RST | ACK,
    FIN,
];
const ANSWERS: [u8; 9] = [
    SYN | ACK,
    SYN | ACK,
    SYN | ACK,
    ACK,
    PSH | ACK,
    FIN | ACK,
    FIN | ACK,
    RST,
    RST | ACK,
];

fn segment(from: SocketAddr, to: SocketAddr, protocol: u8, random: &mut Random, flags: &[u8]) -> Draft {
    let length = match random.below(12) {
        0 => 1380 + random.below(120),
        1 => 1500 + random.below(200),
        _ => random.below(40),
    };
    let data: Vec<u8> = (0..length).map(|_| random.number() as u8).collect();
    if protocol == TCP {
        let flags = if random.once_in(12) {
            random.number() as u8
        } else {
            random.one(flags)
        };
        let numbers = [random.number() as u32, random.number() as u32];
        Draft::tcp(from, to, numbers, flags, random.below(4), &data)
    } else {
        Draft::udp(from, to, !random.once_in(4), &data)
    }
}

fn answer(key: &Key, flow: &Flow, model: &Model, random: &mut Random) -> Draft {
    let Some(backend) = model.backend(flow) else {
        return stray(key, random);
    };
    let mut draft = segment(backend.address, flow.bound, key.protocol, random, &ANSWERS);
    draft.macs[1] = backend.hop.to;
    if backend.hop.vlans[0] != 0 && !random.once_in(4) {
        draft.tags = vec![backend.hop.vlans[0]];
    }
    draft
}

/// An ICMP error about a packet of a flow, in either direction.
fn error(key: &Key, flow: &Flow, model: &Model, random: &mut Random) -> Draft {
    let v6 = key.client.is_ipv6();
    let router = SocketAddr::new(scene::router(v6), 0);
    let quoted = match model.backend(flow) {
        Some(backend) if random.once_in(2) && model.services[flow.service].mode.translates() => {
            segment(flow.bound, backend.address, key.protocol, random, &REQUESTS)
        }
        _ => segment(key.service, key.client, key.protocol, random, &ANSWERS),
    };
    let from = if random.once_in(2) { quoted.to } else { router };
    let mut packet = quoted.packet();
    let headers = packet.len() - quoted.payload.len();
    let most = random.one(&[8, 8, 20, 28, 100, 1400]);
    packet.truncate(headers + most);
    let kind = match (v6, random.below(8)) {
        (_, 0) => random.number() as u8,
        (false, at) => [3, 3, 3, 11, 11, 12, 3][at - 1],
        (true, at) => [1, 2, 2, 3, 4, 1, 2][at - 1],
    };
    Draft::error(from, quoted.from, kind, random.below(6) as u8, &packet)
}

/// Between any two of the scene, to any port.
fn stray(key: &Key, random: &mut Random) -> Draft {
    let all: Vec<_> = scene::addresses()
        .into_iter()
        .filter(|address| address.is_ipv6() == key.client.is_ipv6())
        .collect();
    let ports = [80, 81, 8080, 30_000, 30_001, 56_999, 20_000, 57_000, 0];
    let from = SocketAddr::new(random.one(&all), random.one(&ports));
    let to = SocketAddr::new(random.one(&all), random.one(&ports));
    segment(from, to, key.protocol, random, &REQUESTS)
}

fn decorate(draft: &mut Draft, random: &mut Random) {
    if random.once_in(12) {
        draft.ttl = random.one(&[0, 1, 2, 255]);
    }
    if random.once_in(6) {
        draft.class = random.number() as u8;
    }
    if random.once_in(6) {
        // Priorities, VLANs, both, neither.
        let tags = [7, 9, 0x6007, 0x6000, 0];
        draft.tags = (0..=random.below(2)).map(|_| random.one(&tags)).collect();
    }
    if random.once_in(10) {
        draft.options = vec![1; 4 * (1 + random.below(10))];
    }
    if random.once_in(10) {
        let count = 1 + random.below(4);
        draft.extensions = (0..count)
            .map(|_| (random.one(&[0, 43, 60, 51]), random.below(3) as u8))
            .collect();
    }
    if random.once_in(10) {
        let id = random.below(3) as u32;
        if random.once_in(2) {
            draft.fragment = Some((id, 0, true));
        } else {
            draft.fragment = Some((id, 8 * (1 + random.below(20) as u16), random.once_in(2)));
            if matches!(draft.protocol, TCP | UDP) {
                draft.payload.drain(..8);
            }
        }
    }
}

fn mutate(frame: &mut Vec<u8>, tags: usize, random: &mut Random) {
    let l3 = 14 + 4 * tags;
    for _ in 0..=random.below(3) {
        match random.below(4) {
            0 => {
                let length = random.one(&[random.clone().below(frame.len()), l3 + 20, l3 + 39, l3 + 40, l3 + 59]);
                frame.truncate(length.max(14));
            }
            1 => frame.extend(vec![random.number() as u8; 1 + random.below(46)]),
            2 => {
                // The length in the IP header.
                let at = l3 + random.one(&[2, 3, 4, 5]);
                if let Some(byte) = frame.get_mut(at) {
                    *byte = byte.wrapping_add(random.one(&[1, 2, 4, 8, 0xff, 0xfe, 0xfc, 0xf8, 0x80]));
                }
            }
            _ => {
                // Not in the addresses and tags of the frame: where clients come from is kept for
                // ever.
                let at = l3 - 2 + random.below((frame.len() + 2).saturating_sub(l3).clamp(1, 120));
                if let Some(byte) = frame.get_mut(at) {
                    *byte = if random.once_in(2) {
                        random.number() as u8
                    } else {
                        *byte ^ 1 << random.below(8)
                    };
                }
            }
        }
    }
}
