//! Loads the XDP program over the node's pinned maps. Creates the maps that do not exist.

use aya::{
    Ebpf, EbpfLoader,
    maps::{MapInfo, ProgramArray},
    programs::Xdp,
};
use lb_common::{
    flow_table,
    maps::{self, SizedBy},
};

use super::{DataplaneError, FormerLayout, Pins, links, settings, tables};
use lb_core::config::{Capacity, PacketLog, PortRange};

/// The object file that the build made.
static OBJECT: &[u8] = aya::include_bytes_aligned!(concat!(env!("OUT_DIR"), "/lb-ebpf.o"));

/// Name of the program in the object file.
pub(super) const PROGRAM: &str = "lb_xdp";
/// The tail-called programs, and their indexes in the program array.
const TAIL_CALLED: [(&str, u32); 3] = [
    ("lb_slow_v4", maps::SLOW_V4),
    ("lb_slow_v6", maps::SLOW_V6),
    ("lb_vrrp", maps::VRRP),
];
/// Name of the program that returns the kernel's jiffies.
const CLOCK: &str = "lb_clock";

/// The loaded program. Its maps are pinned. The program lives as long as this value or a link.
pub struct Loaded {
    pub(super) object: Ebpf,
    /// Maps that keep another size than the configuration asks for, as sentences for the operator.
    pub kept_sizes: Vec<String>,
}

impl Loaded {
    pub(super) fn program(&mut self) -> Result<&mut Xdp, DataplaneError> {
        program(&mut self.object, PROGRAM)
    }

    /// Drops the program after it was attached, and returns the object with its maps.
    pub fn into_object(self) -> Ebpf {
        self.object
    }
}

/// Loads the program over the maps that are pinned for the node, and writes the node's settings.
///
/// Running programs keep working: call [`Pins::release_former`] when every link runs the new one.
/// If no link is attached and the size of a map differs from the configuration, all maps are
/// created anew.
///
/// # Errors
///
/// When a pinned map has another layout, or the kernel refuses a map or the program.
pub fn load(pins: &Pins, capacity: &Capacity, nat_ports: PortRange, log: PacketLog) -> Result<Loaded, DataplaneError> {
    load_after(None, pins, capacity, nat_ports, log)
}

/// As [`load`], after [`FormerLayout::share`]: also fills the maps that are not shared.
///
/// # Errors
///
/// See [`load`].
pub fn load_after(
    former: Option<&FormerLayout>,
    pins: &Pins,
    capacity: &Capacity,
    nat_ports: PortRange,
    log: PacketLog,
) -> Result<Loaded, DataplaneError> {
    let mut kept_sizes = Vec::new();
    let is_live = links::any_live(pins)?;
    match kept(pins, capacity) {
        Ok(kept) if is_live => kept_sizes = kept,
        Ok(kept) if kept.is_empty() => {}
        Err(error) if is_live => return Err(error),
        // No packet used these maps since their interfaces were removed, or a first start was
        // interrupted.
        _ => pins.remove_maps()?,
    }
    let mut loader = EbpfLoader::new();
    let level = log_level(log);
    loader.override_global("AYA_LOG_LEVEL", &level, true);
    for map in maps::ALL {
        loader
            .map_max_entries(map.name, entries(map, capacity))
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
    for (name, index) in TAIL_CALLED {
        add_tail_called(&mut object, name, index)?;
    }
    if let Some(former) = former {
        former.fill(pins)?;
    }
    let clock = program(&mut object, CLOCK)?;
    clock.load().map_err(|error| DataplaneError::Load(error.into()))?;
    let buckets = |map: maps::Map| {
        let info = MapInfo::from_pin(pins.map(map.name)).map_err(|cause| DataplaneError::map(map.name, cause))?;
        Ok::<_, DataplaneError>(info.max_entries())
    };
    let buckets = [buckets(maps::FLOWS_V4)?, buckets(maps::FLOWS_V6)?];
    settings::write(&tables::open(pins, maps::SETTINGS)?, clock, buckets, nat_ports)?;
    Ok(Loaded { object, kept_sizes })
}

/// Loads a tail-called program and puts it into the program array.
fn add_tail_called(object: &mut Ebpf, name: &str, index: u32) -> Result<(), DataplaneError> {
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

/// The numbers of aya-log's levels.
mod aya_log_level {
    pub(super) const DEBUG: u8 = 4;
    pub(super) const TRACE: u8 = 5;
}

/// The number of entries of a map that the configuration asks for.
fn entries(map: &maps::Map, capacity: &Capacity) -> u32 {
    match map.sized_by {
        SizedBy::Constant => map.capacity as u32,
        SizedBy::Services => capacity.services,
        SizedBy::Backends => capacity.backends,
        SizedBy::RingSlots => capacity.ring_slots,
        SizedBy::FlowsV4 => flow_table::buckets_for(capacity.flows_v4),
        SizedBy::FlowsV6 => flow_table::buckets_for(capacity.flows_v6),
        SizedBy::SpillsV4 => flow_table::spills_for(flow_table::buckets_for(capacity.flows_v4)),
        SizedBy::SpillsV6 => flow_table::spills_for(flow_table::buckets_for(capacity.flows_v6)),
    }
}

/// Refuses selected maps that are not pinned or have another layout than this version's.
pub(super) fn check_layout(pins: &Pins, is_selected: &impl Fn(&maps::Map) -> bool) -> Result<(), DataplaneError> {
    for map in maps::ALL.iter().filter(|map| is_selected(map)) {
        if pinned_entries(pins, map)?.is_none() {
            return Err(DataplaneError::Layout {
                name: map.name.to_owned(),
                found: "no pin".to_owned(),
                expected: layout(map.key_size, map.value_size),
            });
        }
    }
    Ok(())
}

/// Maps whose size differs from the configuration, as sentences for the operator. Refuses a map
/// with another layout.
fn kept(pins: &Pins, capacity: &Capacity) -> Result<Vec<String>, DataplaneError> {
    let mut kept = Vec::new();
    for map in maps::ALL {
        let wanted = entries(map, capacity);
        if let Some(found) = pinned_entries(pins, map)?
            && found != wanted
        {
            kept.push(format!(
                "map {} keeps {found} entries, the configuration asks for {wanted}: run `lbd run --replace-maps` to \
                 change the size; this ends all flows",
                map.name
            ));
        }
    }
    Ok(kept)
}

/// The number of entries of a pinned map; `None`: it is not pinned. Refuses a map with another
/// layout.
fn pinned_entries(pins: &Pins, map: &maps::Map) -> Result<Option<u32>, DataplaneError> {
    let pin = pins.map(map.name);
    if !pin.exists() {
        return Ok(None);
    }
    let info = MapInfo::from_pin(pin).map_err(|cause| DataplaneError::map(map.name, cause))?;
    let (key_size, value_size) = (info.key_size() as usize, info.value_size() as usize);
    if (key_size, value_size) != (map.key_size, map.value_size) {
        return Err(DataplaneError::Layout {
            name: map.name.to_owned(),
            found: layout(key_size, value_size),
            expected: layout(map.key_size, map.value_size),
        });
    }
    Ok(Some(info.max_entries()))
}

fn layout(key_size: usize, value_size: usize) -> String {
    format!("{key_size}-byte keys and {value_size}-byte values")
}
