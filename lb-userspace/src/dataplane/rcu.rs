//! Waits until no packet is in flight in the XDP programs: an RCU grace period.

use nix::libc;

const MEMBARRIER_CMD_GLOBAL: libc::c_int = 1;

/// Waits until every packet that was in an XDP program has left it, some ten milliseconds.
///
/// XDP programs run as RCU readers, and this command waits for an RCU grace period.
pub fn wait_for_packets_in_flight() {
    // SAFETY: a system call without pointers.
    let result = unsafe { libc::syscall(libc::SYS_membarrier, MEMBARRIER_CMD_GLOBAL, 0, 0) };
    if result != 0 {
        // The command is refused on kernels with isolated CPUs (nohz_full). No packet takes 100 ms.
        std::thread::sleep(std::time::Duration::from_millis(100));
    }
}
