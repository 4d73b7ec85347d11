//! Shows the content of pinned maps as JSON. Works without the controller.

use std::path::PathBuf;

use aya::maps::MapInfo;
use lb_common::{
    AddressClass, Backend, BackendCounters, BackendLoad, BackendSignals, BackendState, Event, Guards, Mode, NextHop,
    OnBackendDown, Options, Outcome, RingSlot, Scheduler, Service, Tags, VirtualRouter, abi::Abi, family::address,
    flow_table::Spills, maps, next_hop::ClientHop, router::place, service::MAX_SOURCES,
};
use serde::Serialize;
use serde_json::{Value, json};

use super::{Access, DataplaneError, Pins, Routers, SharedArray, Tables, shared::Record};
use lb_core::{config::Word, reconcile::Listing};

/// A pinned map.
#[derive(Clone, Debug, Serialize)]
pub struct MapSummary {
    /// Name.
    pub name: String,
    /// Kind of map, as the kernel reports it.
    pub kind: String,
    /// Size of a key, in bytes.
    pub key_bytes: u32,
    /// Size of a value, in bytes.
    pub value_bytes: u32,
    /// Number of entries that it can hold; for a ring buffer, bytes.
    pub capacity: u32,
    /// What it holds, as a sentence.
    pub help: String,
    /// Where it is pinned.
    pub pin: PathBuf,
}

/// All pinned maps.
///
/// # Errors
///
/// When one is not pinned or cannot be read.
pub fn list(pins: &Pins) -> Result<Vec<MapSummary>, DataplaneError> {
    maps::ALL
        .iter()
        .map(|map| {
            let pin = pins.map(map.name);
            if !pin.exists() {
                return Err(DataplaneError::NotPinned {
                    name: map.name.to_owned(),
                    folder: pins.maps(),
                });
            }
            let info = MapInfo::from_pin(&pin).map_err(|cause| DataplaneError::map(map.name, cause))?;
            Ok(MapSummary {
                name: map.name.to_owned(),
                kind: info
                    .map_type()
                    .map_or_else(|_| "unknown".to_owned(), |kind| format!("{kind:?}")),
                key_bytes: info.key_size(),
                value_bytes: info.value_size(),
                capacity: info.max_entries(),
                help: map.help.to_owned(),
                pin,
            })
        })
        .collect()
}

/// The entries of a map that are in use, at most `limit`; `None`: they cannot be read without
/// disturbing the packet path.
///
/// # Errors
///
/// When the map does not exist or cannot be read.
pub fn dump(pins: &Pins, name: &str, limit: usize) -> Result<Option<Vec<Value>>, DataplaneError> {
    let Some(map) = maps::ALL.iter().find(|map| map.name.eq_ignore_ascii_case(name)) else {
        let known: Vec<_> = maps::ALL.iter().map(|map| map.name).collect();
        return Err(DataplaneError::map(
            name,
            format!("it does not exist; the maps are {}", known.join(", ")),
        ));
    };
    let tables = Tables::open(pins, Access::Read)?;
    let entries = match *map {
        maps::SERVICES_V4 => listings(&tables, true, false, limit),
        maps::SERVICES_V6 => listings(&tables, false, false, limit),
        maps::PORT_RANGES_V4 => listings(&tables, true, true, limit),
        maps::PORT_RANGES_V6 => listings(&tables, false, true, limit),
        maps::ADDRESS_CLASSES => Ok(classes(&tables, limit)),
        maps::GUARDS_V4 => guards(&tables, true, limit),
        maps::GUARDS_V6 => guards(&tables, false, limit),
        maps::RATES_V4 => rates(&tables, true, limit),
        maps::RATES_V6 => rates(&tables, false, limit),
        maps::SERVICES => Ok(entries(
            &tables.services,
            limit,
            |entry| entry.ring.scheduler().is_some(),
            service,
        )),
        maps::SERVICE_STATES => Ok(entries(&tables.service_states, limit, used, |entry| {
            json!({
                "cursor": entry.cursor,
                "flows": entry.flows,
                "recent": entry.recent as u32,
                "recent_second": entry.recent >> 32,
            })
        })),
        maps::RINGS => Ok(ring_slots(&tables, limit)),
        maps::BACKENDS => Ok(of_backends(&tables, &tables.backends, limit, backend)),
        maps::BACKEND_LOADS => Ok(of_backends(&tables, &tables.loads, limit, load)),
        maps::BACKEND_SIGNALS => Ok(of_backends(&tables, &tables.signals, limit, signals)),
        maps::NEXT_HOPS => Ok(entries(&tables.next_hops, limit, used, next_hop)),
        maps::BACKEND_COUNTERS => backend_counters(&tables, limit),
        maps::FLOWS_V4 => Ok(flows(&tables, true, limit)),
        maps::FLOWS_V6 => Ok(flows(&tables, false, limit)),
        maps::SPILLS_V4 => Ok(entries(&tables.spills[0], limit, used, spills)),
        maps::SPILLS_V6 => Ok(entries(&tables.spills[1], limit, used, spills)),
        maps::CLIENT_HOPS => Ok(entries(&tables.client_hops, limit, used, client_hop)),
        maps::SETTINGS => Ok(settings(&tables)),
        maps::EVENTS => Ok(tables.events()?.into_iter().take(limit).map(event).collect()),
        maps::OUTCOMES => Ok(tables.outcomes()?.into_iter().take(limit).map(outcome).collect()),
        maps::VIRTUAL_ROUTERS | maps::ROUTER_IDS | maps::ROUTER_ADDRESSES => routers(pins, *map, limit),
        // Reading a ring buffer removes its records: the controller would miss them.
        _ => return Ok(None),
    };
    entries.map(Some)
}

fn routers(pins: &Pins, map: maps::Map, limit: usize) -> Result<Vec<Value>, DataplaneError> {
    let routers = Routers::open(pins, Access::Read)?;
    let known = routers.known()?;
    let shown: Vec<_> = match map {
        maps::VIRTUAL_ROUTERS => {
            let entries = known
                .iter()
                .filter_map(|(key, index)| Some((key, *index, routers.read(*index)?)));
            entries
                .map(|(key, index, entry)| virtual_router(key.family as u8, index, &entry))
                .collect()
        }
        maps::ROUTER_IDS => {
            let entries = known.iter().map(|(key, index)| {
                let key = json!({
                    "interface": key.interface,
                    "vlans": vlans(Tags(key.tags)),
                    "family": key.family,
                    "router": key.router,
                });
                json!({ "key": key, "index": index })
            });
            entries.collect()
        }
        _ => {
            let entries = routers.addresses()?.into_iter().map(|(key, place)| {
                let key = json!({
                    "interface": key.interface,
                    "vlans": vlans(Tags(key.tags)),
                    "address": text(key.family as u8, key.address),
                });
                json!({ "key": key, "index": place::index(place), "refuses": place::refuses(place) })
            });
            entries.collect()
        }
    };
    Ok(shown.into_iter().take(limit).collect())
}

fn virtual_router(family: u8, index: u32, entry: &VirtualRouter) -> Value {
    json!({
        "key": index,
        "renewed_ns": entry.renewed,
        "lease_until_ns": entry.until,
        "patience_ns": entry.patience,
        "heard_ns": entry.heard,
        "heard_from": if entry.heard == 0 { String::new() } else { text(family, entry.heard_from) },
        "heard_priority": entry.heard_priority,
        "heard_mac": mac_of(entry.heard_mac),
        "relay_until_ns": entry.relay_until,
        "own_mac": mac_of(entry.own_mac),
        "version": entry.version,
    })
}

fn mac_of(word: u64) -> String {
    mac(std::array::from_fn(|byte| (word >> (8 * byte)) as u8))
}

fn used<T: Abi>(entry: &T) -> bool {
    entry.as_bytes().iter().any(|byte| *byte != 0)
}

fn entries<T: Record>(
    array: &SharedArray<T>,
    limit: usize,
    wanted: impl Fn(&T) -> bool,
    show: impl Fn(&T) -> Value,
) -> Vec<Value> {
    (0..array.len())
        .filter_map(|index| array.read(index).map(|entry| (index, entry)))
        .filter(|(_, entry)| wanted(entry))
        .take(limit)
        .map(|(index, entry)| with_key(json!(index), show(&entry)))
        .collect()
}

/// Entries of backends that are in use. Unused entries still hold a generation and old counters.
fn of_backends<T: Record>(
    tables: &Tables,
    array: &SharedArray<T>,
    limit: usize,
    show: impl Fn(&T) -> Value,
) -> Vec<Value> {
    backends_in_use(tables)
        .filter_map(|index| Some((index, array.read(index)?)))
        .take(limit)
        .map(|(index, entry)| with_key(json!(index), show(&entry)))
        .collect()
}

fn backends_in_use(tables: &Tables) -> impl Iterator<Item = u32> {
    let is_in_use = |entry: Backend| entry.status.state() != BackendState::Free;
    (0..tables.backends.len()).filter(move |index| tables.backends.read(*index).is_some_and(is_in_use))
}

/// Slots of the rings that services use. Unused slots hold old values.
fn ring_slots(tables: &Tables, limit: usize) -> Vec<Value> {
    let services = (0..tables.services.len()).filter_map(|index| tables.services.read(index));
    let rings = services
        .map(|service| service.ring)
        .filter(|ring| ring.scheduler().is_some());
    let mut ranges: Vec<_> = rings.map(|ring| (ring.offset(), ring.length())).collect();
    ranges.sort_unstable();
    ranges
        .into_iter()
        .flat_map(|(offset, length)| offset..offset.saturating_add(length))
        .filter_map(|index| Some(with_key(json!(index), ring_slot(&tables.rings.read(index)?))))
        .take(limit)
        .collect()
}

/// An object whose first field is the key.
fn with_key(key: Value, fields: Value) -> Value {
    let mut object = serde_json::Map::new();
    object.insert("key".to_owned(), key);
    if let Value::Object(fields) = fields {
        object.extend(fields);
    }
    Value::Object(object)
}

fn text(family: u8, words: [u32; 4]) -> String {
    address::from_words(family, words).map_or_else(String::new, |address| address.to_string())
}

fn protocol(number: u8) -> String {
    match number {
        6 => "tcp".to_owned(),
        17 => "udp".to_owned(),
        other => other.to_string(),
    }
}

fn scheduler(scheduler: Option<Scheduler>) -> &'static str {
    match scheduler {
        Some(scheduler) => scheduler.word(),
        None => "",
    }
}

fn listings(tables: &Tables, v4: bool, blocks: bool, limit: usize) -> Result<Vec<Value>, DataplaneError> {
    let mut found = tables.listings()?;
    found.retain(|(listing, _)| {
        listing.first().address.is_ipv4() == v4 && matches!(listing, Listing::Block { .. }) == blocks
    });
    found.sort_unstable();
    let shown = found.into_iter().take(limit).map(|(listing, index)| {
        let at = listing.first();
        let key = if blocks {
            json!({
                "address": at.address,
                "port": at.port,
                "last_port": listing.last_port(),
                "protocol": protocol(at.protocol),
            })
        } else {
            json!({ "address": at.address, "port": at.port, "protocol": protocol(at.protocol) })
        };
        json!({ "key": key, "service": index })
    });
    Ok(shown.collect())
}

fn guards(tables: &Tables, v4: bool, limit: usize) -> Result<Vec<Value>, DataplaneError> {
    let mut found = tables.guards()?;
    found.retain(|(guarded, _)| guarded.sources.addr().is_ipv4() == v4);
    found.sort_unstable();
    let shown = found.into_iter().take(limit).map(|(guarded, verdict)| {
        let key = json!({ "service": guarded.service, "sources": guarded.sources.to_string() });
        json!({ "key": key, "verdict": verdict.name() })
    });
    Ok(shown.collect())
}

fn rates(tables: &Tables, v4: bool, limit: usize) -> Result<Vec<Value>, DataplaneError> {
    let found = tables
        .rates(v4)?
        .into_iter()
        .take(limit)
        .map(|(service, source, word)| {
            let key = json!({ "service": service, "source": source });
            json!({ "key": key, "next_due_ns": word })
        });
    Ok(found.collect())
}

/// Bytes of the table that are not zero. The key is their position: the addresses cannot be derived
/// from it.
fn classes(tables: &Tables, limit: usize) -> Vec<Value> {
    let names = [
        (AddressClass::VIRTUAL.into(), "virtual"),
        (AddressClass::SOURCE.into(), "source"),
        (AddressClass::WORKER.into(), "worker"),
        (AddressClass::RANGES.into(), "ranges"),
    ];
    let words = (0..tables.address_classes.len()).filter_map(|word| Some((word, tables.address_classes.read(word)?)));
    words
        .flat_map(|(word, bytes)| (0..8).map(move |byte| (word * 8 + byte, AddressClass((bytes >> (8 * byte)) as u8))))
        .filter(|(_, class)| class.0 != 0)
        .take(limit)
        .map(|(byte, class)| json!({ "key": byte, "class": bits(class.0.into(), &names) }))
        .collect()
}

/// The names of the bits that are set.
fn bits(number: u32, names: &[(u32, &'static str)]) -> Vec<&'static str> {
    let set = names.iter().filter(|(bit, _)| number & bit != 0);
    set.map(|(_, name)| *name).collect()
}

fn service(entry: &Service) -> Value {
    let sources: Vec<_> = entry.sources[..(entry.source_count as usize).min(MAX_SOURCES)]
        .iter()
        .map(|words| text(entry.family, *words))
        .collect();
    json!({
        "address": text(entry.family, entry.address),
        "port": entry.port.host(),
        "last_port": entry.last_port.host(),
        "protocol": protocol(entry.protocol),
        "scheduler": scheduler(entry.ring.scheduler()),
        "ring_offset": entry.ring.offset(),
        "ring_length": entry.ring.length(),
        "mode": mode(entry.mode),
        "on_backend_down": OnBackendDown::from_number(entry.on_backend_down).word(),
        "sources": sources,
        "nat_port_low": entry.nat_port_low,
        "nat_port_count": entry.nat_port_count,
        "source_prefix": entry.source_prefix,
        "guards": bits(u32::from(entry.guards), &[(Guards::ALLOW.into(), "allow"), (Guards::DENY.into(), "deny")]),
        "options": bits(entry.options.into(), &[(Options::TOA.into(), "toa")]),
        "connection_limit": entry.connection_limit,
        "source_rate": entry.source_rate,
        "source_burst": entry.source_burst,
        "flood_rate": entry.flood_rate,
    })
}

fn ring_slot(entry: &RingSlot) -> Value {
    json!({ "backend": entry.backend, "weight": entry.weight })
}

fn backend(entry: &Backend) -> Value {
    json!({
        "state": format!("{:?}", entry.status.state()).to_lowercase(),
        "generation": entry.status.generation(),
        "address": text(entry.status.family(), entry.address),
        "port": entry.status.port().host(),
        "service": entry.service,
        "next_hop": entry.next_hop,
        "mode": mode(entry.mode),
        "virtual_address": text(entry.family, entry.virtual_address),
        "tunnel_source": tunnel_source(entry),
        "tunnel_spread": format!("{:#010x}", u32::from_be(entry.tunnel_spread)),
        "tunnel_port": entry.tunnel_port.host(),
    })
}

/// The outer source address; empty outside the tunnel modes.
fn tunnel_source(entry: &Backend) -> String {
    match Mode::from_number(entry.mode) {
        Some(mode) if mode.encapsulates() => text(entry.status.family(), entry.tunnel_source),
        _ => String::new(),
    }
}

fn mode(number: u8) -> String {
    Mode::from_number(number).map_or_else(|| number.to_string(), |mode| mode.word().to_owned())
}

fn load(entry: &BackendLoad) -> Value {
    json!({ "embryonic": entry.embryonic, "active": entry.active, "total": entry.total })
}

fn signals(entry: &BackendSignals) -> Value {
    json!({
        "refused": entry.refused,
        "unanswered": entry.unanswered,
        "has_answered": entry.answered != 0,
    })
}

fn next_hop(entry: &NextHop) -> Value {
    json!({
        "ifindex": entry.ifindex,
        "destination": mac(entry.destination()),
        "source": mac(entry.source()),
        "vlans": vlans(entry.tags),
        "mtu": entry.mtu,
    })
}

/// The VLANs of a frame, the outer one first.
fn vlans(tags: Tags) -> Vec<u16> {
    [tags.0 as u16, (tags.0 >> 16) as u16]
        .into_iter()
        .filter(|tag| *tag != 0)
        .map(u16::from_be)
        .collect()
}

fn mac(bytes: [u8; 6]) -> String {
    bytes.map(|byte| format!("{byte:02x}")).join(":")
}

fn backend_counters(tables: &Tables, limit: usize) -> Result<Vec<Value>, DataplaneError> {
    let mut found = Vec::new();
    for index in backends_in_use(tables).take(limit) {
        let BackendCounters {
            to_worker_packets,
            to_worker_bytes,
            to_client_packets,
            to_client_bytes,
        } = tables.backend_counters(index)?;
        found.push(json!({
            "key": index,
            "to_worker_packets": to_worker_packets,
            "to_worker_bytes": to_worker_bytes,
            "to_client_packets": to_client_packets,
            "to_client_bytes": to_client_bytes,
        }));
    }
    Ok(found)
}

fn flows(tables: &Tables, v4: bool, limit: usize) -> Vec<Value> {
    let mut found = Vec::new();
    tables.for_each_flow(|flow| {
        if found.len() < limit && flow.key.source.is_ipv4() == v4 {
            found.push(json!({
                "key": {
                    "source": flow.key.source,
                    "destination": flow.key.destination,
                    "protocol": protocol(flow.key.protocol),
                },
                "rewrite_source": flow.rewrite.source,
                "rewrite_destination": flow.rewrite.destination,
                "direction": if flow.to_worker { "to-worker" } else { "to-client" },
                "phase": flow.phase.name(),
                "last_seen": flow.meta.last_seen(),
                "backend": flow.backend,
                "generation": flow.meta.generation(),
                "service": flow.service,
                "client_hop": flow.hop,
            }));
        }
    });
    found
}

fn client_hop(entry: &ClientHop) -> Value {
    let mut value = next_hop(&entry.hop);
    value["state"] = json!(entry.state);
    value
}

/// The entry's buckets, of 64, that have each mark.
fn spills(spills: &Spills) -> Value {
    let ones = |marks: u64| (0..u64::BITS).filter(|bit| marks >> bit & 1 != 0).collect::<Vec<_>>();
    json!({ "marks": spills.marks.map(ones) })
}

fn settings(tables: &Tables) -> Vec<Value> {
    vec![json!({ "key": 0, "tick_ms": tables.clock.tick().as_millis() as u64 })]
}

fn event((event, count): (Event, u64)) -> Value {
    json!({ "key": event.name(), "count": count, "help": event.help() })
}

fn outcome((outcome, count): (Outcome, u64)) -> Value {
    json!({ "key": outcome.name(), "count": count, "action": outcome.action().name(), "help": outcome.help() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_reference_has_every_outcome_and_every_event() {
        let reference = include_str!("../../../docs/operations.md");
        let outcomes = Outcome::ALL.iter().map(|outcome| {
            let (name, action) = (outcome.name(), outcome.action().name());
            format!("| `{name}` | {action} | {} |", outcome.help())
        });
        let events = Event::ALL
            .iter()
            .map(|event| format!("| `{}` | {} |", event.name(), event.help()));
        for row in outcomes.chain(events) {
            assert!(reference.contains(&row), "docs/operations.md has no line {row}");
        }
    }
}
