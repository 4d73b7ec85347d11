//! What is wrong with a file that is right as it is written: something that it names is not there, or not what it should be.

use toml::{
    Spanned,
    de::{DeTable, DeValue},
};

use super::{
    Config, ConfigError, Invalid,
    finding::{Finding, Problem},
};

/// Something that a file names and that cannot be used.
#[derive(Clone, Debug, thiserror::Error)]
#[error("{message}; expected {expected}")]
pub struct Flaw {
    /// Where it is named.
    pub table: Table,
    /// The key that names it.
    pub key: &'static str,
    /// What is wrong.
    pub message: String,
    /// What would have been right.
    pub expected: String,
}

/// A table of the file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Table {
    /// `[api]`.
    Api,
    /// The health check of a backend: its own, or its service's where that has no such key.
    Check {
        /// Name of the service.
        service: String,
        /// Name of the backend.
        backend: String,
    },
}

/// A step down into the file.
#[derive(Clone, Copy)]
enum Step {
    Key(&'static str),
    Item(usize),
}

/// The flaw with its place in `text`, which `config` was read from.
pub fn refuse(file_name: &str, text: &str, config: &Config, flaw: Flaw) -> ConfigError {
    let (document, _) = DeTable::parse_recoverable(text);
    let document = Spanned::new(document.span(), DeValue::Table(document.into_inner()));
    let places = places(config, &flaw);
    let place = places.iter().find_map(|path| at(&document, path));
    let span = place.map_or(0..0, Spanned::span);
    let finding = Finding::new(span, Problem::new(flaw.message, flaw.expected));
    ConfigError::Invalid(Invalid::new(file_name, text, vec![finding]))
}

/// Where the flaw can be, the likeliest place first.
fn places(config: &Config, flaw: &Flaw) -> Vec<Vec<Step>> {
    use Step::{Item, Key};
    let Table::Check { service, backend } = &flaw.table else {
        return vec![vec![Key("api"), Key(flaw.key)], vec![Key("api")]];
    };
    let Some(index) = config.services.iter().position(|known| known.name == *service) else {
        return Vec::new();
    };
    let service = vec![Key("service"), Item(index)];
    let backends = &config.services[index].backends;
    let found = backends.iter().position(|known| known.name == *backend).unwrap_or(0);
    // Fallback backends come last.
    let ordinary = backends.iter().filter(|backend| !backend.fallback).count();
    let backend = match found.checked_sub(ordinary) {
        None => [Key("backend"), Item(found)],
        Some(found) => [Key("fallback"), Item(found)],
    };
    let own = [service.as_slice(), &backend, &[Key("health")]].concat();
    let common = [service.as_slice(), &[Key("health")]].concat();
    let key = [Key(flaw.key)];
    vec![
        [own.as_slice(), &key].concat(),
        [common.as_slice(), &key].concat(),
        own,
        common,
    ]
}

fn at<'a, 'i>(value: &'a Spanned<DeValue<'i>>, path: &[Step]) -> Option<&'a Spanned<DeValue<'i>>> {
    let Some((step, rest)) = path.split_first() else {
        return Some(value);
    };
    match (value.get_ref(), step) {
        (DeValue::Table(table), Step::Key(key)) => at(table.get(*key)?, rest),
        (DeValue::Array(items), Step::Item(index)) => at(items.get(*index)?, rest),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::parse;

    const FILE: &str = r#"[node]
name = "a"
interfaces = ["eth0"]
[api]
read_group = "nosuch"
[[service]]
name = "web"
address = "192.0.2.1"
port = 443
[service.health]
type = "https"
ca_file = "/ca.pem"
[[service.fallback]]
name = "sorry"
address = "198.51.100.9"
health = { ca_file = "/other.pem" }
[[service.backend]]
address = "198.51.100.1"
"#;

    #[test]
    fn a_flaw_is_told_where_the_file_names_what_is_wrong() {
        let config = parse("lbd.toml", FILE).unwrap();
        let check = |backend: &str| Table::Check {
            service: "web".to_owned(),
            backend: backend.to_owned(),
        };
        let given_then = [
            (Table::Api, "read_group", (5, 14)),
            (Table::Api, "key", (4, 1)),
            (check("198.51.100.1:443"), "ca_file", (12, 11)),
            (check("198.51.100.1:443"), "user", (10, 1)),
            (check("sorry"), "ca_file", (16, 22)),
            (check("sorry"), "user", (16, 10)),
        ];
        for (table, key, then) in given_then {
            let flaw = Flaw {
                table,
                key,
                message: "it is not there".to_owned(),
                expected: "one that is".to_owned(),
            };
            let error = refuse("lbd.toml", FILE, &config, flaw);
            let [found] = error.diagnostics() else {
                panic!("{error}")
            };
            assert_eq!((found.line, found.column), then, "{error}");
            assert_eq!((&*found.message, &*found.expected), ("it is not there", "one that is"));
        }
    }
}
