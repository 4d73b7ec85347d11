//! The program that hands answers to checks, which come from a virtual address, to the sockets that wait for them.

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

/// The object, as the build made it.
static OBJECT: &[u8] = aya::include_bytes_aligned!(concat!(env!("OUT_DIR"), "/lb-checks.o"));
/// Name of the program in the object.
const PROGRAM: &str = "lb_answers";

/// The program on some interfaces, and its map. Nothing of it is pinned: it ends with this.
pub struct Answers {
    object: Ebpf,
    map: HashMap<MapData, Raw<AnswerKey>, Raw<Answer>>,
    /// By name of the interface: its index, and what holds the program there.
    links: BTreeMap<String, (u32, SchedClassifierLink)>,
}

impl Answers {
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
            .ok_or_else(|| failed("no map of answers in the object".into()))?;
        let map = HashMap::try_from(map).map_err(|error| DataplaneError::map(check_answer::MAP, error))?;
        let mut answers = Self {
            object,
            map,
            links: BTreeMap::new(),
        };
        answers.program()?.load().map_err(|error| failed(error.into()))?;
        Ok(answers)
    }

    /// Puts the program on these interfaces, as far as they are there, and takes it off others.
    ///
    /// # Errors
    ///
    /// When it cannot be attached to one that is there.
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
        // Kernels before 6.6 want a queueing discipline to attach to, and keep there what a killed process left.
        let _ = tc::qdisc_add_clsact(interface);
        let _ = tc::qdisc_detach_program(interface, TcAttachType::Ingress, PROGRAM);
        let program = self.program().map_err(|error| error.to_string())?;
        let id = program
            .attach(interface, TcAttachType::Ingress)
            .map_err(|error| super::attach::describe(&error))?;
        program.take_link(id).map_err(|error| error.to_string())
    }

    /// Lets answers that `key` names go to where `answer` says.
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
