//! When a master tells the link again where the addresses are. Pure, time is an argument.

use super::instance::Micros;

/// How long after the first time it does so again: some of it may be lost.
const AGAIN: [Micros; 3] = [50_000, 250_000, 1_000_000];

/// What is still to be told.
#[derive(Debug, Default)]
pub struct AnnounceSchedule {
    again: Vec<Micros>,
    /// When it told it last; `None`: it is not master.
    told: Option<Micros>,
}

impl AnnounceSchedule {
    /// There is a reason to tell it now.
    pub fn begin(&mut self, now: Micros) {
        self.told = Some(now);
        match self.again.last_mut() {
            // Those that are still to come do, however often there is reason for more.
            Some(last) => *last = now + AGAIN[AGAIN.len() - 1],
            None => self.again = AGAIN.map(|pause| now + pause).to_vec(),
        }
    }

    /// There is nothing to tell any more.
    pub fn end(&mut self) {
        *self = Self::default();
    }

    /// When it is told next, if it is so often without any reason; 0: never.
    pub fn due(&self, refresh: Micros) -> Option<Micros> {
        let refreshed = self.told.filter(|_| refresh != 0).map(|told| told + refresh);
        self.again.first().copied().into_iter().chain(refreshed).min()
    }

    /// Whether it is to be told now. It is said once.
    pub fn take_due(&mut self, refresh: Micros, now: Micros) -> bool {
        if self.due(refresh).is_none_or(|due| now < due) {
            return false;
        }
        if self.again.first().is_some_and(|due| *due <= now) {
            self.again.remove(0);
        }
        self.told = Some(now);
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// When it is told until then.
    fn told(announce_schedule: &mut AnnounceSchedule, refresh: Micros, end: Micros) -> Vec<Micros> {
        let mut told = Vec::new();
        while let Some(due) = announce_schedule.due(refresh).filter(|due| *due <= end) {
            assert!(announce_schedule.take_due(refresh, due));
            told.push(due);
        }
        told
    }

    #[test]
    fn it_is_told_three_times_more_and_then_now_and_then() {
        for (refresh, later) in [(0, &[][..]), (2_000_000, &[3_000_010, 5_000_010])] {
            let mut announce_schedule = AnnounceSchedule::default();
            assert_eq!(announce_schedule.due(refresh), None);
            announce_schedule.begin(10);
            let expected = [&[50_010, 250_010, 1_000_010], later].concat();
            assert_eq!(told(&mut announce_schedule, refresh, 5_000_010), expected);
            announce_schedule.end();
            assert_eq!(announce_schedule.due(refresh), None);
        }
    }

    #[test]
    fn new_reasons_put_off_the_last_time_alone() {
        let mut announce_schedule = AnnounceSchedule::default();
        for now in [0, 20_000, 40_000] {
            announce_schedule.begin(now);
        }
        assert_eq!(told(&mut announce_schedule, 0, 9_000_000), [50_000, 250_000, 1_040_000]);
        // Long after, one that is only to be refreshed is told as often as at first.
        let mut announce_schedule = AnnounceSchedule::default();
        announce_schedule.begin(0);
        told(&mut announce_schedule, 60_000_000, 30_000_000);
        announce_schedule.begin(30_000_000);
        assert_eq!(
            told(&mut announce_schedule, 60_000_000, 40_000_000),
            [30_050_000, 30_250_000, 31_000_000]
        );
    }
}
