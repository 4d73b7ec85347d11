//! A controller for tests. It does nothing, and records each request as an event.

use super::control::{Control, ControlError};
use crate::api::{FlowFilter, Flushed};
use crate::{
    dataplane::explain::{Certainty, Explanation, Question, Verdict},
    events::{Events, Happening, Kind},
};
use lb_core::{
    config::{BackendId, Diagnostic},
    overrides::Verb,
    reload::{Action, Change, FixedKey, ReloadError, Report},
};

/// The fake controller.
#[derive(Debug, Default)]
pub(super) struct FakeControl {
    events: Events,
}

impl FakeControl {
    fn note(&self, what: String) {
        self.events.record(Happening::new(Kind::OverrideSet, what));
    }
}

impl Control for FakeControl {
    fn reload(&self, dry_run: bool) -> Result<Report, ControlError> {
        if !dry_run {
            return Err(ReloadError::Fixed(vec![fixed()]).into());
        }
        Ok(report())
    }

    fn override_backend(&self, id: BackendId, verb: Verb) -> Result<(), ControlError> {
        if id.service != "web" {
            return Err(ControlError::NotFound(format!("there is no service `{}`", id.service)));
        }
        if verb == Verb::Undrain {
            return Err(ControlError::Refused("it is disabled".to_owned()));
        }
        self.note(format!("{}/{} {verb:?}", id.service, id.backend));
        Ok(())
    }

    fn order_vrrp(&self, name: &str, order: crate::vrrp::Order) -> Result<(), ControlError> {
        if name != "web" {
            return Err(ControlError::NotFound(format!("there is no virtual router `{name}`")));
        }
        self.note(format!("{name} {order:?}"));
        Ok(())
    }

    fn maintain_vrrp(&self, name: &str, is_maintained: bool) -> Result<(), ControlError> {
        self.note(format!("{name} maintained: {is_maintained}"));
        Ok(())
    }

    fn flush(&self, filter: &FlowFilter) -> Result<Flushed, ControlError> {
        self.note(format!("flush {filter}"));
        Ok(Flushed { ended: 3, kept: 1 })
    }

    fn explain(&self, question: &Question) -> Result<Explanation, ControlError> {
        Ok(Explanation {
            protocol: question.protocol.name().to_owned(),
            client: question.client,
            virtual_address: question.virtual_address,
            verdict: Verdict::WouldBegin,
            outcome: None,
            service: Some("web".to_owned()),
            backend: Some("w1".to_owned()),
            worker: Some(question.virtual_address),
            certainty: Some(Certainty::IfNext),
            stages: Vec::new(),
            candidates: Vec::new(),
        })
    }

    fn events(&self) -> &Events {
        &self.events
    }
}

pub(super) fn fixed() -> FixedKey {
    FixedKey {
        key: "node.name".to_owned(),
        before: Some("\"a\"".to_owned()),
        after: None,
        remedy: "restart lbd".to_owned(),
    }
}

pub(crate) fn report() -> Report {
    Report {
        applied: false,
        file: "lbd.toml".to_owned(),
        changes: vec![Change {
            action: Action::Added,
            service: Some("web".to_owned()),
            backend: None,
            vrrp: None,
            key: None,
            before: None,
            after: None,
            note: None,
        }],
        steps: 3,
        warnings: Vec::new(),
    }
}

#[test]
fn diagnostics_of_a_file_come_through_as_they_are() {
    use crate::api::Problem;
    let error = lb_core::config::parse("lbd.toml", "[node]\nname = \"a\"\n").unwrap_err();
    let expected: Box<[Diagnostic]> = error.diagnostics().into();
    assert_eq!((expected[0].line, expected[0].column), (1, 1));
    let problem = Problem::from(ControlError::from(ReloadError::from(error)));
    let text = serde_json::to_string(&problem).unwrap();
    let read: Problem = serde_json::from_str(&text).unwrap();
    assert_eq!((read.status, read.diagnostics), (422, expected));
}
