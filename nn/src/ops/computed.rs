//! Results of kernels with any number of arguments as candle tensors.
//!
//! Candle's operations take three arguments at most, and its backward pass adds each gradient to zeros, on one core. So what belongs together is better
//! one operation. Its arguments are taken, two at a time, by a chain of links: tensors of one number, each of which depends on two arguments and on the link
//! before. The result depends on the last link. In the backward pass the result comes first, and leaves the gradients where the links pick them up.

use super::{output, tensor};
use candle_core::{
    CpuStorage, CustomOp1, CustomOp3, DType, Device, Layout, Result, Shape, Tensor, bail,
};
use std::sync::{Arc, Mutex};

/// Gradients in the order of the arguments, from the result's backward pass until the links have taken them.
type Waiting = Arc<Mutex<Vec<Option<Tensor>>>>;
/// Gradients with respect to all arguments, in their order, from the result's; `None` for those on which nothing depends.
type Backward = Box<dyn Fn(&Tensor) -> Result<Vec<Option<Tensor>>> + Send + Sync>;

/// A tensor of `values`, which were computed from `arguments`. `backward` has what it needs for their gradients.
pub(super) fn computed(
    values: Vec<f32>,
    shape: &Shape,
    arguments: &[&Tensor],
    backward: impl Fn(&Tensor) -> Result<Vec<Option<Tensor>>> + Send + Sync + 'static,
) -> Result<Tensor> {
    if !arguments.iter().any(|argument| argument.track_op()) {
        return tensor(values, shape);
    }
    let nothing = Tensor::zeros(1, DType::F32, &Device::Cpu)?;
    let waiting = Waiting::default();
    let mut last = nothing.clone();
    for (number, pair) in arguments.chunks(2).enumerate() {
        let link = Link {
            waiting: waiting.clone(),
            first: 2 * number,
        };
        let [a, b] = [0, 1].map(|index| pair.get(index).copied().unwrap_or(&nothing));
        last = last.apply_op3(a, b, link)?;
    }
    last.apply_op1(Computed {
        values: Mutex::new(values),
        shape: shape.clone(),
        waiting,
        backward: Box::new(backward),
    })
}

struct Link {
    waiting: Waiting,
    /// Number of the first of its two arguments.
    first: usize,
}

impl CustomOp3 for Link {
    fn name(&self) -> &'static str {
        "link"
    }

    fn cpu_fwd(
        &self,
        _: &CpuStorage,
        _: &Layout,
        _: &CpuStorage,
        _: &Layout,
        _: &CpuStorage,
        _: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        Ok(output(vec![0.0], 1))
    }

    fn bwd(
        &self,
        before: &Tensor,
        _: &Tensor,
        _: &Tensor,
        _: &Tensor,
        gradient: &Tensor,
    ) -> Result<(Option<Tensor>, Option<Tensor>, Option<Tensor>)> {
        let Ok(mut waiting) = self.waiting.lock() else {
            bail!("a backward pass was interrupted")
        };
        let mut take = |number: usize| waiting.get_mut(number).and_then(Option::take);
        let (a, b) = (take(self.first), take(self.first + 1));
        // Only so that the link before has its turn.
        Ok((before.track_op().then(|| gradient.clone()), a, b))
    }
}

struct Computed {
    /// Until they are the tensor's.
    values: Mutex<Vec<f32>>,
    shape: Shape,
    waiting: Waiting,
    backward: Backward,
}

impl CustomOp1 for Computed {
    fn name(&self) -> &'static str {
        "computed"
    }

    fn cpu_fwd(&self, _: &CpuStorage, _: &Layout) -> Result<(CpuStorage, Shape)> {
        let Ok(mut values) = self.values.lock() else {
            bail!("a forward pass was interrupted")
        };
        Ok(output(std::mem::take(&mut *values), self.shape.clone()))
    }

    fn bwd(&self, link: &Tensor, _: &Tensor, gradient: &Tensor) -> Result<Option<Tensor>> {
        let gradients = (self.backward)(gradient)?;
        match self.waiting.lock() {
            Ok(mut waiting) => *waiting = gradients,
            Err(_) => bail!("a backward pass was interrupted"),
        }
        Ok(Some(link.zeros_like()?))
    }
}
