//! For every rule: trees that break it, and similar trees that do not.

use super::rules::RULES;
use super::tree::Tree;

/// Rule, file, text, and the places that the rule finds.
type Case = (&'static str, &'static str, &'static str, &'static [&'static str]);

const CASES: &[Case] = &[
    (
        "xdp-actions",
        "lb-ebpf/src/emit.rs",
        "//! E\nuse aya_ebpf::bindings::xdp_action;\n",
        &["lb-ebpf/src/emit.rs:2"],
    ),
    (
        "xdp-actions",
        "lb-ebpf/src/main.rs",
        "//! M\nuse aya_ebpf::bindings::xdp_action;\n",
        &[],
    ),
    (
        "xdp-actions",
        "lb-ebpf/src/bin/bench.rs",
        "//! B\nuse aya_ebpf::bindings::xdp_action;\n",
        &[],
    ),
    (
        "xdp-actions",
        "lb-ebpf/src/emit.rs",
        "//! E\n// becomes an xdp_action later\n",
        &[],
    ),
    (
        "dataplane",
        "lb-userspace/src/daemon.rs",
        "//! D\nuse aya::{\n    maps::Array,\n};\n",
        &["lb-userspace/src/daemon.rs:3"],
    ),
    (
        "dataplane",
        "lb-userspace/src/daemon.rs",
        "//! D\nfn f(p: &aya::programs::Xdp) {}\n",
        &["lb-userspace/src/daemon.rs:2"],
    ),
    (
        "dataplane",
        "lb-userspace/src/dataplane/loader.rs",
        "//! L\nuse aya::maps::Array;\n",
        &[],
    ),
    (
        "dataplane",
        "lb-userspace/src/daemon.rs",
        "//! D\nuse aya::EbpfError;\nuse crate::maps;\n",
        &[],
    ),
    (
        "common-aya",
        "lb-common/Cargo.toml",
        "[dependencies]\naya.workspace = true\n",
        &["lb-common/Cargo.toml:2"],
    ),
    (
        "common-aya",
        "lb-userspace/Cargo.toml",
        "[dependencies]\naya.workspace = true\n",
        &[],
    ),
    (
        "pure-core",
        "lb-userspace/core/Cargo.toml",
        "[dependencies]\njiff.workspace = true\ntokio.workspace = true\n",
        &["lb-userspace/core/Cargo.toml:3"],
    ),
    (
        "pure-core",
        "lb-userspace/Cargo.toml",
        "[dependencies]\ntokio.workspace = true\n",
        &[],
    ),
    (
        "module-docs",
        "tests/src/lib.rs",
        "fn main() {}\n",
        &["tests/src/lib.rs:1"],
    ),
    ("module-docs", "tests/src/lib.rs", "//! The harness.\n", &[]),
    (
        "unfinished",
        "xtask/src/main.rs",
        "//! M\nfn f() { todo!() }\n",
        &["xtask/src/main.rs:2"],
    ),
    (
        "unfinished",
        "xtask/src/main.rs",
        "//! M\nfn f() {\n    dbg!(1);\n}\n",
        &["xtask/src/main.rs:3"],
    ),
    (
        "unfinished",
        "xtask/src/main.rs",
        "//! M\n// no todo!() here\nfn dbg() {}\n",
        &[],
    ),
    ("home-paths", "docs/a.md", "Look into /home/me/lb\n", &["docs/a.md:1"]),
    ("home-paths", "docs/a.md", "Look at example.com/home/me\n", &[]),
    (
        "links",
        "docs/a.md",
        "See\n[b](b.md) and [c](../c.md#d)\n",
        &["docs/a.md:2", "docs/a.md:2"],
    ),
    (
        "links",
        "docs/a.md",
        "[a](a.md) [docs](../docs) [x](https://example.com)\n",
        &[],
    ),
    ("folders", "helpers/a.sh", "", &["helpers"]),
    ("folders", "docs/a.md", "", &[]),
    ("folders", "README.md", "", &[]),
    (
        "names",
        "lb-common/src/a.rs",
        "//! A\nfn tell() {}\nstruct SpareRoom;\n// told\nfn f() -> &str { \"ways\" }\n",
        &["lb-common/src/a.rs:2", "lb-common/src/a.rs:3"],
    ),
    (
        "names",
        "lb-common/src/oddities.rs",
        "//! O\n",
        &["lb-common/src/oddities.rs:1"],
    ),
    ("names", "lb-common/src/retell.rs", "//! R\nfn always() {}\n", &[]),
    (
        "columns",
        "docs/a.md",
        concat!(
            "# A line of exactly 100 columns ....................................................................\n",
            "And one of 101 columns: .............................................................................\n",
        ),
        &["docs/a.md:2"],
    ),
];

fn places(rule: &str, tree: &Tree) -> Vec<String> {
    let rule = RULES
        .iter()
        .find(|known| known.name == rule)
        .unwrap_or_else(|| panic!("there is no rule {rule}"));
    (rule.check)(tree).into_iter().map(|finding| finding.place).collect()
}

#[test]
fn rules_find_what_breaks_them_and_nothing_else() {
    for (rule, path, text, expected) in CASES {
        assert_eq!(
            places(rule, &Tree::of(&[(path, text)])),
            *expected,
            "{rule} on {path}: {text}"
        );
    }
}

#[test]
fn a_rust_file_may_have_600_lines_and_tests_any_number() {
    let (longest, too_long) = ("//! A\n".repeat(600), "//! A\n".repeat(601));
    let tree = Tree::of(&[("a/x.rs", &longest), ("a/y.rs", &too_long), ("a/tests.rs", &too_long)]);
    assert_eq!(places("file-length", &tree), ["a/y.rs:601"]);
}

#[test]
fn every_rule_has_a_tree_that_breaks_it() {
    // These have tests of their own, here and in `cycles`.
    let elsewhere = ["file-length", "module-cycles"];
    let rules = RULES.iter();
    for rule in rules.filter(|rule| !elsewhere.contains(&rule.name)) {
        assert!(
            CASES
                .iter()
                .any(|(name, _, _, expected)| *name == rule.name && !expected.is_empty()),
            "{}",
            rule.name
        );
    }
}
