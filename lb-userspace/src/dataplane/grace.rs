//! Waiting for packets under way.

use nix::libc;

const MEMBARRIER_CMD_GLOBAL: libc::c_int = 1;

/// Waits until every packet that was under way in the XDP program has left it; some ten milliseconds.
///
/// XDP programs run as readers of RCU, and this command waits for an RCU grace period.
pub fn wait_for_packets_under_way() {
    // SAFETY: a system call without pointers.
    let result = unsafe { libc::syscall(libc::SYS_membarrier, MEMBARRIER_CMD_GLOBAL, 0, 0) };
    if result != 0 {
        // Not to be had where CPUs are isolated from the timer tick. No packet takes a tenth of a second.
        std::thread::sleep(std::time::Duration::from_millis(100));
    }
}
