//! Loads the XDP program over the node's pinned maps, creating those that are not there.

use std::path::Path;

use aya::{
    Ebpf, EbpfLoader,
    maps::{MapInfo, ProgramArray},
    programs::Xdp,
};
use lb_common::{
    Backend, BackendCounters, BackendLoad, BackendSignals, GuardKey, NextHop, PortRangeKey, RateKey, RingSlot, Service,
    ServiceKey, ServiceState, Settings, V4, V6, VirtualRouter,
    flow_table::{self, BucketV4, BucketV6, Spills},
    fragment::{FragmentKey, FragmentPorts},
    maps,
    next_hop::ClientHop,
    router::{RouterAddress, RouterKey},
};

use super::{DataplaneError, Former, Pins, links, settings, tables};
use lb_core::config::{Capacity, PacketLog, PortRange};

/// The object, as the build made it.
static OBJECT: &[u8] = aya::include_bytes_aligned!(concat!(env!("OUT_DIR"), "/lb-ebpf.o"));

/// Name of the program in the object.
pub(super) const PROGRAM: &str = "lb_xdp";
/// Names of the programs that go on with packets that the first one leaves, and their places.
const LATER: [(&str, u32); 3] = [
    ("lb_slow_v4", maps::SLOW_V4),
    ("lb_slow_v6", maps::SLOW_V6),
    ("lb_vrrp", maps::VRRP),
];
/// Name of the program that tells the kernel's jiffies.
const CLOCK: &str = "lb_clock";

/// The loaded program. Its maps are pinned; the program lives as long as this or a link does.
pub struct Loaded {
    pub(super) object: Ebpf,
    /// Maps that keep another size than the configuration asks for, as sentences for the operator.
    pub kept_sizes: Vec<String>,
}

impl Loaded {
    pub(super) fn program(&mut self) -> Result<&mut Xdp, DataplaneError> {
        program(&mut self.object, PROGRAM)
    }

    /// Gives up the program after it was attached; what remains is the object with its maps.
    pub fn into_object(self) -> Ebpf {
        self.object
    }
}

/// Sizes of keys and values, and how many entries the configuration asks for.
struct Expected {
    map: maps::Map,
    key: usize,
    value: usize,
    entries: u32,
}

/// Loads the program over the maps that are pinned for the node, and writes the node's settings.
///
/// What runs already is left as it is, with slow halves of its own: call [`Pins::release_former`] when every link runs
/// the new program. Where no link leads packets to the maps, and their sizes differ from those wanted, they are made anew.
///
/// # Errors
///
/// When a pinned map has another layout, or the kernel refuses a map or the program.
pub fn load(pins: &Pins, capacity: &Capacity, nat_ports: PortRange, log: PacketLog) -> Result<Loaded, DataplaneError> {
    load_after(None, pins, capacity, nat_ports, log)
}

/// As [`load`], after [`Former::share`] of a former layout: what it shares not is filled.
///
/// # Errors
///
/// See [`load`].
pub fn load_after(
    former: Option<&Former>,
    pins: &Pins,
    capacity: &Capacity,
    nat_ports: PortRange,
    log: PacketLog,
) -> Result<Loaded, DataplaneError> {
    let expected = expected(capacity);
    let mut kept_sizes = Vec::new();
    let is_live = links::any_live(pins)?;
    match kept(pins, &expected) {
        Ok(kept) if is_live => kept_sizes = kept,
        Ok(kept) if kept.is_empty() => {}
        Err(error) if is_live => return Err(error),
        // No packet has passed through these maps since their interfaces went, or a first start was cut short.
        _ => pins.remove_maps()?,
    }
    let mut loader = EbpfLoader::new();
    let level = log_level(log);
    loader.override_global("AYA_LOG_LEVEL", &level, true);
    for Expected { map, entries, .. } in &expected {
        loader
            .map_max_entries(map.name, *entries)
            .map_pin_path(map.name, pins.map(map.name));
    }
    pins.set_aside(maps::PROGRAMS.name)?;
    let mut object = loader
        .load(OBJECT)
        .map_err(|error| DataplaneError::Load(error.into()))?;
    let first = program(&mut object, PROGRAM)?;
    first.load().map_err(|error| DataplaneError::Load(error.into()))?;
    first
        .pin(pins.program())
        .map_err(|error| DataplaneError::Load(error.into()))?;
    for (name, index) in LATER {
        go_on_with(&mut object, name, index)?;
    }
    if let Some(former) = former {
        former.fill(pins)?;
    }
    let clock = program(&mut object, CLOCK)?;
    clock.load().map_err(|error| DataplaneError::Load(error.into()))?;
    let clock = clock.fd().map_err(|error| DataplaneError::Load(error.into()))?;
    let buckets = |map: maps::Map| {
        let info = MapInfo::from_pin(pins.map(map.name)).map_err(|cause| DataplaneError::map(map.name, cause))?;
        Ok::<_, DataplaneError>(info.max_entries())
    };
    let buckets = [buckets(maps::FLOWS_V4)?, buckets(maps::FLOWS_V6)?];
    settings::write(&tables::open(pins, maps::SETTINGS)?, clock, buckets, nat_ports)?;
    Ok(Loaded { object, kept_sizes })
}

/// Loads a program, and lets the others go on with it.
fn go_on_with(object: &mut Ebpf, name: &str, index: u32) -> Result<(), DataplaneError> {
    let failed = |error: Box<dyn std::error::Error + Send + Sync>| DataplaneError::Load(error);
    let program = program(object, name)?;
    program.load().map_err(|error| failed(error.into()))?;
    let fd = program.fd().map_err(|error| failed(error.into()))?;
    let fd = fd.try_clone().map_err(|error| failed(error.into()))?;
    let map = object
        .map_mut(maps::PROGRAMS.name)
        .ok_or_else(|| failed("no map of programs in the object".into()))?;
    let mut programs: ProgramArray<_> = map
        .try_into()
        .map_err(|error: aya::maps::MapError| failed(error.into()))?;
    programs.set(index, &fd, 0).map_err(|error| failed(error.into()))
}

fn program<'a>(object: &'a mut Ebpf, name: &str) -> Result<&'a mut Xdp, DataplaneError> {
    object
        .program_mut(name)
        .ok_or_else(|| DataplaneError::Load(format!("no program {name} in the object").into()))?
        .try_into()
        .map_err(|error: aya::programs::ProgramError| DataplaneError::Load(error.into()))
}

fn log_level(log: PacketLog) -> u8 {
    match log {
        PacketLog::Off => 0,
        PacketLog::Debug => aya_log_level::DEBUG,
        PacketLog::Trace => aya_log_level::TRACE,
    }
}

/// The numbers that aya-log gives its levels.
mod aya_log_level {
    pub(super) const DEBUG: u8 = 4;
    pub(super) const TRACE: u8 = 5;
}

fn expected(capacity: &Capacity) -> Vec<Expected> {
    let shape = |map, key, value, entries| Expected {
        map,
        key,
        value,
        entries,
    };
    let fixed = |map: maps::Map| map.capacity as u32;
    vec![
        shape(maps::SERVICES_V4, size_of::<ServiceKey<V4>>(), 4, capacity.services),
        shape(maps::SERVICES_V6, size_of::<ServiceKey<V6>>(), 4, capacity.services),
        shape(
            maps::PORT_RANGES_V4,
            size_of::<PortRangeKey<V4>>(),
            4,
            fixed(maps::PORT_RANGES_V4),
        ),
        shape(
            maps::PORT_RANGES_V6,
            size_of::<PortRangeKey<V6>>(),
            4,
            fixed(maps::PORT_RANGES_V6),
        ),
        shape(maps::ADDRESS_CLASSES, 4, 8, fixed(maps::ADDRESS_CLASSES)),
        shape(maps::SERVICES, 4, size_of::<Service>(), capacity.services),
        shape(maps::SERVICE_STATES, 4, size_of::<ServiceState>(), capacity.services),
        shape(maps::RINGS, 4, size_of::<RingSlot>(), capacity.ring_slots),
        shape(maps::BACKENDS, 4, size_of::<Backend>(), capacity.backends),
        shape(maps::BACKEND_LOADS, 4, size_of::<BackendLoad>(), capacity.backends),
        shape(maps::BACKEND_SIGNALS, 4, size_of::<BackendSignals>(), capacity.backends),
        shape(
            maps::BACKEND_COUNTERS,
            4,
            size_of::<BackendCounters>(),
            capacity.backends,
        ),
        shape(maps::NEXT_HOPS, 4, size_of::<NextHop>(), capacity.backends),
        shape(
            maps::FLOWS_V4,
            4,
            size_of::<BucketV4>(),
            flow_table::buckets_for(capacity.flows_v4),
        ),
        shape(
            maps::FLOWS_V6,
            4,
            size_of::<BucketV6>(),
            flow_table::buckets_for(capacity.flows_v6),
        ),
        shape(
            maps::SPILLS_V4,
            4,
            size_of::<Spills>(),
            flow_table::spills_for(flow_table::buckets_for(capacity.flows_v4)),
        ),
        shape(
            maps::SPILLS_V6,
            4,
            size_of::<Spills>(),
            flow_table::spills_for(flow_table::buckets_for(capacity.flows_v6)),
        ),
        shape(maps::CLIENT_HOPS, 4, size_of::<ClientHop>(), fixed(maps::CLIENT_HOPS)),
        shape(maps::SETTINGS, 4, size_of::<Settings>(), fixed(maps::SETTINGS)),
        shape(
            maps::FRAGMENTS_V4,
            size_of::<FragmentKey<V4>>(),
            size_of::<FragmentPorts>(),
            fixed(maps::FRAGMENTS_V4),
        ),
        shape(
            maps::FRAGMENTS_V6,
            size_of::<FragmentKey<V6>>(),
            size_of::<FragmentPorts>(),
            fixed(maps::FRAGMENTS_V6),
        ),
        shape(maps::EVENTS, 4, 8, fixed(maps::EVENTS)),
        shape(maps::PROGRAMS, 4, 4, fixed(maps::PROGRAMS)),
        shape(maps::GUARDS_V4, size_of::<GuardKey<V4>>(), 4, fixed(maps::GUARDS_V4)),
        shape(maps::GUARDS_V6, size_of::<GuardKey<V6>>(), 4, fixed(maps::GUARDS_V6)),
        shape(maps::RATES_V4, size_of::<RateKey<V4>>(), 8, fixed(maps::RATES_V4)),
        shape(maps::RATES_V6, size_of::<RateKey<V6>>(), 8, fixed(maps::RATES_V6)),
        shape(
            maps::VIRTUAL_ROUTERS,
            4,
            size_of::<VirtualRouter>(),
            fixed(maps::VIRTUAL_ROUTERS),
        ),
        shape(maps::ROUTER_IDS, size_of::<RouterKey>(), 4, fixed(maps::ROUTER_IDS)),
        shape(
            maps::ROUTER_ADDRESSES,
            size_of::<RouterAddress>(),
            4,
            fixed(maps::ROUTER_ADDRESSES),
        ),
        shape(maps::OUTCOMES, 4, 8, fixed(maps::OUTCOMES)),
        shape(maps::PUNTS, 0, 0, fixed(maps::PUNTS)),
    ]
}

/// Refuses pinned maps, of those meant, that are missing or have another layout than this version's.
pub(super) fn check_layout(
    pins: &Pins,
    capacity: &Capacity,
    is_meant: &impl Fn(&maps::Map) -> bool,
) -> Result<(), DataplaneError> {
    for Expected { map, key, value, .. } in expected(capacity).iter().filter(|expected| is_meant(&expected.map)) {
        if pinned_entries(&pins.map(map.name), map.name, *key, *value)?.is_none() {
            return Err(DataplaneError::Layout {
                name: map.name.to_owned(),
                found: "no pin".to_owned(),
                expected: format!("keys of {key} and values of {value} bytes"),
            });
        }
    }
    Ok(())
}

/// Maps that are pinned with another size, as sentences for the operator. Refuses one of another layout.
fn kept(pins: &Pins, expected: &[Expected]) -> Result<Vec<String>, DataplaneError> {
    let mut kept = Vec::new();
    for Expected {
        map,
        key,
        value,
        entries,
    } in expected
    {
        if let Some(found) = pinned_entries(&pins.map(map.name), map.name, *key, *value)?
            && found != *entries
        {
            kept.push(format!(
                "map {} keeps its {found} entries, the configuration asks for {entries}: `lbd run --replace-maps` changes \
                 the size, and forgets all flows",
                map.name
            ));
        }
    }
    Ok(kept)
}

/// How many entries a pinned map has; `None` when it is not pinned. Refuses one of another layout.
fn pinned_entries(pin: &Path, name: &str, key: usize, value: usize) -> Result<Option<u32>, DataplaneError> {
    if !pin.exists() {
        return Ok(None);
    }
    let info = MapInfo::from_pin(pin).map_err(|cause| DataplaneError::map(name, cause))?;
    if (info.key_size() as usize, info.value_size() as usize) != (key, value) {
        return Err(DataplaneError::Layout {
            name: name.to_owned(),
            found: format!("keys of {} and values of {} bytes", info.key_size(), info.value_size()),
            expected: format!("{key} and {value}"),
        });
    }
    Ok(Some(info.max_entries()))
}
