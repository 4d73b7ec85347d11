//! The keys of `type = "command"`, and of other commands of the configuration.

use std::collections::BTreeMap;

use toml::Spanned;

use crate::config::{
    defaults,
    diagnostics::{Diagnostics, Message, Span},
    names, raw,
};

use super::model::CommandProbe;

/// The most items of `argv`, with the program.
const MOST_ARGUMENTS: usize = 64;
/// The most variables in `environment`.
const MOST_VARIABLES: usize = 64;
/// The longest argument or value of a variable, in bytes.
const LONGEST: usize = 4096;

/// `argv`, `environment` and `user`.
type Keys<'a> = (
    &'a Option<raw::List<String>>,
    &'a raw::Given<raw::Words>,
    &'a raw::Given<String>,
);

/// Validates the keys of a command.
pub(in crate::config) fn command(
    (argv_given, environment_given, user_given): Keys<'_>,
    table: &Span,
    diagnostics: &mut Diagnostics,
) -> Option<CommandProbe> {
    let argv = match argv_given {
        Some(given) => argv(given, diagnostics),
        None => {
            diagnostics.missing(
                table,
                "argv",
                "program and arguments, such as [\"/usr/lib/lbd/check\", \"--fast\"]",
            );
            None
        }
    };
    let environment = match environment_given {
        Some(given) => environment(given, diagnostics),
        None => Some(BTreeMap::new()),
    };
    let user = diagnostics.optional(user_given, defaults::COMMAND_USER.to_owned(), |name| {
        match name.as_str() {
            "root" | "0" => Err(Message::new(
                "checks do not run commands as root",
                "an unprivileged user, such as \"nobody\"",
            )),
            _ if name.is_empty() || name.contains(['\0', ':', '/']) => Err(Message::new(
                format!("\"{}\" is not a user name", name.escape_debug()),
                "a user of this machine",
            )),
            _ => Ok(name.clone()),
        }
    });
    Some(CommandProbe {
        argv: argv?,
        environment: environment?,
        user: user?,
    })
}

fn argv(given: &Spanned<Vec<Spanned<String>>>, diagnostics: &mut Diagnostics) -> Option<Vec<String>> {
    let items = given.get_ref();
    let Some((program, arguments)) = items.split_first().filter(|_| items.len() <= MOST_ARGUMENTS) else {
        let problem = format!("`argv` has {} items", items.len());
        diagnostics.add(
            given.span(),
            Message::new(
                problem,
                format!("a program and at most {} arguments", MOST_ARGUMENTS - 1),
            ),
        );
        return None;
    };
    let program = diagnostics.value(program, |path| names::absolute(path).map(|_| path.clone()));
    let arguments: Option<Vec<_>> = arguments
        .iter()
        .map(|argument| diagnostics.value(argument, |text| word(text, "an argument")))
        .collect();
    Some(std::iter::once(program?).chain(arguments?).collect())
}

fn environment(
    given: &Spanned<BTreeMap<Spanned<String>, Spanned<String>>>,
    diagnostics: &mut Diagnostics,
) -> Option<BTreeMap<String, String>> {
    let entries = given.get_ref();
    if entries.len() > MOST_VARIABLES {
        let problem = format!("{} variables are given", entries.len());
        diagnostics.add(
            given.span(),
            Message::new(problem, format!("at most {MOST_VARIABLES} variables")),
        );
        return None;
    }
    let mut found = BTreeMap::new();
    for (name, value) in entries {
        let name = diagnostics.value(name, |name| {
            let is_name = !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_');
            if is_name && !name.starts_with("LBD_") {
                return Ok(name.clone());
            }
            let problem = format!("\"{}\" is not allowed as an environment variable", name.escape_debug());
            Err(Message::new(
                problem,
                "letters, digits and `_`, not beginning with `LBD_`",
            ))
        });
        let value = diagnostics.value(value, |value| word(value, "a variable"));
        if let (Some(name), Some(value)) = (name, value) {
            found.insert(name, value);
        }
    }
    (found.len() == entries.len()).then_some(found)
}

/// Validates an argument or a value.
fn word(text: &str, what: &str) -> Result<String, Message> {
    if text.contains('\0') || text.len() > LONGEST {
        let problem = format!("{what} is too long or contains a NUL character");
        return Err(Message::new(problem, format!("at most {LONGEST} bytes without NUL")));
    }
    Ok(text.to_owned())
}
