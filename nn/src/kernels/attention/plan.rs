//! Which rows attend to which, and how a call falls apart into problems.

use super::rotary::RotaryTable;
use crate::kernels::product::{Unit, unit};
use crate::kernels::small_product::SMALL_WIDTH_STEP;

/// Problems of fewer rows gain nothing by tiles of 32 rows.
const FEWEST_TILED_ROWS: usize = 32;

/// Which rows attend to which.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pattern {
    /// Every position of a frame attends to every position of the same frame.
    Space,
    /// A position attends to itself in the last `window` frames, its own frame included.
    Time {
        /// Frames that are seen, the present one included.
        window: usize,
    },
    /// The batch holds a clean half and, after it, a masked half that is one frame on: masked frame `i` follows clean frame `i`. Clean rows
    /// attend as in [`Pattern::Time`]; a masked row attends to the *clean* rows of the frames that it follows and to itself, just as in
    /// play the present frame meets a cached past.
    PairedTime {
        /// Frames that are seen, the present one included.
        window: usize,
    },
}

/// Sizes of an attention call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sizes {
    /// Clips (`B`); with [`Pattern::PairedTime`] both halves together.
    pub batch: usize,
    /// Frames of a clip (`T`).
    pub frames: usize,
    /// Positions within a frame (`S`).
    pub positions: usize,
    /// Heads (`H`).
    pub heads: usize,
    /// Numbers per head.
    pub head_width: usize,
}

impl Sizes {
    /// Width of a query, key or value row (`D`).
    pub fn width(&self) -> usize {
        self.heads * self.head_width
    }

    /// Rows of `qkv`.
    pub fn rows(&self) -> usize {
        self.batch * self.frames * self.positions
    }
}

/// Everything that is the same for all problems of a call.
pub(super) struct Plan {
    pub sizes: Sizes,
    pattern: Pattern,
    /// Rows of one problem.
    pub length: usize,
    /// `length` rounded up to what the small products want.
    pub padded: usize,
    /// 0 where row i may attend to row j, minus infinity where not, `[length, padded]`; one row where all are alike.
    pub mask: Vec<f32>,
    /// What multiplies by tiles, where there is such a unit and tiles are filled well.
    pub tiles: Option<Unit>,
    /// Where the rows of a problem lie.
    pub rows: Vec<Place>,
    rotary: Option<RotaryTable>,
}

/// Where a row of a problem lies.
#[derive(Clone, Copy)]
pub(super) struct Place {
    /// Rows of `qkv` from [`Plan::start`] of the problem to this one.
    pub offset: usize,
    /// Whether this row's results belong to the segment, or it is only seen.
    pub owned: bool,
    /// Its frame, counted from the segment's first.
    frame: usize,
}

/// Frames of a clip that are worked on at once: as many as the window holds, and those before them that they see. Long clips so cost in
/// proportion to their length.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Segment {
    /// The first frame that is seen.
    first: usize,
    /// Frames that are seen.
    frames: usize,
    /// Frames at the start that are only seen; their own results belong to another segment.
    only_seen: usize,
}

impl Segment {
    /// The segments of a clip.
    pub(super) fn all(sizes: Sizes, pattern: Pattern) -> Vec<Self> {
        let whole = Self {
            first: 0,
            frames: sizes.frames,
            only_seen: 0,
        };
        match pattern {
            Pattern::Time { window } | Pattern::PairedTime { window }
                if sizes.frames > 2 * window =>
            {
                let segment = |start: usize| {
                    let first = (start + 1).saturating_sub(window);
                    Self {
                        first,
                        frames: (start + window).min(sizes.frames) - first,
                        only_seen: start - first,
                    }
                };
                (0..sizes.frames).step_by(window).map(segment).collect()
            }
            _ => vec![whole],
        }
    }
}

impl Plan {
    pub(super) fn new(sizes: Sizes, pattern: Pattern, segment: Segment) -> Self {
        let streams = match pattern {
            Pattern::Space => 0,
            Pattern::Time { .. } => 1,
            Pattern::PairedTime { .. } => 2,
        };
        let within = |offset| Place {
            offset,
            owned: true,
            frame: 0,
        };
        let across = |stream: usize, frame: usize| Place {
            offset: (stream * sizes.batch / 2 * sizes.frames + segment.first + frame)
                * sizes.positions,
            owned: frame >= segment.only_seen,
            // The masked stream is one frame on.
            frame: frame + stream,
        };
        let rows: Vec<Place> = match streams {
            0 => (0..sizes.positions).map(within).collect(),
            _ => (0..streams)
                .flat_map(|stream| (0..segment.frames).map(move |frame| across(stream, frame)))
                .collect(),
        };
        let length = rows.len();
        let padded = length.next_multiple_of(SMALL_WIDTH_STEP);
        let rows_of_mask = match pattern {
            Pattern::Space => 1,
            _ => length,
        };
        let mut mask = vec![f32::NEG_INFINITY; rows_of_mask * padded];
        for (i, mask) in mask.chunks_exact_mut(padded).enumerate() {
            for (j, mask) in mask[..length].iter_mut().enumerate() {
                if allowed(pattern, segment.frames, i, j) {
                    *mask = 0.0;
                }
            }
        }
        let rotary = (pattern != Pattern::Space).then(|| {
            let frames = segment.frames + streams - 1;
            RotaryTable::new(segment.first as u64, frames, sizes.head_width)
        });
        Self {
            sizes,
            pattern,
            length,
            padded,
            mask,
            tiles: Some(unit(crate::precision()))
                .filter(|unit| unit.multiplies_tiles() && length >= FEWEST_TILED_ROWS),
            rows,
            rotary,
        }
    }

    pub(super) fn problems(&self) -> usize {
        let rows = match self.pattern {
            Pattern::Space => self.sizes.positions,
            Pattern::Time { .. } => self.sizes.frames,
            Pattern::PairedTime { .. } => 2 * self.sizes.frames,
        };
        self.sizes.rows() / rows
    }

    /// The row of `qkv` that the offsets of a problem's rows count from.
    pub(super) fn start(&self, problem: usize) -> usize {
        let Sizes {
            frames, positions, ..
        } = self.sizes;
        match self.pattern {
            Pattern::Space => problem * positions,
            _ => problem / positions * frames * positions + problem % positions,
        }
    }

    /// The row of `qkv` that a problem's row `index` + 1 is, where there is one.
    #[inline(always)]
    pub(super) fn row_after(&self, index: usize, start: usize) -> Option<usize> {
        self.rows.get(index + 1).map(|next| start + next.offset)
    }

    /// The angles that a row is turned by.
    #[inline(always)]
    pub(super) fn angles(&self, row: Place) -> Option<(&[f32], &[f32])> {
        self.rotary.as_ref().map(|table| table.at(row.frame))
    }
}

/// Whether row `i` of a problem attends to row `j` of it.
pub(crate) fn allowed(pattern: Pattern, frames: usize, i: usize, j: usize) -> bool {
    match pattern {
        Pattern::Space => true,
        Pattern::Time { window } => j <= i && i - j < window,
        Pattern::PairedTime { window } => match (i < frames, j < frames) {
            (true, true) => j <= i && i - j < window,
            (true, false) => false,
            (false, true) => j <= i - frames && (i - frames) + 1 - j < window,
            (false, false) => i == j,
        },
    }
}

/// Pairs of rows whose score one call computes, over all heads, the masked ones included: the cost of attention.
pub fn pair_count(sizes: Sizes, pattern: Pattern) -> u64 {
    let plans = Segment::all(sizes, pattern)
        .into_iter()
        .map(|segment| Plan::new(sizes, pattern, segment));
    let pairs = plans.map(|plan| plan.length * plan.length * plan.problems() * sizes.heads);
    pairs.sum::<usize>() as u64
}
