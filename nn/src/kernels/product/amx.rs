//! Tiles of bf16 pairs with AMX, the matrix unit of Intel server CPUs: `tdpbf16ps` multiplies whole tiles of 16 rows by 16 columns by 32
//! numbers of `k`. A tile of the result is two by two of them, or one by two where only 16 rows are left, so that each that is loaded is used twice.
//!
//! The instructions have no stable intrinsics, so they are written in assembly. Linux lets a process use the unit only after it has asked.

use crate::kernels::prefetch::prefetch_to_write;
use crate::kernels::transpose::pair;
use std::arch::asm;
use std::arch::x86_64::{__cpuid, __cpuid_count, _xgetbv};
use std::marker::PhantomData;
use std::mem::MaybeUninit;
use std::sync::OnceLock;

/// Most rows of a tile.
pub const ROWS: usize = 32;
/// Columns of a tile.
pub const COLUMNS: usize = 32;
/// Rows of what one instruction multiplies.
const HALF: usize = 16;
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
    let mut left = [0; ROWS * WORDS];
    for (i, to) in left.iter_mut().enumerate() {
        let (group, step, row) = (i / (HALF * WORDS), i / (HALF * STEP) % 2, i / STEP % HALF);
        *to = word((group * HALF + row) * WORDS + step * STEP + i % STEP);
    }
    let right: Vec<u32> = (0..WORDS * COLUMNS).map(|i| word(i + 5)).collect();
    let mut out = vec![1.0; ROWS * COLUMNS];
    // SAFETY: the unit is there and permitted; a whole tile lies in `out`, and the panels are `WORDS` deep.
    unsafe {
        let size = [ROWS, COLUMNS];
        Registers::new().tile(&mut out, COLUMNS, size, [&left, &right], WORDS, true);
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

/// The unit's registers, shaped for tiles on the calling thread as long as this lives.
pub struct Registers(PhantomData<*const ()>);

impl Registers {
    /// # Safety
    /// The unit is present and permitted, and the thread has no others.
    pub unsafe fn new() -> Self {
        // SAFETY: the 64 bytes say what the unit knows: palette 1, eight registers of 16 rows of 64 bytes.
        unsafe { asm!("ldtilecfg [{}]", in(reg) &raw const SHAPES, options(nostack, readonly)) };
        Self(PhantomData)
    }

    /// See [`super::Unit`]'s `tile`.
    ///
    /// # Safety
    /// `size` is at most [`ROWS`] by [`COLUMNS`] and lies in `out`, whose rows are `stride` apart; `left` is tiles of `words` words a lane of sixteen rows and, of
    /// more than sixteen, of sixteen others, and `right` `words` lines of [`COLUMNS`] words; `words` is a multiple of [`STEP`].
    pub unsafe fn tile(
        &self,
        out: &mut [f32],
        stride: usize,
        [rows, columns]: [usize; 2],
        [left, right]: [&[u32]; 2],
        words: usize,
        accumulate: bool,
    ) {
        // SAFETY: here and below, the sides are as long as this function's contract says, and whole tiles lie in `out` or else in `sums`.
        let onto = |out: *mut f32, stride: usize| unsafe {
            let sides = [left.as_ptr(), right.as_ptr()];
            multiply(out, stride, rows > HALF, sides, words, accumulate);
        };
        if columns == COLUMNS && (rows == ROWS || rows == HALF) {
            for row in out.chunks_mut(stride).take(rows) {
                prefetch_to_write(row.as_mut_ptr());
            }
            return onto(out.as_mut_ptr(), stride);
        }
        let mut sums = MaybeUninit::<Sums>::uninit();
        if accumulate {
            let Sums(sums) = sums.write(Sums([[0.0; COLUMNS]; ROWS]));
            for (sums, out) in sums.iter_mut().zip(out.chunks(stride)).take(rows) {
                sums[..columns].copy_from_slice(&out[..columns]);
            }
        }
        onto(sums.as_mut_ptr().cast(), COLUMNS);
        // SAFETY: all rows of the tile, or of its upper half where there are no others, have been written.
        let sums = unsafe { std::slice::from_raw_parts(sums.as_ptr().cast(), rows) };
        super::portable::store::<COLUMNS>(out, stride, columns, sums, false);
    }
}

impl Drop for Registers {
    fn drop(&mut self) {
        // SAFETY: a value exists only where the unit does.
        unsafe { asm!("tilerelease", options(nostack, nomem)) };
    }
}

/// Where a tile is put together that is not whole.
#[repr(C, align(64))]
struct Sums([[f32; COLUMNS]; ROWS]);

/// 32 rows of 32 results, `stride` apart, from 32 lanes; only the upper half of both where there is no `lower`.
///
/// # Safety
/// The thread has [`Registers`]; the rows lie at `out`, and the sides are as long as [`Registers::tile`] says.
unsafe fn multiply(
    out: *mut f32,
    stride: usize,
    lower: bool,
    [left, right]: [*const u32; 2],
    words: usize,
    accumulate: bool,
) {
    // SAFETY: it reads 32 or 16 lanes of `words` words from `left` and as many lines of 128 bytes from `right`, and reads and writes 32 numbers of as many rows
    // at `out`. Where there is no lower half, nothing is read or written at its addresses. The registers are used within the block only.
    unsafe {
        asm!(
            "test {accumulate:e}, {accumulate:e}",
            "jz 2f",
            "tileloadd tmm0, [{out} + {stride}*1]",
            "tileloadd tmm1, [{out} + {stride}*1 + 64]",
            "test {lower:e}, {lower:e}",
            "jz 3f",
            "tileloadd tmm2, [{lower_out} + {stride}*1]",
            "tileloadd tmm3, [{lower_out} + {stride}*1 + 64]",
            "jmp 3f",
            "2:",
            "tilezero tmm0",
            "tilezero tmm1",
            "tilezero tmm2",
            "tilezero tmm3",
            "3:",
            "test {steps}, {steps}",
            "jz 6f",
            "4:",
            "tileloadd tmm4, [{left} + {lane}*1]",
            "tileloadd tmm6, [{right} + {lane}*2]",
            "tileloadd tmm7, [{right} + {lane}*2 + 64]",
            "tdpbf16ps tmm0, tmm4, tmm6",
            "tdpbf16ps tmm1, tmm4, tmm7",
            "test {lower:e}, {lower:e}",
            "jz 5f",
            "tileloadd tmm5, [{lower_left} + {lane}*1]",
            "tdpbf16ps tmm2, tmm5, tmm6",
            "tdpbf16ps tmm3, tmm5, tmm7",
            "5:",
            "add {left}, 1024",
            "add {lower_left}, 1024",
            "add {right}, 2048",
            "dec {steps}",
            "jnz 4b",
            "6:",
            "tilestored [{out} + {stride}*1], tmm0",
            "tilestored [{out} + {stride}*1 + 64], tmm1",
            "test {lower:e}, {lower:e}",
            "jz 7f",
            "tilestored [{lower_out} + {stride}*1], tmm2",
            "tilestored [{lower_out} + {stride}*1 + 64], tmm3",
            "7:",
            accumulate = in(reg) u32::from(accumulate),
            lower = in(reg) u32::from(lower),
            left = inout(reg) left => _,
            lower_left = inout(reg) left.wrapping_add(HALF * words) => _,
            lane = in(reg) 4 * STEP,
            right = inout(reg) right => _,
            out = in(reg) out,
            lower_out = in(reg) out.wrapping_add(HALF * stride),
            stride = in(reg) 4 * stride,
            steps = inout(reg) words / STEP => _,
            out("tmm0") _, out("tmm1") _, out("tmm2") _, out("tmm3") _,
            out("tmm4") _, out("tmm5") _, out("tmm6") _, out("tmm7") _,
            options(nostack),
        );
    }
}
