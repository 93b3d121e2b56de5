//! The space-time transformer: over whole clips for training, frame by frame with a cache for play.
//!
//! A block is spatial attention within a frame, causal temporal attention at one position across frames, and one feed-forward
//! layer (Genie, arXiv 2402.15391, section 2). Cost grows linearly with the number of frames.

use crate::kernels::attention::{Pattern, rotary_angles};
use crate::kernels::inference::{
    AttentionWeights, BlockWeights, FeedForwardWeights, MemberBuffers, NormWeights, PackedBlocks,
    PackedWeight, Past, Turn, Unit, attend_time,
};
use crate::ops::{self, AttentionArguments, FeedForwardArguments, NormArguments, SubLayer, values};
use crate::{Error, Result, linear_weight};
use candle_core::{Tensor, bail};
use candle_nn::{Init, VarBuilder};
use std::collections::VecDeque;
use std::sync::Arc;

/// What numbers per head must be a multiple of.
const HEAD_WIDTH_STEP: usize = 16;
/// Most bytes that the keys and values of past frames may take.
pub const LARGEST_PAST: usize = 1 << 30;

/// Sizes of a [`SpaceTimeTransformer`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SpaceTimeConfig {
    /// Model width (`D`).
    pub width: usize,
    /// Heads (`H`).
    pub heads: usize,
    /// Blocks.
    pub layers: usize,
    /// Frames that temporal attention sees, the present one included; `None` leaves temporal attention out.
    pub temporal_window: Option<usize>,
    /// Width of a per-frame condition that modulates every layer (FiLM); `None` for none.
    pub condition_width: Option<usize>,
}

impl SpaceTimeConfig {
    /// Checks that such a transformer can be built and is of sane size.
    ///
    /// # Errors
    /// Names the first field that is out of range.
    pub fn validate(&self) -> Result<()> {
        Error::check_range("width", self.width, HEAD_WIDTH_STEP..=4096)?;
        Error::check_range("heads", self.heads, 1..=64)?;
        Error::check_range("layers", self.layers, 1..=64)?;
        if let Some(window) = self.temporal_window {
            Error::check_range("window", window, 1..=1024)?;
        }
        if !self.width.is_multiple_of(self.heads * HEAD_WIDTH_STEP) {
            let reason = format!(
                "must be a multiple of heads * {HEAD_WIDTH_STEP} (heads = {})",
                self.heads
            );
            return Err(Error::config("width", self.width, reason));
        }
        Ok(())
    }

    /// Checks that the past of frames of `positions` (`S`) fits into memory: each field alone may be sane, and all together not.
    ///
    /// # Errors
    /// When it would be larger than a gigabyte.
    pub fn validate_past(&self, positions: usize) -> Result<()> {
        let frames = self.temporal_window.unwrap_or(1).saturating_sub(1);
        let numbers = [2, self.layers, self.width, positions, frames];
        let bytes = numbers.into_iter().fold(4, usize::saturating_mul);
        Error::check_range("bytes of remembered frames", bytes, 0..=LARGEST_PAST)
    }
}

/// Normalisation before a sub-layer, modulated by the condition where there is one.
struct Norm {
    weight: Tensor,
    /// Linear map of the condition to a scale and a shift, `[2 * D, C]`.
    film: Option<Tensor>,
}

impl Norm {
    fn new(config: &SpaceTimeConfig, builder: VarBuilder) -> Result<Self> {
        let weight = builder.get_with_hints(config.width, "weight", Init::Const(1.0))?;
        let film = match config.condition_width {
            Some(condition) => Some(linear_weight(
                &builder,
                "film",
                2 * config.width,
                condition,
                0.5,
            )?),
            None => None,
        };
        Ok(Self { weight, film })
    }

    fn pack(&self) -> Result<NormWeights> {
        Ok(NormWeights {
            weight: numbers(&self.weight)?,
            film: self.film.as_ref().map(numbers).transpose()?,
        })
    }

    fn arguments(&self, condition: Option<&Tensor>) -> candle_core::Result<NormArguments> {
        let modulation = match (&self.film, condition) {
            (Some(film), Some(condition)) => Some(ops::linear(condition, film)?),
            (None, None) => None,
            _ => bail!("a condition must be given exactly where the model was built for one"),
        };
        Ok(NormArguments {
            weight: self.weight.clone(),
            modulation,
        })
    }
}

struct Attention {
    norm: Norm,
    qkv: Tensor,
    query_scale: Tensor,
    key_scale: Tensor,
    out: Tensor,
}

impl Attention {
    fn new(config: &SpaceTimeConfig, builder: VarBuilder) -> Result<Self> {
        let (width, head_width) = (config.width, config.width / config.heads);
        // Scaled queries and keys start at length sqrt(sqrt(head_width)) each, a softmax neither flat nor saturated.
        let scale = Init::Const((head_width as f64).powf(0.25));
        Ok(Self {
            norm: Norm::new(config, builder.pp("norm"))?,
            qkv: linear_weight(&builder, "qkv", 3 * width, width, 1.0)?,
            query_scale: builder.get_with_hints(head_width, "query_scale", scale)?,
            key_scale: builder.get_with_hints(head_width, "key_scale", scale)?,
            out: linear_weight(&builder, "out", width, width, residual_gain(config))?,
        })
    }

    fn pack(&self, unit: Unit) -> Result<AttentionWeights> {
        Ok(AttentionWeights {
            norm: self.norm.pack()?,
            qkv: packed(&self.qkv, unit)?,
            query_scale: numbers(&self.query_scale)?,
            key_scale: numbers(&self.key_scale)?,
            out: packed(&self.out, unit)?,
        })
    }

    fn sub_layer(
        &self,
        condition: Option<&Tensor>,
        pattern: Pattern,
    ) -> candle_core::Result<SubLayer> {
        let arguments = AttentionArguments {
            norm: self.norm.arguments(condition)?,
            qkv: self.qkv.clone(),
            query_scale: self.query_scale.clone(),
            key_scale: self.key_scale.clone(),
            out: self.out.clone(),
        };
        Ok(SubLayer::Attention(arguments, pattern))
    }

    /// One new frame `[B, 1, S, D]` against the cached ones of temporal layer `layer`.
    fn step(
        &self,
        x: &Tensor,
        condition: Option<&Tensor>,
        cache: &KvCache,
        layer: usize,
    ) -> candle_core::Result<(Tensor, LayerFrame)> {
        let normal = ops::normed(x, &self.norm.arguments(condition)?)?;
        let qkv = ops::linear(&normal, &self.qkv)?;
        let qkv = qkv.to_device(&candle_core::Device::Cpu)?;
        let query_scale = self.query_scale.to_device(&candle_core::Device::Cpu)?;
        let key_scale = self.key_scale.to_device(&candle_core::Device::Cpu)?;
        values!(
            qkv_values = qkv,
            query_scale = query_scale,
            key_scale = key_scale
        );
        let count = x.elem_count();
        let fits = |frame: &CachedFrame| {
            let layer = frame.layers.get(layer);
            layer.is_some_and(|layer| layer.keys.len() == count)
        };
        if !cache.frames.iter().all(|frame| fits(frame)) {
            bail!("a cache of other frames than the one it is used with");
        }
        let angles = rotary_angles(cache.next, query_scale.len());
        let turn = Turn {
            query_scale,
            key_scale,
            angles: angles.split_at(angles.len() / 2),
        };
        let past = Past {
            frames: &cache.frames,
            layer,
        };
        let [mut keys, mut values, mut attended] = [(); 3].map(|()| vec![0.0; count]);
        let (own, buffers) = ([&mut keys[..], &mut values], &mut MemberBuffers::default());
        attend_time(
            &mut attended,
            qkv_values,
            own,
            turn,
            past,
            0,
            x.dim(3)?,
            |_| true,
            buffers,
        );
        let attended = Tensor::from_vec(attended, x.shape(), x.device())?;
        let out = ops::linear_onto(&attended, &self.out, x)?;
        Ok((out, LayerFrame { keys, values }))
    }
}

struct FeedForward {
    norm: Norm,
    up: Tensor,
    down: Tensor,
}

impl FeedForward {
    fn new(config: &SpaceTimeConfig, builder: VarBuilder) -> Result<Self> {
        let width = config.width;
        Ok(Self {
            norm: Norm::new(config, builder.pp("norm"))?,
            up: linear_weight(&builder, "up", 4 * width, width, 1.0)?,
            down: linear_weight(&builder, "down", width, 4 * width, residual_gain(config))?,
        })
    }

    fn sub_layer(&self, condition: Option<&Tensor>) -> candle_core::Result<SubLayer> {
        Ok(SubLayer::FeedForward(FeedForwardArguments {
            norm: self.norm.arguments(condition)?,
            up: self.up.clone(),
            down: self.down.clone(),
        }))
    }
}

/// Whether a weight of that name is a matrix between the layers of a block, as [`Attention`] and [`FeedForward`] name them.
pub(crate) fn is_block_matrix(name: &str) -> bool {
    let mut parts = name.rsplit('.');
    let (matrix, layer) = (parts.next(), parts.next());
    match layer {
        Some("space" | "time") => matches!(matrix, Some("qkv" | "out")),
        Some("feed_forward") => matches!(matrix, Some("up" | "down")),
        _ => false,
    }
}

/// The numbers of a tensor, wherever it lies.
///
/// # Errors
/// When they cannot be read from its device.
pub fn numbers(tensor: &Tensor) -> Result<Vec<f32>> {
    Ok(tensor.flatten_all()?.to_vec1()?)
}

/// A layer's weight `[outputs, inputs]`, packed for one unit.
///
/// # Errors
/// When it cannot be read from its device.
pub fn packed(weight: &Tensor, unit: Unit) -> Result<PackedWeight> {
    let (outputs, inputs) = weight.dims2()?;
    Ok(PackedWeight::new(&numbers(weight)?, outputs, inputs, unit))
}

/// Start of what is added to the residual stream: small enough that the sum over all layers stays near one.
fn residual_gain(config: &SpaceTimeConfig) -> f64 {
    (3.0 * config.layers as f64).sqrt().recip()
}

struct Block {
    space: Attention,
    time: Option<Attention>,
    feed_forward: FeedForward,
}

impl Block {
    fn new(config: &SpaceTimeConfig, builder: VarBuilder) -> Result<Self> {
        let time = match config.temporal_window {
            Some(_) => Some(Attention::new(config, builder.pp("time"))?),
            None => None,
        };
        Ok(Self {
            space: Attention::new(config, builder.pp("space"))?,
            time,
            feed_forward: FeedForward::new(config, builder.pp("feed_forward"))?,
        })
    }

    fn pack(&self, unit: Unit) -> Result<BlockWeights> {
        Ok(BlockWeights {
            space: self.space.pack(unit)?,
            time: self.time.as_ref().map(|time| time.pack(unit)).transpose()?,
            feed_forward: FeedForwardWeights {
                norm: self.feed_forward.norm.pack()?,
                up: packed(&self.feed_forward.up, unit)?,
                down: packed(&self.feed_forward.down, unit)?,
            },
        })
    }

    fn sub_layers(
        &self,
        condition: Option<&Tensor>,
        time: Pattern,
    ) -> candle_core::Result<Vec<SubLayer>> {
        let mut layers = vec![self.space.sub_layer(condition, Pattern::Space)?];
        if let Some(layer) = &self.time {
            layers.push(layer.sub_layer(condition, time)?);
        }
        layers.push(self.feed_forward.sub_layer(condition)?);
        Ok(layers)
    }
}

/// Blocks of spatial attention, causal temporal attention and feed-forward.
pub struct SpaceTimeTransformer {
    blocks: Vec<Block>,
    heads: usize,
    window: usize,
}

impl SpaceTimeTransformer {
    /// Builds the blocks from the weights `0`, `1`, ... below `builder`.
    ///
    /// # Errors
    /// When the configuration is out of range or weights do not fit it.
    pub fn new(config: &SpaceTimeConfig, builder: VarBuilder) -> Result<Self> {
        config.validate()?;
        let blocks = (0..config.layers).map(|layer| Block::new(config, builder.pp(layer)));
        Ok(Self {
            blocks: blocks.collect::<Result<_>>()?,
            heads: config.heads,
            window: config.temporal_window.unwrap_or(1),
        })
    }

    /// Whole clips: `x` `[B, T, S, D]`, `condition` `[B, T, C]` where the model was built for one. Returns `[B, T, S, D]`; frame t
    /// depends on frames up to t alone.
    ///
    /// # Errors
    /// When shapes do not fit.
    pub fn forward(&self, x: &Tensor, condition: Option<&Tensor>) -> Result<Tensor> {
        let time = Pattern::Time {
            window: self.window,
        };
        Ok(ops::sub_layers(x, &self.sub_layers(condition, time)?)?)
    }

    /// The sub-layers of all blocks.
    fn sub_layers(
        &self,
        condition: Option<&Tensor>,
        time: Pattern,
    ) -> candle_core::Result<Vec<SubLayer>> {
        let blocks = self.blocks.iter();
        let layers = blocks.map(|block| block.sub_layers(condition, time));
        Ok(layers.collect::<candle_core::Result<Vec<_>>>()?.concat())
    }

    /// Clean clips and, after them in the batch, masked ones, each of whose frames follows the clean one of its number: `x`
    /// `[2 * B, T, S, D]`. A masked frame sees the clean frames before it and itself, exactly as [`Self::step`] does in play. The last
    /// feed-forward layer, which mixes no rows, is spared for rows whose outputs nobody wants: `wanted` picks from `[2 * B, T, S, D]` what
    /// comes out.
    ///
    /// # Errors
    /// When shapes do not fit.
    pub fn forward_paired(
        &self,
        x: &Tensor,
        wanted: impl FnOnce(&Tensor) -> candle_core::Result<Tensor>,
    ) -> Result<Tensor> {
        let time = Pattern::PairedTime {
            window: self.window,
        };
        let layers = self.sub_layers(None, time)?;
        let (before, last) = layers.split_at(layers.len().saturating_sub(1));
        let attended = wanted(&ops::sub_layers(x, before)?)?;
        Ok(ops::sub_layers(&attended, last)?)
    }

    /// The blocks with packed weights, for frames of `positions` (`S`) on the CPU.
    ///
    /// # Errors
    /// When weights cannot be read from their device.
    pub fn pack(&self, positions: usize, unit: Unit) -> Result<PackedBlocks> {
        let blocks = self.blocks.iter().map(|block| block.pack(unit));
        Ok(PackedBlocks {
            heads: self.heads,
            positions,
            blocks: blocks.collect::<Result<_>>()?,
        })
    }

    /// An empty cache for [`Self::step`].
    pub fn start(&self) -> KvCache {
        KvCache {
            past: self.window - 1,
            frames: VecDeque::new(),
            next: 0,
        }
    }

    /// One new frame: `x` `[B, 1, S, D]`, `condition` `[B, 1, C]`. Returns the output and what [`KvCache::push`] takes if this frame is
    /// to become part of the past; the cache itself is not changed.
    ///
    /// # Errors
    /// When shapes do not fit the model or the cache.
    pub fn step(
        &self,
        x: &Tensor,
        condition: Option<&Tensor>,
        cache: &KvCache,
    ) -> Result<(Tensor, CachedFrame)> {
        let mut x = x.clone();
        let mut layers = Vec::new();
        for (index, block) in self.blocks.iter().enumerate() {
            x = ops::sub_layers(&x, &[block.space.sub_layer(condition, Pattern::Space)?])?;
            if let Some(time) = &block.time {
                let (out, own) = time.step(&x, condition, cache, index)?;
                x = out;
                layers.push(own);
            }
            x = ops::sub_layers(&x, &[block.feed_forward.sub_layer(condition)?])?;
        }
        Ok((x, CachedFrame { layers }))
    }
}

/// Keys and values of one frame in one layer, `[rows, D]` each.
#[derive(Default)]
struct LayerFrame {
    keys: Vec<f32>,
    values: Vec<f32>,
}

/// Keys and values of one frame in all layers; never changed once it is part of the past.
#[derive(Default)]
pub struct CachedFrame {
    layers: Vec<LayerFrame>,
}

impl CachedFrame {
    /// Makes room for `layers` of `numbers` keys and as many values.
    pub(crate) fn fit(&mut self, layers: usize, numbers: usize) {
        self.layers.resize_with(layers, LayerFrame::default);
        for layer in &mut self.layers {
            layer.keys.resize(numbers, 0.0);
            layer.values.resize(numbers, 0.0);
        }
    }

    /// Keys and values of a layer.
    pub(crate) fn layer(&self, layer: usize) -> [&[f32]; 2] {
        [&self.layers[layer].keys, &self.layers[layer].values]
    }

    /// Keys and values of each layer, to be written.
    pub(crate) fn layers_mut(&mut self) -> impl Iterator<Item = (&mut [f32], &mut [f32])> {
        self.layers
            .iter_mut()
            .map(|layer| (&mut layer.keys[..], &mut layer.values[..]))
    }
}

/// The past frames that temporal attention still sees. A clone shares the frames, so that snapshots cost next to nothing.
#[derive(Clone)]
pub struct KvCache {
    /// Frames kept.
    past: usize,
    frames: VecDeque<Arc<CachedFrame>>,
    /// Absolute number of the next frame.
    next: u64,
}

impl KvCache {
    /// Makes `frame` the newest of the past; the oldest is forgotten when the window is full. Returns the forgotten one, for its memory, unless a
    /// clone of this cache still holds it.
    pub fn push(&mut self, frame: CachedFrame) -> Option<CachedFrame> {
        self.frames.push_back(Arc::new(frame));
        self.next += 1;
        match self.frames.len() > self.past {
            true => self.frames.pop_front().and_then(Arc::into_inner),
            false => None,
        }
    }

    /// The frames held, oldest first.
    pub(crate) fn frames(&self) -> &VecDeque<Arc<CachedFrame>> {
        &self.frames
    }

    /// Frames taken in since the start.
    pub fn frames_seen(&self) -> u64 {
        self.next
    }

    /// Frames still held: at most the window less one.
    pub fn frames_held(&self) -> usize {
        self.frames.len()
    }

    /// Where each held frame lies in memory and how many bytes it takes. Clones that share a frame name the same place.
    pub fn memory(&self) -> impl Iterator<Item = (usize, usize)> {
        self.frames.iter().map(|frame| {
            let numbers = |layer: &LayerFrame| layer.keys.capacity() + layer.values.capacity();
            let numbers: usize = frame.layers.iter().map(numbers).sum();
            let address = Arc::as_ptr(frame).addr();
            (address, numbers * size_of::<f32>())
        })
    }

    /// What the cache holds as numbers: the keys and the values of each layer of each frame, oldest frame first.
    pub fn contents(&self) -> CacheContents {
        let layers = || self.frames.iter().flat_map(|frame| &frame.layers);
        CacheContents {
            frames: self.frames.len(),
            layers: self.frames.front().map_or(0, |frame| frame.layers.len()),
            width: layers().next().map_or(0, |layer| layer.keys.len()),
            numbers: layers()
                .flat_map(|layer| [&layer.keys, &layer.values])
                .flatten()
                .copied()
                .collect(),
        }
    }

    /// The cache that had these contents after `seen` frames. `self`, a cache of the same model that holds a frame wherever such caches do,
    /// says what fits.
    ///
    /// # Errors
    /// When the contents are of another model or of another number of frames.
    pub fn with_contents(&self, seen: u64, contents: &CacheContents) -> Result<Self> {
        let CacheContents {
            frames,
            layers,
            width,
            ref numbers,
        } = *contents;
        let held = usize::try_from(seen).unwrap_or(usize::MAX).min(self.past);
        let own = self.frames.front();
        let fits = |frame: &CachedFrame| {
            frame.layers.len() == layers && frame.layers.iter().all(|own| own.keys.len() == width)
        };
        let size = layers
            .checked_mul(2)
            .and_then(|size| size.checked_mul(width))
            .and_then(|size| size.checked_mul(frames));
        let whole = size == Some(numbers.len());
        if frames != held || !whole || (frames > 0 && !own.is_some_and(|own| fits(own))) {
            return Err(Error::Input(format!(
                "a cache of {frames} frames, {layers} layers and {width} numbers does not fit the model after {seen} frames"
            )));
        }
        let mut rows = numbers.chunks_exact(width.max(1)).map(<[f32]>::to_vec);
        let mut layer = || LayerFrame {
            keys: rows.next().unwrap_or_default(),
            values: rows.next().unwrap_or_default(),
        };
        let mut frame = || CachedFrame {
            layers: (0..layers).map(|_| layer()).collect(),
        };
        Ok(Self {
            past: self.past,
            frames: (0..frames).map(|_| Arc::new(frame())).collect(),
            next: seen,
        })
    }
}

/// The numbers of a [`KvCache`], to be stored.
#[derive(Clone, Debug, PartialEq)]
pub struct CacheContents {
    /// Frames held.
    pub frames: usize,
    /// Layers of a frame.
    pub layers: usize,
    /// Keys of a layer, and values as many.
    pub width: usize,
    /// `[frames, layers, 2, width]`.
    pub numbers: Vec<f32>,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernels::inference::{FrameBuffers, Team};
    use crate::quality::largest_difference;
    use crate::{Parameters, Precision, count, generator, normal};
    use candle_core::Device;

    fn config(temporal_window: Option<usize>) -> SpaceTimeConfig {
        SpaceTimeConfig {
            width: 32,
            heads: 2,
            layers: 3,
            temporal_window,
            condition_width: None,
        }
    }

    fn model(config: &SpaceTimeConfig) -> SpaceTimeTransformer {
        SpaceTimeTransformer::new(config, Parameters::seeded(1, &Device::Cpu).builder()).unwrap()
    }

    fn noise(shape: (usize, usize, usize, usize), seed: u64) -> Tensor {
        let mut random = generator(seed, 0);
        let values: Vec<f32> = (0..shape.0 * shape.1 * shape.2 * shape.3)
            .map(|_| normal(&mut random))
            .collect();
        Tensor::from_vec(values, shape, &Device::Cpu).unwrap()
    }

    #[test]
    fn later_frames_change_no_earlier_output() -> Result<()> {
        let model = model(&config(Some(4)));
        let x = noise((2, 6, 5, 32), 3);
        let y = model.forward(&x, None)?;
        for frame in 1..6 {
            let changed = Tensor::cat(
                &[x.narrow(1, 0, frame)?, noise((2, 6 - frame, 5, 32), 9)],
                1,
            )?;
            let z = model.forward(&changed, None)?;
            assert_eq!(
                largest_difference(&y.narrow(1, 0, frame)?, &z.narrow(1, 0, frame)?),
                0.0
            );
            assert!(largest_difference(&y.narrow(1, frame, 1)?, &z.narrow(1, frame, 1)?) > 1e-3);
        }
        Ok(())
    }

    #[test]
    fn packed_passes_equal_whole_clips_after_the_window_has_slid() -> Result<()> {
        for (condition_width, window, members, positions) in [
            (None, Some(3), 1, 5),
            (Some(6), Some(3), 2, 37),
            (None, None, 3, 16),
            (None, Some(1), 9, 5),
        ] {
            let config = SpaceTimeConfig {
                condition_width,
                ..config(window)
            };
            let model = model(&config);
            let x = noise((1, 9, positions, 32), 3);
            let condition =
                condition_width.map(|width| noise((1, 1, 9, width), 5).squeeze(0).unwrap());
            let whole = model.forward(&x, condition.as_ref())?;
            let team = Team::new(members);
            for unit in Unit::all() {
                let blocks = model.pack(positions, unit)?;
                let (mut buffers, mut cache) = (FrameBuffers::default(), model.start());
                let bound = match unit.precision() {
                    Precision::F32 => 1e-4,
                    Precision::Bf16 => 0.1,
                };
                for frame in 0..9 {
                    let input = numbers(&x.narrow(1, frame, 1)?)?;
                    // Of every other frame only some rows; its keys and values are those of all.
                    let asked = |row: usize| frame % 2 == 0 || row % 3 == 1;
                    let condition = condition
                        .as_ref()
                        .map(|c| numbers(&c.narrow(1, frame, 1).unwrap()).unwrap());
                    let embed = |rows: std::ops::Range<usize>, x: &mut [f32]| {
                        x.copy_from_slice(&input[rows.start * 32..rows.end * 32]);
                    };
                    blocks.run(
                        &team,
                        &mut buffers,
                        &cache,
                        condition.as_deref(),
                        &embed,
                        &asked,
                        None,
                    );
                    let out = buffers.residual();
                    let out = Tensor::from_slice(out, (1, 1, positions, 32), &Device::Cpu)?;
                    let expected = whole.narrow(1, frame, 1)?;
                    for row in (0..positions).filter(|&row| asked(row)) {
                        let [out, expected] = [out.narrow(2, row, 1)?, expected.narrow(2, row, 1)?];
                        let off = largest_difference(&out, &expected);
                        assert!(
                            off < bound,
                            "row {row} of frame {frame} is off by {off} ({})",
                            unit.name()
                        );
                    }
                    buffers.keep(&mut cache);
                    assert!(cache.frames_held() < window.unwrap_or(1));
                }
            }
        }
        Ok(())
    }

    #[test]
    fn streaming_equals_whole_clips_after_the_window_has_slid() -> Result<()> {
        for condition_width in [None, Some(6)] {
            let config = SpaceTimeConfig {
                condition_width,
                ..config(Some(3))
            };
            let model = model(&config);
            let x = noise((2, 9, 5, 32), 3);
            let condition =
                condition_width.map(|width| noise((1, 2, 9, width), 5).squeeze(0).unwrap());
            let whole = model.forward(&x, condition.as_ref())?;
            let mut cache = model.start();
            for frame in 0..9 {
                let condition = condition.as_ref().map(|c| c.narrow(1, frame, 1).unwrap());
                let (out, own) = model.step(&x.narrow(1, frame, 1)?, condition.as_ref(), &cache)?;
                assert!(
                    largest_difference(&out, &whole.narrow(1, frame, 1)?) < 1e-4,
                    "frame {frame}"
                );
                cache.push(own);
                assert!(cache.frames_held() <= 2);
            }
        }
        Ok(())
    }

    #[test]
    fn a_cache_goes_on_from_its_contents_and_from_no_others() -> Result<()> {
        let model = model(&config(Some(3)));
        let x = noise((1, 6, 5, 32), 3);
        let mut cache = model.start();
        for frame in 0..5 {
            let (_, own) = model.step(&x.narrow(1, frame, 1)?, None, &cache)?;
            cache.push(own);
        }
        let contents = cache.contents();
        assert_eq!(
            (contents.frames, contents.layers, contents.width),
            (2, 3, 160)
        );
        let again = cache.with_contents(5, &contents)?;
        let last = x.narrow(1, 5, 1)?;
        let (expected, got) = (
            model.step(&last, None, &cache)?.0,
            model.step(&last, None, &again)?.0,
        );
        assert_eq!(largest_difference(&expected, &got), 0.0);
        assert!(cache.with_contents(1, &contents).is_err());
        for change in [
            |contents: &mut CacheContents| contents.frames = 3,
            |contents: &mut CacheContents| contents.layers = 2,
            |contents: &mut CacheContents| contents.width = usize::MAX,
            |contents: &mut CacheContents| contents.numbers.truncate(7),
        ] {
            let mut other = contents.clone();
            change(&mut other);
            assert!(cache.with_contents(5, &other).is_err());
        }
        // Frames that clones share are counted at one place.
        let shared: std::collections::BTreeMap<_, _> =
            cache.memory().chain(cache.clone().memory()).collect();
        assert_eq!(shared.len(), 2);
        assert_eq!(shared.values().sum::<usize>(), 2 * 3 * 2 * 160 * 4);
        Ok(())
    }

    #[test]
    fn a_masked_frame_sees_in_training_what_it_sees_in_play() -> Result<()> {
        let model = model(&config(Some(3)));
        let (clean, masked) = (noise((1, 7, 5, 32), 3), noise((1, 7, 5, 32), 4));
        let x = Tensor::cat(&[&clean, &masked], 0)?;
        let both = model.forward_paired(&x, |x| Ok(x.clone()))?;
        let mut cache = model.start();
        for frame in 0..7 {
            let (out, own) = model.step(&clean.narrow(1, frame, 1)?, None, &cache)?;
            assert!(
                largest_difference(&out, &both.narrow(0, 0, 1)?.narrow(1, frame, 1)?) < 1e-4,
                "clean frame {frame}"
            );
            cache.push(own);
            let (out, _) = model.step(&masked.narrow(1, frame, 1)?, None, &cache)?;
            assert!(
                largest_difference(&out, &both.narrow(0, 1, 1)?.narrow(1, frame, 1)?) < 1e-4,
                "masked frame {frame}"
            );
        }
        let some = model.forward_paired(&x, |x| x.narrow(2, 1, 3)?.contiguous())?;
        assert!(largest_difference(&some, &both.narrow(2, 1, 3)?) < 1e-5);
        Ok(())
    }

    #[test]
    fn attention_cost_is_linear_in_frames() -> Result<()> {
        let model = model(&config(Some(4)));
        let pairs = |frames| {
            count::attention_pairs(|| model.forward(&noise((1, frames, 5, 32), 3), None).unwrap()).1
        };
        let paired = |frames| {
            let x = noise((2, frames, 5, 32), 3);
            count::attention_pairs(|| model.forward_paired(&x, |x| Ok(x.clone())).unwrap()).1
        };
        // Layers x heads x (space: frames x 5 x 5, time: 5 x pairs of the frames that each segment of four sees).
        assert_eq!(pairs(16), 3 * 2 * (16 * 25 + 5 * (4 * 4 + 3 * 7 * 7)));
        for count in [&pairs as &dyn Fn(usize) -> u64, &paired] {
            assert_eq!(count(48) - count(32), count(32) - count(16));
            assert!(count(64) < 5 * count(16));
        }
        Ok(())
    }

    #[test]
    fn without_temporal_attention_frames_are_independent() -> Result<()> {
        let model = model(&config(None));
        let x = noise((1, 4, 5, 32), 3);
        let whole = model.forward(&x, None)?;
        let alone = model.forward(&x.narrow(1, 2, 1)?, None)?;
        assert!(largest_difference(&whole.narrow(1, 2, 1)?, &alone) < 1e-5);
        Ok(())
    }

    #[test]
    fn impossible_sizes_are_refused_by_name() {
        let refused = |config: SpaceTimeConfig| config.validate().unwrap_err().to_string();
        assert!(
            refused(SpaceTimeConfig {
                width: 40,
                ..config(None)
            })
            .contains("width = 40")
        );
        assert!(
            refused(SpaceTimeConfig {
                heads: 0,
                ..config(None)
            })
            .contains("heads = 0")
        );
        assert!(
            refused(SpaceTimeConfig {
                layers: 1 << 40,
                ..config(None)
            })
            .contains("layers")
        );
        assert!(
            refused(SpaceTimeConfig {
                temporal_window: Some(0),
                ..config(None)
            })
            .contains("window = 0")
        );
    }
}
