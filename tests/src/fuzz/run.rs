//! Runs sequences, and makes those short that diverge.

use std::{fmt, net::SocketAddr};

use lb_common::Action;
use lb_core::reconcile::desired::DesiredService;
use lb_userspace::dataplane::flows::Tuple;

use super::{
    Random, generate, hex,
    scene::{self, Focus},
};
use crate::{
    model::{BY_NOW, Entry, Key, Model, Seen, frame::Ip},
    program::Program,
    testrun::{DROP, PASS, REDIRECT, TRANSMIT},
};

/// Steps of a sequence.
const STEPS: usize = 300;
/// Once in how many steps nothing comes for a while. That takes as long as hundreds of frames.
const PAUSES: usize = 1500;
/// How often a sequence is run to make it shorter.
const SHRINKS: usize = 400;

/// A step of a sequence, made of a number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Step {
    /// A frame comes.
    Frame(u64, Focus),
    /// A backend changes.
    Change(u64, Focus),
    /// Nothing comes for so long that all SYNs that were not answered come again.
    Again(u64),
}

/// Program and model did not agree.
#[derive(Debug)]
pub struct Divergence {
    seed: u64,
    step: usize,
    log: Vec<String>,
    seen: Vec<String>,
}

impl fmt::Display for Divergence {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { seed, step, log, seen } = self;
        writeln!(f, "sequence {seed}: program and model diverge at step {step}:")?;
        writeln!(f, "{}", seen.join("\n"))?;
        write!(f, "as few steps as diverge too:\n{}", log.join("\n"))
    }
}

/// The program and its model.
pub struct Fuzz {
    program: Program,
    /// Frames that were run.
    pub packets: u64,
    /// How often each outcome was counted.
    pub outcomes: std::collections::BTreeMap<&'static str, u64>,
}

impl Default for Fuzz {
    fn default() -> Self {
        Self::new()
    }
}

impl Fuzz {
    /// Loads the program.
    pub fn new() -> Self {
        let capacity = lb_core::config::Capacity {
            flows_v4: 16_384,
            flows_v6: 16_384,
            services: 32,
            backends: 128,
            ring_slots: 4096,
        };
        Self {
            program: Program::new(capacity, scene::services()),
            packets: 0,
            outcomes: Default::default(),
        }
    }

    /// Runs one sequence.
    ///
    /// # Errors
    ///
    /// Where program and model diverge, with the shortest sequence that was found.
    pub fn sequence(&mut self, seed: u64) -> Result<(), Divergence> {
        let mut random = Random::new(seed);
        let focus = scene::focus(&mut random);
        let mut steps: Vec<Step> = (0..STEPS)
            .map(|_| {
                if random.once_in(PAUSES) {
                    Step::Again(random.number())
                } else if random.once_in(40) {
                    Step::Change(random.number(), focus)
                } else {
                    Step::Frame(random.number(), focus)
                }
            })
            .collect();
        let Err((first, seen)) = self.run(&steps) else {
            return Ok(());
        };
        steps.truncate(first + 1);
        self.shrink(&mut steps);
        let log = self.transcript(&steps);
        Err(Divergence {
            seed,
            step: first,
            log,
            seen,
        })
    }

    fn shrink(&mut self, steps: &mut Vec<Step>) {
        let mut tries = 0;
        let mut size = steps.len() / 2;
        while size > 0 && tries < SHRINKS {
            let mut at = 0;
            while at + size < steps.len() && tries < SHRINKS {
                let mut shorter = steps.clone();
                shorter.drain(at..at + size);
                tries += 1;
                match self.run(&shorter) {
                    Err((last, _)) => {
                        shorter.truncate(last + 1);
                        *steps = shorter;
                    }
                    Ok(()) => at += size,
                }
            }
            size /= 2;
        }
    }

    /// Runs steps from the beginning; the error is the one that diverges, and what was seen.
    fn run(&mut self, steps: &[Step]) -> Result<(), (usize, Vec<String>)> {
        let (mut model, mut services) = self.begin();
        for (index, step) in steps.iter().enumerate() {
            self.step(*step, &mut model, &mut services, None)
                .map_err(|log| (index, log))?;
        }
        Ok(())
    }

    fn transcript(&mut self, steps: &[Step]) -> Vec<String> {
        let mut log = Vec::new();
        let (mut model, mut services) = self.begin();
        for step in steps {
            if let Err(last) = self.step(*step, &mut model, &mut services, Some(&mut log)) {
                log.extend(last);
                break;
            }
        }
        log
    }

    fn begin(&mut self) -> (Model, Vec<DesiredService>) {
        let services = scene::services();
        self.program.desire(services.clone());
        self.program.forget();
        let mut model = Model::default();
        model.configure(&services);
        (model, services)
    }

    fn step(
        &mut self,
        step: Step,
        model: &mut Model,
        services: &mut [DesiredService],
        mut log: Option<&mut Vec<String>>,
    ) -> Result<(), Vec<String>> {
        let (number, focus) = match step {
            Step::Frame(number, focus) => (number, focus),
            Step::Again(number) => {
                let frames = generate::again(number, model);
                if !frames.is_empty() {
                    std::thread::sleep(BY_NOW);
                    if let Some(log) = &mut log {
                        log.push("nothing comes for a while".into());
                    }
                }
                let mut frames = frames.iter();
                return frames.try_for_each(|frame| self.frame(frame, model, log.as_deref_mut()));
            }
            Step::Change(number, focus) => {
                scene::change(services, focus, &mut Random::new(number));
                self.program.desire(services.to_vec());
                model.configure(services);
                if let Some(log) = &mut log {
                    log.push("backends changed".into());
                }
                return Ok(());
            }
        };
        self.frame(&generate::frame(number, focus, model), model, log)
    }

    fn frame(&mut self, frame: &[u8], model: &mut Model, log: Option<&mut Vec<String>>) -> Result<(), Vec<String>> {
        let (run, outcomes) = self.program.run_bytes(frame);
        self.packets += 1;
        for outcome in &outcomes {
            *self.outcomes.entry(outcome).or_default() += 1;
        }
        let action = match run.action {
            DROP => Action::Drop,
            PASS => Action::Pass,
            TRANSMIT => Action::Transmit,
            REDIRECT => Action::Redirect,
            other => return Err(vec![format!("no action {other}")]),
        };
        let seen = Seen {
            outcomes,
            action,
            bytes: run.bytes,
        };
        let tables = &self.program.tables;
        let followed = model.follow(frame, &seen, &|key: Key| {
            let entry = tables.find_flow(Tuple {
                source: key.client,
                destination: key.service,
                protocol: key.protocol,
            })?;
            let backend = tables.backends.read(entry.backend)?;
            Some(Entry {
                worker: crate::program::address(&backend),
                bound: entry.rewrite.source,
                phase: entry.phase,
            })
        });
        let described = || {
            vec![
                format!("in:  {} {}", line(frame), hex(frame)),
                format!("out: {:?} {} {}", seen.outcomes, line(&seen.bytes), hex(&seen.bytes)),
            ]
        };
        match followed {
            Ok(()) => {
                if let Some(log) = log {
                    log.extend(described());
                }
                Ok(())
            }
            Err(expected) => Err([described(), vec![format!("expected: {expected}")]].concat()),
        }
    }
}

/// A frame in words.
fn line(frame: &[u8]) -> String {
    let Ok(mut ip) = Ip::read(frame) else {
        return "(no IP packet)".into();
    };
    let skipped = ip.skip_extensions(frame);
    let Ip {
        tags,
        source,
        destination,
        protocol,
        fragment,
        is_first,
        ttl,
        ..
    } = &ip;
    let mut line = format!("(tags {tags:x?} protocol {protocol} ttl {ttl}");
    if fragment.is_some() {
        line += if *is_first {
            " first fragment"
        } else {
            " later fragment"
        };
    }
    match ip.transport(frame) {
        Ok(ports) if *is_first && skipped.is_ok() => {
            let from = SocketAddr::new(*source, ports.source);
            let to = SocketAddr::new(*destination, ports.destination);
            line += &format!(" {from} -> {to} flags {:02x})", ports.flags);
        }
        _ => line += &format!(" {source} -> {destination})"),
    }
    line
}
