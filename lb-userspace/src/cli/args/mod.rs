//! The command line of `lbctl`.

mod backend;
mod flow;
mod nouns;
mod place;
mod values;

use std::{env, ffi::OsString, time::Duration};

use clap::{ArgMatches, Command, CommandFactory, FromArgMatches, Parser, error::ErrorKind};

pub use backend::{BackendName, BackendVerb};
pub use flow::{FlowChoice, FlowFlush, FlowList, FlowVerb};
pub use nouns::{EventVerb, ExplainArguments, MapVerb, NodeVerb, Noun, ReloadArguments, ServiceVerb, VrrpVerb};
use place::Given;
pub use place::Place;

/// Where help lists the options about output.
const OUTPUT: &str = "Output";

/// The commands that only show something: `--watch` can repeat them.
const SHOW: [&str; 12] = [
    "node status",
    "vrrp status",
    "service list",
    "service show",
    "backend list",
    "flow list",
    "flow count",
    "event list",
    "explain",
    "map list",
    "map stats",
    "map dump",
];

/// Shows and controls a load balancer.
///
/// Exit status: 0 done; 1 failed; 2 wrong usage; 3 lbd cannot be reached; 4 not allowed.
#[derive(Debug, Parser)]
#[command(name = "lbctl", version, arg_required_else_help = true)]
pub struct Arguments {
    /// Which node the command is about.
    #[command(flatten, next_help_heading = "Which node")]
    pub place: Place,
    /// Print JSON. Errors are JSON too (RFC 9457), on standard error.
    #[arg(long, global = true, help_heading = OUTPUT)]
    pub json: bool,
    /// Repeat the command every SECONDS (default 2) until interrupted; with --json, one line each
    /// time.
    #[arg(long, global = true, help_heading = OUTPUT, value_name = "SECONDS", num_args = 0..=1, require_equals = true, default_missing_value = "2",
          value_parser = values::seconds)]
    pub watch: Option<Duration>,
    /// What the command is about.
    #[command(subcommand)]
    pub noun: Noun,
}

impl Arguments {
    /// The arguments of this process. Prints help or an error and exits if they are no command.
    pub fn of_process() -> Self {
        Self::read(env::args_os().collect()).unwrap_or_else(|error| error.exit())
    }

    /// The command line as `clap` knows it. Help shows `--watch` only where it works.
    pub(super) fn definition() -> Command {
        let mut command = Self::command();
        // This copies the options of all commands into each command, so that one of them can be
        // hidden there.
        command.build();
        hide_watch(&mut command, "");
        command
    }

    fn read(words: Vec<OsString>) -> Result<Self, clap::Error> {
        let mut command = Self::definition();
        for pair in words.windows(2).filter(|pair| pair[0] == "--watch") {
            if let Some(number) = pair[1].to_str().filter(|text| values::seconds(text).is_ok()) {
                let sentence = format!("--watch takes its seconds after `=`: --watch={number}");
                return Err(command.error(ErrorKind::ValueValidation, sentence));
            }
        }
        let mut matches = command.try_get_matches_from_mut(words)?;
        if matches.contains_id("watch") && !SHOW.contains(&path(&matches).as_str()) {
            return Err(command.error(
                ErrorKind::ArgumentConflict,
                "--watch is for commands that show something",
            ));
        }
        let given = Given::of(&matches);
        let mut arguments = Self::from_arg_matches_mut(&mut matches)?;
        given.apply(&mut arguments.place);
        Ok(arguments)
    }
}

/// The names of noun and verb, such as `node status`.
fn path(matches: &ArgMatches) -> String {
    let mut names = Vec::new();
    let mut at = matches;
    while let Some((name, below)) = at.subcommand() {
        names.push(name);
        at = below;
    }
    names.join(" ")
}

/// Hides `--watch` in the subcommands of `command` that do not show something. `path` is the path
/// of `command`.
fn hide_watch(command: &mut Command, path: &str) {
    for below in command.get_subcommands_mut() {
        let path = format!("{path} {}", below.get_name()).trim_start().to_owned();
        hide_watch(below, &path);
        let shows = SHOW
            .iter()
            .any(|shows| *shows == path || shows.starts_with(&format!("{path} ")));
        if !shows {
            *below = std::mem::take(below).mut_args(|arg| if arg.get_id() == "watch" { arg.hide(true) } else { arg });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(words: &str) -> Result<Arguments, String> {
        let words = words.split(' ').map(OsString::from).collect();
        Arguments::read(words).map_err(|error| error.to_string())
    }

    #[test]
    fn help_offers_watch_only_for_commands_that_show_something() {
        let is_offered = |words: &str| {
            let help = read(&format!("{words} --help")).unwrap_err();
            help.contains("--watch")
        };
        for shows in SHOW {
            assert!(is_offered(format!("lbctl {shows}").trim()), "{shows}");
        }
        for changes in [
            "backend drain",
            "backend weight",
            "flow flush",
            "reload",
            "completion",
            "event follow",
        ] {
            assert!(!is_offered(&format!("lbctl {changes}")), "{changes}");
        }
    }

    #[test]
    fn errors_say_what_an_option_expects() {
        let given_then = [
            ("service list --watch 1", "--watch=1"),
            ("service list --watch=soon", "from 0.1 to 86400"),
            ("reload --watch", "for commands that show something"),
            ("backend weight web/w1 x", "a whole number from 0 to 1000"),
            ("backend weight web/w1 1001", "a whole number from 0 to 1000"),
            ("backend drain web/w1 --deadline 5", "a duration such as 5m"),
            ("flow list --client 10.0.0.0/24", "one IPv4 or IPv6 address"),
            ("map dump BACKENDS --limit 0", "of 1 or more"),
        ];
        for (words, then) in given_then {
            let error = read(&format!("lbctl {words}")).unwrap_err();
            assert!(error.contains(then), "{words}: {error}");
        }
        for words in [
            "backend drain web/w1 --deadline 5m",
            "--watch=1 service list",
            "service list --watch",
        ] {
            assert!(read(&format!("lbctl {words}")).is_ok(), "{words}");
        }
    }

    #[test]
    fn config_on_the_command_line_wins_over_an_endpoint_in_the_environment() {
        let place = |config, endpoint| {
            let mut place = read("lbctl service list --endpoint http://[::1]:1").unwrap().place;
            Given { config, endpoint }.apply(&mut place);
            place.endpoint.is_some()
        };
        assert!(!place(true, false));
        assert!(place(false, false) && place(true, true));
    }
}
