//! `lbctl reload`

use lb_core::{
    reload::{Action, Change, Report},
    text::number,
};

pub(in crate::cli) fn report(report: &Report) -> String {
    let mut text = String::new();
    let mut place = None;
    for change in &report.changes {
        if change.key.is_some() || change.backend.is_some() {
            let of = subject(change).unwrap_or_else(|| "node".to_owned());
            if place.as_ref() != Some(&of) {
                text += &format!("~ {of}\n");
                place = Some(of);
            }
            text += "    ";
        }
        text += &line(change);
    }
    let size = format!(
        "{}, {} to maps",
        number(report.changes.len() as u64, "change"),
        number(report.steps as u64, "write")
    );
    text += &match (report.changes.len(), report.applied) {
        (0, _) => format!("{}: valid, no changes\n", report.file),
        (_, true) => format!("{}: applied, {size}\n", report.file),
        (_, false) => format!("{}: valid, {size}; dry run, nothing is applied\n", report.file),
    };
    for warning in &report.warnings {
        text += &format!("warning: {warning}\n");
    }
    text
}

/// The service or virtual router that changes.
fn subject(change: &Change) -> Option<String> {
    let service = change.service.as_ref().map(|name| format!("service {name}"));
    service.or_else(|| change.vrrp.as_ref().map(|name| format!("virtual router {name}")))
}

fn line(change: &Change) -> String {
    let sign = match change.action {
        Action::Added => "+",
        Action::Removed => "-",
        Action::Changed => "~",
    };
    let what = match &change.backend {
        Some(backend) => format!("backend {backend}"),
        None => subject(change).unwrap_or_default(),
    };
    let note = change
        .note
        .as_ref()
        .map(|note| format!(" ({note})"))
        .unwrap_or_default();
    let Some(key) = &change.key else {
        return format!("{sign} {what}{note}\n");
    };
    let value = |value: &Option<String>| value.clone().unwrap_or_else(|| "default".to_owned());
    let of = change
        .backend
        .as_ref()
        .map(|backend| format!("backend {backend}: "))
        .unwrap_or_default();
    format!(
        "{of}{key}: {} -> {}{note}\n",
        value(&change.before),
        value(&change.after)
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn changes_are_grouped_by_service_and_virtual_router() {
        let change = |action, service: Option<&str>, backend: Option<&str>, key: Option<&str>| Change {
            action,
            service: service.map(str::to_owned),
            backend: backend.map(str::to_owned),
            vrrp: None,
            key: key.map(str::to_owned),
            before: key.map(|_| "1".to_owned()),
            after: None,
            note: key.is_none().then(|| "so".to_owned()),
        };
        let report = Report {
            applied: false,
            file: "f".to_owned(),
            changes: vec![
                change(Action::Changed, None, None, Some("tunnel.gue_port")),
                change(Action::Changed, Some("web"), None, Some("slow_start")),
                change(Action::Changed, Some("web"), Some("w1"), Some("weight")),
                change(Action::Removed, Some("web"), Some("w2"), None),
                change(Action::Added, Some("dns"), None, None),
                Change {
                    vrrp: Some("v".to_owned()),
                    ..change(Action::Changed, None, None, Some("priority"))
                },
                Change {
                    vrrp: Some("w".to_owned()),
                    ..change(Action::Removed, None, None, None)
                },
            ],
            steps: 7,
            warnings: vec!["beware".to_owned()],
        };
        let expected = "~ node\n    tunnel.gue_port: 1 -> default\n~ service web\n    slow_start: 1 -> default\n    \
                        backend w1: weight: 1 -> default\n    - backend w2 (so)\n+ service dns (so)\n\
                        ~ virtual router v\n    priority: 1 -> default\n- virtual router w (so)\n\
                        f: valid, 7 changes, 7 writes to maps; dry run, nothing is applied\nwarning: beware\n";
        assert_eq!(super::report(&report), expected);
    }
}
