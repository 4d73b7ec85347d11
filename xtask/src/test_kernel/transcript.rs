//! Reads what the virtual machine prints. A step that did not end, or did not begin, has failed.

use serde_json::Value;

use super::steps::{self, Plan};
use crate::test::tally::{Reader, SKIPPED, Tally};

/// The beginning of lines that are for this reader.
const MARK: &str = "@@ ";

/// The beginning of the message when the kernel refuses the program.
const REFUSED: &str = "cannot load the XDP program";

/// What the machine has printed so far.
#[derive(Debug, Default)]
pub(super) struct Transcript {
    /// The release of the kernel that it runs.
    pub(super) kernel: Option<String>,
    steps: Vec<Step>,
    /// Whether all steps have run.
    done: bool,
}

#[derive(Debug)]
struct Step {
    name: String,
    lines: Vec<String>,
    status: Option<i32>,
}

/// The result of one step.
#[derive(Debug)]
pub(super) struct Verdict {
    pub(super) name: &'static str,
    pub(super) tally: Tally,
    /// Remarks: sums of tests, figures, or why it failed.
    pub(super) remark: String,
}

impl Transcript {
    /// Takes one line.
    pub(super) fn read(&mut self, line: &str) {
        let line = line.trim_end_matches('\r');
        // The last output of a killed program may be before the mark.
        let Some((before, mark)) = line.split_once(MARK) else {
            self.print(line);
            return;
        };
        self.print(before);
        let words: Vec<&str> = mark.split(' ').collect();
        match words[..] {
            ["kernel", release] => self.kernel = Some(release.to_owned()),
            ["begin", name] => self.steps.push(Step {
                name: name.to_owned(),
                lines: Vec::new(),
                status: None,
            }),
            ["end", name, status] => {
                if let Some(step) = self.steps.iter_mut().find(|step| step.name == name) {
                    step.status = status.parse().ok();
                }
            }
            ["done"] => self.done = true,
            _ => self.print(line),
        }
    }

    /// Whether all steps have run.
    pub(super) fn is_done(&self) -> bool {
        self.done
    }

    fn print(&mut self, line: &str) {
        if let Some(step) = self.steps.last_mut()
            && !line.is_empty()
        {
            step.lines.push(line.to_owned());
        }
    }

    /// The results of all steps of a kernel. One that is listed as refusing the program has to
    /// refuse it, and runs no tests.
    pub(super) fn verdicts(&self, plan: Plan) -> Vec<Verdict> {
        plan.names()
            .map(|name| {
                let step = self.steps.iter().find(|step| step.name == name);
                let Some((step, status)) = step.and_then(|step| Some((step, step.status?))) else {
                    let remark = if step.is_some() { "did not end" } else { "was not begun" };
                    return Verdict::failed(name, remark);
                };
                if name == steps::LOAD {
                    step.load(name, status, plan.refuses)
                } else {
                    step.tests(name, status)
                }
            })
            .collect()
    }
}

impl Step {
    fn load(&self, name: &'static str, status: i32, refuses: bool) -> Verdict {
        let figures = self
            .lines
            .iter()
            .find_map(|line| serde_json::from_str::<Value>(line).ok());
        match (status == 0, refuses, figures) {
            (true, false, Some(figures)) => Verdict::passed(name, figures_of(&figures)),
            (true, true, Some(figures)) => Verdict::failed(
                name,
                &format!(
                    "{}; but this kernel is listed as one that refuses the program",
                    figures_of(&figures)
                ),
            ),
            (true, _, None) => Verdict::failed(name, "printed no figures"),
            (false, true, _) if self.last_line().starts_with(REFUSED) => {
                Verdict::passed(name, format!("refused, as expected: {}", self.last_line()))
            }
            (false, _, _) => Verdict::failed(name, &format!("ended with {status}: {}", self.last_line())),
        }
    }

    fn tests(&self, name: &'static str, status: i32) -> Verdict {
        let mut reader = Reader::default();
        self.lines.iter().for_each(|line| reader.read(line));
        let tally = reader.finish(status == 0);
        if tally == Tally::default() {
            return Verdict::failed(name, "ran no test");
        }
        let skipped = self.lines.iter().filter_map(|line| line.strip_prefix(SKIPPED));
        let mut named: Vec<String> = skipped.map(|line| format!("skipped {line}")).collect();
        if tally.failed > 0 {
            named.extend(self.failures().map(|line| format!("failed {line}")));
        }
        named.dedup();
        named.insert(0, tally.to_string());
        Verdict {
            name,
            tally,
            remark: named.join("; "),
        }
    }

    /// The names in the last list that a program of tests prints.
    fn failures(&self) -> impl Iterator<Item = &str> {
        let list = self.lines.iter().rposition(|line| line == "failures:");
        let names = self.lines.iter().skip(list.map_or(self.lines.len(), |at| at + 1));
        names.map_while(|line| line.strip_prefix("    "))
    }

    fn last_line(&self) -> &str {
        self.lines.last().map_or("it printed nothing", |line| line.trim())
    }
}

impl Verdict {
    fn passed(name: &'static str, remark: String) -> Self {
        Self {
            name,
            tally: Tally::one(true),
            remark,
        }
    }

    pub(super) fn failed(name: &'static str, remark: &str) -> Self {
        Self {
            name,
            tally: Tally::one(false),
            remark: remark.to_owned(),
        }
    }

    pub(super) fn has_passed(&self) -> bool {
        self.tally.failed == 0
    }
}

fn figures_of(figures: &Value) -> String {
    let figure = |key: &str| {
        figures[key]
            .as_u64()
            .map_or("unknown".to_owned(), |number| number.to_string())
    };
    format!(
        "{} instructions verified, {} bytes translated, {} bytes jited",
        figure("verified_instructions"),
        figure("translated_bytes"),
        figure("jited_bytes")
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    const LOADED: &str = r#"{"kernel":"6.1","verified_instructions":120,"translated_bytes":80,"jited_bytes":null}"#;

    fn results_of(refuses: bool, lines: &[&str]) -> Vec<(bool, String)> {
        let mut transcript = Transcript::default();
        lines.iter().for_each(|line| transcript.read(line));
        let verdicts = transcript.verdicts(Plan {
            tests: !refuses,
            refuses,
        });
        verdicts.into_iter().map(|v| (v.has_passed(), v.remark)).collect()
    }

    #[test]
    fn figures_of_the_program_are_reported() {
        let verdicts = results_of(false, &["@@ kernel 6.1", "@@ begin load", LOADED, "@@ end load 0\r"]);
        assert_eq!(
            verdicts[0],
            (
                true,
                "120 instructions verified, 80 bytes translated, unknown bytes jited".to_owned()
            )
        );
    }

    #[test]
    fn a_step_that_does_not_end_or_begin_has_failed() {
        let verdicts = results_of(false, &["@@ begin load", LOADED, "@@ end load 0", "@@ begin packets"]);
        let remarks: Vec<_> = verdicts[1..]
            .iter()
            .map(|(passed, remark)| (*passed, remark.as_str()))
            .collect();
        assert_eq!(remarks[..], [(false, "did not end"), (false, "was not begun")]);
    }

    #[test]
    fn an_old_kernel_has_to_refuse() {
        let refusal = [
            "@@ begin load",
            "log",
            "cannot load the XDP program: unknown opcode",
            "@@ end load 1",
        ];
        assert_eq!(
            results_of(true, &refusal),
            [(
                true,
                "refused, as expected: cannot load the XDP program: unknown opcode".to_owned()
            )]
        );
        assert!(!results_of(true, &["@@ begin load", "no bpffs", "@@ end load 1"])[0].0);
        assert!(!results_of(false, &refusal)[0].0);
        assert!(!results_of(true, &["@@ begin load", LOADED, "@@ end load 0"])[0].0);
    }

    #[test]
    fn tests_count_one_by_one_and_none_is_a_failure() {
        let program = |lines: &[&str]| {
            let mut all = vec!["@@ begin load", LOADED, "@@ end load 0", "@@ begin packets"];
            all.extend(lines);
            results_of(false, &all).swap_remove(1)
        };
        let ran = program(&[
            "running 3 tests",
            "test a ... ok",
            "skipped: b: no module",
            "failures:",
            "    c",
            "test result: FAILED. 2 passed; 1 failed; 0 ignored; 0 measured; 0 filtered out",
            "@@ end packets 101",
        ]);
        assert_eq!(
            ran,
            (
                false,
                "1 passed, 1 failed, 1 skipped; skipped b: no module; failed c".to_owned()
            )
        );
        let none = [
            "running 0 tests",
            "test result: ok. 0 passed; 0 failed; 0 ignored",
            "@@ end packets 0",
        ];
        assert_eq!(program(&none), (false, "ran no test".to_owned()));
        assert!(!program(&["running 3 tests", "killed@@ end packets 137"]).0);
    }
}
