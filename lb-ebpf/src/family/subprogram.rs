//! Functions that the verifier checks once, not for each call: "global functions" in its words.
//!
//! They take numbers and pointers to plain values, and return a number. The verifier assumes that
//! they write to every value that they get, and that every pointer can be null. [`subprogram!`]
//! hides that from callers and implementations.

/// Makes one global function for each family of an implementation for both: `subprogram! { fn
/// NAME<F>(…) -> … = BODY; }`.
///
/// Arguments are the packet (`packet: Packet`), or values that are read (`key: in FlowKey`) or
/// written (`flow: out Flow`), and after a semicolon numbers. Numbers and result are a
/// [`Number`](crate::bpf::number::Number). In the object, the functions are `NAME_v4` and
/// `NAME_v6`.
macro_rules! subprogram {
    (@reference in $type:ty) => { &$type };
    (@reference out $type:ty) => { &mut $type };
    (@pointer in $value:ident) => { core::ptr::from_ref($value).cast_mut().cast() };
    (@pointer out $value:ident) => { core::ptr::from_mut($value).cast() };
    (@value in $pointer:ident) => { $pointer.as_ref() };
    (@value out $pointer:ident) => { $pointer.as_mut() };
    (@packet $symbol:expr, $function:ident, $family:ident, $body:ident) => {
        #[unsafe(export_name = $symbol)]
        #[inline(never)]
        extern "C" fn $function(context: *mut aya_ebpf::bindings::xdp_md) -> u32 {
            let packet = $crate::packet::Packet::new(aya_ebpf::programs::XdpContext::new(context));
            $crate::bpf::number::Number::to_number($body::<lb_common::$family>(&packet))
        }
    };
    (@values $symbol:expr, $function:ident, $family:ident, $body:ident,
        ($($argument:ident: $access:tt $type:ident),*), ($($number:ident),*)) => {
        #[unsafe(export_name = $symbol)]
        #[inline(never)]
        extern "C" fn $function($($argument: *mut $type<lb_common::$family>,)* $($number: u32),*) -> u32 {
            $(
                // SAFETY: null, or made from a reference by the only caller, below.
                let Some($argument) = (unsafe { subprogram!(@value $access $argument) }) else {
                    return 0;
                };
            )*
            $crate::bpf::number::Number::to_number($body::<lb_common::$family>(
                $($argument,)*
                $($crate::bpf::number::Number::from_number($number)),*
            ))
        }
    };
    (
        $(#[$meta:meta])*
        $visibility:vis fn $name:ident<$family:ident>($packet:ident: Packet) -> $result:ty = $body:ident;
    ) => {
        $(#[$meta])*
        #[inline(always)]
        $visibility fn $name<$family: $crate::family::Ip>($packet: &$crate::packet::Packet) -> $result {
            subprogram!(@packet concat!(stringify!($name), "_v4"), v4, V4, $body);
            subprogram!(@packet concat!(stringify!($name), "_v6"), v6, V6, $body);
            $crate::bpf::number::Number::from_number(if $family::NUMBER == <lb_common::V4 as lb_common::Family>::NUMBER {
                v4($packet.raw())
            } else {
                v6($packet.raw())
            })
        }
    };
    (
        $(#[$meta:meta])*
        $visibility:vis fn $name:ident<$family:ident>(
            $($argument:ident: $access:tt $type:ident),* $(; $($number:ident: $number_type:ty),+)?
        ) -> $result:ty = $body:ident;
    ) => {
        $(#[$meta])*
        #[inline(always)]
        $visibility fn $name<$family: $crate::family::Ip>(
            $($argument: subprogram!(@reference $access $type<$family>),)*
            $($($number: $number_type),+)?
        ) -> $result {
            subprogram!(@values concat!(stringify!($name), "_v4"), v4, V4, $body,
                ($($argument: $access $type),*), ($($($number),+)?));
            subprogram!(@values concat!(stringify!($name), "_v6"), v6, V6, $body,
                ($($argument: $access $type),*), ($($($number),+)?));
            // The types of the other family's branch do not matter: it is never compiled into the
            // caller.
            $crate::bpf::number::Number::from_number(if $family::NUMBER == <lb_common::V4 as lb_common::Family>::NUMBER {
                v4(
                    $(subprogram!(@pointer $access $argument),)*
                    $($($crate::bpf::number::Number::to_number($number)),+)?
                )
            } else {
                v6(
                    $(subprogram!(@pointer $access $argument),)*
                    $($($crate::bpf::number::Number::to_number($number)),+)?
                )
            })
        }
    };
}

pub(crate) use subprogram;
