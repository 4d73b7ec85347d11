//! The layout of maps: plain bytes without padding, with one version for all maps.

/// Version of the layout of all maps. It is part of the pin path: a controller never reads maps of
/// another layout.
///
/// Raise it when a type of a map changes its size, its fields or their meaning. Then describe in
/// `dataplane/migration.rs` what happens to the flows of the version before.
pub const MAP_ABI_VERSION: u32 = 6;

/// A type of keys or values of a map.
///
/// # Safety
///
/// The type is `repr(C)` or `repr(transparent)`, has no padding, and every bit pattern of its size
/// is a valid value. Use [`abi_struct!`](crate::abi_struct), which checks the padding.
pub unsafe trait Abi: Copy + 'static {
    /// The bytes of the value, as the kernel sees them.
    fn as_bytes(&self) -> &[u8] {
        // SAFETY: an `Abi` type has no padding, so every byte of it is initialised.
        unsafe { core::slice::from_raw_parts((&raw const *self).cast(), size_of::<Self>()) }
    }

    /// Reads a value from the bytes of a map. Returns `None` if `bytes` does not have the size of
    /// the type.
    fn from_bytes(bytes: &[u8]) -> Option<Self> {
        if bytes.len() != size_of::<Self>() {
            return None;
        }
        // SAFETY: the length was checked, the read needs no alignment, and every bit pattern is a
        // valid value.
        Some(unsafe { bytes.as_ptr().cast::<Self>().read_unaligned() })
    }
}

// SAFETY: integers and arrays of them have no padding and no invalid bit pattern.
unsafe impl Abi for u32 {}
// SAFETY: as above.
unsafe impl Abi for u64 {}
// SAFETY: as above.
unsafe impl<const N: usize> Abi for [u8; N] {}
// SAFETY: as above.
unsafe impl<const N: usize> Abi for [u32; N] {}
// SAFETY: as above.
unsafe impl<const N: usize> Abi for [u64; N] {}

/// Declares a struct for keys or values of a map. One with padding does not compile.
#[macro_export]
macro_rules! abi_struct {
    (
        $(#[$meta:meta])*
        pub struct $name:ident $(<$family:ident: Family>)? {
            $( $(#[$field_meta:meta])* $vis:vis $field:ident: $type:ty, )+
        }
    ) => {
        $(#[$meta])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        #[repr(C)]
        pub struct $name $(<$family: $crate::family::Family>)? {
            $( $(#[$field_meta])* $vis $field: $type, )+
        }

        impl $(<$family: $crate::family::Family>)? $name $(<$family>)? {
            const FIELDS: usize = 0 $( + size_of::<$type>() )+;

            /// The value whose every byte is zero.
            pub const ZERO: Self = {
                assert!(size_of::<Self>() == Self::FIELDS, concat!(stringify!($name), " has padding"));
                // SAFETY: all fields are integers, arrays or `repr(transparent)` wrappers of them.
                unsafe { core::mem::zeroed() }
            };
        }

        // SAFETY: `repr(C)`, fields are integers or arrays of them; `ZERO` refuses padding at
        // compile time.
        unsafe impl $(<$family: $crate::family::Family>)? $crate::abi::Abi for $name $(<$family>)? {}

        $crate::abi_struct!(@check $name $($family)?);
    };
    (@check $name:ident $family:ident) => {
        const _: () = { let _ = $name::<$crate::family::V4>::ZERO; let _ = $name::<$crate::family::V6>::ZERO; };
    };
    (@check $name:ident) => {
        const _: () = { let _ = $name::ZERO; };
    };
}
