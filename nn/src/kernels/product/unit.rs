//! What computes tiles: chosen by instruction set and precision.

use super::pack::{Layout, even_parts};
use super::{Matrix, portable};
use crate::Precision;
use crate::kernels::dispatch::BASELINE;
#[cfg(target_arch = "x86_64")]
use crate::kernels::dispatch::{InstructionSet, bf16_pays, has_bf16, instruction_set};
use crate::kernels::register_tile::Sides;
use crate::kernels::transpose::TILE;
use std::ops::Range;

/// A way to compute tiles on this CPU. Values exist only for what the CPU was found to have.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Unit(Kind);

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Kind {
    /// What every CPU of the target architecture has.
    Portable,
    #[cfg(target_arch = "x86_64")]
    Avx2,
    #[cfg(target_arch = "x86_64")]
    Avx512,
    /// AVX-512's dot products of bf16 pairs.
    #[cfg(target_arch = "x86_64")]
    Brain512,
    /// The matrix unit of Intel server CPUs.
    #[cfg(target_arch = "x86_64")]
    Amx,
}

/// The fastest unit for products in `precision`. Where the CPU has no instructions for bf16, or none that are faster, that is the f32 unit.
pub fn unit(precision: Precision) -> Unit {
    Unit(kind(precision))
}

#[cfg(target_arch = "x86_64")]
fn kind(precision: Precision) -> Kind {
    match (precision, instruction_set()) {
        (Precision::Bf16, InstructionSet::Amx) if super::amx::usable() => Kind::Amx,
        (Precision::Bf16, InstructionSet::Avx512 | InstructionSet::Amx) if bf16_pays() => {
            Kind::Brain512
        }
        (_, InstructionSet::Avx512 | InstructionSet::Amx) => Kind::Avx512,
        (_, InstructionSet::Avx2) => Kind::Avx2,
        (_, InstructionSet::Baseline) => Kind::Portable,
    }
}

#[cfg(not(target_arch = "x86_64"))]
fn kind(_: Precision) -> Kind {
    Kind::Portable
}

impl Unit {
    /// Everything that this CPU can compute tiles with, within what `DJINN_CPU` allows.
    pub fn all() -> Vec<Self> {
        #[cfg_attr(not(target_arch = "x86_64"), expect(unused_mut))]
        let mut all = vec![Self(Kind::Portable)];
        #[cfg(target_arch = "x86_64")]
        {
            let set = instruction_set();
            let has = [
                (Kind::Avx2, set >= InstructionSet::Avx2),
                (Kind::Avx512, set >= InstructionSet::Avx512),
                (Kind::Brain512, set >= InstructionSet::Avx512 && has_bf16()),
                (
                    Kind::Amx,
                    set >= InstructionSet::Amx && super::amx::usable(),
                ),
            ];
            all.extend(
                has.into_iter()
                    .filter(|(_, has)| *has)
                    .map(|(kind, _)| Self(kind)),
            );
        }
        all
    }

    /// Its name, as sessions and benchmarks print it.
    pub fn name(self) -> &'static str {
        match self.0 {
            Kind::Portable => BASELINE,
            #[cfg(target_arch = "x86_64")]
            Kind::Avx2 => "avx2",
            #[cfg(target_arch = "x86_64")]
            Kind::Avx512 => "avx512",
            #[cfg(target_arch = "x86_64")]
            Kind::Brain512 => "avx512-bf16",
            #[cfg(target_arch = "x86_64")]
            Kind::Amx => "amx-bf16",
        }
    }

    /// What numbers are rounded to before they are multiplied.
    pub fn precision(self) -> Precision {
        match self.layout() {
            Layout::Single => Precision::F32,
            Layout::Pairs | Layout::Tiles => Precision::Bf16,
        }
    }

    /// Whether it multiplies pairs of bf16 that lie side by side in a register: then small products that are not packed gain by that, too.
    pub(in crate::kernels) fn multiplies_pairs(self) -> bool {
        self.layout() == Layout::Pairs
    }

    /// Whether it multiplies so much faster than everything else goes that packing pays for small products, too.
    pub(in crate::kernels) fn multiplies_tiles(self) -> bool {
        self.layout() == Layout::Tiles
    }

    /// How the left side is packed, where it is; the right side is packed alike, but not in tiles.
    pub(super) fn layout(self) -> Layout {
        match self.0 {
            Kind::Portable => Layout::Single,
            #[cfg(target_arch = "x86_64")]
            Kind::Avx2 | Kind::Avx512 => Layout::Single,
            #[cfg(target_arch = "x86_64")]
            Kind::Brain512 => Layout::Pairs,
            #[cfg(target_arch = "x86_64")]
            Kind::Amx => Layout::Tiles,
        }
    }

    /// Most rows of a tile.
    pub(super) fn tile_rows(self) -> usize {
        match self.0 {
            Kind::Portable => portable::ROWS,
            #[cfg(target_arch = "x86_64")]
            Kind::Avx2 => super::avx2::ROWS,
            #[cfg(target_arch = "x86_64")]
            Kind::Avx512 => super::avx512::ROWS,
            #[cfg(target_arch = "x86_64")]
            Kind::Brain512 => super::brain::ROWS,
            #[cfg(target_arch = "x86_64")]
            Kind::Amx => super::amx::ROWS,
        }
    }

    /// Whether tiles read the left side where it lies ([`super::in_place`]).
    pub(super) fn reads_in_place(self) -> bool {
        match self.0 {
            #[cfg(target_arch = "x86_64")]
            Kind::Avx2 | Kind::Avx512 => true,
            _ => false,
        }
    }

    /// Whether tiles are wide enough to read lines of a right side well that are not packed, and ask for lines ahead of time themselves.
    pub(super) fn reads_lines(self) -> bool {
        match self.0 {
            #[cfg(target_arch = "x86_64")]
            Kind::Avx512 => true,
            _ => false,
        }
    }

    /// What parts of the left side's rows are a multiple of, unless they are the last: tiles of nearly the same height, or whole ones where those that are
    /// not cost as much.
    pub(super) fn row_step(self) -> usize {
        match self.layout() {
            Layout::Single | Layout::Pairs => 1,
            Layout::Tiles => self.tile_rows(),
        }
    }

    /// Most columns of a tile, and of a panel of the right side.
    pub(super) fn tile_columns(self) -> usize {
        match self.0 {
            Kind::Portable => portable::COLUMNS,
            #[cfg(target_arch = "x86_64")]
            Kind::Avx2 => super::avx2::COLUMNS,
            #[cfg(target_arch = "x86_64")]
            Kind::Avx512 => super::avx512::COLUMNS,
            #[cfg(target_arch = "x86_64")]
            Kind::Brain512 => super::brain::COLUMNS,
            #[cfg(target_arch = "x86_64")]
            Kind::Amx => super::amx::COLUMNS,
        }
    }

    /// `columns` rounded up to what a tile reads of the right side: whole registers, or a whole tile where the unit knows no narrower ones.
    pub(super) fn padded(self, columns: usize) -> usize {
        columns.next_multiple_of(self.column_step())
    }

    /// See [`Unit::padded`].
    fn column_step(self) -> usize {
        match self.0 {
            #[cfg(target_arch = "x86_64")]
            Kind::Avx512 => super::avx512::LANES,
            _ => self.tile_columns(),
        }
    }

    /// Columns of the panels that `n` columns fall into.
    pub(super) fn panels(self, n: usize) -> impl ExactSizeIterator<Item = Range<usize>> {
        even_parts(n, n.div_ceil(self.tile_columns()), self.column_step())
    }

    /// Most of `k` that is packed at once: a panel of the right side then stays in the first two cache levels.
    pub(super) fn most_depth(self) -> usize {
        match self.layout() {
            Layout::Single => 512,
            Layout::Pairs | Layout::Tiles => 1024,
        }
    }

    /// What a packed part of `k` is a multiple of, unless it is the last.
    pub(super) fn depth_step(self) -> usize {
        self.layout().depth_step()
    }

    /// Words along `k` in a panel, from the `depth` numbers that they hold.
    pub(super) fn words(self, depth: usize) -> usize {
        self.layout().words(depth)
    }

    /// Words from one panel of the left side to the next.
    pub(super) fn left_panel_words(self, depth: usize) -> usize {
        self.tile_rows() * self.words(depth)
    }

    /// Makes the unit ready on the calling thread. A thread that computes tiles does nothing else meanwhile that may compute tiles.
    pub(super) fn ready(self) -> Tiles {
        Tiles {
            unit: self,
            // SAFETY: a unit exists only where the CPU has it, and the thread has no other registers by what is said above.
            #[cfg(target_arch = "x86_64")]
            registers: (self.0 == Kind::Amx).then(|| unsafe { super::amx::Registers::new() }),
        }
    }

    /// Computes, or adds to, one tile of `[rows, columns]` of `out`, whose rows are `stride` apart: all of `left` times lines of the right side, as many as `left` has columns. Each number
    /// begins with what is there, or zero, and gets its terms in their order, so that it does not matter in what parts of `k` a product is computed.
    ///
    /// Panics where the unit does not read sides in place.
    #[inline(always)]
    #[cfg_attr(not(target_arch = "x86_64"), expect(unused_variables))]
    pub(super) fn tile(
        self,
        out: &mut [f32],
        stride: usize,
        columns: usize,
        left: Matrix,
        right: Lines,
        accumulate: bool,
    ) {
        let (rows, depth) = (left.rows, left.columns);
        assert!(
            (1..=self.tile_rows()).contains(&rows) && (1..=self.tile_columns()).contains(&columns)
        );
        assert!(
            stride >= columns && out.len() >= (rows - 1) * stride + columns,
            "tile of {rows}x{columns}"
        );
        let strides = [left.row_stride, left.column_stride];
        assert!(strides.contains(&1), "one side of a matrix is contiguous");
        if let Some(last) = depth.checked_sub(1) {
            assert!(left.data.len() > (rows - 1) * strides[0] + last * strides[1]);
            assert!(right.data.len() >= last * right.stride + self.padded(columns));
        }
        let sides = Sides {
            left: left.data.as_ptr(),
            left_strides: strides,
            right: right.data.as_ptr(),
            right_stride: right.stride,
            depth,
        };
        let (out, size) = (out.as_mut_ptr(), [rows, columns]);
        match self.0 {
            // SAFETY: a unit exists only where the CPU has it; the tile lies in `out`, and the sides are as long as they are read, by the checks above.
            #[cfg(target_arch = "x86_64")]
            Kind::Avx2 => unsafe {
                super::avx2::tile(out, stride, size, sides, right.coming, accumulate);
            },
            // SAFETY: as above.
            #[cfg(target_arch = "x86_64")]
            Kind::Avx512 => unsafe {
                super::avx512::tile(out, stride, size, sides, accumulate);
            },
            _ => unreachable!("{} reads panels", self.name()),
        }
    }
}

/// Part of a right side: lines of some columns, `stride` apart, one for each number of `k`.
#[derive(Clone, Copy)]
pub(super) struct Lines<'a> {
    pub data: &'a [f32],
    pub stride: usize,
    /// What is asked for meanwhile, as it will be read next; may be nothing.
    pub coming: &'a [f32],
}

/// A unit of packed panels that is ready to compute tiles on this thread.
pub(super) struct Tiles {
    unit: Unit,
    #[cfg(target_arch = "x86_64")]
    registers: Option<super::amx::Registers>,
}

impl Tiles {
    /// Computes, or adds to, one tile of `[rows, columns]` of `out`, whose rows are `stride` apart. `left` and `right` are packed panels, `words`
    /// deep.
    #[inline]
    pub fn tile(
        &self,
        out: &mut [f32],
        stride: usize,
        [rows, columns]: [usize; 2],
        [left, right]: [&[u32]; 2],
        words: usize,
        accumulate: bool,
    ) {
        assert!(
            (1..=self.unit.tile_rows()).contains(&rows)
                && (1..=self.unit.tile_columns()).contains(&columns)
        );
        assert!(
            stride >= columns && out.len() >= (rows - 1) * stride + columns,
            "tile of {rows}x{columns}"
        );
        let left_rows = match self.unit.layout() {
            Layout::Tiles => rows.next_multiple_of(TILE),
            _ => rows,
        };
        assert!(left.len() >= left_rows * words && right.len() >= self.unit.tile_columns() * words);
        // These load whole lines of the right side.
        #[cfg(target_arch = "x86_64")]
        assert!(
            !matches!(self.unit.0, Kind::Brain512 | Kind::Amx)
                || right.as_ptr().addr().is_multiple_of(64)
        );
        match self.unit.0 {
            Kind::Portable => {
                portable::tile(out, stride, [rows, columns], left, right, words, accumulate)
            }
            #[cfg(target_arch = "x86_64")]
            Kind::Avx2 | Kind::Avx512 => {
                unreachable!("{} reads sides in place", self.unit.name())
            }
            // SAFETY: a unit exists only where the CPU has it; the tile lies in `out` and the panels are as long as it reads, by the
            // checks above.
            #[cfg(target_arch = "x86_64")]
            Kind::Brain512 => unsafe {
                super::brain::tile(
                    out.as_mut_ptr(),
                    stride,
                    [rows, columns],
                    left,
                    right,
                    words,
                    accumulate,
                );
            },
            // SAFETY: as above.
            #[cfg(target_arch = "x86_64")]
            Kind::Amx => unsafe {
                if let Some(registers) = &self.registers {
                    registers.tile(
                        out,
                        stride,
                        [rows, columns],
                        [left, right],
                        words,
                        accumulate,
                    );
                }
            },
        }
    }
}
