//! What `cargo xtask test` was asked to run: areas, crates, or tests by a part of their name.

use std::path::PathBuf;
use std::process::Stdio;

use anyhow::{Context, Result, bail};
use serde_json::Value;

use crate::cargo;
use crate::project::Project;

/// The crate that is built for the kernel. Its tests are the packet tables.
pub(super) const KERNEL_CRATE: &str = "lb-ebpf";
/// The crate that embeds the objects for the kernel.
pub(super) const EMBEDDING_CRATE: &str = "lb-userspace";

/// A crate of the workspace.
#[derive(Debug)]
pub(super) struct Package {
    pub(super) name: String,
    pub(super) folder: PathBuf,
    /// Its integration test programs.
    pub(super) areas: Vec<String>,
    /// Whether it has a library.
    pub(super) library: bool,
    /// The crates of the workspace that it depends on directly.
    depends: Vec<String>,
}

/// The crates that have tests on this machine.
#[derive(Debug)]
pub(super) struct Workspace {
    pub(super) packages: Vec<Package>,
}

impl Workspace {
    pub(super) fn read(project: &Project) -> Result<Self> {
        let mut command = cargo::host(project, "metadata");
        command
            .args(["--no-deps", "--format-version", "1"])
            .stderr(Stdio::inherit());
        let output = command.output().context("cannot start cargo metadata")?;
        if !output.status.success() {
            bail!("`cargo metadata` failed (see above)");
        }
        Self::parse(&serde_json::from_slice(&output.stdout).context("`cargo metadata` printed no JSON")?)
    }

    fn parse(metadata: &Value) -> Result<Self> {
        let packages = list(&metadata["packages"]).map(package).collect::<Result<Vec<_>>>()?;
        let packages = packages.into_iter().filter(|package| package.name != KERNEL_CRATE);
        Ok(Self {
            packages: packages.collect(),
        })
    }

    fn package(&self, name: &str) -> Option<&Package> {
        self.packages.iter().find(|package| package.name == name)
    }

    /// Whether building the crate needs the objects for the kernel.
    pub(super) fn embeds_objects(&self, name: &str) -> bool {
        name == EMBEDDING_CRATE
            || self
                .package(name)
                .is_some_and(|package| package.depends.iter().any(|name| self.embeds_objects(name)))
    }
}

fn package(value: &Value) -> Result<Package> {
    let text = |key: &str| value[key].as_str().with_context(|| format!("a package without {key}"));
    let is_kind = |target: &Value, kind: &str| list(&target["kind"]).any(|found| found == kind);
    let areas = list(&value["targets"]).filter(|target| is_kind(target, "test"));
    let depends = list(&value["dependencies"]).filter(|dependency| dependency["path"].is_string());
    Ok(Package {
        name: text("name")?.to_owned(),
        folder: PathBuf::from(text("manifest_path")?)
            .parent()
            .context("a manifest without a folder")?
            .to_path_buf(),
        areas: names(areas),
        library: list(&value["targets"]).any(|target| is_kind(target, "lib")),
        depends: names(depends),
    })
}

fn list(value: &Value) -> impl Iterator<Item = &Value> {
    value.as_array().into_iter().flatten()
}

fn names<'a>(values: impl Iterator<Item = &'a Value>) -> Vec<String> {
    values
        .filter_map(|value| value["name"].as_str().map(str::to_owned))
        .collect()
}

/// The chosen tests.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Selection {
    /// Crates whose unit tests run.
    pub(super) packages: Vec<String>,
    /// Integration test programs.
    pub(super) areas: Vec<String>,
    /// Parts of names, of which a test must have one. Empty: all tests.
    pub(super) names: Vec<String>,
    /// Whether no crate or area was chosen, so that all are meant.
    pub(super) everything: bool,
}

impl Selection {
    /// Sorts words into areas, crates and parts of names.
    pub(super) fn new(workspace: &Workspace, words: &[String]) -> Self {
        let mut selection = Self::default();
        let is_area = |word: &String| workspace.packages.iter().any(|package| package.areas.contains(word));
        for word in words {
            if is_area(word) {
                selection.areas.push(word.clone());
            } else if let Some(package) = workspace.package(word) {
                selection.packages.push(word.clone());
                selection.areas.extend(package.areas.iter().cloned());
            } else {
                selection.names.push(word.clone());
            }
        }
        if selection.packages.is_empty() && selection.areas.is_empty() {
            selection.everything = true;
            for package in &workspace.packages {
                selection.packages.push(package.name.clone());
                selection.areas.extend(package.areas.iter().cloned());
            }
        }
        selection
    }

    /// Whether a test of that name is chosen.
    pub(super) fn includes(&self, name: &str) -> bool {
        self.names.is_empty() || self.names.iter().any(|part| name.contains(part.as_str()))
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn workspace() -> Workspace {
        let package = |name: &str, tests: &[&str], depends: &[&str]| {
            let targets = tests.iter().map(|name| json!({"name": name, "kind": ["test"]}));
            let depends = depends.iter().map(|name| json!({"name": name, "path": "/p"}));
            json!({
                "name": name,
                "manifest_path": format!("/p/{name}/Cargo.toml"),
                "targets": targets.collect::<Vec<_>>(),
                "dependencies": depends.chain([json!({"name": "anyhow"})]).collect::<Vec<_>>(),
            })
        };
        let metadata = json!({"packages": [
            package("lb-common", &[], &[]),
            package("lb-ebpf", &[], &["lb-common"]),
            package("lb-userspace", &[], &["lb-common"]),
            package("tests", &["cli", "vrrp"], &["lb-userspace"]),
        ]});
        Workspace::parse(&metadata).unwrap()
    }

    fn select(words: &[&str]) -> (Vec<String>, Vec<String>, Vec<String>) {
        let words: Vec<String> = words.iter().map(|word| (*word).to_owned()).collect();
        let selection = Selection::new(&workspace(), &words);
        (selection.packages, selection.areas, selection.names)
    }

    #[test]
    fn words_are_areas_crates_or_parts_of_names() {
        let all = (["lb-common", "lb-userspace", "tests"], ["cli", "vrrp"]);
        let owned = |words: &[&str]| words.iter().map(|word| (*word).to_owned()).collect::<Vec<_>>();
        for (words, packages, areas, names) in [
            (&[][..], &all.0[..], &all.1[..], &[][..]),
            (&["spread"], &all.0[..], &all.1[..], &["spread"]),
            (&["vrrp"], &[], &["vrrp"], &[]),
            (&["vrrp", "moves"], &[], &["vrrp"], &["moves"]),
            (&["lb-common"], &["lb-common"], &[], &[]),
            (&["tests"], &["tests"], &["cli", "vrrp"], &[]),
        ] {
            let expected = (owned(packages), owned(areas), owned(names));
            assert_eq!(select(words), expected, "{words:?}");
        }
    }

    #[test]
    fn only_the_controller_and_what_depends_on_it_need_objects() {
        let workspace = workspace();
        let embedding = workspace
            .packages
            .iter()
            .map(|package| workspace.embeds_objects(&package.name));
        assert_eq!(embedding.collect::<Vec<_>>(), [false, true, true]);
    }
}
