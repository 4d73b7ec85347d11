//! The interfaces that the program is attached to.

use crate::{
    admin::model::InterfaceStatus,
    config::{Node, XdpMode},
    dataplane::{AttachedMode, DataplaneError, Loaded, Pins, detach},
};

/// Attaches the program to every interface of the configuration.
///
/// # Errors
///
/// At the first interface where no allowed mode works.
pub(super) fn attach(
    program: &mut Loaded,
    pins: &Pins,
    node: &Node,
    warnings: &mut Vec<String>,
) -> Result<Vec<InterfaceStatus>, DataplaneError> {
    let mut interfaces = Vec::new();
    for name in &node.interfaces {
        let attached = program.attach(pins, name, node.xdp_mode)?;
        let mode = attached.running_mode();
        if let Some(reason) = &attached.fallback {
            warnings.push(format!("{name} runs in generic mode, which is slower: {reason}"));
        }
        if attached.mode == AttachedMode::Adopted && wanted(node.xdp_mode).is_some_and(|wanted| wanted != mode) {
            warnings.push(format!(
                "{name} keeps running in {mode} mode, the configuration asks for {}: `lbd detach` and a new start change it",
                wanted(node.xdp_mode).unwrap_or_default()
            ));
        }
        tracing::info!(interface = name, mode, adopted = attached.mode == AttachedMode::Adopted, "attached");
        interfaces.push(InterfaceStatus {
            name: name.clone(),
            ifindex: attached.ifindex,
            xdp_mode: mode.to_owned(),
            wanted_mode: crate::config::Word::word(node.xdp_mode).to_owned(),
        });
    }
    Ok(interfaces)
}

/// Takes the program off interfaces that are no longer in the configuration.
///
/// # Errors
///
/// When a link cannot be removed.
pub(super) fn drop_others(pins: &Pins, wanted: &[String]) -> Result<(), DataplaneError> {
    for name in pins.linked_interfaces()? {
        if !wanted.contains(&name) {
            detach(pins, &name)?;
            tracing::info!(interface = name, "detached: no longer in the configuration");
        }
    }
    Ok(())
}

fn wanted(mode: XdpMode) -> Option<&'static str> {
    match mode {
        XdpMode::Auto => None,
        XdpMode::Native => Some("native"),
        XdpMode::Generic => Some("generic"),
    }
}
