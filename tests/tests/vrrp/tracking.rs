//! Tracks change priority and health of virtual routers, and hooks run on every change of role.

use std::{fs, os::unix::fs::PermissionsExt as _, path::Path, time::Duration};

use harness::{
    config::QUICK_HTTP_CHECK,
    floating::{self, await_roles, await_service, config, roles},
    lab::Lab,
    lbd::Lbd,
    wait::{PATIENCE, eventually},
    worker::Worker,
};

const FAST: &str = "interval = \"100ms\"\ngroup = \"edge\"\n";

/// Two balancers, of which the first one is better and depends on something.
fn pair<'a>(lab: &'a Lab, tracks: &str) -> [Lbd<'a>; 2] {
    let mut own = config(lab, 0, 200, &format!("{FAST}{tracks}"));
    for service in &mut own.services {
        QUICK_HTTP_CHECK.clone_into(&mut service.health);
    }
    let first = Lbd::start(&lab.balancers[0], own).unwrap();
    await_roles(&first, "master");
    let second = floating::balancer(lab, 1, 100, FAST).unwrap();
    await_roles(&second, "backup");
    [first, second]
}

fn effective(lbd: &Lbd<'_>) -> u64 {
    lbd.lbctl(&["vrrp", "status"]).unwrap()[0]["effective_priority"]
        .as_u64()
        .unwrap()
}

#[test]
fn a_service_that_loses_its_quorum_takes_the_addresses_along() {
    let lab = floating::lab(2);
    let mut workers = Worker::all(&lab);
    let all = workers.len();
    let [first, second] = pair(
        &lab,
        &format!("[[vrrp.track]]\nservice = \"v4\"\nquorum = {all}\nweight = -150\n"),
    );
    assert_eq!(effective(&first), 200);
    workers[all - 1].kill();
    await_roles(&second, "master");
    await_roles(&first, "backup");
    assert_eq!(effective(&first), 50);
    let status = first.lbctl(&["vrrp", "status"]).unwrap();
    let track = &status[1]["tracks"][0];
    assert_eq!(
        (&track["what"], &track["up"]),
        (&"service v4".into(), &false.into()),
        "{status}"
    );
    assert!(
        track["cause"].as_str().unwrap().contains("required backends up"),
        "{track}"
    );
    workers[all - 1].revive().unwrap();
    await_roles(&first, "master");
    await_service(&lab);
}

#[test]
fn an_interface_that_goes_down_is_a_fault_without_a_weight() {
    let lab = floating::lab(2);
    let _workers = Worker::all(&lab);
    let uplink = &lab.balancers[0].namespace;
    uplink
        .ip("link add uplink type veth peer name beyond\nlink set uplink up\nlink set beyond up")
        .unwrap();
    let [first, second] = pair(&lab, "[[vrrp.track]]\ninterface = \"uplink\"\n");
    uplink.ip("link set beyond down").unwrap();
    await_roles(&first, "fault");
    await_roles(&second, "master");
    eventually(PATIENCE, "it has no address any more", || {
        floating::has_addresses(&lab, 0).unwrap() == [false; 2]
    });
    let status = first.lbctl(&["vrrp", "status"]).unwrap().to_string();
    assert!(status.contains("interface uplink is down"), "{status}");
    uplink.ip("link set beyond up").unwrap();
    await_roles(&first, "master");
    await_service(&lab);
}

#[test]
fn a_master_stays_when_it_depends_on_something_more_that_is_up() {
    let lab = floating::lab(2);
    let _workers = Worker::all(&lab);
    let [mut first, second] = pair(&lab, "");
    let slow = "argv = [\"/bin/sleep\", \"0.3\"]\ninterval = \"10s\"\ntimeout = \"10s\"\n";
    let tracks = format!("[[vrrp.track]]\ninterface = \"lo\"\n[[vrrp.track]]\n{slow}");
    first
        .reconfigure(|config| config.node_keys = floating::routers(200, &format!("{FAST}{tracks}")))
        .unwrap();
    first.lbctl(&["reload"]).unwrap();
    eventually(PATIENCE, "all is looked at", || {
        let status = first.lbctl(&["vrrp", "status"]).unwrap();
        let tracks = status[0]["tracks"].as_array().cloned().unwrap_or_default();
        tracks.len() == 2 && tracks.iter().all(|track| track["down"].is_null())
    });
    std::thread::sleep(Duration::from_secs(1));
    let events = |lbd: &Lbd<'_>, kind: &str| {
        let events = lbd.lbctl(&["event", "list", "--kind", kind]).unwrap();
        events["events"].as_array().unwrap().len()
    };
    assert_eq!(
        (events(&first, "vrrp-fault"), events(&second, "vrrp-master")),
        (0, 0),
        "{}",
        first.log()
    );
}

#[test]
fn files_and_commands_count_with_either_sign() {
    let lab = floating::lab(2);
    let _workers = Worker::all(&lab);
    let (flag, good) = (lab.directory().join("flag"), lab.directory().join("good"));
    fs::write(&good, "").unwrap();
    fs::set_permissions(lab.directory(), fs::Permissions::from_mode(0o755)).unwrap();
    let tracks = format!(
        "[[vrrp.track]]\nfile = \"{}\"\nexpect = \"absent\"\nweight = -120\n\
         [[vrrp.track]]\nargv = [\"/usr/bin/test\", \"-e\", \"{}\"]\ninterval = \"1s\"\ntimeout = \"1s\"\nfall = 2\nweight = 20\n",
        flag.display(),
        good.display()
    );
    let [first, second] = pair(&lab, &tracks);
    let adds = harness::wait::until(PATIENCE, || effective(&first) == 220);
    assert!(adds, "{}", first.lbctl(&["vrrp", "status"]).unwrap());
    fs::write(&flag, "").unwrap();
    eventually(PATIENCE, "the file is seen", || effective(&first) == 100);
    fs::remove_file(&good).unwrap();
    await_roles(&second, "master");
    // Both virtual routers run the command, each in its own time.
    eventually(PATIENCE, "both see that the command fails", || {
        let status = first.lbctl(&["vrrp", "status"]).unwrap();
        let mut routers = status.as_array().unwrap().iter();
        routers.all(|router| router["tracks"][1]["up"] == false)
    });
    assert_eq!(effective(&first), 80);
    fs::remove_file(&flag).unwrap();
    await_roles(&first, "master");
    assert_eq!(effective(&first), 200);
    let events = first
        .lbctl(&["event", "list", "--kind", "vrrp-priority-changed"])
        .unwrap();
    let events = events["events"].as_array().unwrap().iter();
    let of_v4 = events.filter(|event| event["vrrp"] == "v4");
    let causes: Vec<_> = of_v4.map(|event| event["cause"].as_str().unwrap()).collect();
    for cause in [
        format!("100, was 220: file {} exists", flag.display()),
        "80, was 100: command /usr/bin/test: exit status 1".to_owned(),
        format!("200, was 80: file {} is up", flag.display()),
    ] {
        assert!(causes.contains(&&*cause), "{cause} is not among {causes:?}");
    }
    // A reload takes other tracks, and does not give the addresses up for it.
    let mut first = first;
    first
        .reconfigure(|config| config.node_keys = floating::routers(200, FAST))
        .unwrap();
    first.lbctl(&["reload"]).unwrap();
    fs::write(&flag, "").unwrap();
    std::thread::sleep(std::time::Duration::from_secs(1));
    assert_eq!((roles(&first), effective(&first)), (vec!["master".to_owned(); 2], 200));
}

#[test]
fn hooks_run_on_every_change_of_role_and_one_that_hangs_blocks_nothing() {
    let lab = floating::lab(2);
    let _workers = Worker::all(&lab);
    let calls = lab.directory().join("calls");
    let script = |name: &str, text: &str| {
        let path = lab.directory().join(name);
        fs::write(&path, format!("#!/bin/sh\n{text}\n")).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
        path
    };
    let writes =
        "echo \"$LBD_VRRP_INSTANCE $LBD_VRRP_FORMER_ROLE $LBD_VRRP_ROLE $LBD_VRRP_INTERFACE $LBD_VRRP_ADDRESSES\"";
    // The last one takes its time.
    let good = script(
        "good",
        &format!(
            "test \"$LBD_VRRP_ROLE\" != initialize || sleep 1\n{writes} >> {}",
            calls.display()
        ),
    );
    let hangs = script("hangs", "echo waits >&2\nsleep 1000");
    let hook = |path: &Path, timeout: &str| {
        format!(
            "[vrrp.hook]\nargv = [\"{}\"]\nuser = \"root\"\ntimeout = \"{timeout}\"\n",
            path.display()
        )
    };
    let tables = floating::routers(200, FAST);
    let (v4, v6) = tables.split_at(tables.rfind("[[vrrp]]").unwrap());
    let mut own = config(&lab, 0, 200, FAST);
    own.node_keys = format!("{v4}{}{v6}{}", hook(&good, "20s"), hook(&hangs, "500ms"));
    let mut first = Lbd::start(&lab.balancers[0], own).unwrap();
    await_roles(&first, "master");
    first.lbctl(&["vrrp", "maintain", "v4"]).unwrap();
    await_roles(&first, "backup");
    first.lbctl(&["vrrp", "resume", "v4"]).unwrap();
    await_roles(&first, "master");
    let lines = || {
        let text = fs::read_to_string(&calls).unwrap_or_default();
        text.lines().map(str::to_owned).collect::<Vec<_>>()
    };
    eventually(PATIENCE, "the hook ran for four changes", || lines().len() == 4);
    let expected: Vec<_> = ["initialize backup", "backup master", "master backup", "backup master"]
        .map(|roles| format!("v4 {roles} eth0 {}/24", floating::floating()[0]))
        .to_vec();
    assert_eq!(lines(), expected);
    eventually(PATIENCE, "the one that hangs is killed", || {
        let events = first.lbctl(&["event", "list", "--limit", "1000"]).unwrap().to_string();
        events.contains("vrrp-hook-failed") && events.contains("killed after 500ms")
    });
    await_service(&lab);
    first.terminate().unwrap();
    let last = lines().pop();
    assert_eq!(
        last,
        Some(format!("v4 master initialize eth0 {}/24", floating::floating()[0]))
    );
}
