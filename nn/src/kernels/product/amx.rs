//! Tiles of bf16 pairs with AMX, the matrix unit of Intel server CPUs: `tdpbf16ps` multiplies whole tiles of 16 rows by 16 columns by 32
//! numbers of `k`. A tile of the result is two by two of them.
//!
//! The instructions have no stable intrinsics, so they are written in assembly. Linux lets a process use the unit only after it has asked.

use crate::kernels::transpose::pair;
use std::arch::asm;
use std::arch::x86_64::{__cpuid, __cpuid_count, _xgetbv};
use std::sync::OnceLock;

/// Rows of a tile: the left side is packed by row and filled up to this many.
pub const ROWS: usize = 32;
/// Columns of a tile.
const COLUMNS: usize = 32;
/// Words along `k` of one instruction.
const STEP: usize = 16;

/// Whether this process may use the unit, and the unit computes what it should.
pub fn usable() -> bool {
    static USABLE: OnceLock<bool> = OnceLock::new();
    *USABLE.get_or_init(|| present() && permitted() && computes())
}

/// Whether CPU and operating system have AMX with bf16 (CPUID leaf 7, EDX bits 22 and 24; XCR0 bits 17 and 18).
fn present() -> bool {
    const UNIT: u32 = (1 << 22) | (1 << 24);
    const STATE: u64 = (1 << 17) | (1 << 18);
    if !is_x86_feature_detected!("avx512f")
        || !is_x86_feature_detected!("xsave")
        || __cpuid(0).eax < 7
    {
        return false;
    }
    // SAFETY: the operating system has enabled `xgetbv`, or AVX-512 would not have been found.
    __cpuid_count(7, 0).edx & UNIT == UNIT && unsafe { enabled_state() } & STATE == STATE
}

#[target_feature(enable = "xsave")]
unsafe fn enabled_state() -> u64 {
    // SAFETY: register 0 always exists.
    unsafe { _xgetbv(0) }
}

/// Asks Linux for the unit's registers, for all threads of this process.
#[cfg(target_os = "linux")]
fn permitted() -> bool {
    const ARCH_REQ_XCOMP_PERM: libc::c_long = 0x1023;
    const TILE_DATA: libc::c_long = 18;
    // SAFETY: the call takes two numbers and touches no memory of ours.
    unsafe { libc::syscall(libc::SYS_arch_prctl, ARCH_REQ_XCOMP_PERM, TILE_DATA) == 0 }
}

#[cfg(not(target_os = "linux"))]
fn permitted() -> bool {
    false
}

/// One product of small whole numbers, whose result is exact. Virtual machines have been seen to announce what they do not have.
fn computes() -> bool {
    const WORDS: usize = 2 * STEP;
    let number = |i: usize| (i % 7) as f32 - 3.0;
    let word = |i: usize| pair(number(2 * i), number(2 * i + 1));
    let left: Vec<u32> = (0..ROWS * WORDS).map(word).collect();
    let right: Vec<u32> = (0..WORDS * COLUMNS).map(|i| word(i + 5)).collect();
    let mut out = vec![1.0; ROWS * COLUMNS];
    // SAFETY: the unit is there and permitted; a whole tile lies in `out`, and the panels are `WORDS` deep.
    unsafe {
        tile(
            &mut out,
            COLUMNS,
            [ROWS, COLUMNS],
            &left,
            &right,
            WORDS,
            true,
        )
    };
    (0..ROWS * COLUMNS).all(|i| {
        let (row, column) = (i / COLUMNS, i % COLUMNS);
        let term = |l: usize| {
            let (a, b) = (2 * (row * WORDS + l), 2 * (l * COLUMNS + column + 5));
            number(a) * number(b) + number(a + 1) * number(b + 1)
        };
        out[i] == 1.0 + (0..WORDS).map(term).sum::<f32>()
    })
}

/// Shapes of the unit's eight registers: all of them 16 rows of 64 bytes.
#[repr(C, align(64))]
struct Shapes {
    palette: u8,
    start_row: u8,
    reserved: [u8; 14],
    row_bytes: [u16; 16],
    rows: [u8; 16],
}

static SHAPES: Shapes = Shapes {
    palette: 1,
    start_row: 0,
    reserved: [0; 14],
    row_bytes: [64, 64, 64, 64, 64, 64, 64, 64, 0, 0, 0, 0, 0, 0, 0, 0],
    rows: [16, 16, 16, 16, 16, 16, 16, 16, 0, 0, 0, 0, 0, 0, 0, 0],
};

/// A whole tile of results.
#[repr(C, align(64))]
struct Sums([[f32; COLUMNS]; ROWS]);

/// See [`super::Unit`]'s `tile`.
///
/// # Safety
/// The unit is present and permitted. `size` is at most [`ROWS`] by [`COLUMNS`] and lies in `out`, whose rows are `stride` apart; `left` is [`ROWS`] lanes of
/// `words` words, one after another, and `right` `words` lines of [`COLUMNS`] words; `words` is a multiple of [`STEP`].
pub unsafe fn tile(
    out: &mut [f32],
    stride: usize,
    [rows, columns]: [usize; 2],
    left: &[u32],
    right: &[u32],
    words: usize,
    accumulate: bool,
) {
    let mut sums = Sums([[0.0; COLUMNS]; ROWS]);
    if words >= STEP {
        // SAFETY: the registers are only used within the block. It reads 32 lanes of `words` words from `left` and `words` lines of 128 bytes from
        // `right`, and writes the 32 by 32 numbers of `sums`, all of which are there by this function's contract.
        unsafe {
            asm!(
                "ldtilecfg [{shapes}]",
                "tilezero tmm0",
                "tilezero tmm1",
                "tilezero tmm2",
                "tilezero tmm3",
                "2:",
                "tileloadd tmm4, [{upper} + {lane}*1]",
                "tileloadd tmm6, [{right} + {line}*1]",
                "tileloadd tmm7, [{right} + {line}*1 + 64]",
                "tileloadd tmm5, [{lower} + {lane}*1]",
                "tdpbf16ps tmm0, tmm4, tmm6",
                "tdpbf16ps tmm1, tmm4, tmm7",
                "tdpbf16ps tmm2, tmm5, tmm6",
                "tdpbf16ps tmm3, tmm5, tmm7",
                "add {upper}, 64",
                "add {lower}, 64",
                "add {right}, 2048",
                "dec {steps}",
                "jnz 2b",
                "tilestored [{sums} + {line}*1], tmm0",
                "tilestored [{sums} + {line}*1 + 64], tmm1",
                "add {sums}, 2048",
                "tilestored [{sums} + {line}*1], tmm2",
                "tilestored [{sums} + {line}*1 + 64], tmm3",
                "tilerelease",
                shapes = in(reg) &raw const SHAPES,
                upper = inout(reg) left.as_ptr() => _,
                lower = inout(reg) left.as_ptr().add(16 * words) => _,
                lane = in(reg) 4 * words,
                right = inout(reg) right.as_ptr() => _,
                line = in(reg) 4 * COLUMNS,
                sums = inout(reg) &raw mut sums => _,
                steps = inout(reg) words / STEP => _,
                out("tmm0") _, out("tmm1") _, out("tmm2") _, out("tmm3") _,
                out("tmm4") _, out("tmm5") _, out("tmm6") _, out("tmm7") _,
                options(nostack),
            );
        }
    }
    super::portable::store(out, stride, columns, &sums.0[..rows], accumulate);
}
