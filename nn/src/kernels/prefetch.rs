//! Bringing memory near before it is worked on.

/// Numbers in a cache line.
const LINE: usize = 16;

/// Asks for the first `count` of these numbers to be brought near; only a hint, which not every CPU takes. CPUs themselves look ahead where rows follow one
/// another, not where they lie apart.
#[inline(always)]
pub fn prefetch(numbers: &[f32], count: usize) {
    for line in numbers.chunks(LINE).take(count.div_ceil(LINE)) {
        #[cfg(target_arch = "x86_64")]
        {
            use std::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
            // SAFETY: every x86-64 CPU has the instruction, and it reads nothing that the program could see.
            unsafe { _mm_prefetch::<_MM_HINT_T0>(line.as_ptr().cast()) };
        }
        #[cfg(not(target_arch = "x86_64"))]
        let _ = line;
    }
}
