//! Wakes a task to the microsecond. The runtime's own timers count whole milliseconds and round up: at adverts of ten, each
//! would come one late, and so would the end of a master that is gone.

use std::{
    io,
    os::fd::{AsFd, AsRawFd, RawFd},
    time::Duration,
};

use nix::sys::{
    time::TimeSpec,
    timerfd::{ClockId, Expiration, TimerFd, TimerFlags, TimerSetTimeFlags},
};
use tokio::{
    io::{Interest, unix::AsyncFd},
    time::sleep,
};

use super::lease;
use lb_core::vrrp::instance::Micros;

/// One task's timer. Where the kernel has none left, it is the runtime's.
pub(super) struct Timer {
    timer: Option<AsyncFd<TimerDescriptor>>,
}

impl Timer {
    /// Must be called within a tokio runtime.
    pub(super) fn new() -> Self {
        let timer = TimerDescriptor::open();
        if let Err(error) = &timer {
            tracing::warn!(%error, "VRRP has no timer of its own: what it does comes up to a millisecond late");
        }
        Self { timer: timer.ok() }
    }

    /// Waits until then; where nothing is due, for ever. One wait at a time.
    pub(super) async fn until(&self, due: Option<Micros>) {
        let Some(due) = due else {
            return std::future::pending().await;
        };
        match &self.timer {
            Some(timer) if timer.get_ref().set(due).is_ok() => {
                while lease::now() < due {
                    // It may have rung for a wait that was given up.
                    match timer.readable().await {
                        Ok(mut ready) => ready.clear_ready(),
                        // The runtime ends, and all its tasks.
                        Err(_) => std::future::pending().await,
                    }
                }
            }
            _ => sleep(Duration::from_micros(due.saturating_sub(lease::now()))).await,
        }
    }
}

struct TimerDescriptor(TimerFd);

impl TimerDescriptor {
    fn open() -> io::Result<AsyncFd<Self>> {
        // The clock of `lease::now`.
        let flags = TimerFlags::TFD_NONBLOCK | TimerFlags::TFD_CLOEXEC;
        let timer = Self(TimerFd::new(ClockId::CLOCK_MONOTONIC, flags)?);
        // SAFETY: the timer owns its descriptor and keeps it open as long as it lives.
        Ok(unsafe { AsyncFd::register_with_interest(timer, Interest::READABLE) }?)
    }

    fn set(&self, due: Micros) -> io::Result<()> {
        let due = Expiration::OneShot(TimeSpec::from_duration(Duration::from_micros(due)));
        Ok(self.0.set(due, TimerSetTimeFlags::TFD_TIMER_ABSTIME)?)
    }
}

impl AsRawFd for TimerDescriptor {
    fn as_raw_fd(&self) -> RawFd {
        self.0.as_fd().as_raw_fd()
    }
}

#[cfg(test)]
mod tests {
    use super::{Timer, lease};

    #[tokio::test]
    async fn it_rings_when_it_is_set_to_and_not_for_what_was_given_up() {
        let timer = Timer::new();
        let begin = lease::now();
        // One that rings while nobody waits any more.
        tokio::select! {
            biased;
            () = timer.until(Some(begin + 2_000)) => {}
            () = async {} => {}
        }
        std::thread::sleep(std::time::Duration::from_millis(5));
        for due in [begin + 20_000, begin + 20_500, begin] {
            timer.until(Some(due)).await;
            assert!(lease::now() >= due);
        }
    }
}
