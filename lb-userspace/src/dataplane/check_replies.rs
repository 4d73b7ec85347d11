//! The TC program that hands replies to checks of virtual addresses to the socket that waits for
//! them.

use std::collections::BTreeMap;

use aya::{
    Ebpf,
    maps::{HashMap, MapData},
    programs::{
        SchedClassifier, TcAttachType,
        tc::{self, SchedClassifierLink},
    },
};
use lb_common::check_answer::{self, Answer, AnswerKey};
use nix::net::if_::if_nametoindex;

use super::{DataplaneError, raw::Raw};

/// The object file that the build made.
static OBJECT: &[u8] = aya::include_bytes_aligned!(concat!(env!("OUT_DIR"), "/lb-checks.o"));
/// Name of the program in the object file.
const PROGRAM: &str = "lb_answers";

/// The program on some interfaces, and its map. Nothing is pinned: dropping this value detaches it.
pub struct CheckReplies {
    object: Ebpf,
    map: HashMap<MapData, Raw<AnswerKey>, Raw<Answer>>,
    /// By interface name: the interface index, and the link that keeps the program attached.
    links: BTreeMap<String, (u32, SchedClassifierLink)>,
}

impl CheckReplies {
    /// Loads the program.
    ///
    /// # Errors
    ///
    /// When the kernel refuses it.
    pub fn load() -> Result<Self, DataplaneError> {
        let failed = |cause: Box<dyn std::error::Error + Send + Sync>| DataplaneError::Load(cause);
        let mut object = Ebpf::load(OBJECT).map_err(|error| failed(error.into()))?;
        let map = object
            .take_map(check_answer::MAP)
            .ok_or_else(|| failed("no map of replies in the object".into()))?;
        let map = HashMap::try_from(map).map_err(|error| DataplaneError::map(check_answer::MAP, error))?;
        let mut replies = Self {
            object,
            map,
            links: BTreeMap::new(),
        };
        replies.program()?.load().map_err(|error| failed(error.into()))?;
        Ok(replies)
    }

    /// Attaches the program to those of these interfaces that exist, and detaches it from all
    /// others.
    ///
    /// # Errors
    ///
    /// When it cannot be attached to an interface that exists.
    pub fn attach(&mut self, interfaces: &[String]) -> Result<(), DataplaneError> {
        self.links
            .retain(|name, (index, _)| interfaces.contains(name) && if_nametoindex(name.as_str()) == Ok(*index));
        for name in interfaces {
            let Ok(index) = if_nametoindex(name.as_str()) else {
                continue;
            };
            if self.links.contains_key(name) {
                continue;
            }
            let link = self.attach_to(name).map_err(|cause| DataplaneError::Attach {
                interface: name.clone(),
                mode: "ingress",
                cause,
            })?;
            self.links.insert(name.clone(), (index, link));
        }
        Ok(())
    }

    fn attach_to(&mut self, interface: &str) -> Result<SchedClassifierLink, String> {
        // Kernels before 6.6 need a qdisc to attach to. They keep what a killed process left there.
        let _ = tc::qdisc_add_clsact(interface);
        let _ = tc::qdisc_detach_program(interface, TcAttachType::Ingress, PROGRAM);
        let program = self.program().map_err(|error| error.to_string())?;
        let id = program
            .attach(interface, TcAttachType::Ingress)
            .map_err(|error| super::attach::describe(&error))?;
        program.take_link(id).map_err(|error| error.to_string())
    }

    /// Delivers replies with this key to the socket that `answer` names.
    ///
    /// # Errors
    ///
    /// When the map cannot be written.
    pub fn expect(&mut self, key: AnswerKey, answer: Answer) -> Result<(), DataplaneError> {
        self.map
            .insert(Raw(key), Raw(answer), 0)
            .map_err(|error| DataplaneError::map(check_answer::MAP, error))
    }

    fn program(&mut self) -> Result<&mut SchedClassifier, DataplaneError> {
        self.object
            .program_mut(PROGRAM)
            .ok_or_else(|| DataplaneError::Load(format!("no program {PROGRAM} in the object").into()))?
            .try_into()
            .map_err(|error: aya::programs::ProgramError| DataplaneError::Load(error.into()))
    }
}
