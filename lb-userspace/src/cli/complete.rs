//! Completions of shells: scripts that ask `lbctl` itself, which asks the running daemon for names. Whatever is in the
//! way, nothing is completed and nothing is said; and nobody who presses a key waits longer than for a blink.

use std::{collections::BTreeSet, env, ffi::OsString, io, time::Duration};

use clap::CommandFactory;
use clap_complete::{
    Shell,
    engine::CompletionCandidate,
    env::{EnvCompleter, Zsh},
};
use lb_common::maps;

use super::{
    args::{Arguments, Place},
    commands,
};
use crate::admin::model::{BackendStatus, ServiceStatus};

/// The variable by which a shell asks for completions; its value is the shell.
const ASKED: &str = "COMPLETE";
/// How long the daemon may take.
const PATIENCE: Duration = Duration::from_millis(250);

/// Answers a shell that asks for completions. Says whether one did.
pub fn complete_if_asked() -> bool {
    let complete = clap_complete::CompleteEnv::with_factory(Arguments::definition).var(ASKED);
    // Where the words make no sense there is nothing to complete, and nobody to tell.
    let folder = env::current_dir().ok();
    env::var_os(ASKED).is_some() && complete.try_complete(env::args_os(), folder.as_deref()).unwrap_or(true)
}

/// Writes the script for a shell; `None` for a shell that gets a script without names.
pub(super) fn script(shell: Shell) -> Option<Vec<u8>> {
    let mut script = Vec::new();
    match shell {
        Shell::Bash => script.extend_from_slice(BASH.as_bytes()),
        Shell::Zsh => {
            Zsh.write_registration(ASKED, "lbctl", "lbctl", "lbctl", &mut script)
                .ok()?;
            script.extend_from_slice(ZSH_AUTOLOADED.as_bytes());
        }
        Shell::Fish => script.extend_from_slice(FISH.as_bytes()),
        _ => return None,
    }
    Some(script)
}

/// Bash breaks words at `:` and `=`, which are in names of backends: they are put together again here.
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

/// A file in `fpath` is the function itself when it is loaded: it has to complete the first time too.
const ZSH_AUTOLOADED: &str = r#"
if [[ ${funcstack[1]} == _lbctl ]]; then
    _clap_dynamic_completer_lbctl "$@"
fi
"#;

/// The word before the cursor is what is completed, also where there is none.
const FISH: &str = r#"complete --keep-order --exclusive --command lbctl --arguments "(COMPLETE=fish lbctl -- (commandline --current-process --tokenize --cut-at-cursor) (commandline --current-token --cut-at-cursor) 2>/dev/null)"
"#;

/// Names of services.
pub(super) fn services() -> Vec<CompletionCandidate> {
    let services: Vec<ServiceStatus> = ask("/v1/services");
    let candidate = |service: ServiceStatus| {
        let at = std::net::SocketAddr::new(service.address, service.port);
        CompletionCandidate::new(service.name).help(Some(format!("{at} {}", service.protocol).into()))
    };
    services.into_iter().map(candidate).collect()
}

/// Backends as SERVICE/BACKEND.
pub(super) fn targets() -> Vec<CompletionCandidate> {
    ask("/v1/backends").into_iter().map(target).collect()
}

fn target(backend: BackendStatus) -> CompletionCandidate {
    CompletionCandidate::new(format!("{}/{}", backend.service, backend.name)).help(Some(backend.state.into()))
}

/// Backends by their names alone, and as SERVICE/BACKEND.
pub(super) fn backends() -> Vec<CompletionCandidate> {
    let backends: Vec<BackendStatus> = ask("/v1/backends");
    let names: BTreeSet<String> = backends.iter().map(|backend| backend.name.clone()).collect();
    let names = names.into_iter().map(CompletionCandidate::new);
    names.chain(backends.into_iter().map(target)).collect()
}

/// Virtual addresses with their ports.
pub(super) fn virtual_addresses() -> Vec<CompletionCandidate> {
    let services: Vec<ServiceStatus> = ask("/v1/services");
    let candidate = |service: ServiceStatus| {
        let at = std::net::SocketAddr::new(service.address, service.port);
        CompletionCandidate::new(at.to_string()).help(Some(service.name.into()))
    };
    services.into_iter().map(candidate).collect()
}

/// Names of maps, which are known without the daemon.
pub(super) fn map_names() -> Vec<CompletionCandidate> {
    let candidate = |map: &maps::Map| CompletionCandidate::new(map.name).help(Some(map.help.into()));
    maps::ALL.iter().map(candidate).collect()
}

/// The daemon's answer, or nothing.
fn ask<T: serde::de::DeserializeOwned>(path: &str) -> Vec<T> {
    let Some(place) = place(env::args_os().collect()) else {
        return Vec::new();
    };
    let Ok(runtime) = tokio::runtime::Builder::new_current_thread().enable_all().build() else {
        return Vec::new();
    };
    let answer = runtime.block_on(async {
        let asked = async { commands::client(&place).await.ok()?.get(path).await.ok() };
        tokio::time::timeout(PATIENCE, asked).await.ok().flatten()
    });
    // A name that is being resolved is not waited for.
    runtime.shutdown_background();
    answer.unwrap_or_default()
}

/// Which node is meant by the words so far, which need not be a whole command.
fn place(arguments: Vec<OsString>) -> Option<Place> {
    let words = arguments.into_iter().skip_while(|word| word != "--").skip(1);
    let command = Arguments::command().ignore_errors(true);
    Place::of(command.try_get_matches_from(words).ok()?)
}

/// Writes the script without names, made for what the command line can be.
pub(super) fn static_script(shell: Shell) -> io::Result<Vec<u8>> {
    // Into memory first: the generator does not survive a reader who has gone.
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut Arguments::definition(), "lbctl", &mut script);
    Ok(script)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_node_is_that_of_the_words_so_far() {
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
