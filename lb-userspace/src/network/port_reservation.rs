//! Reserves the source ports of `nat`, so that the kernel never gives one of them to a local
//! socket.
//!
//! The kernel's list of reserved ports belongs to the whole machine, and others write to it too.
//! What was added is recorded in a file, and exactly that is removed again. Two balancers in one
//! network namespace need ranges that do not overlap: the first one to be detached would remove
//! ports that both need.

use std::{
    fs::{self, File},
    io::{self, Write as _},
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
};

use serde::{Deserialize, Serialize};

use lb_core::{config::PortRange, port_set::PortSet};

const RESERVED: &str = "/proc/sys/net/ipv4/ip_local_reserved_ports";
const LOCAL_RANGE: &str = "/proc/sys/net/ipv4/ip_local_port_range";
const BOOT: &str = "/proc/sys/kernel/random/boot_id";
const NAMESPACE: &str = "/proc/thread-self/ns/net";

/// Number of ports that local sockets must keep.
pub const MIN_FREE: u32 = 512;

/// Why ports could not be reserved or released.
#[derive(Debug, thiserror::Error)]
pub enum ReserveError {
    /// Too few ports would remain for local sockets.
    #[error(
        "reserving ports {}-{} for mode nat would leave {free} ports of the range {}-{} \
         (net.ipv4.ip_local_port_range) to local sockets, expected at least {MIN_FREE}: make one of the two ranges \
         smaller or move it",
        wanted.low, wanted.high, local.low, local.high
    )]
    TooFewLeft {
        /// The range to reserve.
        wanted: PortRange,
        /// The range from which local sockets get ports.
        local: PortRange,
        /// Number of ports that would remain for local sockets.
        free: u32,
    },
    /// A file could not be read or written.
    #[error("cannot {verb} {}: {source}", path.display())]
    File {
        /// `read`, `write`, `remove` or `move aside`.
        verb: &'static str,
        /// The file.
        path: PathBuf,
        /// The cause.
        source: io::Error,
    },
    /// A file has unexpected content.
    #[error("{} holds {content:?}, expected {expected}", path.display())]
    Content {
        /// The file.
        path: PathBuf,
        /// Its content.
        content: String,
        /// The expected content.
        expected: &'static str,
    },
}

/// The record of reserved ports cannot be parsed. Ports that a former run reserved stay reserved.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "{} is not a record of reserved ports; it was moved to {}. Ports that a former run added to {RESERVED} stay there \
     until you remove them or the machine restarts", path.display(), aside.display()
)]
pub struct Unreadable {
    path: PathBuf,
    aside: PathBuf,
}

/// Content of the state file.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Record {
    /// Boot id of the kernel and inode of the network namespace: the kernel's list exists only
    /// there.
    boot: String,
    namespace: u64,
    /// The ports that were added.
    added: String,
}

/// The lists to write.
#[derive(Debug, PartialEq, Eq)]
struct Plan {
    reserved: PortSet,
    added: PortSet,
}

/// Reserves a range in the current network namespace, and records in `state_file` what that added
/// to the kernel's list. Ports of a former range that the new one does not contain are released. A
/// state file that cannot be parsed is moved aside and returned.
///
/// # Errors
/// When too few ports would remain for local sockets, or a file cannot be read or written. The
/// kernel's list is then unchanged.
pub fn add(range: PortRange, state_file: &Path) -> Result<Option<Unreadable>, ReserveError> {
    let reserved = read_reserved()?;
    let (before, unreadable) = recorded(state_file)?;
    let plan = plan(&reserved, &before, range, read_local_range()?)?;
    // All ports that are or will be ours are recorded first. After a crash the record has too many
    // ports, which is harmless, and the list never has a port that nothing removes.
    record(state_file, &plan.added.union(&before.intersection(&reserved)))?;
    if plan.reserved != reserved {
        write_reserved(&plan.reserved)?;
    }
    record(state_file, &plan.added)?;
    Ok(unreadable)
}

/// Removes what [`add`] added, in this process or another, and then the state file. Without a file
/// it does nothing. A file that cannot be parsed is moved aside and returned.
///
/// # Errors
/// When a file cannot be read, written or removed.
pub fn remove(state_file: &Path) -> Result<Option<Unreadable>, ReserveError> {
    let (added, unreadable) = recorded(state_file)?;
    let reserved = read_reserved()?;
    let rest = reserved.difference(&added);
    if rest != reserved {
        write_reserved(&rest)?;
    }
    match fs::remove_file(state_file) {
        Err(source) if source.kind() != io::ErrorKind::NotFound => Err(file_error("remove", state_file, source)),
        _ => Ok(unreadable),
    }
}

/// What the list and the record must hold, given what they hold now.
fn plan(reserved: &PortSet, recorded: &PortSet, wanted: PortRange, local: PortRange) -> Result<Plan, ReserveError> {
    let range = PortSet::from(wanted);
    // A recorded port that is not on the list was removed by others and is not ours.
    let foreign = reserved.difference(recorded);
    let plan = Plan {
        reserved: foreign.union(&range),
        added: range.difference(&foreign),
    };
    let free = PortSet::from(local).difference(&plan.reserved).count();
    if free < MIN_FREE {
        return Err(ReserveError::TooFewLeft { wanted, local, free });
    }
    Ok(plan)
}

fn read(path: &Path) -> Result<String, ReserveError> {
    fs::read_to_string(path).map_err(|source| file_error("read", path, source))
}

fn read_reserved() -> Result<PortSet, ReserveError> {
    let content = read(Path::new(RESERVED))?;
    PortSet::parse(&content).map_err(|_| content_error(Path::new(RESERVED), content, "ports such as `80,8000-8999`"))
}

/// The line feed is needed to write an empty list.
fn write_reserved(ports: &PortSet) -> Result<(), ReserveError> {
    fs::write(RESERVED, format!("{ports}\n")).map_err(|source| file_error("write", Path::new(RESERVED), source))
}

fn read_local_range() -> Result<PortRange, ReserveError> {
    let content = read(Path::new(LOCAL_RANGE))?;
    let ports: Vec<u16> = content
        .split_whitespace()
        .filter_map(|word| word.parse().ok())
        .collect();
    match ports[..] {
        [low, high] if low <= high => Ok(PortRange { low, high }),
        _ => Err(content_error(Path::new(LOCAL_RANGE), content, "two ports")),
    }
}

/// The ports that the state file records; empty if there is no file or it is from another boot or
/// namespace. A file that cannot be parsed is moved aside.
fn recorded(state_file: &Path) -> Result<(PortSet, Option<Unreadable>), ReserveError> {
    let content = match fs::read(state_file) {
        Ok(content) => content,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok((PortSet::empty(), None)),
        Err(source) => return Err(file_error("read", state_file, source)),
    };
    let parsed = serde_json::from_slice::<Record>(&content)
        .ok()
        .and_then(|record| PortSet::parse(&record.added).ok().map(|added| (record, added)));
    let Some((record, added)) = parsed else {
        let aside = state_file.with_added_extension("unreadable");
        fs::rename(state_file, &aside).map_err(|source| file_error("move aside", state_file, source))?;
        let path = state_file.to_owned();
        return Ok((PortSet::empty(), Some(Unreadable { path, aside })));
    };
    let (boot, namespace) = here()?;
    let is_ours = (record.boot, record.namespace) == (boot, namespace);
    Ok((if is_ours { added } else { PortSet::empty() }, None))
}

/// Writes the state file, whole or not at all.
fn record(state_file: &Path, added: &PortSet) -> Result<(), ReserveError> {
    let (boot, namespace) = here()?;
    let record = Record {
        boot,
        namespace,
        added: added.to_string(),
    };
    let json = serde_json::to_string(&record).map_err(|source| file_error("write", state_file, source.into()))?;
    let draft = state_file.with_added_extension("new");
    let written = File::create(&draft).and_then(|mut file| {
        file.write_all((json + "\n").as_bytes())?;
        // Without this the file may be empty after a power failure.
        file.sync_all()
    });
    written.map_err(|source| file_error("write", &draft, source))?;
    fs::rename(&draft, state_file).map_err(|source| file_error("write", state_file, source))
}

/// The boot id of the kernel, and the inode of the network namespace.
fn here() -> Result<(String, u64), ReserveError> {
    let boot = read(Path::new(BOOT))?.trim().to_owned();
    let namespace = fs::metadata(NAMESPACE).map_err(|source| file_error("read", Path::new(NAMESPACE), source))?;
    Ok((boot, namespace.ino()))
}

fn file_error(verb: &'static str, path: &Path, source: io::Error) -> ReserveError {
    ReserveError::File {
        verb,
        path: path.to_owned(),
        source,
    }
}

fn content_error(path: &Path, content: String, expected: &'static str) -> ReserveError {
    ReserveError::Content {
        path: path.to_owned(),
        content,
        expected,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::network::netns::Netns;

    const LOCAL: PortRange = PortRange {
        low: 32768,
        high: 60999,
    };

    fn set(text: &str) -> PortSet {
        PortSet::parse(text).unwrap()
    }

    #[test]
    fn only_what_is_new_is_recorded_as_added() {
        // reserved before, recorded before, range -> reserved after, recorded after
        let table = [
            ("", "", (20000, 29999), "20000-29999", "20000-29999"),
            (
                "80,25000",
                "",
                (20000, 29999),
                "80,20000-29999",
                "20000-24999,25001-29999",
            ),
            ("1-65000", "1-65000", (20000, 29999), "20000-29999", "20000-29999"),
            (
                "80,20000-29999",
                "20000-29999",
                (20000, 29999),
                "80,20000-29999",
                "20000-29999",
            ),
            (
                "80,20000-29999",
                "20000-29999",
                (25000, 25999),
                "80,25000-25999",
                "25000-25999",
            ),
            ("80", "20000-29999", (20000, 20001), "80,20000-20001", "20000-20001"),
            ("20000-29999", "", (20000, 29999), "20000-29999", ""),
        ];
        for (reserved, recorded, (low, high), reserved_after, recorded_after) in table {
            let expected = Plan {
                reserved: set(reserved_after),
                added: set(recorded_after),
            };
            let given = plan(&set(reserved), &set(recorded), PortRange { low, high }, LOCAL).unwrap();
            assert_eq!(given, expected, "{reserved} {recorded} {low}-{high}");
        }
    }

    #[test]
    fn local_sockets_keep_enough_ports() {
        let table = [
            ("", 32768, 60999 - 512, None),
            ("", 32768, 60999 - 511, Some(511)),
            ("60999", 32768, 60487, Some(511)),
        ];
        for (reserved, low, high, left) in table {
            let wanted = PortRange { low, high };
            match (plan(&set(reserved), &set(""), wanted, LOCAL), left) {
                (Ok(_), None) => {}
                (Err(error @ ReserveError::TooFewLeft { .. }), Some(left)) => {
                    let text = error.to_string();
                    for part in [
                        format!("{low}-{high}"),
                        "32768-60999".to_owned(),
                        format!("{left} ports"),
                    ] {
                        assert!(text.contains(&part), "{part} in {text}");
                    }
                }
                (other, left) => panic!("{other:?}, expected {left:?} ports left"),
            }
        }
    }

    #[test]
    fn a_reservation_is_made_changed_and_removed_in_a_namespace() {
        let folder = tempfile::tempdir().unwrap();
        let state_file = folder.path().join("ports.json");
        let namespace = Netns::new();
        namespace.sysctl("ipv4/ip_local_reserved_ports", "80,25000");
        let list = || read(Path::new(RESERVED)).unwrap().trim().to_owned();
        namespace.run(|| {
            for _ in 0..2 {
                add(
                    PortRange {
                        low: 20000,
                        high: 29999,
                    },
                    &state_file,
                )
                .unwrap();
                assert_eq!(list(), "80,20000-29999");
            }
            add(
                PortRange {
                    low: 21000,
                    high: 21999,
                },
                &state_file,
            )
            .unwrap();
            assert_eq!(list(), "80,21000-21999,25000");
            let refused = add(PortRange { low: 1024, high: 65535 }, &state_file);
            assert!(matches!(refused, Err(ReserveError::TooFewLeft { .. })), "{refused:?}");
            assert_eq!(list(), "80,21000-21999,25000");
        });
        // A file from another namespace does not count here.
        let other = Netns::new();
        other.sysctl("ipv4/ip_local_reserved_ports", "21000-21999");
        let copy = folder.path().join("copy.json");
        fs::copy(&state_file, &copy).unwrap();
        other.run(|| {
            remove(&copy).unwrap();
            assert_eq!(list(), "21000-21999");
        });
        namespace.run(|| {
            remove(&state_file).unwrap();
            assert_eq!(list(), "80,25000");
            assert!(!state_file.exists());
            remove(&state_file).unwrap();
        });
    }

    #[test]
    fn the_list_can_become_empty_again() {
        let folder = tempfile::tempdir().unwrap();
        let state_file = folder.path().join("ports.json");
        Netns::new().run(|| {
            add(
                PortRange {
                    low: 20000,
                    high: 29999,
                },
                &state_file,
            )
            .unwrap();
            remove(&state_file).unwrap();
            assert_eq!(read_reserved().unwrap(), PortSet::empty());
        });
    }

    #[test]
    fn a_file_that_cannot_be_parsed_is_moved_aside_and_the_ports_are_reserved_all_the_same() {
        let folder = tempfile::tempdir().unwrap();
        let state_file = folder.path().join("ports.json");
        let range = PortRange {
            low: 20000,
            high: 29999,
        };
        for broken in [&b""[..], b"{\"boot\":\"", b"\xff", b"something else"] {
            Netns::new().run(|| {
                fs::write(&state_file, broken).unwrap();
                let unreadable = add(range, &state_file).unwrap().unwrap();
                assert!(unreadable.to_string().contains("ports.json.unreadable"), "{unreadable}");
                assert_eq!(read_reserved().unwrap(), set("20000-29999"));
                assert_eq!(add(range, &state_file).unwrap(), None, "it is healed");
                assert_eq!(fs::read(folder.path().join("ports.json.unreadable")).unwrap(), broken);

                fs::write(&state_file, broken).unwrap();
                assert!(remove(&state_file).unwrap().is_some());
                assert_eq!(remove(&state_file).unwrap(), None);
                assert!(!state_file.exists());
            });
        }
    }
}
