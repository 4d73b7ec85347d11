//! The clock of the flow table.

use aya_ebpf::helpers::bpf_jiffies64;
use lb_common::flow;

use crate::bpf::maps::settings;

/// Now, in ticks.
#[inline(always)]
pub fn now() -> u32 {
    // SAFETY: the helper takes no arguments.
    let jiffies = unsafe { bpf_jiffies64() };
    flow::tick(jiffies, settings().map_or(0, |settings| settings.tick_shift))
}
