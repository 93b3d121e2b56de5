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

/// As [`prefetch`], into the second cache level: for later.
#[inline(always)]
pub fn prefetch_far(numbers: &[f32], count: usize) {
    for line in numbers.chunks(LINE).take(count.div_ceil(LINE)) {
        prefetch_line_far(line.as_ptr().cast());
    }
}

/// Asks for the line of `place` to be brought into the second cache level; only a hint, as [`prefetch`].
#[inline(always)]
pub fn prefetch_line_far(place: *const u8) {
    #[cfg(target_arch = "x86_64")]
    {
        use std::arch::x86_64::{_MM_HINT_T1, _mm_prefetch};
        // SAFETY: as in `prefetch`, wherever it points.
        unsafe { _mm_prefetch::<_MM_HINT_T1>(place.cast()) };
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = place;
}

/// Asks for the 128 bytes that a row of a tile's results will be written to. They come while the tile is computed; without that, each store waits for its line.
#[cfg(target_arch = "x86_64")]
#[inline(always)]
pub fn prefetch_to_write(row: *mut f32) {
    // SAFETY: a prefetch reads and writes nothing that a program can see, wherever it points. In assembly, because the intrinsic asks for lines to be read where the compiler
    // does not know that the CPU has the instruction.
    unsafe {
        std::arch::asm!("prefetchw [{row}]", "prefetchw [{row} + 64]", row = in(reg) row, options(nostack, readonly, preserves_flags));
    }
}
