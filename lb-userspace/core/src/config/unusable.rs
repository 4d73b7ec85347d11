//! Valid file, unusable reference: the file names a group, user, program or other file that this
//! machine does not have.

use toml::{
    Spanned,
    de::{DeTable, DeValue},
};

use super::{
    Config, ConfigError, Report,
    diagnostics::{Entry, Message},
};

/// A key whose value names something that this machine does not have or cannot use.
#[derive(Clone, Debug, thiserror::Error)]
#[error("{message}; expected {expected}")]
pub struct UnusableReference {
    /// The table of the key.
    pub table: Table,
    /// The key.
    pub key: &'static str,
    /// What is wrong.
    pub message: String,
    /// What is expected instead.
    pub expected: String,
}

/// A table of the file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Table {
    /// `[api]`.
    Api,
    /// The health check of a backend: `health` of the backend if it has the key, else
    /// `[service.health]`.
    Check {
        /// Name of the service.
        service: String,
        /// Name of the backend.
        backend: String,
    },
}

/// One step of a path into the document.
#[derive(Clone, Copy)]
enum Step {
    Key(&'static str),
    Item(usize),
}

/// The error for `reference`, with its place in `text`. `config` is what `text` means.
pub fn unusable_reference(file_name: &str, text: &str, config: &Config, reference: UnusableReference) -> ConfigError {
    let (document, _) = DeTable::parse_recoverable(text);
    let document = Spanned::new(document.span(), DeValue::Table(document.into_inner()));
    let places = places(config, &reference);
    let place = places.iter().find_map(|path| at(&document, path));
    let span = place.map_or(0..0, Spanned::span);
    let entry = Entry::new(span, Message::new(reference.message, reference.expected));
    ConfigError::Invalid(Report::new(file_name, text, vec![entry]))
}

/// Paths at which the reference can be, the most likely one first.
fn places(config: &Config, reference: &UnusableReference) -> Vec<Vec<Step>> {
    use Step::{Item, Key};
    let Table::Check { service, backend } = &reference.table else {
        return vec![vec![Key("api"), Key(reference.key)], vec![Key("api")]];
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
    let key = [Key(reference.key)];
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
    fn an_unusable_reference_is_reported_at_its_key_or_else_at_its_table() {
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
            let reference = UnusableReference {
                table,
                key,
                message: "it does not exist".to_owned(),
                expected: "one that exists".to_owned(),
            };
            let error = unusable_reference("lbd.toml", FILE, &config, reference);
            let [found] = error.diagnostics() else {
                panic!("{error}")
            };
            assert_eq!((found.line, found.column), then, "{error}");
            assert_eq!(
                (&*found.message, &*found.expected),
                ("it does not exist", "one that exists")
            );
        }
    }
}
