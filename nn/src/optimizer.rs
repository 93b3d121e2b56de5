//! AdamW, gradients that can be accumulated, and the running average of weights.

use crate::kernels::adamw::{self as kernel, Update};
use crate::ops::{fused, values};
use candle_core::{CpuStorage, Device, InplaceOp2, Layout, Result, Tensor, Var, bail};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::sync::Mutex;

/// Gradients by name of the weight.
#[derive(Clone, Default)]
pub struct Gradients(BTreeMap<String, Tensor>);

/// The gradients of `loss` (a scalar) with respect to `variables`. A weight that the loss does not depend on has none.
///
/// # Errors
/// When an operation in the graph has no backward pass.
pub fn gradients(loss: &Tensor, variables: &BTreeMap<String, Var>) -> Result<Gradients> {
    let mut store = loss.backward()?;
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
                    kernel::sum_of_squares(numbers)
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

/// Settings of [`AdamW`] that stay the same during training.
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

/// What [`AdamW::step`] saw.
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
    /// Moments by name, `NAME.first` and `NAME.second`.
    pub tensors: BTreeMap<String, Tensor>,
}

/// AdamW (arXiv 1711.05101) over named variables.
pub struct AdamW {
    config: AdamWConfig,
    steps: u64,
    weights: BTreeMap<String, Weight>,
}

struct Weight {
    var: Var,
    moments: Mutex<Moments>,
}

enum Moments {
    /// For the fused update.
    Numbers { first: Vec<f32>, second: Vec<f32> },
    /// For the composed one, on the weight's device; none before the first step.
    Tensors(Option<[Tensor; 2]>),
}

impl Moments {
    /// Those of a weight that has taken no step.
    fn new(var: &Var) -> Self {
        let zeros = || vec![0.0; var.elem_count()];
        match fused(&[var.as_tensor()]) {
            true => Self::Numbers {
                first: zeros(),
                second: zeros(),
            },
            false => Self::Tensors(None),
        }
    }

    /// Takes over moments from a checkpoint.
    fn restore(&mut self, var: &Var, [first, second]: [&Tensor; 2]) -> Result<()> {
        *self = match self {
            Self::Numbers { .. } => Self::Numbers {
                first: first.flatten_all()?.to_vec1()?,
                second: second.flatten_all()?.to_vec1()?,
            },
            Self::Tensors(_) => Self::Tensors(Some([
                first.to_device(var.device())?,
                second.to_device(var.device())?,
            ])),
        };
        Ok(())
    }

    fn tensors(&self, var: &Var) -> Result<[Tensor; 2]> {
        let tensor = |values| Tensor::from_slice(values, var.shape(), var.device());
        match self {
            Self::Numbers { first, second } => Ok([tensor(first)?, tensor(second)?]),
            Self::Tensors(Some(moments)) => Ok(moments.clone()),
            Self::Tensors(None) => Ok([var.zeros_like()?, var.zeros_like()?]),
        }
    }
}

impl AdamW {
    /// An optimizer of `variables` that has taken no step yet.
    pub fn new(variables: BTreeMap<String, Var>, config: AdamWConfig) -> Self {
        let weights = variables.into_iter().map(|(name, var)| {
            let moments = Mutex::new(Moments::new(&var));
            (name, Weight { var, moments })
        });
        Self {
            config,
            steps: 0,
            weights: weights.collect(),
        }
    }

    /// Takes one step. Gradients longer than `clip` (all together) are shortened to it.
    ///
    /// # Errors
    /// When a gradient's length is not finite; nothing has been changed then.
    pub fn step(
        &mut self,
        gradients: &Gradients,
        learning_rate: f64,
        clip: f64,
    ) -> Result<StepReport> {
        let gradient_norm = gradients.norm()?;
        if !gradient_norm.is_finite() {
            bail!("the gradient is not finite");
        }
        self.steps += 1;
        let bias = |beta: f32| (1.0 / (1.0 - f64::from(beta).powf(self.steps as f64))) as f32;
        for (name, weight) in &self.weights {
            let Some(gradient) = gradients.get(name) else {
                continue;
            };
            let decay = if weight.var.rank() >= 2 {
                self.config.weight_decay
            } else {
                0.0
            };
            let update = Update {
                learning_rate: learning_rate as f32,
                beta1: self.config.beta1,
                beta2: self.config.beta2,
                epsilon: self.config.epsilon,
                weight_decay: decay,
                gradient_scale: if gradient_norm > clip {
                    (clip / gradient_norm) as f32
                } else {
                    1.0
                },
                correction1: bias(self.config.beta1),
                correction2: bias(self.config.beta2),
            };
            weight.update(gradient, update)?;
        }
        Ok(StepReport { gradient_norm })
    }

    /// Steps taken and moments, for a checkpoint.
    ///
    /// # Errors
    /// When a tensor cannot be made.
    pub fn state(&self) -> Result<OptimizerState> {
        let mut tensors = BTreeMap::new();
        for (name, weight) in &self.weights {
            let Ok(moments) = weight.moments.lock() else {
                bail!("an update of {name} was interrupted")
            };
            let [first, second] = moments.tensors(&weight.var)?;
            tensors.insert(format!("{name}.first"), first);
            tensors.insert(format!("{name}.second"), second);
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
            let moment = |suffix: &str| -> Result<&Tensor> {
                match state.tensors.get(&format!("{name}.{suffix}")) {
                    Some(tensor) if tensor.shape() == weight.var.shape() => Ok(tensor),
                    _ => bail!("optimizer state {name}.{suffix} is missing or misshapen"),
                }
            };
            let restored = [moment("first")?, moment("second")?];
            let Ok(mut moments) = weight.moments.lock() else {
                bail!("an update of {name} was interrupted")
            };
            moments.restore(&weight.var, restored)?;
        }
        self.steps = state.steps;
        Ok(())
    }
}

impl Weight {
    fn update(&self, gradient: &Tensor, update: Update) -> Result<()> {
        let Ok(mut moments) = self.moments.lock() else {
            bail!("an update was interrupted")
        };
        match &mut *moments {
            Moments::Numbers { first, second } => {
                let moments = Mutex::new([&mut first[..], second]);
                self.var
                    .inplace_op2(&gradient.contiguous()?, &WeightUpdate { moments, update })
            }
            Moments::Tensors(moments) => {
                let [first, second] = match moments.take() {
                    Some(moments) => moments,
                    None => [self.var.zeros_like()?, self.var.zeros_like()?],
                };
                *moments = Some(composed_update(&self.var, first, second, gradient, update)?);
                Ok(())
            }
        }
    }
}

/// The update of [`kernel::adamw`], composed of candle's operations. Returns the new moments.
fn composed_update(
    var: &Var,
    first: Tensor,
    second: Tensor,
    gradient: &Tensor,
    update: Update,
) -> Result<[Tensor; 2]> {
    let mixed = |old: Tensor, new: Tensor, beta: f32| {
        let beta = f64::from(beta);
        (old * beta)? + (new * (1.0 - beta))?
    };
    let gradient = (gradient * f64::from(update.gradient_scale))?;
    let second = mixed(second, gradient.sqr()?, update.beta2)?;
    let first = mixed(first, gradient, update.beta1)?;
    let size = ((&second * f64::from(update.correction2))?.sqrt()? + f64::from(update.epsilon))?;
    let step = ((&first * f64::from(update.correction1))? / size)?;
    let decayed = (var.as_tensor() * f64::from(update.weight_decay))?;
    let step = ((step + decayed)? * f64::from(update.learning_rate))?;
    var.set(&(var.as_tensor() - step)?.detach())?;
    Ok([first.detach(), second.detach()])
}

struct WeightUpdate<'a> {
    /// The first and the second; a lock, because operations are shared.
    moments: Mutex<[&'a mut [f32]; 2]>,
    update: Update,
}

impl InplaceOp2 for WeightUpdate<'_> {
    fn name(&self) -> &'static str {
        "adamw"
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
        let Ok(mut moments) = self.moments.lock() else {
            bail!("an update was interrupted")
        };
        let [first, second] = &mut *moments;
        if end - start != first.len() || gradient.len() != first.len() {
            bail!(
                "a gradient of {} numbers for a weight of {}",
                gradient.len(),
                end - start
            );
        }
        kernel::adamw(
            &mut weight[start..end],
            first,
            second,
            gradient,
            self.update,
        );
        Ok(())
    }
}

/// Exponential moving average of weights; what is evaluated and shipped. It is kept on the CPU, wherever the weights live.
pub struct ExponentialAverage {
    decay: f64,
    updates: u64,
    values: BTreeMap<String, (Vec<f32>, candle_core::Shape)>,
}

impl ExponentialAverage {
    /// Starts from the present weights. `decay` is the share kept at each update, reached gradually: early on it is
    /// `(1 + updates) / (10 + updates)`, so that the average does not remember the random start.
    ///
    /// # Errors
    /// When a weight cannot be read.
    pub fn new(tensors: &BTreeMap<String, Tensor>, decay: f64) -> Result<Self> {
        let mut values = BTreeMap::new();
        for (name, tensor) in tensors {
            values.insert(
                name.clone(),
                (tensor.flatten_all()?.to_vec1()?, tensor.shape().clone()),
            );
        }
        Ok(Self {
            decay,
            updates: 0,
            values,
        })
    }

    /// Continues from a checkpoint: averages as [`Self::tensors`] gave them, after `updates`.
    ///
    /// # Errors
    /// As [`Self::new`].
    pub fn restore(tensors: &BTreeMap<String, Tensor>, decay: f64, updates: u64) -> Result<Self> {
        Ok(Self {
            updates,
            ..Self::new(tensors, decay)?
        })
    }

    /// Takes in the present weights.
    ///
    /// # Errors
    /// When a weight cannot be read.
    pub fn update(&mut self, variables: &BTreeMap<String, Var>) -> Result<()> {
        let decay =
            self.decay
                .min((1.0 + self.updates as f64) / (10.0 + self.updates as f64)) as f32;
        self.updates += 1;
        for (name, var) in variables {
            let Some((average, _)) = self.values.get_mut(name) else {
                continue;
            };
            let weights = var.as_tensor().to_device(&Device::Cpu)?;
            values!(weights = weights);
            kernel::average(average, weights, decay);
        }
        Ok(())
    }

    /// Updates so far.
    pub fn updates(&self) -> u64 {
        self.updates
    }

    /// The averaged weights by name.
    ///
    /// # Errors
    /// When a tensor cannot be made.
    pub fn tensors(&self) -> Result<BTreeMap<String, Tensor>> {
        let made = self.values.iter().map(|(name, (values, shape))| {
            let tensor = Tensor::from_slice(values, shape, &Device::Cpu)?;
            Ok((name.clone(), tensor))
        });
        made.collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

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
            let mut optimizer = AdamW::new(variables.clone(), AdamWConfig::default());
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
            let train = |variables: &BTreeMap<String, Var>, optimizer: &mut AdamW| -> Result<()> {
                optimizer
                    .step(&gradients(&loss(variables)?, variables)?, 0.1, 1.0)
                    .map(|_| ())
            };
            let (straight, resumed) = (variables()?, variables()?);
            let mut one = AdamW::new(straight.clone(), AdamWConfig::default());
            let mut two = AdamW::new(resumed.clone(), AdamWConfig::default());
            train(&straight, &mut one)?;
            train(&resumed, &mut two)?;
            let state = two.state()?;
            let mut three = AdamW::new(resumed.clone(), AdamWConfig::default());
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
        let mut optimizer = AdamW::new(variables.clone(), AdamWConfig::default());
        let gradients = gradients(&(loss(&variables)? * f64::INFINITY)?, &variables)?;
        assert!(optimizer.step(&gradients, 0.1, 1.0).is_err());
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

    #[test]
    fn averages_follow_the_weights() -> Result<()> {
        let variables = variables()?;
        let tensors: BTreeMap<_, _> = variables
            .iter()
            .map(|(n, v)| (n.clone(), v.as_detached_tensor()))
            .collect();
        let mut average = ExponentialAverage::new(&tensors, 0.5)?;
        variables["b"].set(&Tensor::new(&[5f32], &Device::Cpu)?)?;
        average.update(&variables)?;
        let expected = 0.1 * 3.0 + 0.9 * 5.0;
        assert!((average.tensors()?["b"].to_vec1::<f32>()?[0] - expected).abs() < 1e-6);
        Ok(())
    }
}
