//! What the demo shows: a block that is redrawn on a terminal, plain lines elsewhere.

use std::{
    io::{IsTerminal as _, Write as _, stdout},
    time::Duration,
};

use super::{Summary, scene::Frame};

const INTERVAL: Duration = Duration::from_secs(1);
const BAR: usize = 30;

/// The live part of the output.
pub(super) struct Screen {
    terminal: bool,
    /// Lines of the block that the next one replaces.
    drawn: usize,
    due: Duration,
    last: Option<(Duration, Frame)>,
}

impl Screen {
    pub(super) fn new() -> Self {
        Self {
            terminal: stdout().is_terminal(),
            drawn: 0,
            due: Duration::ZERO,
            last: None,
        }
    }

    /// Whether it is time for the next frame.
    pub(super) fn is_due(&self, time: Duration) -> bool {
        time >= self.due
    }

    /// Shows a frame: rates are over the time since the last one.
    pub(super) fn show(&mut self, time: Duration, frame: &Frame) {
        self.due = time + INTERVAL;
        let spread: Vec<u64> = (0..frame.per_worker.len())
            .map(|index| self.since_last(frame, index))
            .collect();
        let seconds = self.last.as_ref().map_or(1.0, |(last, _)| (time - *last).as_secs_f64());
        let rate = spread.iter().sum::<u64>() as f64 / seconds;
        let lines = if self.terminal {
            block(time, frame, &spread, rate)
        } else {
            vec![line(time, frame, &spread, rate)]
        };
        self.replace(&lines);
        self.last = Some((time, frame.copy()));
    }

    /// Prints what happened. The line stays on the screen.
    pub(super) fn event(&mut self, time: Duration, text: &str) {
        self.replace(&[]);
        println!("{:5.1} s  *** {text} ***", time.as_secs_f64());
        if self.terminal {
            // The line replaced the block: draw it again.
            self.due = time;
        }
    }

    fn since_last(&self, frame: &Frame, index: usize) -> u64 {
        let before = self.last.as_ref().map_or(0, |(_, last)| last.per_worker[index].1);
        frame.per_worker[index].1 - before
    }

    fn replace(&mut self, lines: &[String]) {
        let mut out = stdout().lock();
        if self.drawn > 0 {
            // Cursor up to the first line of the block, and clear from there.
            let _ = write!(out, "\x1b[{}A\x1b[J", self.drawn);
        }
        for line in lines {
            let _ = writeln!(out, "{line}");
        }
        let _ = out.flush();
        self.drawn = if self.terminal { lines.len() } else { 0 };
    }
}

impl Frame {
    fn copy(&self) -> Self {
        Self {
            per_worker: self.per_worker.clone(),
            states: self.states.clone(),
            errors: self.errors,
            active: self.active,
        }
    }
}

fn line(time: Duration, frame: &Frame, spread: &[u64], rate: f64) -> String {
    let workers = frame.per_worker.iter().zip(spread).zip(&frame.states);
    let workers: Vec<_> = workers
        .map(|(((name, _), requests), state)| format!("{name} {requests:5} {state:<4}"))
        .collect();
    format!(
        "{:5.1} s  {rate:6.0} requests/s  {:4} errors  {:4} active flows  {}",
        time.as_secs_f64(),
        frame.errors,
        frame.active,
        workers.join("  ")
    )
}

fn block(time: Duration, frame: &Frame, spread: &[u64], rate: f64) -> Vec<String> {
    let all = spread.iter().sum::<u64>().max(1);
    let mut lines = vec![format!(
        "{:5.1} s  {rate:6.0} requests/s   {} errors   {} active flows",
        time.as_secs_f64(),
        frame.errors,
        frame.active
    )];
    for (((name, total), requests), state) in frame.per_worker.iter().zip(spread).zip(&frame.states) {
        let share = *requests as f64 / all as f64;
        let bar = "#".repeat((share * BAR as f64).round() as usize);
        lines.push(format!(
            "  {name}  {state:<7} [{bar:<BAR$}] {:3.0} %  {total} requests",
            share * 100.0
        ));
    }
    lines
}

/// Sums up the run in a few sentences.
pub(super) fn print_summary(summary: &Summary, victim: &str) {
    let Summary {
        requests,
        errors,
        errors_after_detection,
        ..
    } = summary;
    println!();
    println!("{requests} requests, {errors} of them failed.");
    match summary.detection_ms {
        Some(detection) => println!(
            "{victim} was killed, and taken out of service {detection} ms later: {} requests failed because of that.",
            errors - errors_after_detection
        ),
        None => println!("{victim} was not seen to be taken out of service."),
    }
    println!("At all other times {errors_after_detection} requests failed.");
    let spread: Vec<_> = summary
        .per_backend
        .iter()
        .map(|(name, requests)| format!("{name} {requests}"))
        .collect();
    println!("Served by {}.", spread.join(", "));
}
