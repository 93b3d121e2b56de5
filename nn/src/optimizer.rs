//! AdamW and Muon, and gradients that can be accumulated.

use crate::in_this_scope;
use crate::kernels::{adamw, muon};
use crate::ops::{backward, fused, values};
use crate::transformer::is_block_matrix;
use candle_core::{CpuStorage, InplaceOp2, Layout, Result, Tensor, Var, bail};
use rayon::prelude::*;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard};

/// Gradients by name of the weight.
#[derive(Clone, Default)]
pub struct Gradients(BTreeMap<String, Tensor>);

/// The gradients of `loss` (a scalar) with respect to `variables`. A weight that the loss does not depend on has none.
///
/// # Errors
/// When an operation in the graph has no backward pass.
pub fn gradients(loss: &Tensor, variables: &BTreeMap<String, Var>) -> Result<Gradients> {
    let mut store = backward(loss)?;
    let found = variables
        .iter()
        .filter_map(|(name, var)| Some((name.clone(), store.remove(var.as_tensor())?)));
    Ok(Gradients(found.collect()))
}

impl Gradients {
    /// Adds another batch's gradients.
    ///
    /// # Errors
    /// When shapes differ.
    pub fn accumulate(&mut self, other: Self) -> Result<()> {
        for (name, gradient) in other.0 {
            let sum = match self.0.get(&name) {
                Some(sum) => (sum + gradient)?,
                None => gradient,
            };
            self.0.insert(name, sum);
        }
        Ok(())
    }

    /// Multiplies every gradient.
    ///
    /// # Errors
    /// When a tensor operation fails.
    pub fn scale(&mut self, factor: f64) -> Result<()> {
        for gradient in self.0.values_mut() {
            *gradient = (&*gradient * factor)?;
        }
        Ok(())
    }

    /// Length of the vector of all gradients together.
    ///
    /// # Errors
    /// When a tensor operation fails.
    pub fn norm(&self) -> Result<f64> {
        let mut sum = 0.0;
        for gradient in self.0.values() {
            sum += match fused(&[gradient]) {
                true => {
                    values!(numbers = gradient);
                    adamw::sum_of_squares(numbers)
                }
                false => f64::from(gradient.sqr()?.sum_all()?.to_scalar::<f32>()?),
            };
        }
        Ok(sum.sqrt())
    }

    /// The gradient of one weight.
    pub fn get(&self, name: &str) -> Option<&Tensor> {
        self.0.get(name)
    }
}

/// AdamW's settings, which stay the same during training.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct AdamWConfig {
    /// Decay of the first moment.
    pub beta1: f32,
    /// Decay of the second moment.
    pub beta2: f32,
    /// Added to the root of the second moment.
    pub epsilon: f32,
    /// Decoupled weight decay, applied to matrices only (scales and biases are left alone).
    pub weight_decay: f32,
}

impl Default for AdamWConfig {
    fn default() -> Self {
        Self {
            beta1: 0.9,
            beta2: 0.95,
            epsilon: 1e-8,
            weight_decay: 0.01,
        }
    }
}

/// Muon's settings, which stay the same during training.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct MuonConfig {
    /// Decay of the momentum.
    pub momentum: f32,
}

impl Default for MuonConfig {
    fn default() -> Self {
        Self { momentum: 0.95 }
    }
}

/// What [`Optimizer::step`] saw.
#[derive(Clone, Copy, Debug)]
pub struct StepReport {
    /// Length of the gradient before clipping.
    pub gradient_norm: f64,
}

/// What of an optimizer goes into a checkpoint.
#[derive(Clone, Debug, Default)]
pub struct OptimizerState {
    /// Steps taken.
    pub steps: u64,
    /// Moments by name: `NAME.first` and `NAME.second` of AdamW, `NAME.momentum` of Muon.
    pub tensors: BTreeMap<String, Tensor>,
}

/// Updates named variables: the matrices of transformer blocks by Muon ([`crate::kernels::muon`]), all others by AdamW (arXiv 1711.05101).
pub struct Optimizer {
    adamw: AdamWConfig,
    steps: u64,
    weights: BTreeMap<String, Weight>,
}

struct Weight {
    var: Var,
    /// The momentum of Muon, or both moments of AdamW. A lock, because operations on tensors are shared.
    moments: Mutex<Moments>,
    rule: Rule,
}

#[derive(Clone, Copy)]
enum Rule {
    AdamW,
    Muon(MuonConfig),
}

impl Rule {
    /// What a checkpoint calls its moments.
    fn moments(self) -> &'static [&'static str] {
        match self {
            Self::AdamW => &["first", "second"],
            Self::Muon(_) => &["momentum"],
        }
    }
}

enum Moments {
    /// For the fused update.
    Numbers(Vec<Vec<f32>>),
    /// For the composed one, on the weight's device.
    Tensors(Vec<Tensor>),
}

impl Moments {
    /// From tensors shaped as the weight is.
    fn new(var: &Var, tensors: Vec<Tensor>) -> Result<Self> {
        match fused(&[var.as_tensor()]) {
            true => {
                let numbers = tensors.iter().map(|moment| moment.flatten_all()?.to_vec1());
                Ok(Self::Numbers(numbers.collect::<Result<_>>()?))
            }
            false => {
                let tensors = tensors.iter().map(|moment| moment.to_device(var.device()));
                Ok(Self::Tensors(tensors.collect::<Result<_>>()?))
            }
        }
    }

    fn tensors(&self, var: &Var) -> Result<Vec<Tensor>> {
        match self {
            Self::Numbers(moments) => moments
                .iter()
                .map(|moment| Tensor::from_slice(moment, var.shape(), var.device()))
                .collect(),
            Self::Tensors(moments) => Ok(moments.clone()),
        }
    }
}

/// The numbers of one step.
#[derive(Clone, Copy)]
enum Update {
    AdamW(adamw::Update),
    Muon(muon::Update),
}

impl Optimizer {
    /// An optimizer of `variables` that has taken no step yet. Without `muon`, AdamW updates all of them.
    ///
    /// # Errors
    /// When moments cannot be made.
    pub fn new(
        variables: BTreeMap<String, Var>,
        adamw: AdamWConfig,
        muon: Option<MuonConfig>,
    ) -> Result<Self> {
        let weights = variables.into_iter().map(|(name, var)| {
            let rule = match muon {
                Some(muon) if is_block_matrix(&name) && var.rank() == 2 => Rule::Muon(muon),
                _ => Rule::AdamW,
            };
            let zeros = rule.moments().iter().map(|_| var.zeros_like());
            let moments = Moments::new(&var, zeros.collect::<Result<_>>()?)?;
            let moments = Mutex::new(moments);
            Ok((name, Weight { var, moments, rule }))
        });
        Ok(Self {
            adamw,
            steps: 0,
            weights: weights.collect::<Result<_>>()?,
        })
    }

    /// Takes one step. Gradients longer than `clip` (all together) are shortened to it; where their length is not finite, nothing is changed.
    ///
    /// # Errors
    /// When a weight cannot be written.
    pub fn step(
        &mut self,
        gradients: &Gradients,
        learning_rate: f64,
        clip: f64,
    ) -> Result<StepReport> {
        let gradient_norm = gradients.norm()?;
        if !gradient_norm.is_finite() {
            return Ok(StepReport { gradient_norm });
        }
        self.steps += 1;
        let gradient_scale = match gradient_norm > clip {
            true => (clip / gradient_norm) as f32,
            false => 1.0,
        };
        let learning_rate = learning_rate as f32;
        let bias = |beta: f32| (1.0 / (1.0 - f64::from(beta).powf(self.steps as f64))) as f32;
        let update = |(name, weight): (&String, &Weight)| -> Result<()> {
            let Some(gradient) = gradients.get(name) else {
                return Ok(());
            };
            let weight_decay = match weight.var.rank() {
                0 | 1 => 0.0,
                _ => self.adamw.weight_decay,
            };
            let update = match weight.rule {
                Rule::AdamW => Update::AdamW(adamw::Update {
                    learning_rate,
                    beta1: self.adamw.beta1,
                    beta2: self.adamw.beta2,
                    epsilon: self.adamw.epsilon,
                    weight_decay,
                    gradient_scale,
                    correction1: bias(self.adamw.beta1),
                    correction2: bias(self.adamw.beta2),
                }),
                Rule::Muon(muon) => Update::Muon(muon::Update {
                    learning_rate,
                    momentum: muon.momentum,
                    weight_decay,
                    gradient_scale,
                }),
            };
            weight.update(gradient, update)
        };
        // Muon's products are too small to be divided among the cores well, but there are many: whole weights are divided, too.
        crate::profile::whole("optimizer", || match crate::device().is_cpu() {
            true => self.weights.par_iter().try_for_each(in_this_scope(update)),
            false => self.weights.iter().try_for_each(update),
        })?;
        Ok(StepReport { gradient_norm })
    }

    /// Steps taken and moments, for a checkpoint.
    ///
    /// # Errors
    /// When a tensor cannot be made.
    pub fn state(&self) -> Result<OptimizerState> {
        let mut tensors = BTreeMap::new();
        for (name, weight) in &self.weights {
            let moments = weight.moments()?.tensors(&weight.var)?;
            for (moment, tensor) in weight.rule.moments().iter().zip(moments) {
                tensors.insert(format!("{name}.{moment}"), tensor);
            }
        }
        Ok(OptimizerState {
            steps: self.steps,
            tensors,
        })
    }

    /// Continues from a checkpoint.
    ///
    /// # Errors
    /// When a moment is missing or shaped otherwise.
    pub fn restore(&mut self, state: &OptimizerState) -> Result<()> {
        for (name, weight) in &self.weights {
            let moments = weight.rule.moments().iter().map(|moment| {
                match state.tensors.get(&format!("{name}.{moment}")) {
                    Some(tensor) if tensor.shape() == weight.var.shape() => Ok(tensor.clone()),
                    _ => bail!("optimizer state {name}.{moment} is missing or misshapen"),
                }
            });
            *weight.moments()? = Moments::new(&weight.var, moments.collect::<Result<_>>()?)?;
        }
        self.steps = state.steps;
        Ok(())
    }
}

impl Weight {
    fn moments(&self) -> Result<MutexGuard<'_, Moments>> {
        match self.moments.lock() {
            Ok(moments) => Ok(moments),
            Err(_) => bail!("an update was interrupted"),
        }
    }

    fn update(&self, gradient: &Tensor, update: Update) -> Result<()> {
        match &mut *self.moments()? {
            Moments::Numbers(moments) => {
                let moments = Mutex::new(&mut moments[..]);
                self.var
                    .inplace_op2(&gradient.contiguous()?, &FusedUpdate { moments, update })
            }
            Moments::Tensors(moments) => {
                *moments = match (&moments[..], update) {
                    ([first, second], Update::AdamW(update)) => {
                        composed_adamw(&self.var, [first, second], gradient, update)?.to_vec()
                    }
                    ([momentum], Update::Muon(update)) => {
                        vec![composed_muon(&self.var, momentum, gradient, update)?]
                    }
                    _ => bail!("moments of another optimizer"),
                };
                Ok(())
            }
        }
    }
}

/// `old * share + new * (1 - share)`.
fn mixed(old: &Tensor, new: &Tensor, share: f32) -> Result<Tensor> {
    let share = f64::from(share);
    (old * share)? + (new * (1.0 - share))?
}

/// `var -= learning_rate * (step + weight_decay * var)`.
fn take_step(var: &Var, step: Tensor, learning_rate: f32, weight_decay: f32) -> Result<()> {
    let decayed = (var.as_tensor() * f64::from(weight_decay))?;
    let step = ((step + decayed)? * f64::from(learning_rate))?;
    var.set(&(var.as_tensor() - step)?.detach())
}

/// The update of [`adamw::adamw`], composed of candle's operations. Returns the new moments.
fn composed_adamw(
    var: &Var,
    [first, second]: [&Tensor; 2],
    gradient: &Tensor,
    update: adamw::Update,
) -> Result<[Tensor; 2]> {
    let gradient = (gradient * f64::from(update.gradient_scale))?;
    let second = mixed(second, &gradient.sqr()?, update.beta2)?;
    let first = mixed(first, &gradient, update.beta1)?;
    let size = ((&second * f64::from(update.correction2))?.sqrt()? + f64::from(update.epsilon))?;
    let step = ((&first * f64::from(update.correction1))? / size)?;
    take_step(var, step, update.learning_rate, update.weight_decay)?;
    Ok([first.detach(), second.detach()])
}

/// The update of [`muon::muon`], composed of candle's operations. Returns the new momentum.
fn composed_muon(
    var: &Var,
    momentum: &Tensor,
    gradient: &Tensor,
    update: muon::Update,
) -> Result<Tensor> {
    let gradient = (gradient * f64::from(update.gradient_scale))?;
    let momentum = mixed(momentum, &gradient, update.momentum)?;
    let direction = mixed(&momentum, &gradient, update.momentum)?;
    let (rows, columns) = var.dims2()?;
    let parts = direction.chunk(muon::parts([rows, columns]), 0)?;
    let parts = parts.iter().map(composed_orthogonalized);
    let step = Tensor::cat(&parts.collect::<Result<Vec<_>>>()?, 0)?;
    take_step(var, step, update.learning_rate, update.weight_decay)?;
    Ok(momentum.detach())
}

/// A matrix with its singular values brought near one, sized as an update is.
fn composed_orthogonalized(x: &Tensor) -> Result<Tensor> {
    let shape = x.dims2()?.into();
    let length = x.sqr()?.sum_all()?.sqrt()?;
    let mut x = x.broadcast_div(&length.clamp(muon::SHORTEST, f32::MAX)?)?;
    let [a, b, c] = muon::COEFFICIENTS.map(f64::from);
    for _ in 0..muon::ITERATIONS {
        let square = x.t()?.matmul(&x)?;
        let polynomial = ((&square * b)? + (square.matmul(&square)? * c)?)?;
        x = ((&x * a)? + x.matmul(&polynomial)?)?;
    }
    x * f64::from(muon::scale(shape))
}

struct FusedUpdate<'a> {
    /// A lock, because operations are shared.
    moments: Mutex<&'a mut [Vec<f32>]>,
    update: Update,
}

impl InplaceOp2 for FusedUpdate<'_> {
    fn name(&self) -> &'static str {
        "optimizer-step"
    }

    fn cpu_fwd(
        &self,
        weight: &mut CpuStorage,
        lw: &Layout,
        gradient: &CpuStorage,
        lg: &Layout,
    ) -> Result<()> {
        let gradient = crate::ops::slice(gradient, lg)?;
        let (CpuStorage::F32(weight), Some((start, end))) = (weight, lw.contiguous_offsets())
        else {
            bail!("weights are contiguous f32 tensors")
        };
        let weight = &mut weight[start..end];
        let Ok(mut moments) = self.moments.lock() else {
            bail!("an update was interrupted")
        };
        if gradient.len() != weight.len() || moments.iter().any(|m| m.len() != weight.len()) {
            bail!(
                "a gradient of {} numbers for a weight of {}",
                gradient.len(),
                weight.len()
            );
        }
        match (&mut **moments, self.update) {
            ([first, second], Update::AdamW(update)) => {
                adamw::adamw(weight, first, second, gradient, update)
            }
            ([momentum], Update::Muon(update)) => muon::muon(
                weight,
                momentum,
                gradient,
                lw.shape().dims2()?.into(),
                update,
            ),
            _ => bail!("moments of another optimizer"),
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::quality::largest_difference;
    use candle_core::Device;

    /// Runs a test on the fused operations, and on the compositions that other devices run.
    fn on_both(test: impl Fn() -> Result<()>) -> Result<()> {
        test()?;
        crate::ops::with_compositions(test)
    }

    fn variables() -> Result<BTreeMap<String, Var>> {
        let a = Var::from_tensor(&Tensor::new(&[[1f32, -2.0], [0.5, 4.0]], &Device::Cpu)?)?;
        let b = Var::from_tensor(&Tensor::new(&[3f32], &Device::Cpu)?)?;
        Ok([("a".to_owned(), a), ("b".to_owned(), b)].into())
    }

    fn loss(variables: &BTreeMap<String, Var>) -> Result<Tensor> {
        variables["a"].sqr()?.sum_all()? + variables["b"].sqr()?.sum_all()?
    }

    /// The published update, one number at a time, in double precision.
    fn by_hand(mut w: f64, decay: f64, steps: i32, norms: &[f64]) -> f64 {
        let (mut m, mut v) = (0.0, 0.0);
        for t in 1..=steps {
            let g = 2.0 * w * (1.0 / norms[t as usize - 1]).min(1.0);
            m = 0.9 * m + 0.1 * g;
            v = 0.95 * v + 0.05 * g * g;
            let step = m / (1.0 - 0.9f64.powi(t)) / ((v / (1.0 - 0.95f64.powi(t))).sqrt() + 1e-8);
            w -= 0.1 * (step + decay * w);
        }
        w
    }

    #[test]
    fn steps_follow_the_published_update_with_clipping_and_decoupled_decay() -> Result<()> {
        on_both(|| {
            let variables = variables()?;
            let mut optimizer = Optimizer::new(variables.clone(), AdamWConfig::default(), None)?;
            let mut norms = Vec::new();
            for _ in 0..3 {
                let gradients = gradients(&loss(&variables)?, &variables)?;
                norms.push(optimizer.step(&gradients, 0.1, 1.0)?.gradient_norm);
            }
            let a = variables["a"].to_vec2::<f32>()?;
            assert!((f64::from(a[0][0]) - by_hand(1.0, 0.01, 3, &norms)).abs() < 1e-5);
            assert!((f64::from(a[1][1]) - by_hand(4.0, 0.01, 3, &norms)).abs() < 1e-5);
            assert!(
                (f64::from(variables["b"].to_vec1::<f32>()?[0]) - by_hand(3.0, 0.0, 3, &norms))
                    .abs()
                    < 1e-5
            );
            Ok(())
        })
    }

    #[test]
    fn restored_optimizers_continue_exactly() -> Result<()> {
        on_both(|| {
            let train =
                |variables: &BTreeMap<String, Var>, optimizer: &mut Optimizer| -> Result<()> {
                    optimizer
                        .step(&gradients(&loss(variables)?, variables)?, 0.1, 1.0)
                        .map(|_| ())
                };
            let (straight, resumed) = (variables()?, variables()?);
            let mut one = Optimizer::new(straight.clone(), AdamWConfig::default(), None)?;
            let mut two = Optimizer::new(resumed.clone(), AdamWConfig::default(), None)?;
            train(&straight, &mut one)?;
            train(&resumed, &mut two)?;
            let state = two.state()?;
            let mut three = Optimizer::new(resumed.clone(), AdamWConfig::default(), None)?;
            three.restore(&state)?;
            train(&straight, &mut one)?;
            train(&resumed, &mut three)?;
            assert_eq!(
                straight["a"].to_vec2::<f32>()?,
                resumed["a"].to_vec2::<f32>()?
            );
            Ok(())
        })
    }

    #[test]
    fn infinite_gradients_change_nothing() -> Result<()> {
        let variables = variables()?;
        let mut optimizer = Optimizer::new(variables.clone(), AdamWConfig::default(), None)?;
        let gradients = gradients(&(loss(&variables)? * f64::INFINITY)?, &variables)?;
        let report = optimizer.step(&gradients, 0.1, 1.0)?;
        assert!(!report.gradient_norm.is_finite());
        assert_eq!(variables["b"].to_vec1::<f32>()?, [3.0]);
        Ok(())
    }

    #[test]
    fn accumulated_gradients_are_sums() -> Result<()> {
        let variables = variables()?;
        let mut sum = Gradients::default();
        for _ in 0..2 {
            sum.accumulate(gradients(&loss(&variables)?, &variables)?)?;
        }
        sum.scale(0.5)?;
        let once = gradients(&loss(&variables)?, &variables)?;
        assert_eq!(
            sum.get("a").unwrap().to_vec2::<f32>()?,
            once.get("a").unwrap().to_vec2::<f32>()?
        );
        Ok(())
    }

    /// One of each kind of matrix that a block has, and what is none.
    fn block() -> Result<BTreeMap<String, Var>> {
        let mut random = crate::generator(1, 0);
        let sizes = [
            ("0.space.qkv", 24, 8),
            ("0.time.out", 8, 8),
            ("0.feed_forward.up", 32, 8),
            ("0.feed_forward.down", 8, 32),
            ("output", 5, 8),
        ];
        let made = sizes.into_iter().map(|(name, rows, columns)| {
            let numbers: Vec<f32> = (0..rows * columns)
                .map(|_| crate::normal(&mut random))
                .collect();
            let numbers = Tensor::from_vec(numbers, (rows, columns), &Device::Cpu)?;
            Ok((name.to_owned(), Var::from_tensor(&numbers)?))
        });
        made.collect()
    }

    fn muon_step(variables: &BTreeMap<String, Var>, optimizer: &mut Optimizer) -> Result<()> {
        // Powers above two, so that gradients are more than the weights themselves.
        let terms = variables.values().map(|var| {
            let fourth = var.sqr()?.sqr()?.sum_all()?;
            fourth + var.narrow(0, 0, 2)?.sum_all()?.sqr()?
        });
        let loss = terms.reduce(|a, b| a? + b?).unwrap()?;
        let report = optimizer.step(&gradients(&loss, variables)?, 0.01, 1.0)?;
        assert!(report.gradient_norm > 1.0);
        Ok(())
    }

    fn with_muon(variables: &BTreeMap<String, Var>) -> Result<Optimizer> {
        let muon = Some(MuonConfig::default());
        Optimizer::new(variables.clone(), AdamWConfig::default(), muon)
    }

    #[test]
    fn muon_is_the_same_fused_and_composed() -> Result<()> {
        let (fused, composed) = (block()?, block()?);
        let mut one = with_muon(&fused)?;
        let mut two = crate::ops::with_compositions(|| with_muon(&composed))?;
        for _ in 0..4 {
            muon_step(&fused, &mut one)?;
            crate::ops::with_compositions(|| muon_step(&composed, &mut two))?;
        }
        for (name, var) in &fused {
            let largest = largest_difference(var.as_tensor(), composed[name].as_tensor());
            assert!(largest < 1e-4, "{name} differs by {largest}");
        }
        Ok(())
    }

    #[test]
    fn muon_moves_block_matrices_by_the_learning_rate_and_adamw_the_rest() -> Result<()> {
        let (before, after) = (block()?, block()?);
        let mut optimizer = with_muon(&after)?;
        muon_step(&after, &mut optimizer)?;
        for (name, var) in &after {
            let step = (var.as_tensor() - before[name].as_tensor())?;
            let size = step.sqr()?.mean_all()?.sqrt()?.to_scalar::<f32>()?;
            // Muon's singular values are near one, and AdamW's first step is one learning rate for each number.
            let expected = if name == "output" { 0.01 } else { 0.002 };
            assert!(
                (size / expected - 1.0).abs() < 0.35,
                "{name} moved by {size}"
            );
        }
        let names: Vec<_> = optimizer.state()?.tensors.into_keys().collect();
        assert!(
            names.contains(&"0.space.qkv.momentum".to_owned()),
            "{names:?}"
        );
        assert!(names.contains(&"output.second".to_owned()), "{names:?}");
        Ok(())
    }

    #[test]
    fn restored_muon_continues_exactly() -> Result<()> {
        on_both(|| {
            let (straight, resumed) = (block()?, block()?);
            let (mut one, mut two) = (with_muon(&straight)?, with_muon(&resumed)?);
            muon_step(&straight, &mut one)?;
            muon_step(&resumed, &mut two)?;
            let mut three = with_muon(&resumed)?;
            three.restore(&two.state()?)?;
            muon_step(&straight, &mut one)?;
            muon_step(&resumed, &mut three)?;
            for (name, var) in &straight {
                let [left, right] = [var, &resumed[name]].map(|var| var.to_vec2::<f32>());
                assert_eq!(left?, right?, "{name}");
            }
            Ok(())
        })
    }
}
