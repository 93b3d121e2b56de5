//! Picks, once per process, the widest instruction set that this CPU offers, and compiles kernels for each of them.
//!
//! A kernel is written once as plain Rust over slices; the macro `kernel!` compiles that body three times with different
//! target features, so that the compiler vectorises it for each, and calls the right one.

use crate::{Error, Result};
use std::sync::OnceLock;

/// An instruction set that kernels are compiled for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum InstructionSet {
    /// What every CPU of the target architecture has.
    Baseline,
    /// AVX2 with fused multiply-add (x86-64 since about 2013).
    Avx2,
    /// AVX-512 F, BW, DQ and VL.
    Avx512,
    /// The same, and leave to use the AMX unit where there is one.
    Amx,
}

/// What the path for every CPU of the target architecture is called.
pub const BASELINE: &str = if cfg!(target_arch = "aarch64") {
    "neon"
} else {
    "scalar"
};

/// What `DJINN_CPU` can ask for.
const PATHS: [(&str, InstructionSet); 4] = [
    (BASELINE, InstructionSet::Baseline),
    ("avx2", InstructionSet::Avx2),
    ("avx512", InstructionSet::Avx512),
    ("amx", InstructionSet::Amx),
];

/// The instruction set that kernels run on in this process.
///
/// `DJINN_CPU=scalar|avx2|avx512|amx` asks for one; on Arm there is `neon` alone. What the CPU does not have is never chosen: [`check_request`] says so.
pub fn instruction_set() -> InstructionSet {
    static CHOSEN: OnceLock<InstructionSet> = OnceLock::new();
    *CHOSEN.get_or_init(|| {
        let wanted = std::env::var("DJINN_CPU").ok();
        let wanted = PATHS
            .into_iter()
            .find(|(name, _)| Some(*name) == wanted.as_deref());
        wanted
            .map_or(InstructionSet::Amx, |(_, set)| set)
            .min(widest())
    })
}

/// Checks that kernels run on the very path that `DJINN_CPU` asks for.
///
/// # Errors
/// When it names none, or one that this CPU lacks; the message lists those that it has.
pub fn check_request() -> Result<()> {
    let Some(wanted) = std::env::var_os("DJINN_CPU") else {
        return Ok(());
    };
    let here = PATHS
        .into_iter()
        .filter(|&(_, set)| offers(set))
        .map(|(name, _)| name);
    let here: Vec<_> = here.collect();
    match here.iter().any(|name| *name == wanted) {
        true => Ok(()),
        false => Err(Error::Input(format!(
            "DJINN_CPU={}: this CPU can run {}",
            wanted.to_string_lossy(),
            here.join(", ")
        ))),
    }
}

#[cfg(target_arch = "x86_64")]
fn offers(set: InstructionSet) -> bool {
    set <= widest() && (set != InstructionSet::Amx || super::product::has_amx())
}

#[cfg(not(target_arch = "x86_64"))]
fn offers(set: InstructionSet) -> bool {
    set <= widest()
}

#[cfg(target_arch = "x86_64")]
fn widest() -> InstructionSet {
    let avx2 = is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma");
    let avx512 = is_x86_feature_detected!("avx512f")
        && is_x86_feature_detected!("avx512bw")
        && is_x86_feature_detected!("avx512dq")
        && is_x86_feature_detected!("avx512vl");
    match (avx2, avx512) {
        (true, true) => InstructionSet::Amx,
        (true, false) => InstructionSet::Avx2,
        _ => InstructionSet::Baseline,
    }
}

#[cfg(not(target_arch = "x86_64"))]
fn widest() -> InstructionSet {
    InstructionSet::Baseline
}

/// Whether this CPU has AVX-512's conversions to bf16 and products of pairs of it.
#[cfg(target_arch = "x86_64")]
pub fn has_bf16() -> bool {
    is_x86_feature_detected!("avx512bf16")
}

/// Whether products of bf16 pairs with AVX-512 are faster than f32 products. On AMD's CPUs they are nearly twice as fast; on Intel's, which have AMX for that,
/// a training step took a third longer with them than without (docs/performance.md).
#[cfg(target_arch = "x86_64")]
pub fn bf16_pays() -> bool {
    // Every product asks, and in a virtual machine the instruction that names the vendor takes longer than a small product.
    static PAYS: OnceLock<bool> = OnceLock::new();
    *PAYS.get_or_init(|| {
        let leaf = std::arch::x86_64::__cpuid(0);
        let vendor = [leaf.ebx, leaf.edx, leaf.ecx].map(u32::to_le_bytes);
        has_bf16() && vendor.as_flattened() != b"GenuineIntel"
    })
}

/// AVX-512's mask of the first `count` of sixteen lanes.
#[cfg(target_arch = "x86_64")]
pub(super) fn first_lanes(count: usize) -> std::arch::x86_64::__mmask16 {
    if count >= 16 {
        u16::MAX
    } else {
        (1 << count) - 1
    }
}

/// Whether every CPU of the target architecture has fused multiply-add.
pub const BASELINE_IS_FUSED: bool = cfg!(target_arch = "aarch64");

/// `a * b + c`, fused where the kernel is compiled for a CPU with fused multiply-add: without the instruction, `f32::mul_add` is a slow library call.
#[inline(always)]
pub fn multiply_add<const FUSED: bool>(a: f32, b: f32, c: f32) -> f32 {
    if FUSED { a.mul_add(b, c) } else { a * b + c }
}

/// Defines a function that is compiled once for each instruction set and dispatched at run time.
///
/// The body may name the constant `FUSED`, true where fused multiply-add is available.
macro_rules! kernel {
    ($(#[$meta:meta])* $vis:vis fn $name:ident($($arg:ident: $ty:ty),* $(,)?) $(-> $ret:ty)? $body:block) => {
        $(#[$meta])*
        #[allow(clippy::too_many_arguments)]
        $vis fn $name($($arg: $ty),*) $(-> $ret)? {
            #[inline(always)]
            #[allow(unused_mut, clippy::too_many_arguments)]
            fn body<const FUSED: bool>($($arg: $ty),*) $(-> $ret)? $body

            #[cfg(target_arch = "x86_64")]
            {
                #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx2,fma")]
                #[allow(clippy::too_many_arguments)]
                fn avx512($($arg: $ty),*) $(-> $ret)? { body::<true>($($arg),*) }
                #[target_feature(enable = "avx2,fma")]
                #[allow(clippy::too_many_arguments)]
                fn avx2($($arg: $ty),*) $(-> $ret)? { body::<true>($($arg),*) }
                match $crate::kernels::dispatch::instruction_set() {
                    // SAFETY: `instruction_set` returns only what the CPU was found to have.
                    $crate::kernels::dispatch::InstructionSet::Avx512 | $crate::kernels::dispatch::InstructionSet::Amx => return unsafe { avx512($($arg),*) },
                    // SAFETY: as above.
                    $crate::kernels::dispatch::InstructionSet::Avx2 => return unsafe { avx2($($arg),*) },
                    $crate::kernels::dispatch::InstructionSet::Baseline => {}
                }
            }
            body::<{ $crate::kernels::dispatch::BASELINE_IS_FUSED }>($($arg),*)
        }
    };
}
pub(crate) use kernel;

#[cfg(test)]
mod tests {
    /// So that tests on a forced path are tests of that path.
    #[test]
    fn the_path_that_was_asked_for_is_there() {
        super::check_request().unwrap();
    }
}
