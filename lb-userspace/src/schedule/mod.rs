//! The rings that the packet path chooses from.
