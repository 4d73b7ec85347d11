//! Holds `docs/configuration.md` against the types: keys, defaults and ranges.

use std::collections::BTreeMap;

use super::*;

const REFERENCE: &str = include_str!("../../../../docs/configuration.md");
const EXAMPLE: &str = include_str!("../../../../examples/lbd.toml");

const NODE: &str = "[node]\nname = \"NAME\"\ninterfaces = [\"eth0\"]\n";
const SERVICE: &str = "[[service]]\nname = \"web\"\naddress = \"192.0.2.10\"\nport = 80\n";
const BACKEND: &str = "[[service.backend]]\naddress = \"198.51.100.1\"\n";
const VRRP: &str = "[[vrrp]]\nname = \"v\"\ninterface = \"eth0\"\nrouter_id = 1\naddresses = [\"192.0.2.9/24\"]\n";

/// A row of a table of keys.
#[derive(Debug)]
struct Row {
    key: String,
    value: String,
    default: String,
}

/// A valid file, in three parts: the table under test, and what is before and after it.
struct Context {
    before: String,
    table: String,
    after: String,
}

impl Context {
    /// Sets a key of the table: `line` is `key = value`, or empty.
    fn with(&self, line: &str) -> Result<Config, ConfigError> {
        let key = line.split(" =").next().unwrap_or_default();
        self.parse(&format!("{}{line}\n", self.table_without(key)))
    }

    fn without(&self, key: &str) -> Result<Config, ConfigError> {
        self.parse(&self.table_without(key))
    }

    fn parse(&self, table: &str) -> Result<Config, ConfigError> {
        parse("lbd.toml", &format!("{}{table}{}", self.before, self.after))
    }

    fn table_without(&self, key: &str) -> String {
        let others = self.table.lines().filter(|line| !line.starts_with(&format!("{key} =")));
        others.map(|line| format!("{line}\n")).collect()
    }
}

/// The table in TOML, such as `[node]`, and its rows. The top level has the heading `Top level`.
fn sections() -> BTreeMap<String, Vec<Row>> {
    let mut sections = BTreeMap::new();
    let mut current: Option<&mut Vec<Row>> = None;
    let mut is_keys = false;
    for line in REFERENCE.lines() {
        if let Some(heading) = line.strip_prefix("## ") {
            let name = heading.trim_matches('`').to_owned();
            current = Some(sections.entry(name).or_default());
        }
        let cells: Vec<_> = line.split('|').map(str::trim).collect();
        match cells[..] {
            [_, "key", "value", "default", "meaning", _] => is_keys = true,
            [_, key, value, default, meaning, _] if is_keys && key.starts_with('`') => {
                assert!(meaning.ends_with('.'), "{line}: a meaning is a sentence");
                current.as_mut().unwrap().push(Row {
                    key: key.trim_matches('`').to_owned(),
                    value: value.to_owned(),
                    default: default.to_owned(),
                });
            }
            [_, dashes, ..] if dashes.starts_with("---") => {}
            _ => is_keys = false,
        }
    }
    sections.retain(|_, rows| !rows.is_empty());
    sections
}

/// Valid files in which keys of the table can be set. A key need not be valid in all of them.
fn contexts(section: &str) -> Vec<Context> {
    let table = |before: &str, own: &str, lines: &[&str], after: &str| -> Vec<Context> {
        let context = |line: &&str| Context {
            before: before.to_owned(),
            table: format!("{own}{line}\n"),
            after: after.to_owned(),
        };
        lines.iter().map(context).collect()
    };
    let service = format!("{NODE}{SERVICE}");
    let tunnel = format!("{NODE}tunnel.source_v4 = \"198.18.0.0/24\"\n");
    let vrrp = format!("{NODE}{VRRP}");
    match section {
        "Top level" => table("", "", &[""], NODE),
        "[node]" => table("", NODE, &[""], ""),
        "[node.tunnel]" | "[node.capacity]" => table(NODE, &format!("{section}\n"), &[""], ""),
        "[api]" => {
            let keys = ["listen = \"127.0.0.1:9440\"\nread_token_file = \"/token\""];
            table(NODE, "[api]\n", &keys, "")
        }
        "[[service]]" => {
            let keys = ["", "scheduler = \"source-hash\"", "source_rate = 5", "mode = \"dsr\""];
            let mut found = table(NODE, SERVICE, &keys, BACKEND);
            found.extend(table(&tunnel, SERVICE, &["mode = \"gue\""], BACKEND));
            found
        }
        "[service.timeouts]" => table(&service, "[service.timeouts]\n", &[""], BACKEND),
        "[service.health]" => {
            let keys = [
                "type = \"http\"",
                "type = \"https\"",
                "type = \"grpc\"",
                "type = \"grpc\"\ntls = true",
                "type = \"udp\"\nsend = \"ping\"",
                "type = \"dns\"\nquery = \"example.org\"",
                "type = \"command\"\nargv = [\"/bin/true\"]",
                "type = \"tcp\"\nflap_limit = 5",
            ];
            table(&service, "[service.health]\n", &keys, BACKEND)
        }
        "[[service.backend]]" | "[[service.fallback]]" => {
            table(&service, &format!("{section}\naddress = \"198.51.100.1\"\n"), &[""], "")
        }
        "[[vrrp]]" => table(NODE, VRRP, &[""], ""),
        "[[vrrp.track]]" => {
            let keys = [
                "argv = [\"/bin/true\"]",
                "interface = \"eth1\"",
                "file = \"/run/x\"",
                "service = \"web\"",
            ];
            let backends: String = (1..=2).map(|host| format!("{BACKEND}port = {host}\n")).collect();
            let after = format!("{SERVICE}{backends}");
            table(&vrrp, "[[vrrp.track]]\n", &keys, &after)
        }
        "[vrrp.hook]" => table(&vrrp, "[vrrp.hook]\n", &["argv = [\"/bin/true\"]"], ""),
        other => panic!("docs/configuration.md has the table {other}, which no test knows"),
    }
}

/// The keys that the type of a table has: an error about an unknown key lists them.
fn keys_of_type(context: &Context) -> Vec<String> {
    let error = context.with("no_such_key = 1").unwrap_err();
    let [found] = error.diagnostics() else {
        panic!("{error}")
    };
    assert!(found.message.contains("no_such_key"), "{error}");
    let words = found.expected.split('`').skip(1).step_by(2);
    words.map(str::to_owned).collect()
}

#[test]
fn the_reference_has_every_key_of_every_table_and_no_other() {
    let sections = sections();
    assert_eq!(sections.len(), 13);
    for (section, rows) in &sections {
        let mut known = keys_of_type(&contexts(section)[0]);
        let mut documented: Vec<_> = rows.iter().map(|row| row.key.clone()).collect();
        known.sort();
        documented.sort();
        assert_eq!(documented, known, "{section}");
        for row in rows
            .iter()
            .filter(|row| matches!(row.value.as_str(), "table" | "tables"))
        {
            let path = match section.trim_matches(['[', ']']) {
                "Top level" => row.key.clone(),
                table => format!("{table}.{}", row.key),
            };
            let names = [format!("[{path}]"), format!("[[{path}]]")];
            let is_described = names.iter().any(|name| sections.contains_key(name));
            assert!(
                is_described || row.key == "health",
                "{section} {}: its table is missing",
                row.key
            );
        }
    }
}

#[test]
fn every_key_is_in_the_example() {
    for (section, rows) in sections().iter().filter(|(section, _)| *section != "Top level") {
        for row in rows.iter().filter(|row| !row.value.starts_with("table")) {
            let is_there = |line: &str| {
                let line = line.trim_start_matches("# ");
                line.strip_prefix(&row.key).is_some_and(|rest| rest.starts_with(" ="))
            };
            assert!(EXAMPLE.lines().any(is_there), "{section} {}", row.key);
        }
    }
}

#[test]
fn a_default_in_the_reference_is_the_default_of_the_program() {
    let mut checked = 0;
    for (section, rows) in &sections() {
        let contexts = contexts(section);
        for Row { key, default, .. } in rows {
            let literal = default.strip_prefix('`').and_then(|rest| rest.strip_suffix('`'));
            let Some(literal) = literal.filter(|literal| !literal.contains(['`', ':'])) else {
                continue;
            };
            let line = format!("{key} = {literal}");
            let taken = contexts
                .iter()
                .find_map(|context| Some((context, context.with(&line).ok()?)));
            let (context, with) = taken.unwrap_or_else(|| panic!("{section} {line}: refused everywhere"));
            assert_eq!(with, context.with("").unwrap(), "{section} {line}: not the default");
            checked += 1;
        }
    }
    assert!(checked > 50, "only {checked} defaults");
}

#[test]
fn a_key_that_the_reference_calls_required_is_required() {
    for (section, rows) in &sections() {
        for Row { key, .. } in rows.iter().filter(|row| row.default == "required") {
            let error = match contexts(section).as_slice() {
                [Context { table, .. }] if section == "Top level" => parse("lbd.toml", table).unwrap_err(),
                [context, ..] => context.without(key).unwrap_err(),
                [] => panic!("{section} has no context"),
            };
            let is_missing = |found: &Diagnostic| {
                found.message.contains(&format!("{key}` is missing"))
                    || found.message.contains(&format!("[{key}]` is missing"))
            };
            assert!(error.diagnostics().iter().any(is_missing), "{section} {key}: {error}");
        }
    }
}

/// The first number or duration of a range and the last one, and what is just outside.
fn bounds(value: &str) -> Option<[(String, bool); 4]> {
    let (kind, range) = value.split_once(", ")?;
    let (low, high) = range.split_once(" to ")?;
    let high = high.split(' ').next()?;
    match kind {
        "integer" => {
            let (low, high): (i64, i64) = (low.parse().ok()?, high.parse().ok()?);
            let at = |number: i64, fits| (number.to_string(), fits);
            Some([at(low - 1, false), at(low, true), at(high, true), at(high + 1, false)])
        }
        "duration" => {
            let parse = |text: &str| text.parse::<jiff::SignedDuration>().ok();
            let (low, high) = (parse(low)?, parse(high)?);
            let step = jiff::SignedDuration::from_nanos(1);
            let at = |length: jiff::SignedDuration, fits| (format!("\"{length:#}\""), fits);
            // There is no duration below zero.
            let below = if low.is_zero() {
                at(low, true)
            } else {
                at(low - step, false)
            };
            Some([below, at(low, true), at(high, true), at(high + step, false)])
        }
        _ => None,
    }
}

#[test]
fn a_range_in_the_reference_is_the_range_of_the_program() {
    let mut checked = 0;
    for (section, rows) in &sections() {
        for Row { key, value, .. } in rows {
            let Some(bounds) = bounds(value) else { continue };
            for (literal, fits) in bounds {
                let line = format!("{key} = {literal}");
                let is_out_of_range = |context: &Context| match context.with(&line) {
                    Ok(_) => Some(false),
                    Err(error) => {
                        let messages = || error.diagnostics().iter().map(|found| &found.message);
                        let other =
                            |message: &String| message.contains("has no meaning") || message.contains("belongs to");
                        (!messages().any(other)).then(|| messages().any(|message| message.contains("out of range")))
                    }
                };
                let found = contexts(section).iter().find_map(is_out_of_range);
                assert_eq!(found, Some(!fits), "{section} {line}");
            }
            checked += 1;
        }
    }
    assert!(checked > 35, "only {checked} ranges");
}
