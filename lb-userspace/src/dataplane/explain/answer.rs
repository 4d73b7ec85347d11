//! What is found out about a packet.

use std::net::SocketAddr;

use lb_common::Outcome;
use serde::{Deserialize, Serialize};

use super::Question;
use lb_core::reconcile::Front;

/// What would become of the packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Verdict {
    /// It has a flow, and goes where that goes.
    HasFlow,
    /// It would begin a flow to the backend.
    WouldBegin,
    /// It goes to the backend, without a flow.
    Untracked,
    /// It is a worker's answer and goes to the client of its flow.
    IsAnswer,
    /// It goes to no backend; the outcome says what becomes of it.
    Refused,
}

/// How sure it is that it is this backend.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Certainty {
    /// As long as the backends stay as they are.
    Always,
    /// If no other flow of the service begins or ends before.
    IfNext,
    /// It is drawn: any of the candidates.
    Drawn,
}

/// A stage of the packet path and what it found.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct Stage {
    /// Its name.
    pub stage: String,
    /// What it found, in a sentence.
    pub finding: String,
}

/// A backend that takes new flows of the service.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct Candidate {
    /// Its name; empty if it is not in the configuration.
    pub backend: String,
    /// Address and port; port 0: that of the packet.
    #[schema(value_type = String)]
    pub address: SocketAddr,
    /// Its weight in the ring.
    pub weight: u32,
    /// Slots of the ring that are its own.
    pub slots: u32,
    /// Its flows now, opening and established.
    pub flows: u32,
}

/// Which backend a packet would get or has, and why.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct Explanation {
    /// `tcp` or `udp`.
    pub protocol: String,
    /// Where the packet comes from.
    #[schema(value_type = String)]
    pub client: SocketAddr,
    /// Where it goes to.
    #[schema(value_type = String)]
    pub virtual_address: SocketAddr,
    /// What would become of it.
    pub verdict: Verdict,
    /// The outcome that would be counted, where it goes to no backend.
    #[schema(required)]
    pub outcome: Option<String>,
    /// Name of the service.
    #[schema(required)]
    pub service: Option<String>,
    /// Name of the backend; `null` where there is none, or any of the candidates.
    #[schema(required)]
    pub backend: Option<String>,
    /// Address and port of the worker.
    #[schema(value_type = Option<String>, required)]
    pub worker: Option<SocketAddr>,
    /// How sure it is that it is this one; `null`: there is none.
    #[schema(required)]
    pub certainty: Option<Certainty>,
    /// What each stage found, in their order.
    pub stages: Vec<Stage>,
    /// The backends that take new flows, where one was to be chosen.
    pub candidates: Vec<Candidate>,
}

/// What the maps say, before it has the names of the configuration.
#[derive(Clone, Debug)]
pub struct Found {
    /// What would become of the packet.
    pub verdict: Verdict,
    /// The outcome that would be counted, where it goes to no backend.
    pub outcome: Option<Outcome>,
    /// What the service is known by.
    pub service: Option<Front>,
    /// Address and port of the worker.
    pub worker: Option<SocketAddr>,
    /// How sure that is.
    pub certainty: Option<Certainty>,
    /// What each stage found.
    pub stages: Vec<Stage>,
    /// The backends that take new flows, without names.
    pub candidates: Vec<Candidate>,
}

impl Found {
    pub(super) fn new() -> Self {
        Self {
            verdict: Verdict::Refused,
            outcome: None,
            service: None,
            worker: None,
            certainty: None,
            stages: Vec::new(),
            candidates: Vec::new(),
        }
    }

    /// Notes what a stage found.
    pub(super) fn stage(&mut self, stage: &str, finding: impl Into<String>) {
        self.stages.push(Stage {
            stage: stage.to_owned(),
            finding: finding.into(),
        });
    }

    /// The packet goes to no backend.
    pub(super) fn refuse(mut self, outcome: Outcome) -> Self {
        self.stage("outcome", format!("{}: {}", outcome.name(), outcome.help()));
        self.verdict = Verdict::Refused;
        self.outcome = Some(outcome);
        self
    }

    /// With names: of the service, and of backends by their address.
    pub fn into_explanation(
        self,
        question: &Question,
        service: Option<String>,
        name: impl Fn(SocketAddr) -> String,
    ) -> Explanation {
        let candidates = self.candidates.into_iter().map(|candidate| Candidate {
            backend: name(candidate.address),
            ..candidate
        });
        Explanation {
            protocol: question.protocol.name().to_owned(),
            client: question.client,
            virtual_address: question.virtual_address,
            verdict: self.verdict,
            outcome: self.outcome.map(|outcome| outcome.name().to_owned()),
            service,
            backend: self.worker.map(&name),
            worker: self.worker,
            certainty: self.certainty,
            stages: self.stages,
            candidates: candidates.collect(),
        }
    }
}
