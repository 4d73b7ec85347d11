//! The rule that the modules of a crate import each other in one direction only.

use std::collections::{BTreeMap, BTreeSet};

use super::rules::Finding;
use super::source::modules_of;
use super::tree::Tree;

/// The source folders of the crates that the rule covers.
const CRATES: [&str; 4] = [
    "lb-common/src/",
    "lb-ebpf/src/",
    "lb-userspace/core/src/",
    "lb-userspace/src/",
];
/// Files that may import everything: they only put the crate together.
const ROOTS: [&str; 2] = ["lib.rs", "main.rs"];

/// Which top-level module imports which other one, and where: path and line.
type Imports<'a> = BTreeMap<&'a str, BTreeMap<&'a str, (&'a str, usize)>>;

/// One finding for each import that is part of a cycle.
pub(super) fn module_cycles(tree: &Tree) -> Vec<Finding> {
    CRATES
        .iter()
        .flat_map(|folder| {
            let imports = imports(tree, folder);
            cycles(&imports)
        })
        .collect()
}

fn imports<'a>(tree: &'a Tree, folder: &'static str) -> Imports<'a> {
    let mut imports = Imports::new();
    for (path, text) in tree.ending(".rs") {
        let Some(inside) = path.strip_prefix(folder) else {
            continue;
        };
        if ROOTS.contains(&inside) || inside.starts_with("bin/") || is_test(inside) {
            continue;
        }
        let module = inside.split(['/', '.']).next().unwrap_or(inside);
        let is_top = inside.matches('/').count() == 0 || inside == format!("{module}/mod.rs");
        let mut named = modules_of(text, "crate");
        if is_top {
            named.extend(modules_of(text, "super"));
        }
        let own = imports.entry(module).or_default();
        for (line, other) in named.into_iter().filter(|(_, other)| *other != module) {
            own.entry(other).or_insert((path, line));
        }
    }
    let known: BTreeSet<&str> = imports.keys().copied().collect();
    for own in imports.values_mut() {
        own.retain(|other, _| known.contains(other));
    }
    imports
}

/// Tests may import what the product must not.
fn is_test(path: &str) -> bool {
    let name = path.rsplit('/').next().unwrap_or(path);
    name == "tests.rs" || name.ends_with("_tests.rs") || path.contains("/tests/")
}

fn cycles(imports: &Imports<'_>) -> Vec<Finding> {
    let mut findings = Vec::new();
    for (module, own) in imports {
        for (other, (path, line)) in own {
            if let Some(way_back) = path_between(imports, other, module) {
                findings.push(Finding {
                    place: format!("{path}:{line}"),
                    problem: format!("{module} imports {other}, which imports it: {}", way_back.join(" -> ")),
                });
            }
        }
    }
    findings
}

/// The shortest path of imports from one module to another.
fn path_between<'a>(imports: &Imports<'a>, from: &'a str, to: &str) -> Option<Vec<&'a str>> {
    let mut paths = vec![vec![from]];
    let mut seen = BTreeSet::from([from]);
    while !paths.is_empty() {
        let mut longer = Vec::new();
        for path in paths {
            let last = path.last()?;
            for next in imports.get(last).into_iter().flat_map(BTreeMap::keys) {
                let mut extended = path.clone();
                extended.push(*next);
                if *next == to {
                    return Some(extended);
                }
                if seen.insert(*next) {
                    longer.push(extended);
                }
            }
        }
        paths = longer;
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    fn places(files: &[(&str, &str)]) -> Vec<String> {
        let tree = Tree::of(files);
        module_cycles(&tree).into_iter().map(|finding| finding.place).collect()
    }

    #[test]
    fn each_import_of_a_cycle_is_found() {
        let files = [
            ("lb-common/src/a/mod.rs", "//! A\nuse crate::b::X;\n"),
            ("lb-common/src/b.rs", "//! B\nuse super::c;\n"),
            ("lb-common/src/c.rs", "//! C\nuse crate::{d, a::Y};\n"),
            ("lb-common/src/d.rs", "//! D\n"),
        ];
        assert_eq!(
            places(&files),
            [
                "lb-common/src/a/mod.rs:2",
                "lb-common/src/b.rs:2",
                "lb-common/src/c.rs:2"
            ]
        );
    }

    #[test]
    fn tests_roots_and_children_are_no_cycle() {
        let files = [
            ("lb-common/src/lib.rs", "//! L\nuse crate::a::X;\n"),
            (
                "lb-common/src/a/mod.rs",
                "//! A\nuse crate::b::X;\n#[cfg(test)]\nmod t { use crate::b; }\n",
            ),
            ("lb-common/src/a/inner.rs", "//! I\nuse super::X;\n"),
            (
                "lb-common/src/b.rs",
                "//! B\n#[cfg(test)]\nmod tests { use crate::a; }\n",
            ),
            ("lb-common/src/b/tests.rs", "//! T\nuse crate::a;\n"),
            ("lb-userspace/src/b.rs", "//! B\nuse crate::a;\n"),
        ];
        assert_eq!(places(&files), [""; 0]);
    }
}
