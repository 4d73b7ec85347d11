//! Passes the types of the map layout through aya.

use lb_common::abi::Abi;

/// A value of the map layout, wrapped for aya's maps.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(transparent)]
pub(super) struct Raw<T: Abi>(pub T);

// SAFETY: an `Abi` type is plain bytes without padding, valid for every bit pattern, and `Raw` is
// transparent.
unsafe impl<T: Abi> aya::Pod for Raw<T> {}
