//! Checks that this machine has what a configuration names: files, programs, users and groups.
//!
//! What is missing is reported as a diagnostic of the file, with line and column.

use std::{fs, os::unix::fs::PermissionsExt as _, path::Path};

use crate::{
    admin,
    health::{self, ProbeResourcesError, TargetError, Targets},
    system::command,
};
use lb_core::{
    config::{BackendId, Config, ConfigError, Probe, Table, Tracked, UnusableReference},
    reload::Source,
};

/// Resolves the references of a configuration. Returns the targets of its health checks.
///
/// # Errors
///
/// The first reference that cannot be used.
pub fn check(source: &Source) -> Result<Targets, ConfigError> {
    let unusable = |reference| source.unusable(reference);
    programs(&source.config).map_err(unusable)?;
    let targets = health::targets(&source.config).map_err(|error| unusable(reference(&source.config, &error)))?;
    admin::check(&source.config.api).map_err(unusable)?;
    Ok(targets)
}

/// Warnings, one sentence each: valid settings that may not work as expected, and missing programs
/// of virtual routers. Virtual routers work without these programs, which may be installed later.
pub fn warnings(config: &Config) -> Vec<String> {
    let mut all = config.warnings();
    for router in &config.vrrp {
        let tracks = router.tracks.iter().filter_map(|track| match &track.what {
            Tracked::Command(track) => Some(("track", &track.command, false)),
            Tracked::Interface(_) | Tracked::Service { .. } | Tracked::File { .. } => None,
        });
        let hook = router.hook.iter().map(|hook| ("hook", &hook.command, true));
        for (what, command, may_be_root) in tracks.chain(hook) {
            let program = command.argv.first().map_or("", String::as_str);
            let wrong = no_program(Path::new(program)).map(|wrong| format!("{program} {wrong}"));
            let wrong = wrong.or_else(|| Some(command::user(&command.user, may_be_root).err()?.to_string()));
            all.extend(wrong.map(|wrong| format!("virtual router {}: {what}: {wrong}", router.name)));
        }
    }
    all
}

/// Checks that the programs of health checks exist.
fn programs(config: &Config) -> Result<(), UnusableReference> {
    for service in &config.services {
        for backend in &service.backends {
            let Some(Probe::Command(command)) = backend.health.as_ref().map(|check| &check.probe) else {
                continue;
            };
            let program = command.argv.first().map_or("", String::as_str);
            if let Some(wrong) = no_program(Path::new(program)) {
                let table = Table::Check {
                    service: service.name.clone(),
                    backend: backend.name.clone(),
                };
                return Err(UnusableReference {
                    table,
                    key: "argv",
                    message: format!("{program} {wrong}"),
                    expected: "an executable program and its arguments".to_owned(),
                });
            }
        }
    }
    Ok(())
}

/// Why a file cannot be run. `None`: it is executable.
fn no_program(path: &Path) -> Option<String> {
    match fs::metadata(path) {
        Err(error) => Some(format!("cannot be run: {error}")),
        Ok(found) if !found.is_file() => Some("is not a program".to_owned()),
        Ok(found) if found.permissions().mode() & 0o111 == 0 => Some("is not executable".to_owned()),
        Ok(_) => None,
    }
}

/// The reference that a target error is about.
fn reference(config: &Config, TargetError { id, cause }: &TargetError) -> UnusableReference {
    let with = |key, message: String, expected: &str| UnusableReference {
        table: Table::Check {
            service: id.service.clone(),
            backend: id.backend.clone(),
        },
        key,
        message,
        expected: expected.to_owned(),
    };
    match cause {
        ProbeResourcesError::NoRoots => with(
            "type",
            "this system has no trusted certificates".to_owned(),
            "`ca_file`, or `verify` = false",
        ),
        ProbeResourcesError::User(error) => with("user", error.to_string(), "an unprivileged user of this machine"),
        ProbeResourcesError::Unreadable { path, .. } | ProbeResourcesError::Wrong { path, .. } => {
            let (key, expected) = named(config, id, path);
            with(key, cause.to_string(), expected)
        }
    }
}

/// The key of a health check that names `path`, and what the file should contain.
fn named(config: &Config, id: &BackendId, path: &Path) -> (&'static str, &'static str) {
    let service = config.services.iter().find(|service| service.name == id.service);
    let mut backends = service.into_iter().flat_map(|service| &service.backends);
    let check = backends
        .find(|backend| backend.name == id.backend)
        .and_then(|backend| backend.health.as_ref());
    let tls = check.and_then(|check| check.probe.tls());
    let identity = tls.and_then(|tls| tls.identity.as_ref());
    match identity {
        Some(identity) if identity.key == path => ("key", "a PEM file with the private key of the certificate"),
        Some(identity) if identity.certificate == path => ("certificate", "a PEM file with a certificate chain"),
        _ => ("ca_file", "a PEM file with certificates to trust"),
    }
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use super::*;

    /// Line, column and message of the problem of a health check with these keys.
    fn refused(keys: &str) -> Option<(usize, usize, String)> {
        let text = format!(
            "[node]\nname = \"a\"\ninterfaces = [\"eth0\"]\n[[service]]\nname = \"web\"\naddress = \"192.0.2.1\"\n\
             port = 443\n[service.health]\n{keys}\n[[service.backend]]\naddress = \"198.51.100.1\"\n"
        );
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("lbd.toml");
        fs::write(&file, text).unwrap();
        let error = check(&crate::system::config_file::load_source(&file).unwrap()).err()?;
        let [found] = error.diagnostics() else {
            panic!("{error}")
        };
        Some((found.line, found.column, found.message.clone()))
    }

    #[test]
    fn unusable_references_of_health_checks_are_reported_at_their_place() {
        let folder = tempfile::tempdir().unwrap();
        let file = |name: &str| -> PathBuf {
            let path = folder.path().join(name);
            fs::write(&path, "text").unwrap();
            path
        };
        let text = file("text").display().to_string();
        let given_then = [
            (
                "type = \"command\"\nargv = [\"/nope\"]".to_owned(),
                (10, 8),
                "/nope cannot be run",
            ),
            (
                format!("type = \"command\"\nargv = [\"{text}\"]"),
                (10, 8),
                "is not executable",
            ),
            (
                "type = \"command\"\nargv = [\"/\"]".to_owned(),
                (10, 8),
                "is not a program",
            ),
            (
                "type = \"https\"\nca_file = \"/nope\"".to_owned(),
                (10, 11),
                "cannot read /nope",
            ),
            (
                format!("type = \"https\"\nca_file = \"{text}\""),
                (10, 11),
                "contains no certificate in PEM",
            ),
            (
                format!("type = \"https\"\nverify = false\nkey = \"{text}\"\ncertificate = \"/nope\""),
                (12, 15),
                "cannot read /nope",
            ),
        ];
        for (keys, (line, column), words) in given_then {
            let found = refused(&keys).unwrap_or_else(|| panic!("{keys} is taken"));
            assert_eq!((found.0, found.1), (line, column), "{found:?}");
            assert!(found.2.contains(words), "{found:?}");
        }
        assert_eq!(
            refused("type = \"command\"\nargv = [\"/bin/sh\"]\nuser = \"nobody\""),
            None
        );
    }

    #[test]
    fn missing_programs_of_virtual_routers_are_warnings() {
        let router = "[node]\nname = \"a\"\ninterfaces = [\"eth0\"]\n[[vrrp]]\nname = \"v\"\ninterface = \"eth0\"\n\
                      router_id = 1\naddresses = [\"192.0.2.10/24\"]\n";
        let given_then = [
            (
                "[[vrrp.track]]\nargv = [\"/nope\"]\n",
                Some("virtual router v: track: /nope cannot be run"),
            ),
            (
                "[[vrrp.track]]\nargv = [\"/bin/sh\"]\nuser = \"nosuch\"\n",
                Some("nosuch"),
            ),
            (
                "[vrrp.hook]\nargv = [\"/bin\"]\n",
                Some("virtual router v: hook: /bin is not a program"),
            ),
            ("[vrrp.hook]\nargv = [\"/bin/true\"]\nuser = \"root\"\n", None),
        ];
        for (tables, then) in given_then {
            let config = lb_core::config::parse("lbd.toml", &format!("{router}{tables}")).unwrap();
            let found = warnings(&config);
            assert_eq!(found.len(), usize::from(then.is_some()), "{tables}: {found:?}");
            assert!(
                found.iter().zip(then).all(|(found, then)| found.contains(then)),
                "{found:?}"
            );
        }
    }
}
