//! The result of `explain`: what would happen to a packet, and the trace of its stages.

use std::net::SocketAddr;

use lb_common::Outcome;
use serde::{Deserialize, Serialize};

use super::Question;
use lb_core::reconcile::Front;

/// What would happen to the packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Verdict {
    /// It belongs to a flow and goes to the flow's backend.
    HasFlow,
    /// It would begin a flow to the backend.
    WouldBegin,
    /// It goes to the backend without a flow.
    Untracked,
    /// It is a worker's reply and goes to the client of its flow.
    IsReply,
    /// It goes to no backend. The outcome says what happens to it.
    Refused,
}

/// How certain the backend is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Certainty {
    /// As long as the backends stay the same.
    Always,
    /// If no other flow of the service begins or ends before.
    IfNext,
    /// One of the candidates is drawn at random.
    Drawn,
}

/// A stage of the packet path and what it found.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct Stage {
    /// Name of the stage.
    pub stage: String,
    /// What it found, as a sentence.
    pub finding: String,
}

/// A backend that takes new flows of the service.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct Candidate {
    /// Its name; empty if it is not in the configuration.
    pub backend: String,
    /// Address and port; port 0: the port of the packet.
    #[schema(value_type = String)]
    pub address: SocketAddr,
    /// Its weight in the ring.
    pub weight: u32,
    /// Number of its slots in the ring.
    pub slots: u32,
    /// Number of its flows now, embryonic and active.
    pub flows: u32,
}

/// Which backend a packet would get or has, and why.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct Explanation {
    /// `tcp` or `udp`.
    pub protocol: String,
    /// Source of the packet.
    #[schema(value_type = String)]
    pub client: SocketAddr,
    /// Destination of the packet.
    #[schema(value_type = String)]
    pub virtual_address: SocketAddr,
    /// What would happen to it.
    pub verdict: Verdict,
    /// Name of the outcome that would be counted; `null` if the packet goes to a backend.
    #[schema(required)]
    pub outcome: Option<String>,
    /// Name of the service; `null`: none.
    #[schema(required)]
    pub service: Option<String>,
    /// Name of the backend; `null`: none, or any of the candidates.
    #[schema(required)]
    pub backend: Option<String>,
    /// Address and port of the worker; `null`: none, or any of the candidates.
    #[schema(value_type = Option<String>, required)]
    pub worker: Option<SocketAddr>,
    /// How certain the backend is; `null`: there is none.
    #[schema(required)]
    pub certainty: Option<Certainty>,
    /// What each stage found, in the order of the stages.
    pub stages: Vec<Stage>,
    /// The backends that take new flows, if one had to be selected.
    pub candidates: Vec<Candidate>,
}

/// What the maps say, before names are added from the configuration.
#[derive(Clone, Debug)]
pub struct Found {
    /// What would happen to the packet.
    pub verdict: Verdict,
    /// The outcome that would be counted; `None` if the packet goes to a backend.
    pub outcome: Option<Outcome>,
    /// What identifies the service in the maps.
    pub service: Option<Front>,
    /// Address and port of the worker.
    pub worker: Option<SocketAddr>,
    /// How certain the backend is.
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

    /// Adds a stage to the trace.
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

    /// Adds names: of the service, and of backends by their address.
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
