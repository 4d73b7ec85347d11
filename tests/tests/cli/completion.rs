//! Completions, by the shells themselves: keys are typed at a terminal, and what the shell makes of
//! them is read.

use std::{
    io::{Read, Write},
    process::{Child, ChildStdin, Command, Stdio},
    sync::{Arc, Mutex},
    thread,
    time::Instant,
};

use harness::{
    config::{Config, Service},
    lab::{Lab, virtual_addresses},
    lbd::{Lbd, binary},
    tools,
    wait::{PATIENCE, until},
};

/// A shell at a terminal of its own.
struct Shell {
    process: Child,
    keys: ChildStdin,
    screen: Arc<Mutex<String>>,
}

impl Shell {
    /// Starts it with the completions of `lbctl`, and waits for its prompt.
    fn start(lab: &Lab, command: &str, setup: &str) -> Self {
        let folder = binary("lbctl").unwrap().parent().unwrap().to_owned();
        let path = format!("{}:{}", folder.display(), std::env::var("PATH").unwrap());
        let mut script = lab.balancers[0].namespace.command("script");
        script
            .args(["-qec", command, "/dev/null"])
            .env("PATH", path)
            .env("TERM", "dumb")
            .env("HOME", lab.directory());
        let mut process = script.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        let keys = process.stdin.take().unwrap();
        let mut output = process.stdout.take().unwrap();
        let screen = Arc::new(Mutex::new(String::new()));
        let shared = Arc::clone(&screen);
        thread::spawn(move || {
            let mut bytes = [0; 4096];
            while let Ok(read @ 1..) = output.read(&mut bytes) {
                shared
                    .lock()
                    .unwrap()
                    .push_str(&String::from_utf8_lossy(&bytes[..read]));
            }
        });
        let mut shell = Self { process, keys, screen };
        // In two parts, so that the echo of the line is not taken for what it prints.
        shell.type_keys(&format!("{setup}; echo rea''dy\n"));
        shell.await_text("ready");
        shell
    }

    fn type_keys(&mut self, keys: &str) {
        self.keys.write_all(keys.as_bytes()).unwrap();
        self.keys.flush().unwrap();
    }

    fn screen(&self) -> String {
        // Without the bell that rings when there is nothing to complete.
        self.screen.lock().unwrap().replace('\x07', "")
    }

    #[track_caller]
    fn await_text(&self, text: &str) {
        let shown = until(PATIENCE, || self.screen().contains(text));
        assert!(shown, "{text:?} is not on the screen:\n{}", self.screen());
    }
}

impl Drop for Shell {
    fn drop(&mut self) {
        let _ = self.keys.write_all(b"\x15exit\n");
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

fn config(lab: &Lab) -> Config {
    let [v4, v6] = virtual_addresses(0);
    let mut web = Service::http(lab, "web", v4);
    // The name that a backend without one has.
    web.backends[0].0 = web.backends[0].1.to_string();
    Config::new(lab, "one").with(web).with(Service::http(lab, "mail", v6))
}

#[test]
fn bash_completes_names_of_the_running_daemon() {
    let lab = Lab::new().unwrap();
    let mut lbd = Lbd::start(&lab.balancers[0], config(&lab)).unwrap();
    let socket = lbd.config().socket.display().to_string();
    let mut shell = Shell::start(&lab, "bash --norc -i", "source <(lbctl completion bash)");
    shell.type_keys(&format!("lbctl --socket {socket} service show w\t"));
    shell.await_text("service show web ");
    shell.type_keys(&format!("\x15lbctl --socket {socket} backend drain mail/worker-2\t"));
    shell.await_text("drain mail/worker-2 ");
    let address = lbd.config().services[0].backends[0].0.clone();
    let (host, port) = address.split_once(':').unwrap();
    // Within the part that bash takes for a word of its own, and before it.
    shell.type_keys(&format!(
        "\x15lbctl --socket {socket} backend undrain web/{host}:{}\t",
        &port[..1]
    ));
    shell.await_text(&format!("undrain web/{address} "));
    shell.type_keys(&format!(
        "\x15lbctl --socket={socket} flow list --backend={}\t",
        &host[..4]
    ));
    shell.await_text(&format!("--backend={address} "));
    shell.type_keys("\x15lbctl event list --kind backend-d\t");
    shell.await_text("--kind backend-down ");

    // Without a daemon nothing is completed, nothing is said, and the rest still is.
    lbd.terminate().unwrap();
    shell.type_keys(&format!("\x15lbctl --socket {socket} service list --js\t"));
    shell.await_text("service list --json ");
    shell.type_keys(&format!("\x15lbctl --socket {socket} service show w\tEND"));
    shell.await_text("service show wEND");
    let screen = shell.screen();
    assert!(!screen.contains("cannot reach"), "{screen}");
}

#[test]
fn zsh_and_fish_complete_names_too() {
    tools::require(&["zsh", "fish"]).unwrap();
    let lab = Lab::new().unwrap();
    let lbd = Lbd::start(&lab.balancers[0], config(&lab)).unwrap();
    let socket = lbd.config().socket.display().to_string();
    let address = lbd.config().services[0].backends[0].0.clone();
    let (host, _) = address.split_once(':').unwrap();
    // As a package installs it: in a folder of functions that are loaded when they are needed.
    let setup = "mkdir ~/functions; lbctl completion zsh > ~/functions/_lbctl; fpath=(~/functions $fpath); \
                 autoload -U compinit; compinit -u -D";
    let mut shell = Shell::start(&lab, "zsh -f -i", setup);
    shell.type_keys(&format!("lbctl --socket {socket} service show w\t"));
    shell.await_text("service show web ");
    shell.type_keys(&format!("\x15lbctl --socket {socket} backend drain web/{host}\t"));
    // Whether it quotes the colon is up to it.
    let shown = until(PATIENCE, || {
        shell
            .screen()
            .replace('\\', "")
            .contains(&format!("drain web/{address}"))
    });
    assert!(shown, "{}", shell.screen());

    let folder = binary("lbctl").unwrap().parent().unwrap().display().to_string();
    let asked = |line: &str| {
        let script = format!("set PATH {folder} $PATH; lbctl completion fish | source; complete -C '{line}'");
        let mut fish = lab.balancers[0].namespace.command("fish");
        fish.args(["--no-config", "-c", &script]).env("HOME", lab.directory());
        tools::output(&mut fish).unwrap()
    };
    let services = asked(&format!("lbctl --socket {socket} service show "));
    let names: Vec<_> = services.lines().filter_map(|line| line.split('\t').next()).collect();
    assert!(names.contains(&"web") && names.contains(&"mail"), "{services}");
    let targets = asked(&format!("lbctl --socket {socket} backend drain web/"));
    assert!(targets.contains(&format!("web/{address}")), "{targets}");
}

#[test]
fn files_are_completed_from_the_folder_on() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("lbd.toml"), "").unwrap();
    let mut command = Command::new(binary("lbctl").unwrap());
    command
        .args(["--", "lbctl", "--config", "lbd.t"])
        .env("COMPLETE", "fish");
    let completed = tools::output(command.current_dir(folder.path())).unwrap();
    assert_eq!(completed.trim(), "lbd.toml");
}

#[test]
fn a_daemon_that_hangs_holds_no_shell_up() {
    let lab = Lab::new().unwrap();
    let lbd = Lbd::start(&lab.balancers[0], config(&lab)).unwrap();
    let id = lbd.id().unwrap().to_string();
    let signal = |name: &str| assert!(Command::new("kill").args([name, &id]).status().unwrap().success());
    signal("-STOP");
    let begin = Instant::now();
    let mut command = lab.balancers[0]
        .namespace
        .command(binary("lbctl").unwrap().to_str().unwrap());
    command
        .args(["--", "lbctl", "--socket"])
        .arg(&lbd.config().socket)
        .args(["service", "show", "w"])
        .env("COMPLETE", "fish");
    let output = command.output().unwrap();
    let took = begin.elapsed();
    signal("-CONT");
    assert_eq!((output.stdout.as_slice(), output.stderr.as_slice()), (&[][..], &[][..]));
    // It stops waiting after a quarter of a second; the rest is for a busy machine.
    assert!(took.as_secs() < 20, "{took:?}");
}
