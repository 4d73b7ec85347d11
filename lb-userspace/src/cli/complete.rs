//! Shell completions: scripts that ask `lbctl`, which asks the running daemon for names.
//!
//! Any error yields no candidates and no message. The daemon has 250 ms to answer, so a key press
//! never waits longer.

use std::{collections::BTreeSet, env, ffi::OsString, io, time::Duration};

use clap::{Command, CommandFactory};
use clap_complete::{
    Shell,
    engine::{ArgValueCandidates, CompletionCandidate},
    env::{EnvCompleter, Zsh},
};
use lb_common::maps;

use super::{
    args::{Arguments, Place},
    locate,
};
use crate::api::{BackendStatus, ServiceStatus};

/// The environment variable that a shell sets when it asks for completions; its value names the
/// shell.
const ASKED: &str = "COMPLETE";
/// Longest time that the daemon may take.
const PATIENCE: Duration = Duration::from_millis(250);

/// Answers a shell that asks for completions. Returns whether one asked.
pub fn complete_if_asked() -> bool {
    let complete = clap_complete::CompleteEnv::with_factory(definition).var(ASKED);
    // An error means that the words are no command line: there is nothing to complete.
    let folder = env::current_dir().ok();
    env::var_os(ASKED).is_some() && complete.try_complete(env::args_os(), folder.as_deref()).unwrap_or(true)
}

/// The command line with the candidates that the daemon knows.
fn definition() -> Command {
    let mut command = Arguments::definition();
    add_candidates(&mut command);
    command
}

/// Adds candidates to the arguments of all subcommands, by the names of the arguments.
fn add_candidates(command: &mut Command) {
    for below in command.get_subcommands_mut() {
        add_candidates(below);
    }
    let noun = command
        .get_bin_name()
        .and_then(|name| name.split(' ').nth(1))
        .unwrap_or_default();
    let noun = noun.to_owned();
    *command = std::mem::take(command).mut_args(|arg| {
        let candidates = match (noun.as_str(), arg.get_id().as_str()) {
            ("service", "name") | ("backend" | "flow", "service") => services,
            ("backend", "target") => targets,
            ("flow", "backend") => backends,
            ("explain", "virtual_address") => virtual_addresses,
            ("map", "name") => map_names,
            _ => return arg,
        };
        arg.add(ArgValueCandidates::new(candidates))
    });
}

/// The completion script of a shell. A static one asks nobody; some shells have only that.
pub(super) fn script(shell: Shell, is_static: bool) -> io::Result<Vec<u8>> {
    let mut script = Vec::new();
    match shell {
        _ if is_static => return static_script(shell),
        Shell::Bash => script.extend_from_slice(BASH.as_bytes()),
        Shell::Zsh => {
            Zsh.write_registration(ASKED, "lbctl", "lbctl", "lbctl", &mut script)?;
            script.extend_from_slice(ZSH_AUTOLOADED.as_bytes());
        }
        Shell::Fish => script.extend_from_slice(FISH.as_bytes()),
        _ => return static_script(shell),
    }
    Ok(script)
}

/// The script that `clap` generates. It knows the command line, but no names of services and
/// backends.
fn static_script(shell: Shell) -> io::Result<Vec<u8>> {
    // Into memory first: the generator panics when it cannot write.
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut Arguments::definition(), "lbctl", &mut script);
    Ok(script)
}

/// Bash splits words at `:` and `=`, which occur in names of backends. This script joins them
/// again.
const BASH: &str = r#"_lbctl() {
    local IFS=$'\013' i word rest=$COMP_LINE words=() current prefix
    for ((i = 0; i <= COMP_CWORD; i++)); do
        word=${COMP_WORDS[i]}
        if [[ $i == 0 || $rest == [[:blank:]]* ]]; then
            rest=${rest#"${rest%%[![:blank:]]*}"}
            words+=("")
        fi
        rest=${rest#"$word"}
        if [[ $i == "$COMP_CWORD" && $word != [:=]* ]]; then
            word=$2
        fi
        words[${#words[@]}-1]+=$word
    done
    COMPREPLY=($(COMPLETE=bash _CLAP_IFS=$IFS _CLAP_COMPLETE_INDEX=$((${#words[@]} - 1)) \
        "${COMP_WORDS[0]}" -- "${words[@]}" 2>/dev/null)) || COMPREPLY=()
    current=${words[${#words[@]}-1]}
    prefix=${current%"${current##*[:=]}"}
    for i in "${!COMPREPLY[@]}"; do
        COMPREPLY[i]=${COMPREPLY[i]#"$prefix"}
    done
    if [[ ${COMPREPLY-} == *[=/] ]]; then
        compopt -o nospace 2>/dev/null
    fi
}
complete -o bashdefault -F _lbctl lbctl
"#;

/// Zsh loads a file in `fpath` as the function itself, so the file completes the first time too.
const ZSH_AUTOLOADED: &str = r#"
if [[ ${funcstack[1]} == _lbctl ]]; then
    _clap_dynamic_completer_lbctl "$@"
fi
"#;

/// Completes the word before the cursor, also an empty one.
const FISH: &str = r#"complete --keep-order --exclusive --command lbctl --arguments "(COMPLETE=fish lbctl -- (commandline --current-process --tokenize --cut-at-cursor) (commandline --current-token --cut-at-cursor) 2>/dev/null)"
"#;

/// Names of services.
fn services() -> Vec<CompletionCandidate> {
    let services: Vec<ServiceStatus> = ask("/v1/services");
    let candidate = |service: ServiceStatus| {
        let at = std::net::SocketAddr::new(service.address, service.port);
        CompletionCandidate::new(service.name).help(Some(format!("{at} {}", service.protocol).into()))
    };
    services.into_iter().map(candidate).collect()
}

/// Backends as SERVICE/BACKEND.
fn targets() -> Vec<CompletionCandidate> {
    ask("/v1/backends").into_iter().map(target).collect()
}

fn target(backend: BackendStatus) -> CompletionCandidate {
    CompletionCandidate::new(format!("{}/{}", backend.service, backend.name)).help(Some(backend.state.into()))
}

/// Backends by name, and as SERVICE/BACKEND.
fn backends() -> Vec<CompletionCandidate> {
    let backends: Vec<BackendStatus> = ask("/v1/backends");
    let names: BTreeSet<String> = backends.iter().map(|backend| backend.name.clone()).collect();
    let names = names.into_iter().map(CompletionCandidate::new);
    names.chain(backends.into_iter().map(target)).collect()
}

/// Virtual addresses with their ports.
fn virtual_addresses() -> Vec<CompletionCandidate> {
    let services: Vec<ServiceStatus> = ask("/v1/services");
    let candidate = |service: ServiceStatus| {
        let at = std::net::SocketAddr::new(service.address, service.port);
        CompletionCandidate::new(at.to_string()).help(Some(service.name.into()))
    };
    services.into_iter().map(candidate).collect()
}

/// Names of maps. They need no daemon.
fn map_names() -> Vec<CompletionCandidate> {
    let candidate = |map: &maps::Map| CompletionCandidate::new(map.name).help(Some(map.help.into()));
    maps::ALL.iter().map(candidate).collect()
}

/// The response of the daemon; empty if there is none.
fn ask<T: serde::de::DeserializeOwned>(path: &str) -> Vec<T> {
    let Some(place) = place(env::args_os().collect()) else {
        return Vec::new();
    };
    let Ok(runtime) = tokio::runtime::Builder::new_current_thread().enable_all().build() else {
        return Vec::new();
    };
    let answer = runtime.block_on(async {
        let asked = async { locate::client(&place).await.ok()?.get(path).await.ok() };
        tokio::time::timeout(PATIENCE, asked).await.ok().flatten()
    });
    // Does not wait for a host name that is still being resolved.
    runtime.shutdown_background();
    answer.unwrap_or_default()
}

/// The node that the words so far mean. They need not be a complete command.
fn place(arguments: Vec<OsString>) -> Option<Place> {
    let words = arguments.into_iter().skip_while(|word| word != "--").skip(1);
    let command = Arguments::command().ignore_errors(true);
    Place::of(command.try_get_matches_from(words).ok()?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_node_is_read_from_the_words_so_far() {
        let place = |words: &str| {
            let words = words.split(' ').map(OsString::from).collect();
            super::place(words).map(|place| (place.socket, place.config))
        };
        let default = || Some("/etc/lbd/lbd.toml".into());
        let given_then: [(&str, Option<&str>); 5] = [
            ("lbctl -- lbctl backend drain we", None),
            ("lbctl -- lbctl --socket /s backend drain", Some("/s")),
            ("lbctl -- lbctl backend --socket=/s drain", Some("/s")),
            ("lbctl -- lbctl flow list --socket /s --service", Some("/s")),
            ("lbctl -- lbctl nonsense --socket /s", Some("/s")),
        ];
        for (words, socket) in given_then {
            let Some((found, config)) = place(words) else {
                assert_eq!(socket, None, "{words}");
                continue;
            };
            assert_eq!(Some(config), default(), "{words}");
            if !words.contains("nonsense") {
                assert_eq!(found, socket.map(Into::into), "{words}");
            }
        }
    }
}
