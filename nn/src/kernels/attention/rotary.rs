//! Rotary embedding (arXiv 2104.09864): queries and keys are turned by angles that grow with time, so that their product knows how far apart they are.

/// Cosines and sines of the rotary embedding (arXiv 2104.09864) for some frame positions.
pub struct RotaryTable {
    half: usize,
    values: Vec<f32>,
}

/// Slowest rotation is one turn in about this many frames; play looks back over tens of frames, not thousands.
const ROTARY_BASE: f64 = 100.0;

impl RotaryTable {
    /// The table of frames `first..first + frames`. Angles are made in double precision: a session may be hours long.
    pub fn new(first: u64, frames: usize, head_width: usize) -> Self {
        let half = head_width / 2;
        let mut values = Vec::with_capacity(frames * half * 2);
        for frame in 0..frames {
            let position = (first + frame as u64) as f64;
            let angle = |i: usize| position * ROTARY_BASE.powf(-(i as f64) / half as f64);
            values.extend((0..half).map(|i| angle(i).cos() as f32));
            values.extend((0..half).map(|i| angle(i).sin() as f32));
        }
        Self { half, values }
    }

    /// Cosines and sines of the table's frame `frame`.
    pub(super) fn at(&self, frame: usize) -> (&[f32], &[f32]) {
        self.values[frame * 2 * self.half..][..2 * self.half].split_at(self.half)
    }
}

/// Cosines, then sines, of one frame's rotary embedding.
pub(crate) fn rotary_angles(frame: u64, head_width: usize) -> Vec<f32> {
    RotaryTable::new(frame, 1, head_width).values
}

/// Turns a vector by a frame's angles: pairs are (i, i + half).
#[inline(always)]
pub(super) fn rotate(x: &mut [f32], cosines: &[f32], sines: &[f32], direction: f32) {
    let half = cosines.len();
    let (low, high) = x.split_at_mut(half);
    let turn = |[a, b, cosine, sine]: [f32; 4]| {
        let sine = sine * direction;
        [a * cosine - b * sine, a * sine + b * cosine]
    };
    // Arrays, for the reason that `lanes` gives; half a register, because usual heads are 16 or 32 wide.
    let (low, low_rest) = low.as_chunks_mut::<8>();
    let (high, high_rest) = high[..half].as_chunks_mut::<8>();
    let (cosines, cosines_rest) = cosines.as_chunks::<8>();
    let (sines, sines_rest) = sines[..half].as_chunks::<8>();
    for (((low, high), cosine), sine) in low.iter_mut().zip(high).zip(cosines).zip(sines) {
        let (a, b, mut new_low, mut new_high) = (*low, *high, [0.0; 8], [0.0; 8]);
        for i in 0..8 {
            [new_low[i], new_high[i]] = turn([a[i], b[i], cosine[i], sine[i]]);
        }
        (*low, *high) = (new_low, new_high);
    }
    let rest = low_rest.iter_mut().zip(high_rest);
    for ((low, high), (cosine, sine)) in rest.zip(cosines_rest.iter().zip(sines_rest)) {
        [*low, *high] = turn([*low, *high, *cosine, *sine]);
    }
}
