//! Packing: copies of a side of a product in the order in which tiles read it.
//!
//! A panel holds some lanes (rows of the left side, columns of the right side) over all of `k`, in words of 32 bits: `[words, lanes]`.

use super::{Matrix, Unit, cores};
use crate::kernels::parallel::SharedWords;
use crate::kernels::transpose::{
    Rows, TILE, copy_line_pairs, copy_lines, pair, tile_line_pairs, tile_row_pairs, transpose,
    transpose_pairs,
};
use rayon::prelude::*;
use std::cell::RefCell;
use std::ops::Range;

/// How numbers lie in a panel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Layout {
    /// A word is one f32.
    Single,
    /// A word is two neighbours along `k`, rounded to bf16, the first in the lower half.
    Pairs,
    /// As [`Layout::Pairs`], as many as a multiple of 16 words along `k`. The left side is in tiles: sixteen lanes over all of `k`, `[words / 16, 16 lanes, 16 words]`, then the next
    /// sixteen.
    Tiles,
}

impl Layout {
    /// What a packed part of `k` is a multiple of, unless it is the last.
    pub fn depth_step(self) -> usize {
        match self {
            Self::Single => 1,
            Self::Pairs => 2,
            Self::Tiles => 32,
        }
    }

    /// Words along `k`, from the numbers that they hold.
    pub fn words(self, depth: usize) -> usize {
        match self {
            Self::Single => depth,
            Self::Pairs => depth.div_ceil(2),
            Self::Tiles => depth.div_ceil(32) * 16,
        }
    }
}

/// One cache line.
#[derive(Clone, Copy)]
#[repr(C, align(64))]
struct Line([u32; 16]);

/// Words that start on a cache line.
#[derive(Default)]
pub struct Buffer {
    lines: Vec<Line>,
}

impl Buffer {
    /// At least `count` words, whatever they hold.
    pub fn words(&mut self, count: usize) -> &mut [u32] {
        let lines = count.div_ceil(16);
        if self.lines.len() < lines {
            self.lines.resize(lines, Line([0; 16]));
        }
        // SAFETY: a line is sixteen words, and `lines` of them are there.
        unsafe { std::slice::from_raw_parts_mut(self.lines.as_mut_ptr().cast(), lines * 16) }
    }

    /// At least `count` numbers, whatever they are.
    pub fn numbers(&mut self, count: usize) -> &mut [f32] {
        let words = self.words(count);
        // SAFETY: a word is as large as a number and lies as one must, and every pattern of bits is a number.
        unsafe { std::slice::from_raw_parts_mut(words.as_mut_ptr().cast(), words.len()) }
    }

    /// The words from `start` on.
    pub fn panel(&self, start: usize) -> &[u32] {
        // SAFETY: a line is sixteen words.
        let words: &[u32] = unsafe {
            std::slice::from_raw_parts(self.lines.as_ptr().cast(), self.lines.len() * 16)
        };
        &words[start..]
    }

    /// The words from `start` on, which are single numbers.
    pub fn single_panel(&self, start: usize) -> &[f32] {
        let words = self.panel(start);
        // SAFETY: a word is as large as a number and lies as one must, and every pattern of bits is a number.
        unsafe { std::slice::from_raw_parts(words.as_ptr().cast(), words.len()) }
    }
}

thread_local! {
    /// Buffers that are not in use. A thread may need several at once: while it waits for others it may be given another product's piece.
    static IDLE: RefCell<Vec<Buffer>> = const { RefCell::new(Vec::new()) };
}

/// Runs `work` with a buffer that is kept for the next one who asks.
pub fn with_buffer<R>(work: impl FnOnce(&mut Buffer) -> R) -> R {
    let mut buffer = idle_buffer();
    let result = work(&mut buffer);
    keep_buffer(buffer);
    result
}

/// A buffer that is not in use, or a new one.
pub fn idle_buffer() -> Buffer {
    IDLE.with_borrow_mut(Vec::pop).unwrap_or_default()
}

/// Keeps a buffer for the next one who asks.
pub fn keep_buffer(buffer: Buffer) {
    IDLE.with_borrow_mut(|idle| idle.push(buffer));
}

/// Part `index` of `0..total` split into `parts` that differ by at most `step`; all but the last are multiples of `step`.
pub fn even_part(total: usize, parts: usize, index: usize, step: usize) -> Range<usize> {
    let steps = total.div_ceil(step);
    let at = |index: usize| (steps * index / parts * step).min(total);
    at(index)..at(index + 1)
}

/// All of [`even_part`]'s parts in order, without a division for each.
pub fn even_parts(
    total: usize,
    parts: usize,
    step: usize,
) -> impl ExactSizeIterator<Item = Range<usize>> {
    let steps = total.div_ceil(step);
    let whole = steps.checked_div(parts).unwrap_or(0);
    let left_over = steps - whole * parts;
    // What has been left over so far, in parts of a step.
    let (mut end, mut due) = (0, 0);
    (0..parts).map(move |_| {
        let start = end;
        due += left_over;
        let more = usize::from(due >= parts);
        due -= more * parts;
        end += (whole + more) * step;
        start.min(total)..end.min(total)
    })
}

/// Numbers as a panel reads them: lanes and `k`, each with its stride.
#[derive(Clone, Copy)]
struct Source<'a> {
    data: &'a [f32],
    lane_stride: usize,
    depth_stride: usize,
    lanes: usize,
    /// Lanes of the panel; those beyond `lanes` are zeros.
    panel_lanes: usize,
    depth: usize,
}

impl<'a> Source<'a> {
    /// A part of `k`.
    fn part(&self, range: Range<usize>) -> Self {
        let start = range.start * self.depth_stride;
        Self {
            data: self.data.get(start..).unwrap_or_default(),
            depth: range.len(),
            ..*self
        }
    }

    /// Which way they lie together.
    fn numbers(&self) -> Numbers<'a> {
        let rows = |stride, count, width| Rows {
            data: self.data,
            stride,
            count,
            width,
        };
        if self.depth_stride == 1 {
            return Numbers::Rows(rows(self.lane_stride, self.lanes, self.depth));
        }
        assert_eq!(self.lane_stride, 1, "one side of a matrix is contiguous");
        Numbers::Lines(rows(self.depth_stride, self.depth, self.lanes))
    }
}

/// The numbers of a [`Source`] as they lie in memory.
enum Numbers<'a> {
    /// A row for each lane, along `k`.
    Rows(Rows<'a>),
    /// A line for each number along `k`, with the lanes side by side.
    Lines(Rows<'a>),
}

/// Numbers along `k` that are packed for all panels of a task before the next ones are, where lanes lie side by side: the rows of memory that one panel
/// has read a little of are then still at hand for the next.
const BLOCK: usize = 64;
/// Most panels of the right side in a task.
const MOST_TASK_PANELS: usize = 4;

/// Packs `rows` of `left` over `depth` into panels, one after another, each as long as if it had all the rows of a tile.
pub fn left(
    unit: Unit,
    buffer: &mut Buffer,
    left: Matrix,
    rows: Range<usize>,
    depth: Range<usize>,
) {
    let panels = rows.len().div_ceil(unit.tile_rows());
    let panel_words = unit.left_panel_words(depth.len());
    let out = buffer.words(panels * panel_words);
    let source = |panel: usize| {
        let part = even_part(rows.len(), panels, panel, unit.row_step());
        let start = (rows.start + part.start) * left.row_stride + depth.start * left.column_stride;
        Source {
            data: left.data.get(start..).unwrap_or_default(),
            lane_stride: left.row_stride,
            depth_stride: left.column_stride,
            lanes: part.len(),
            panel_lanes: part.len(),
            depth: depth.len(),
        }
    };
    let place = |panel: usize| panel * panel_words..(panel + 1) * panel_words;
    in_blocks(
        out,
        panels,
        place,
        source,
        |out, source, range| match unit.layout() {
            Layout::Tiles => tiles(out, source, range),
            layout => lines_of_lanes(layout, out, source, range),
        },
    );
}

/// Packs all columns of `right` over `depth` into panels, one after another, whose columns [`Unit::panels`] tells; the last is filled up with zeros.
pub fn right(unit: Unit, buffer: &mut Buffer, right: Matrix, depth: Range<usize>, shared: bool) {
    let panels: Vec<Range<usize>> = unit.panels(right.columns).collect();
    // Panels of pairs end where the left side's rows end, filled up with zeros.
    let words = unit.words(depth.len());
    let place = |panel: usize| {
        let columns = &panels[panel];
        columns.start * words..(columns.start + unit.padded(columns.len())) * words
    };
    let end = panels
        .len()
        .checked_sub(1)
        .map_or(0, |last| place(last).end);
    let out = SharedWords::new(buffer.words(end));
    let source = |panel: usize| {
        let columns = &panels[panel];
        let start = depth.start * right.row_stride + columns.start * right.column_stride;
        Source {
            data: right.data.get(start..).unwrap_or_default(),
            lane_stride: right.column_stride,
            depth_stride: right.row_stride,
            lanes: columns.len(),
            panel_lanes: unit.padded(columns.len()),
            depth: depth.len(),
        }
    };
    let some = (panels.len() / (2 * cores(shared))).clamp(1, MOST_TASK_PANELS);
    let pack = |task: usize| {
        let first = task * some;
        let count = some.min(panels.len() - first);
        let (start, end) = (place(first).start, place(first + count - 1).end);
        // SAFETY: each panel is written by one task; `buffer` is borrowed for this call.
        let out = unsafe { out.row(start, end - start) };
        let place = |panel: usize| {
            let place = place(first + panel);
            place.start - start..place.end - start
        };
        let source = |panel| source(first + panel);
        in_blocks(out, count, place, source, |out, source, range| {
            lines_of_lanes(unit.layout(), out, source, range);
        });
    };
    let tasks = panels.len().div_ceil(some);
    if shared {
        (0..tasks).into_par_iter().for_each(pack);
    } else {
        (0..tasks).for_each(pack);
    }
}

/// Packs panels block by block along `k`; `place` tells where in `out` each lies and `source` what goes into it, and `pack` writes a part of it there.
fn in_blocks<'a>(
    out: &mut [u32],
    panels: usize,
    place: impl Fn(usize) -> Range<usize>,
    source: impl Fn(usize) -> Source<'a>,
    pack: impl Fn(&mut [u32], Source<'a>, Range<usize>),
) {
    if panels == 0 {
        return;
    }
    let first = source(0);
    let block = match first.depth_stride {
        1 => first.depth,
        _ => BLOCK,
    };
    for start in (0..first.depth).step_by(block.max(1)) {
        for panel in 0..panels {
            let source = source(panel);
            let range = start..source.depth.min(start + block);
            pack(&mut out[place(panel)], source, range);
        }
    }
}

/// Part `range` of a panel of which each line holds all lanes, as every right side does.
fn lines_of_lanes(layout: Layout, out: &mut [u32], source: Source, range: Range<usize>) {
    let part = source.part(range.clone());
    let out = &mut out[layout.words(range.start) * source.panel_lanes..];
    // What lies beyond `k` belongs to the last block.
    let end = match range.end == source.depth {
        true => out.len(),
        false => layout.words(part.depth) * source.panel_lanes,
    };
    match layout {
        Layout::Single => single(&mut out[..end], part),
        Layout::Pairs | Layout::Tiles => pairs(&mut out[..end], part),
    }
}

/// A panel `[depth, width]` of single numbers.
fn single(out: &mut [u32], source: Source) {
    let Source {
        lanes,
        panel_lanes: width,
        depth,
        ..
    } = source;
    if lanes < width {
        out[..depth * width].fill(0);
    }
    match source.numbers() {
        Numbers::Rows(rows) => transpose(out, width, rows),
        Numbers::Lines(lines) => copy_lines(out, width, lines),
    }
}

/// A panel `[words, width]` of pairs, of as many words as `out` has room for; numbers beyond `depth` are zeros.
fn pairs(out: &mut [u32], source: Source) {
    let Source {
        data,
        lane_stride,
        depth_stride,
        lanes,
        panel_lanes: width,
        depth,
    } = source;
    let whole = depth / 2;
    if lanes < width {
        out.fill(0);
    } else {
        out[whole * width..].fill(0);
    }
    match source.numbers() {
        Numbers::Rows(rows) => transpose_pairs(out, width, rows),
        Numbers::Lines(lines) => copy_line_pairs(out, width, lines),
    }
    if depth % 2 == 1 {
        for lane in 0..lanes {
            out[whole * width + lane] =
                pair(data[lane * lane_stride + (depth - 1) * depth_stride], 0.0);
        }
    }
}

/// Part `range` of a panel of the left side in tiles of pairs: the first sixteen lanes over all of `k`, then the next sixteen.
fn tiles(out: &mut [u32], source: Source, range: Range<usize>) {
    let first_word = Layout::Tiles.words(range.start) * TILE;
    let group_words = Layout::Tiles.words(source.depth) * TILE;
    let part = source.part(range);
    for first in (0..source.lanes).step_by(TILE) {
        let out = &mut out[first / TILE * group_words..][first_word..];
        let part = Source {
            data: &part.data[first * part.lane_stride..],
            lanes: TILE.min(source.lanes - first),
            ..part
        };
        match part.numbers() {
            Numbers::Rows(rows) => tile_row_pairs(out, rows),
            Numbers::Lines(lines) => tile_line_pairs(out, lines),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::super::transpose::brain;
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn parts_in_order_are_the_parts(total in 0usize..300, parts in 0usize..20, step in 1usize..40) {
            let each: Vec<_> = (0..parts).map(|index| even_part(total, parts, index, step)).collect();
            prop_assert_eq!(even_parts(total, parts, step).collect::<Vec<_>>(), each);
        }

        /// Every layout, whatever this CPU multiplies with.
        #[test]
        fn a_panel_holds_its_lanes_over_all_of_k(
            lanes in 1usize..40, width in 1usize..18, depth in 1usize..200, side_by_side: bool, layout in 0usize..3,
        ) {
            let layout = [Layout::Single, Layout::Pairs, Layout::Tiles][layout];
            let data: Vec<f32> = (0..lanes * depth).map(|i| (i as f32 * 0.37).sin()).collect();
            let (lane_stride, depth_stride) = if side_by_side { (1, lanes) } else { (depth, 1) };
            let number = |lane: usize, l: usize| match lane < lanes && l < depth {
                true => data[lane * lane_stride + l * depth_stride],
                false => 0.0,
            };
            let (panels, words) = (lanes.div_ceil(width), layout.words(depth));
            let source = |panel: usize| {
                let first = panel * width;
                Source {
                    data: &data[first * lane_stride..],
                    lane_stride,
                    depth_stride,
                    lanes: width.min(lanes - first),
                    panel_lanes: width,
                    depth,
                }
            };
            let mut out = vec![7u32; panels * words * width];
            let place = |panel: usize| panel * words * width..(panel + 1) * words * width;
            in_blocks(&mut out, panels, place, source, |out, source, range| {
                lines_of_lanes(layout, out, source, range);
            });
            for (i, word) in out.iter().enumerate() {
                let (l, lane) = (i / width % words, i / (words * width) * width + i % width);
                let expected = match layout {
                    Layout::Single => number(lane, l).to_bits(),
                    _ => brain(number(lane, 2 * l)) | (brain(number(lane, 2 * l + 1)) << 16),
                };
                prop_assert_eq!(*word, expected);
            }
        }
    }
}
