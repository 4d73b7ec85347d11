//! Copies the eBPF object files to `$OUT_DIR/lb-ebpf.o` and `$OUT_DIR/lb-checks.o`, from where the
//! crate embeds them.
//!
//! `cargo xtask build-ebpf` makes the objects. If `LB_EBPF_OBJECT` is set, it is the path of the
//! first one, and the second one is in the same folder. Cargo cannot build them here: they need
//! another target, linker and flags.

use std::path::{Path, PathBuf};
use std::time::SystemTime;
use std::{env, fs, io};

/// The sources of the objects, relative to the root of the workspace.
const SOURCES: [&str; 2] = ["lb-ebpf/src", "lb-common/src"];

/// The object files.
const OBJECTS: [&str; 2] = ["lb-ebpf.o", "lb-checks.o"];

fn main() {
    if let Err(message) = provide() {
        println!("cargo::error={message}");
    }
}

fn provide() -> Result<(), String> {
    println!("cargo::rerun-if-env-changed=LB_EBPF_OBJECT");
    let crate_folder = PathBuf::from(variable("CARGO_MANIFEST_DIR")?);
    let root = crate_folder.parent().ok_or("the crate lies in no workspace")?;
    for name in OBJECTS {
        let object = match env::var_os("LB_EBPF_OBJECT") {
            // No check of file times: unpacked and copied files have any.
            Some(path) if name == OBJECTS[0] => PathBuf::from(path),
            Some(path) => PathBuf::from(path).with_file_name(name),
            None => {
                let path = root.join("target/bpf").join(name);
                refuse_stale(root, &path)?;
                path
            }
        };
        println!("cargo::rerun-if-changed={}", object.display());
        let embedded = Path::new(&variable("OUT_DIR")?).join(name);
        fs::copy(&object, &embedded)
            .map_err(|error| format!("cannot copy {} to {}: {error}", object.display(), embedded.display()))?;
    }
    Ok(())
}

/// Refuses an object that is older than its sources: its map types may differ from this crate's.
fn refuse_stale(root: &Path, object: &Path) -> Result<(), String> {
    let built = match object.metadata().and_then(|meta| meta.modified()) {
        Ok(built) => built,
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            return Err(format!("{} is missing: run `cargo xtask build-ebpf`", object.display()));
        }
        Err(error) => return Err(format!("cannot look at {}: {error}", object.display())),
    };
    for folder in SOURCES.map(|folder| root.join(folder)) {
        println!("cargo::rerun-if-changed={}", folder.display());
        let newer = newer_than(built, &folder).map_err(|error| format!("cannot list {}: {error}", folder.display()))?;
        if let Some(source) = newer {
            let (object, source) = (object.display(), source.display());
            return Err(format!("{object} is older than {source}: run `cargo xtask build-ebpf`"));
        }
    }
    Ok(())
}

/// A file in the folder or below that changed after `time`.
fn newer_than(time: SystemTime, folder: &Path) -> io::Result<Option<PathBuf>> {
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        let meta = entry.metadata()?;
        if meta.is_dir() {
            if let Some(path) = newer_than(time, &entry.path())? {
                return Ok(Some(path));
            }
        } else if meta.modified()? > time {
            return Ok(Some(entry.path()));
        }
    }
    Ok(None)
}

fn variable(name: &str) -> Result<String, String> {
    env::var(name).map_err(|error| format!("{name}: {error}"))
}
