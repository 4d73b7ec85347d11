//! When to repeat gratuitous ARP and unsolicited neighbour advertisements. Pure, time is an
//! argument.

use super::instance::Micros;

/// Repetitions after an announcement, in microseconds after it. Frames may be lost.
const REPETITIONS: [Micros; 3] = [50_000, 250_000, 1_000_000];

/// The announcements that are due later.
#[derive(Debug, Default)]
pub struct AnnounceSchedule {
    /// When the addresses are announced again, in order.
    repetitions: Vec<Micros>,
    /// When the addresses were last announced. `None`: this balancer is not master.
    last: Option<Micros>,
}

impl AnnounceSchedule {
    /// The addresses are announced now: schedules the repetitions.
    pub fn begin(&mut self, now: Micros) {
        self.last = Some(now);
        match self.repetitions.last_mut() {
            // Frequent reasons do not postpone the earlier repetitions, only the last one.
            Some(last) => *last = now + REPETITIONS[REPETITIONS.len() - 1],
            None => self.repetitions = REPETITIONS.map(|pause| now + pause).to_vec(),
        }
    }

    /// This balancer is no longer master: nothing is announced.
    pub fn end(&mut self) {
        *self = Self::default();
    }

    /// When the addresses are announced next. `refresh` is the time between two announcements
    /// without a reason, in microseconds; 0: never.
    pub fn due(&self, refresh: Micros) -> Option<Micros> {
        let refreshed = self.last.filter(|_| refresh != 0).map(|last| last + refresh);
        self.repetitions.first().copied().into_iter().chain(refreshed).min()
    }

    /// Whether an announcement is due. Takes it from the schedule.
    pub fn take_due(&mut self, refresh: Micros, now: Micros) -> bool {
        if self.due(refresh).is_none_or(|due| now < due) {
            return false;
        }
        if self.repetitions.first().is_some_and(|due| *due <= now) {
            self.repetitions.remove(0);
        }
        self.last = Some(now);
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// When the addresses are announced until `end`.
    fn announced(schedule: &mut AnnounceSchedule, refresh: Micros, end: Micros) -> Vec<Micros> {
        let mut times = Vec::new();
        while let Some(due) = schedule.due(refresh).filter(|due| *due <= end) {
            assert!(schedule.take_due(refresh, due));
            times.push(due);
        }
        times
    }

    #[test]
    fn an_announcement_is_repeated_three_times_and_then_refreshed() {
        for (refresh, later) in [(0, &[][..]), (2_000_000, &[3_000_010, 5_000_010])] {
            let mut schedule = AnnounceSchedule::default();
            assert_eq!(schedule.due(refresh), None);
            schedule.begin(10);
            let expected = [&[50_010, 250_010, 1_000_010], later].concat();
            assert_eq!(announced(&mut schedule, refresh, 5_000_010), expected);
            schedule.end();
            assert_eq!(schedule.due(refresh), None);
        }
    }

    #[test]
    fn more_reasons_postpone_only_the_last_repetition() {
        let mut schedule = AnnounceSchedule::default();
        for now in [0, 20_000, 40_000] {
            schedule.begin(now);
        }
        assert_eq!(announced(&mut schedule, 0, 9_000_000), [50_000, 250_000, 1_040_000]);
        // A reason long after the repetitions begins them anew.
        let mut schedule = AnnounceSchedule::default();
        schedule.begin(0);
        announced(&mut schedule, 60_000_000, 30_000_000);
        schedule.begin(30_000_000);
        assert_eq!(
            announced(&mut schedule, 60_000_000, 40_000_000),
            [30_050_000, 30_250_000, 31_000_000]
        );
    }
}
