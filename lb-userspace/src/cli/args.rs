//! The command line of `lbctl`.

use std::{
    env,
    ffi::OsString,
    net::{IpAddr, SocketAddr},
    path::PathBuf,
    time::Duration,
};

use clap::{
    ArgMatches, Args, Command, CommandFactory, FromArgMatches, Parser, Subcommand,
    builder::{PossibleValue, PossibleValuesParser},
    error::ErrorKind,
    parser::ValueSource,
};
use clap_complete::engine::ArgValueCandidates;

use super::complete;
use crate::{
    admin::{
        deadline,
        model::{DEFAULT_FLOW_LIMIT, MAX_EVENT_LIMIT},
    },
    events::Kind,
};
use lb_core::config::MOST_WEIGHT;

/// Where help shows options about output.
const OUTPUT: &str = "Output";

/// The commands that only show something, and so can be carried out again and again by `--watch`.
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

/// Shows what a load balancer does.
///
/// Exit status: 0 done; 1 failed; 2 wrong usage; 3 the daemon cannot be reached; 4 not allowed.
#[derive(Debug, Parser)]
#[command(name = "lbctl", version, arg_required_else_help = true)]
pub struct Arguments {
    /// Where to look.
    #[command(flatten, next_help_heading = "Which node")]
    pub place: Place,
    /// Print JSON.
    #[arg(long, global = true, help_heading = OUTPUT)]
    pub json: bool,
    /// Show it again every so many seconds, by default 2, until interrupted; with --json, one line each time.
    #[arg(long, global = true, help_heading = OUTPUT, value_name = "SECONDS", num_args = 0..=1, require_equals = true, default_missing_value = "2",
          value_parser = seconds)]
    pub watch: Option<Duration>,
    /// What to do.
    #[command(subcommand)]
    pub noun: Noun,
}

/// Which node is meant.
#[derive(Debug, Args)]
pub struct Place {
    /// Configuration file of the node; says where its socket and its maps are.
    #[arg(long, global = true, value_name = "FILE", default_value = "/etc/lbd/lbd.toml")]
    pub config: PathBuf,
    /// Admin socket of the node, instead of what the configuration says.
    #[arg(long, global = true, value_name = "PATH")]
    pub socket: Option<PathBuf>,
    /// Admin API over TCP instead of the socket: https://HOST:PORT, or http:// where the network is trusted.
    #[arg(long, global = true, value_name = "URL", env = "LBCTL_ENDPOINT")]
    pub endpoint: Option<String>,
    /// File with the token for --endpoint.
    #[arg(long, global = true, value_name = "FILE", env = "LBCTL_TOKEN_FILE")]
    pub token_file: Option<PathBuf>,
    /// Certificates that --endpoint is trusted by, in PEM.
    #[arg(
        long,
        global = true,
        value_name = "FILE",
        env = "LBCTL_CA_FILE",
        default_value = "/etc/ssl/certs/ca-certificates.crt"
    )]
    pub ca_file: PathBuf,
    /// Mount point of the BPF file system with the node's maps, together with --node instead of the configuration.
    #[arg(long, global = true, value_name = "PATH", requires = "node")]
    pub bpffs: Option<PathBuf>,
    /// Name of the node whose maps to read, together with --bpffs.
    #[arg(long, global = true, value_name = "NAME", requires = "bpffs")]
    pub node: Option<String>,
    /// Whether `config` is not the default.
    #[arg(skip)]
    pub is_config_given: bool,
}

impl Arguments {
    /// What this process is asked for. Ends it where that makes no sense.
    pub fn of_process() -> Self {
        Self::read(env::args_os().collect()).unwrap_or_else(|error| error.exit())
    }

    /// The command line. Help shows `--watch` only where it works.
    pub(super) fn definition() -> Command {
        let mut command = Self::command();
        // Now options of all commands are in each of them, and can be hidden in some.
        command.build();
        hide_watch(&mut command, "");
        command
    }

    fn read(words: Vec<OsString>) -> Result<Self, clap::Error> {
        let mut command = Self::definition();
        for pair in words.windows(2).filter(|pair| pair[0] == "--watch") {
            if let Some(number) = pair[1].to_str().filter(|text| seconds(text).is_ok()) {
                let sentence = format!("--watch takes its seconds behind `=`: --watch={number}");
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
        let origin = Origin::of(&matches);
        let mut arguments = Self::from_arg_matches_mut(&mut matches)?;
        origin.apply(&mut arguments.place);
        Ok(arguments)
    }
}

/// What the command line says beside what the environment says.
struct Origin {
    is_config_given: bool,
    is_endpoint_given: bool,
}

impl Origin {
    fn of(matches: &ArgMatches) -> Self {
        let is_given = |option| matches.value_source(option) == Some(ValueSource::CommandLine);
        Self {
            is_config_given: is_given("config"),
            is_endpoint_given: is_given("endpoint"),
        }
    }

    /// Whoever types which node is meant means that one, whatever is in the environment.
    fn apply(self, place: &mut Place) {
        place.is_config_given = self.is_config_given;
        if self.is_config_given && !self.is_endpoint_given {
            place.endpoint = None;
        }
    }
}

impl Place {
    /// Which node the words mean, where that can be told.
    pub(super) fn of(mut matches: ArgMatches) -> Option<Self> {
        let origin = Origin::of(&matches);
        let mut place = Self::from_arg_matches_mut(&mut matches).ok()?;
        origin.apply(&mut place);
        Some(place)
    }
}

/// The names of the commands that the words lead to.
fn path(matches: &ArgMatches) -> String {
    let mut names = Vec::new();
    let mut at = matches;
    while let Some((name, below)) = at.subcommand() {
        names.push(name);
        at = below;
    }
    names.join(" ")
}

/// Hides `--watch` in commands below `command`, which is at `path`, unless they show something.
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

/// What a command is about.
#[derive(Debug, Subcommand)]
pub enum Noun {
    /// The balancer itself.
    #[command(subcommand)]
    Node(NodeVerb),
    /// Services.
    #[command(subcommand)]
    Service(ServiceVerb),
    /// Backends.
    #[command(subcommand)]
    Backend(BackendVerb),
    /// Flows.
    #[command(subcommand)]
    Flow(FlowVerb),
    /// Virtual routers: who has the virtual addresses.
    #[command(subcommand)]
    Vrrp(VrrpVerb),
    /// What happened, and why.
    #[command(subcommand)]
    Event(EventVerb),
    /// Say which backend a packet would get or has, through which stages, and why.
    Explain(ExplainArguments),
    /// Put the configuration file into force, all of it or nothing.
    Reload(ReloadArguments),
    /// Maps, read directly: these work without the daemon too.
    #[command(subcommand)]
    Map(MapVerb),
    /// Print the completions of a shell, for example: lbctl completion bash > /etc/bash_completion.d/lbctl
    ///
    /// Those of bash, zsh and fish ask the daemon for names of services and backends, where it answers at once.
    Completion {
        /// Which shell.
        shell: clap_complete::Shell,
        /// Without names: the shell asks nobody.
        #[arg(long = "static")]
        fixed: bool,
    },
}

/// Verbs of `node`.
#[derive(Debug, Subcommand)]
pub enum NodeVerb {
    /// Show interfaces, flow tables, warnings, and what became of packets.
    Status,
}

/// Verbs of `vrrp`.
#[derive(Debug, Subcommand)]
pub enum VrrpVerb {
    /// Show what this balancer is to each virtual router, and why.
    Status,
    /// Hand over now; this balancer lets others be master for some intervals, and takes part again then.
    Release {
        /// Name of the virtual router.
        name: String,
    },
    /// Become master now; a master of higher priority takes it back.
    Take {
        /// Name of the virtual router.
        name: String,
    },
    /// Hand over, and stay backup until `resume`, across restarts. All of its group do.
    Maintain {
        /// Name of the virtual router.
        name: String,
    },
    /// Take part again, after `maintain`.
    Resume {
        /// Name of the virtual router.
        name: String,
    },
}

/// Verbs of `service`.
#[derive(Debug, Subcommand)]
pub enum ServiceVerb {
    /// Show all services.
    List,
    /// Show one service.
    Show {
        /// Its name.
        #[arg(add = ArgValueCandidates::new(complete::services))]
        name: String,
    },
}

/// Verbs of `backend`.
#[derive(Debug, Subcommand)]
pub enum BackendVerb {
    /// Show backends with state, cause and flows.
    List {
        /// Only those of this service.
        #[arg(add = ArgValueCandidates::new(complete::services))]
        service: Option<String>,
    },
    /// Give a backend no new flows; its old ones go on.
    Drain {
        /// Which one, as SERVICE/BACKEND.
        #[arg(add = ArgValueCandidates::new(complete::targets))]
        target: BackendName,
        /// After this time what is left is treated as `on_backend_down` of the service says, such as 5m.
        #[arg(long, value_name = "DURATION", value_parser = a_deadline)]
        deadline: Option<String>,
        /// Stay, and show how many flows are left, until there are none.
        #[arg(long)]
        wait: bool,
    },
    /// Give a drained backend new flows again.
    Undrain {
        /// Which one, as SERVICE/BACKEND.
        #[arg(add = ArgValueCandidates::new(complete::targets))]
        target: BackendName,
    },
    /// Treat a backend as down, whatever its health.
    Disable {
        /// Which one, as SERVICE/BACKEND.
        #[arg(add = ArgValueCandidates::new(complete::targets))]
        target: BackendName,
    },
    /// Treat a disabled backend as what its health says again.
    Enable {
        /// Which one, as SERVICE/BACKEND.
        #[arg(add = ArgValueCandidates::new(complete::targets))]
        target: BackendName,
    },
    /// Give a backend another weight than the configuration does.
    Weight {
        /// Which one, as SERVICE/BACKEND.
        #[arg(add = ArgValueCandidates::new(complete::targets))]
        target: BackendName,
        /// The weight, 0 to 1000; 0: no new flows.
        #[arg(required_unless_present = "reset", conflicts_with = "reset", value_parser = weight)]
        weight: Option<u32>,
        /// Back to the weight of the configuration.
        #[arg(long)]
        reset: bool,
    },
}

/// The words of all kinds of events.
fn kinds() -> PossibleValuesParser {
    let value = |kind: &Kind| PossibleValue::new(kind.word()).help(kind.sentence());
    PossibleValuesParser::new(Kind::ALL.iter().map(value))
}

fn address_and_port(text: &str) -> Result<SocketAddr, String> {
    let expected = "expected an address and a port, such as 192.0.2.1:80 or [2001:db8::1]:80";
    text.parse().map_err(|_| expected.to_owned())
}

fn an_address(text: &str) -> Result<IpAddr, String> {
    let expected = "expected one IPv4 or IPv6 address, such as 192.0.2.7 or 2001:db8::7";
    text.parse().map_err(|_| expected.to_owned())
}

/// A duration, as text: the daemon reads it again.
fn a_deadline(text: &str) -> Result<String, String> {
    let read = deadline(text).map(|_| text.to_owned());
    read.ok_or_else(|| "expected a duration such as 5m or 1h 30m".to_owned())
}

fn weight(text: &str) -> Result<u32, String> {
    match text.parse() {
        Ok(weight) if weight <= MOST_WEIGHT => Ok(weight),
        _ => Err(format!("expected a whole number from 0 to {MOST_WEIGHT}")),
    }
}

fn at_least_one(text: &str) -> Result<usize, String> {
    match text.parse() {
        Ok(0) | Err(_) => Err("expected a whole number from 1 on".to_owned()),
        Ok(number) => Ok(number),
    }
}

fn some_events(text: &str) -> Result<usize, String> {
    match text.parse() {
        Ok(number) if number <= MAX_EVENT_LIMIT => Ok(number),
        _ => Err(format!("expected a whole number from 0 to {MAX_EVENT_LIMIT}")),
    }
}

/// A backend by the names of its service and its own.
#[derive(Clone, Debug)]
pub struct BackendName {
    /// Name of the service.
    pub service: String,
    /// Name of the backend.
    pub backend: String,
}

impl std::str::FromStr for BackendName {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text.split_once('/') {
            Some((service, backend)) if !service.is_empty() && !backend.is_empty() => Ok(Self {
                service: service.to_owned(),
                backend: backend.to_owned(),
            }),
            _ => Err("expected SERVICE/BACKEND, such as web/w1".to_owned()),
        }
    }
}

/// Verbs of `event`.
#[derive(Debug, Subcommand)]
pub enum EventVerb {
    /// Show the last events.
    List {
        /// How many at most.
        #[arg(long, default_value_t = 100, value_parser = some_events)]
        limit: usize,
        /// Only those of this kind; can be given several times.
        #[arg(long, value_parser = kinds())]
        kind: Vec<String>,
    },
    /// Show events as they happen, until interrupted; with --json one object a line.
    Follow {
        /// Begin with so many that happened before.
        #[arg(long, default_value_t = 10, value_parser = some_events)]
        last: usize,
        /// Only those of this kind; can be given several times.
        #[arg(long, value_parser = kinds())]
        kind: Vec<String>,
    },
}

/// A packet.
#[derive(Debug, Args)]
pub struct ExplainArguments {
    /// tcp or udp.
    #[arg(value_parser = ["tcp", "udp"])]
    pub protocol: String,
    /// Where it comes from: address and port.
    #[arg(value_parser = address_and_port)]
    pub client: SocketAddr,
    /// Where it goes to: virtual address and port.
    #[arg(value_parser = address_and_port, add = ArgValueCandidates::new(complete::virtual_addresses))]
    pub virtual_address: SocketAddr,
}

/// How to reload.
#[derive(Debug, Args)]
pub struct ReloadArguments {
    /// Only show what would change.
    #[arg(long)]
    pub dry_run: bool,
}

/// Verbs of `flow`.
#[derive(Debug, Subcommand)]
pub enum FlowVerb {
    /// Show flows.
    List(FlowList),
    /// Count flows, by phase and by service.
    Count(FlowChoice),
    /// End flows; those of `nat` and `dnat` are reset at once.
    Flush(FlowFlush),
}

/// Which flows to show.
#[derive(Debug, Args)]
pub struct FlowList {
    #[command(flatten)]
    pub choice: FlowChoice,
    /// How many at most.
    #[arg(long, default_value_t = DEFAULT_FLOW_LIMIT, value_parser = at_least_one)]
    pub limit: usize,
    /// Go on where an earlier answer ended: its `cursor` in JSON.
    #[arg(long)]
    pub cursor: Option<u64>,
}

/// Which flows to end.
#[derive(Debug, Args)]
pub struct FlowFlush {
    #[command(flatten)]
    pub choice: FlowChoice,
    /// All there are, where nothing else says which.
    #[arg(long)]
    pub all: bool,
}

/// Which flows are meant.
#[derive(Debug, Default, PartialEq, Eq, Args)]
pub struct FlowChoice {
    /// Only those of this service.
    #[arg(long, add = ArgValueCandidates::new(complete::services))]
    pub service: Option<String>,
    /// Only those of this backend: SERVICE/BACKEND, its name alone, or `address:port`.
    #[arg(long, add = ArgValueCandidates::new(complete::backends))]
    pub backend: Option<String>,
    /// Only those of the client at this address.
    #[arg(long, value_parser = an_address)]
    pub client: Option<IpAddr>,
}

/// Verbs of `map`.
#[derive(Debug, Subcommand)]
pub enum MapVerb {
    /// Show all maps.
    List,
    /// Show how full all maps are, and how much memory they take.
    Stats,
    /// Show the entries of a map that are in use.
    Dump {
        /// Name of the map.
        #[arg(add = ArgValueCandidates::new(complete::map_names))]
        name: String,
        /// How many at most.
        #[arg(long, default_value_t = 1000, value_parser = at_least_one)]
        limit: usize,
    },
}

fn seconds(text: &str) -> Result<Duration, String> {
    let expected = "expected seconds from 0.1 to 86400";
    match text.parse() {
        Ok(seconds) if (0.1..=86_400.0).contains(&seconds) => Ok(Duration::from_secs_f64(seconds)),
        _ => Err(expected.to_owned()),
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
    fn help_offers_to_watch_only_what_shows_something() {
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
    fn what_the_options_expect_is_said() {
        let given_then = [
            ("service list --watch 1", "--watch=1"),
            ("service list --watch=soon", "from 0.1 to 86400"),
            ("reload --watch", "for commands that show something"),
            ("backend weight web/w1 x", "a whole number from 0 to 1000"),
            ("backend weight web/w1 1001", "a whole number from 0 to 1000"),
            ("backend drain web/w1 --deadline 5", "a duration such as 5m"),
            ("flow list --client 10.0.0.0/24", "one IPv4 or IPv6 address"),
            ("map dump BACKENDS --limit 0", "from 1 on"),
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
    fn a_file_on_the_command_line_goes_before_an_endpoint_of_the_environment() {
        let place = |is_config_given, is_endpoint_given| {
            let mut place = read("lbctl service list --endpoint http://[::1]:1").unwrap().place;
            let origin = Origin {
                is_config_given,
                is_endpoint_given,
            };
            origin.apply(&mut place);
            place.endpoint.is_some()
        };
        assert!(!place(true, false));
        assert!(place(false, false) && place(true, true));
    }
}
