//! The blocks of a transformer with packed weights, and a pass of one frame through them.

use super::super::attention::rotary_angles;
use super::super::kernel;
use super::super::lanes::lane_sum;
use super::super::norm::rms_norm_rows;
use super::super::parallel::SharedMut;
use super::super::product::{Finish, PackedWeight};
use super::space::{HeadSizes, MemberBuffers, SharedSides, Sides, attend_space, lay_out};
use super::team::{Member, Team};
use super::time::{Past, Turn, attend_time};
use crate::kernels::parallel::Shared;
use crate::transformer::{CachedFrame, KvCache};
use std::ops::Range;

/// Normalisation before a sub-layer.
pub struct NormWeights {
    /// `[D]`.
    pub weight: Vec<f32>,
    /// Map of the condition to a scale and a shift, `[2 * D, C]`.
    pub film: Option<Vec<f32>>,
}

/// One attention layer.
pub struct AttentionWeights {
    /// What goes before it.
    pub norm: NormWeights,
    /// To queries, keys and values.
    pub qkv: PackedWeight,
    /// `[W]`.
    pub query_scale: Vec<f32>,
    /// `[W]`.
    pub key_scale: Vec<f32>,
    /// Back to the residual stream.
    pub out: PackedWeight,
}

/// One feed-forward layer.
pub struct FeedForwardWeights {
    /// What goes before it.
    pub norm: NormWeights,
    /// To the wide middle.
    pub up: PackedWeight,
    /// Back to the residual stream.
    pub down: PackedWeight,
}

/// One block.
pub struct BlockWeights {
    /// Spatial attention.
    pub space: AttentionWeights,
    /// Temporal attention.
    pub time: Option<AttentionWeights>,
    /// Feed-forward.
    pub feed_forward: FeedForwardWeights,
}

/// What stands after the last block: a norm and a map to a row's results.
pub struct Projection {
    /// `[D]`.
    pub norm: Vec<f32>,
    /// To the results.
    pub output: PackedWeight,
    /// Added to them.
    pub bias: Option<Vec<f32>>,
    /// The first position that has results; those before it have none.
    pub first: usize,
}

/// All blocks of a transformer.
pub struct PackedBlocks {
    /// Heads (`H`) of every layer.
    pub heads: usize,
    /// Positions in a frame (`S`).
    pub positions: usize,
    /// The blocks, in order.
    pub blocks: Vec<BlockWeights>,
}

/// What a pass works in; made once, used for every frame.
#[derive(Default)]
pub struct FrameBuffers {
    x: Vec<f32>,
    normal: Vec<f32>,
    qkv: Vec<f32>,
    attended: Vec<f32>,
    hidden: Vec<f32>,
    /// Of spatial attention, of even and of odd layers: a thread may be one layer ahead of another.
    sides: [Sides; 2],
    /// Keys and values of temporal attention, of all layers: what becomes part of the past if the frame does.
    own: CachedFrame,
    members: Vec<MemberBuffers>,
}

impl FrameBuffers {
    /// The residual stream after the last pass, `[S, D]`.
    pub fn residual(&self) -> &[f32] {
        &self.x
    }

    /// Makes the frame of the last pass the newest of the past.
    pub fn keep(&mut self, cache: &mut KvCache) {
        let spare = cache.push(std::mem::take(&mut self.own));
        self.own = spare.unwrap_or_default();
    }
}

/// The buffers as threads share them.
#[derive(Clone, Copy)]
struct SharedBuffers {
    x: SharedMut,
    normal: SharedMut,
    qkv: SharedMut,
    attended: SharedMut,
    hidden: SharedMut,
    sides: [SharedSides; 2],
    members: Shared<MemberBuffers>,
}

/// What is the same for all threads of a pass.
struct Pass<'a> {
    buffers: SharedBuffers,
    /// Keys and values of each layer's temporal attention.
    own: &'a [[SharedMut; 2]],
    cache: &'a KvCache,
    condition: Option<&'a [f32]>,
    angles: &'a [f32],
    asked: &'a (dyn Fn(usize) -> bool + Sync),
}

impl PackedBlocks {
    fn sizes(&self) -> HeadSizes {
        let first = self.blocks.first().map(|block| &block.space);
        HeadSizes {
            positions: self.positions,
            heads: self.heads,
            head_width: first.map_or(16, |space| space.query_scale.len()),
            pairs: first.is_some_and(|space| space.qkv.unit().multiplies_pairs()),
        }
    }

    fn fit(&self, buffers: &mut FrameBuffers, members: usize) {
        let sizes = self.sizes();
        let (rows, width) = (self.positions, sizes.width());
        for (buffer, count) in [
            (&mut buffers.x, rows * width),
            (&mut buffers.normal, rows * width),
            (&mut buffers.qkv, 3 * rows * width),
            (&mut buffers.attended, rows * width),
            (&mut buffers.hidden, 4 * rows * width),
        ] {
            buffer.resize(count, 0.0);
        }
        buffers.sides.iter_mut().for_each(|sides| sides.fit(sizes));
        let temporal = self
            .blocks
            .iter()
            .filter(|block| block.time.is_some())
            .count();
        buffers.own.fit(temporal, rows * width);
        buffers.members.resize_with(members, MemberBuffers::default);
    }

    /// Takes one frame through the blocks: `embed` fills the rows that it is given of the first layer's input `[S, D]`; `projection`, where there is
    /// one, says what becomes of the last layer's output and where it goes, `[S - first, outputs]`. `cache` is the past of temporal attention;
    /// [`FrameBuffers::keep`] makes this frame part of it.
    ///
    /// `asked` tells which rows of the output are wanted: the others need nothing of the last block but their keys and values, and what stands in
    /// their place afterwards means nothing.
    ///
    /// Panics when sizes do not fit; models check them where input can reach.
    #[allow(clippy::too_many_arguments)]
    pub fn run(
        &self,
        team: &Team,
        buffers: &mut FrameBuffers,
        cache: &KvCache,
        condition: Option<&[f32]>,
        embed: &(dyn Fn(Range<usize>, &mut [f32]) + Sync),
        asked: &(dyn Fn(usize) -> bool + Sync),
        projection: Option<(&Projection, &mut [f32])>,
    ) {
        self.fit(buffers, team.members());
        crate::count::add_attention_pairs(self.attention_pairs(cache));
        let angles = rotary_angles(cache.frames_seen(), self.sizes().head_width);
        let own: Vec<_> = buffers
            .own
            .layers_mut()
            .map(|(keys, values)| [Shared::new(keys), Shared::new(values)])
            .collect();
        let [even, odd] = &mut buffers.sides;
        let shared = SharedBuffers {
            x: Shared::new(&mut buffers.x),
            normal: Shared::new(&mut buffers.normal),
            qkv: Shared::new(&mut buffers.qkv),
            attended: Shared::new(&mut buffers.attended),
            hidden: Shared::new(&mut buffers.hidden),
            sides: [even.share(), odd.share()],
            members: Shared::new(&mut buffers.members),
        };
        let projection = projection.map(|(projection, out)| (projection, Shared::new(out)));
        let pass = Pass {
            buffers: shared,
            own: &own,
            cache,
            condition,
            angles: &angles,
            asked,
        };
        team.run(&|member| self.member(member, &pass, embed, projection));
    }

    /// Pairs of positions that attend to each other in a pass, over all heads.
    fn attention_pairs(&self, cache: &KvCache) -> u64 {
        let temporal = self.blocks.iter().filter(|block| block.time.is_some());
        let space = self.positions * self.blocks.len();
        let time = (cache.frames_held() + 1) * temporal.count();
        (self.positions * self.heads * (space + time)) as u64
    }

    /// One thread's part.
    fn member(
        &self,
        member: &Member,
        pass: &Pass,
        embed: &(dyn Fn(Range<usize>, &mut [f32]) + Sync),
        projection: Option<(&Projection, SharedMut)>,
    ) {
        let width = self.sizes().width();
        let rows = member.rows(self.positions);
        let shared = pass.buffers;
        // SAFETY: here and below, a thread takes its own rows of a buffer and its own member's buffers; the vectors outlive the pass.
        let own = |buffer: SharedMut, width: usize| unsafe {
            buffer.row(rows.start * width, rows.len() * width)
        };
        // SAFETY: as above.
        let buffers = &mut unsafe { shared.members.row(member.index(), 1) }[0];
        let (x, normal) = (own(shared.x, width), own(shared.normal, width));
        embed(rows.clone(), x);
        let first = projection.map_or(0, |(projection, _)| projection.first);
        // Rows of this thread that go on, by their place in `rows`.
        let mut going = std::mem::take(&mut buffers.going);
        going.clear();
        going.extend(0..rows.len());
        let mut temporal = 0;
        for (index, block) in self.blocks.iter().enumerate() {
            let (qkv, attended) = (own(shared.qkv, 3 * width), own(shared.attended, width));
            block.space.norm.apply(normal, x, pass.condition, buffers);
            block.space.qkv.apply(qkv, normal, Finish::Write);
            let (sides, scale) = (shared.sides[index % 2], &block.space.query_scale);
            // SAFETY: each thread lays out its own rows, from an even one on; nobody reads them before the threads have met.
            unsafe {
                lay_out(
                    sides,
                    qkv,
                    &block.space.key_scale,
                    self.sizes(),
                    rows.start,
                    buffers,
                )
            };
            member.meet();
            // SAFETY: all threads have written their part of these and write to the other pair until they meet again.
            unsafe { attend_space(attended, qkv, scale, sides, self.sizes(), buffers) };
            block.space.out.apply(x, attended, Finish::Add);
            let last = index + 1 == self.blocks.len();
            let wanted = |row: usize| row >= first && (pass.asked)(row);
            let go_on = |row: usize| !last || wanted(rows.start + row);
            going.retain(|&row| go_on(row));
            let count = going.len() * width;
            if let Some(time) = &block.time {
                time.norm.apply(normal, x, pass.condition, buffers);
                time.qkv.apply(qkv, normal, Finish::Write);
                let [keys, values] = pass.own[temporal];
                let frame = [own(keys, width), own(values, width)];
                let past = Past {
                    frames: pass.cache.frames(),
                    layer: temporal,
                };
                let turn = Turn {
                    query_scale: &time.query_scale,
                    key_scale: &time.key_scale,
                    angles: pass.angles.split_at(pass.angles.len() / 2),
                };
                attend_time(
                    attended, qkv, frame, turn, past, rows.start, width, go_on, buffers,
                );
                gather(x, &going, width);
                time.out
                    .apply(&mut x[..count], &attended[..count], Finish::Add);
                temporal += 1;
            } else {
                gather(x, &going, width);
            }
            let hidden = &mut own(shared.hidden, 4 * width)[..4 * count];
            let (x, normal) = (&mut x[..count], &mut normal[..count]);
            let feed_forward = &block.feed_forward;
            feed_forward.norm.apply(normal, x, pass.condition, buffers);
            feed_forward.up.apply(hidden, normal, Finish::Gelu);
            feed_forward.down.apply(x, hidden, Finish::Add);
        }
        if let Some((projection, out)) = projection {
            let outputs = projection.output.outputs();
            let skipped = first.saturating_sub(rows.start).min(rows.len());
            let start = (rows.start + skipped).saturating_sub(first);
            // SAFETY: these are the results of this thread's own rows.
            let out = unsafe { out.row(start * outputs, (rows.len() - skipped) * outputs) };
            let count = going.len();
            projection.apply(
                &mut out[..count * outputs],
                &x[..count * width],
                &mut normal[..count * width],
            );
            scatter(out, &going, skipped, outputs);
        }
        scatter(x, &going, 0, width);
        buffers.going = going;
    }
}

/// Moves some rows of `width` numbers, in order of their numbers, to the front.
fn gather(x: &mut [f32], rows: &[usize], width: usize) {
    for (to, &from) in rows.iter().enumerate().filter(|&(to, from)| to != *from) {
        x.copy_within(from * width..(from + 1) * width, to * width);
    }
}

/// Undoes [`gather`]; `x` begins at row `first`.
fn scatter(x: &mut [f32], rows: &[usize], first: usize, width: usize) {
    let places = rows.iter().map(|row| row - first);
    for (from, to) in places.enumerate().rev().filter(|(from, to)| from != to) {
        x.copy_within(from * width..(from + 1) * width, to * width);
    }
}

impl NormWeights {
    /// `out = norm(x)`, modulated by the condition where there is one.
    fn apply(
        &self,
        out: &mut [f32],
        x: &[f32],
        condition: Option<&[f32]>,
        buffers: &mut MemberBuffers,
    ) {
        rms_norm_rows(out, x, &self.weight);
        let given = condition.map(|condition| 2 * self.weight.len() * condition.len());
        let film = self.film.as_ref();
        assert_eq!(film.map(Vec::len), given, "numbers of a condition's map");
        if let (Some(film), Some(condition)) = (film, condition) {
            buffers.modulation.resize(2 * self.weight.len(), 0.0);
            modulation(&mut buffers.modulation, film, condition);
            modulate(out, &buffers.modulation);
        }
    }
}

kernel! {
    /// What a linear map makes of the condition.
    fn modulation(out: &mut [f32], film: &[f32], condition: &[f32]) {
        let width = condition.len();
        for (out, row) in out.iter_mut().zip(film.chunks_exact(width)) {
            *out = lane_sum([row, condition], |[weight, x]| weight * x);
        }
    }
}

kernel! {
    /// Modulates rows by a scale and, after it, a shift.
    fn modulate(x: &mut [f32], modulation: &[f32]) {
        let width = modulation.len() / 2;
        let (scale, shift) = modulation.split_at(width);
        for row in x.chunks_exact_mut(width) {
            for i in 0..width {
                row[i] = row[i] * (1.0 + scale[i]) + shift[i];
            }
        }
    }
}

impl Projection {
    /// Results of some rows `x` `[rows, D]`; `normal` is as large as they.
    pub fn apply(&self, out: &mut [f32], x: &[f32], normal: &mut [f32]) {
        rms_norm_rows(normal, x, &self.norm);
        let finish = self.bias.as_deref().map_or(Finish::Write, Finish::Bias);
        self.output.apply(out, normal, finish);
    }
}
