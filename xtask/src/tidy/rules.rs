//! The rules: one table, and one function for each.

use super::columns;
use super::cycles::module_cycles;
use super::markdown;
use super::names;
use super::source::{code, has_word, modules_of, product_code};
use super::tree::Tree;

/// A demand on the tree.
pub(super) struct Rule {
    pub(super) name: &'static str,
    pub(super) demand: &'static str,
    pub(super) check: fn(&Tree) -> Vec<Finding>,
}

/// A place where a rule is broken.
pub(super) struct Finding {
    /// A path from the root, with a line where there is one.
    pub(super) place: String,
    pub(super) problem: String,
}

/// All rules, in the order in which they are checked and shown.
pub(super) const RULES: &[Rule] = &[
    Rule {
        name: "xdp-actions",
        demand: "only lb-ebpf's main.rs (and its separate binaries) name xdp_action",
        check: xdp_actions,
    },
    Rule {
        name: "dataplane",
        demand: "only lb-userspace/src/dataplane/ uses maps and programs of aya",
        check: dataplane,
    },
    Rule {
        name: "common-aya",
        demand: "lb-common does not depend on aya",
        check: common_without_aya,
    },
    Rule {
        name: "pure-core",
        demand: "lb-core depends on no runtime, no map library and no sockets",
        check: pure_core,
    },
    Rule {
        name: "module-cycles",
        demand: "the modules of a crate import each other in one direction",
        check: module_cycles,
    },
    Rule {
        name: "file-length",
        demand: "a Rust file has at most 600 lines (tests.rs excepted)",
        check: file_length,
    },
    Rule {
        name: "module-docs",
        demand: "a Rust file begins with `//!` and what it is for",
        check: module_docs,
    },
    Rule {
        name: "unfinished",
        demand: "no macros of unfinished work",
        check: unfinished,
    },
    Rule {
        name: "home-paths",
        demand: "no path of somebody's home",
        check: home_paths,
    },
    Rule {
        name: "links",
        demand: "relative links in Markdown lead to files of the project",
        check: dead_links,
    },
    Rule {
        name: "folders",
        demand: "the folders of the root are the known ones",
        check: folders,
    },
    Rule {
        name: "names",
        demand: "identifiers and file names have the words of the field (xtask/src/tidy/names.rs)",
        check: banned_names,
    },
    Rule {
        name: "columns",
        demand: "lines of comments and of Markdown have at most 100 columns",
        check: wide_lines,
    },
];

const MOST_LINES: usize = 600;

/// The crate of the decisions, and what it must not depend on: runtimes, maps, sockets, and the
/// shell around it.
const CORE_MANIFEST: &str = "lb-userspace/core/Cargo.toml";
const IMPURE_CRATES: [&str; 10] = [
    "aya",
    "axum",
    "futures-util",
    "hyper",
    "lb-userspace",
    "nix",
    "rtnetlink",
    "socket2",
    "tokio",
    "tracing",
];

const FOLDERS: [&str; 10] = [
    ".cargo",
    ".ci",
    ".github",
    "docs",
    "examples",
    "lb-common",
    "lb-ebpf",
    "lb-userspace",
    "tests",
    "xtask",
];

/// The rules' own files name what the rules forbid.
const OWN: &str = "xtask/src/tidy/";

fn xdp_actions(tree: &Tree) -> Vec<Finding> {
    let crates = ["lb-ebpf/src/", "lb-common/src/", "lb-userspace/src/"];
    let entry = |path: &str| path == "lb-ebpf/src/main.rs" || path.starts_with("lb-ebpf/src/bin/");
    let files = tree
        .ending(".rs")
        .filter(|(path, _)| crates.iter().any(|c| path.starts_with(c)) && !entry(path));
    lines(files, |line| {
        has_word(line, "xdp_action").then(|| "names xdp_action".to_owned())
    })
}

fn dataplane(tree: &Tree) -> Vec<Finding> {
    let files = tree
        .ending(".rs")
        .filter(|(path, _)| path.starts_with("lb-userspace/src/"));
    let outside = files.filter(|(path, _)| !is_module(path, "dataplane"));
    outside
        .flat_map(|(path, text)| {
            modules_of(text, "aya")
                .into_iter()
                .map(move |(line, module)| (path, line, module))
        })
        .filter(|(_, _, module)| ["maps", "programs"].contains(module))
        .map(|(path, line, module)| finding(path, line, format!("uses aya::{module}")))
        .collect()
}

fn common_without_aya(tree: &Tree) -> Vec<Finding> {
    let manifest = tree.files().filter(|(path, _)| *path == "lb-common/Cargo.toml");
    lines(manifest, |line| {
        line.trim_start()
            .starts_with("aya")
            .then(|| "depends on aya".to_owned())
    })
}

fn pure_core(tree: &Tree) -> Vec<Finding> {
    let manifest = tree.files().filter(|(path, _)| *path == CORE_MANIFEST);
    lines(manifest, |line| {
        let name = line.split(['.', ' ', '=']).next()?;
        IMPURE_CRATES
            .contains(&name)
            .then(|| format!("the crate of pure decisions depends on {name}"))
    })
}

fn file_length(tree: &Tree) -> Vec<Finding> {
    let files = tree.ending(".rs").filter(|(path, _)| !path.ends_with("/tests.rs"));
    let lengths = files.map(|(path, text)| (path, text.lines().count()));
    lengths
        .filter(|(_, length)| *length > MOST_LINES)
        .map(|(path, n)| finding(path, n, format!("has {n} lines")))
        .collect()
}

fn module_docs(tree: &Tree) -> Vec<Finding> {
    let files = tree.ending(".rs").filter(|(_, text)| !text.starts_with("//! "));
    files
        .map(|(path, _)| finding(path, 1, "does not begin with `//!`".to_owned()))
        .collect()
}

fn unfinished(tree: &Tree) -> Vec<Finding> {
    let files = tree.ending(".rs").filter(|(path, _)| !path.starts_with(OWN));
    files
        .flat_map(|(path, text)| code(text).map(move |(line, code)| (path, line, code)))
        .filter_map(|(path, line, code)| {
            let macros = ["todo", "unimplemented", "dbg"];
            let name = macros
                .iter()
                .find(|name| has_word(code, name) && code.contains(&format!("{name}!(")))?;
            Some(finding(path, line, format!("has {name}!")))
        })
        .collect()
}

fn home_paths(tree: &Tree) -> Vec<Finding> {
    let homes = ["/home/", "/Users/", "/root/"];
    let files = tree.files().filter(|(path, _)| !path.starts_with(OWN));
    files
        .flat_map(|(path, text)| {
            text.lines()
                .enumerate()
                .map(move |(index, line)| (path, index + 1, line))
        })
        .filter_map(|(path, line, text)| {
            // Within a longer path or an address (`example.com/home/`) it is no home.
            let absolute = |at: usize| !text[..at].ends_with(|c: char| c.is_alphanumeric() || "._-".contains(c));
            let home = homes
                .iter()
                .find(|home| text.match_indices(**home).any(|(at, _)| absolute(at)))?;
            Some(finding(path, line, format!("names a path below {home}")))
        })
        .collect()
}

fn dead_links(tree: &Tree) -> Vec<Finding> {
    let links = tree.ending(".md").flat_map(|(document, text)| {
        markdown::links(text)
            .into_iter()
            .map(move |(line, link)| (document, line, link))
    });
    links
        .filter(|(document, _, link)| markdown::path_of(document, link).is_some_and(|path| !tree.has(&path)))
        .map(|(document, line, link)| finding(document, line, format!("links to {link}, which does not exist")))
        .collect()
}

fn folders(tree: &Tree) -> Vec<Finding> {
    let mut unknown: Vec<&str> = tree
        .files()
        .filter_map(|(path, _)| Some(path.split_once('/')?.0))
        .collect();
    unknown.retain(|folder| !FOLDERS.contains(folder));
    unknown.dedup();
    let problem = || "is no known folder: move it into one, or add it to FOLDERS of the rules".to_owned();
    unknown
        .into_iter()
        .map(|folder| Finding {
            place: folder.to_owned(),
            problem: problem(),
        })
        .collect()
}

fn banned_names(tree: &Tree) -> Vec<Finding> {
    let problem = |name: &str| {
        let (word, instead) = names::banned_in(name)?;
        Some(format!("`{name}` has the word \"{word}\": write {instead}"))
    };
    let files = tree.ending(".rs").filter(|(path, _)| !path.starts_with(OWN));
    files
        .flat_map(|(path, text)| {
            let file = names::banned_in(path).and_then(|_| Some(finding(path, 1, problem(path)?)));
            let code = names::identifiers(text).into_iter();
            file.into_iter()
                .chain(code.filter_map(move |(line, name)| Some(finding(path, line, problem(name)?))))
        })
        .collect()
}

fn wide_lines(tree: &Tree) -> Vec<Finding> {
    let comments = tree.ending(".rs").flat_map(|(path, text)| {
        columns::wide_comments(text)
            .into_iter()
            .map(move |(line, width)| (path, line, width))
    });
    let prose = tree.ending(".md").flat_map(|(path, text)| {
        columns::wide_prose(text)
            .into_iter()
            .map(move |(line, width)| (path, line, width))
    });
    comments
        .chain(prose)
        .map(|(path, line, width)| finding(path, line, format!("has {width} columns")))
        .collect()
}

/// Applies a check to every line of product code.
fn lines<'a>(files: impl Iterator<Item = (&'a str, &'a str)>, check: impl Fn(&str) -> Option<String>) -> Vec<Finding> {
    files
        .flat_map(|(path, text)| product_code(text).map(move |(line, code)| (path, line, code)))
        .filter_map(|(path, line, code)| Some(finding(path, line, check(code)?)))
        .collect()
}

fn finding(path: &str, line: usize, problem: String) -> Finding {
    Finding {
        place: format!("{path}:{line}"),
        problem,
    }
}

/// Whether the file is the module of lb-userspace, or lies in it.
fn is_module(path: &str, module: &str) -> bool {
    let below = path
        .strip_prefix("lb-userspace/src/")
        .and_then(|path| path.strip_prefix(module));
    below.is_some_and(|rest| rest == ".rs" || rest.starts_with('/'))
}
