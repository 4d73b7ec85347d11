//! A timer with a precision of microseconds. The runtime's timers round up to whole milliseconds:
//! with an advert interval of 10 ms, each advert and each takeover would be late by up to 10 %.

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

/// The timer of a task. If the kernel has none left, the runtime's timer is used.
pub(super) struct Timer {
    timer: Option<AsyncFd<TimerDescriptor>>,
}

impl Timer {
    /// Opens a timer. Must be called within a tokio runtime.
    pub(super) fn new() -> Self {
        let timer = TimerDescriptor::open();
        if let Err(error) = &timer {
            tracing::warn!(%error, "VRRP has no kernel timer: adverts and takeovers may be late by a millisecond");
        }
        Self { timer: timer.ok() }
    }

    /// Waits until `due`. `None`: waits for ever. Only one wait at a time.
    pub(super) async fn until(&self, due: Option<Micros>) {
        let Some(due) = due else {
            return std::future::pending().await;
        };
        match &self.timer {
            Some(timer) if timer.get_ref().set(due).is_ok() => {
                while lease::now() < due {
                    // It may have expired for a wait that was cancelled.
                    match timer.readable().await {
                        Ok(mut ready) => ready.clear_ready(),
                        // The runtime shuts down.
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
    async fn it_expires_when_due_and_not_for_a_cancelled_wait() {
        let timer = Timer::new();
        let begin = lease::now();
        // This one expires after its wait was cancelled.
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
