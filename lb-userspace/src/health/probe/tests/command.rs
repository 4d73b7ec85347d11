//! The `command` check.

use std::{fs, os::unix::fs::PermissionsExt, path::Path, time::Instant};

use super::*;
use lb_core::config::CommandProbe;

fn shell(script: &str) -> Probe {
    Probe::Command(CommandProbe {
        argv: ["/bin/sh", "-c", script].map(str::to_owned).to_vec(),
        environment: [("MINE".to_owned(), "yes".to_owned())].into(),
        user: "nobody".to_owned(),
    })
}

const WORKER: &str = "192.0.2.7:8080";

#[tokio::test]
async fn the_exit_status_decides_about_a_command() {
    let address = WORKER.parse().unwrap();
    for (script, then) in [
        ("exit 0", "ok"),
        ("echo much; exit 0", "ok"),
        ("exit 3", "command: exit status 3"),
        (
            "echo one >&2; echo two >&2; echo >&2; exit 1",
            "command: exit status 1: two",
        ),
        ("kill -TERM $$", "command: killed by signal 15"),
        // More than a pipe holds.
        ("yes | head -c 300000 >&2; exit 0", "ok"),
        // The cause is the last line, however long the output.
        (
            "yes | head -c 300000 >&2; echo the disk is full >&2; exit 1",
            "command: exit status 1: the disk is full",
        ),
        (
            "printf '\\033[31mred\\342\\200\\256rtl' >&2; exit 3",
            "command: exit status 3:  [31mred rtl",
        ),
        (
            "test $LBD_SERVICE/$LBD_BACKEND/$LBD_ADDRESS/$LBD_PORT = web/w1/192.0.2.7/8080",
            "ok",
        ),
        (
            "test $MINE = yes && test -z \"$CARGO_PKG_NAME\" && test $(pwd) = /",
            "ok",
        ),
    ] {
        assert_eq!(result(address, shell(script)).await, then, "{script}");
    }
    let missing = |program: &Path| {
        Probe::Command(CommandProbe {
            argv: vec![program.display().to_string()],
            environment: BTreeMap::new(),
            user: "nobody".to_owned(),
        })
    };
    let found = result(address, missing(Path::new("/nonexistent/check"))).await;
    assert_eq!(found, "command: /nonexistent/check does not exist");
    let folder = tempfile::tempdir().unwrap();
    let program = folder.path().join("check");
    fs::write(&program, "#!/bin/sh\n").unwrap();
    fs::set_permissions(&program, fs::Permissions::from_mode(0o600)).unwrap();
    let found = result(address, missing(&program)).await;
    assert!(found.contains("nobody may not run "), "{found}");
}

#[tokio::test]
async fn a_command_has_no_privileges() {
    let address = WORKER.parse().unwrap();
    assert_eq!(
        result(address, shell("test $(id -u) != 0 && test $(id -g) != 0")).await,
        "ok"
    );
    assert_eq!(result(address, shell("test \"$(id -G)\" = \"$(id -g)\"")).await, "ok");
    let nothing = "grep -q '^CapEff:\t0*$' /proc/self/status && grep -q '^CapAmb:\t0*$' /proc/self/status && \
                   grep -q '^NoNewPrivs:\t1$' /proc/self/status";
    assert_eq!(result(address, shell(&nothing.replace("\\t", "\t"))).await, "ok");
}

#[tokio::test]
async fn a_command_that_exceeds_its_timeout_is_killed_with_its_children() {
    let folder = tempfile::tempdir().unwrap();
    fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o777)).unwrap();
    let pids = folder.path().join("pids");
    let script = format!("sleep 1000 & echo $! > {0}; echo $$ >> {0}; wait", pids.display());
    let found = result_within(WORKER.parse().unwrap(), shell(&script), Duration::from_secs(2)).await;
    assert_eq!(found, "timeout after 2s");
    let started = fs::read_to_string(&pids).unwrap();
    let alive = || {
        let is_alive = |pid: &str| {
            let status = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
            !status.is_empty() && !status.contains(") Z ")
        };
        started.lines().any(is_alive)
    };
    assert_eq!(started.lines().count(), 2);
    let begin = Instant::now();
    while alive() {
        assert!(begin.elapsed() < PATIENCE, "processes still run");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

#[tokio::test]
async fn processes_left_by_a_command_do_not_delay_its_result() {
    let begin = Instant::now();
    assert_eq!(
        result(WORKER.parse().unwrap(), shell("sleep 1000 & exit 0")).await,
        "ok"
    );
    assert!(begin.elapsed() < PATIENCE);
}

#[test]
fn commands_run_as_an_existing_unprivileged_user() {
    let of = |user: &str| {
        let probe = CommandProbe {
            argv: vec!["/bin/true".to_owned()],
            environment: BTreeMap::new(),
            user: user.to_owned(),
        };
        ProbeResources::load(&Probe::Command(probe))
            .map(drop)
            .map_err(|error| error.to_string())
    };
    assert_eq!(of("nobody"), Ok(()));
    assert_eq!(
        of("nosuchuser"),
        Err("the user \"nosuchuser\" does not exist on this machine".to_owned())
    );
}
