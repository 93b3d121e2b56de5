//! Results of kernels with any number of arguments as candle tensors.
//!
//! Candle's operations take three arguments at most, and its backward pass adds each gradient to zeros, on one core. So what belongs together is better
//! one operation. Its arguments are taken, two at a time, by a chain of links: tensors of one number, each of which depends on two arguments and on the link
//! before. The result depends on the last link. In the backward pass the result comes first, and leaves the gradients where the links pick them up; those of
//! variables, which nothing comes before, [`backward`] takes at once.

use super::{tensor, values};
use crate::kernels::elementwise::add_in_place;
use candle_core::backprop::GradStore;
use candle_core::{
    CpuStorage, CustomOp1, CustomOp3, DType, Device, Layout, Result, Shape, Tensor, TensorId, bail,
};
use std::cell::RefCell;
use std::collections::HashMap;
use std::sync::{Arc, Mutex};

/// The gradient with respect to an argument; `None` where nothing depends on it.
pub(super) type Gradient = Option<Vec<f32>>;
/// Gradients in the order of the arguments, from the result's backward pass until the links have taken them.
type Waiting = Arc<Mutex<Vec<Option<Tensor>>>>;
/// Gradients with respect to all arguments, in their order, from the result's.
type Backward = Box<dyn Fn(&[f32]) -> Result<Vec<Gradient>> + Send + Sync>;
/// Gradients of variables, with their shapes.
type OfVariables = HashMap<TensorId, (Shape, Vec<f32>)>;

thread_local! {
    /// What [`backward`] has found so far, while it runs on this thread.
    static OF_VARIABLES: RefCell<Option<OfVariables>> = const { RefCell::new(None) };
}

/// As [`Tensor::backward`], and faster: where variables are arguments of an operation of this crate, candle does not add up their gradients.
///
/// # Errors
/// When an operation has no backward pass.
pub fn backward(loss: &Tensor) -> Result<GradStore> {
    /// Puts the outer state back, even when a backward pass panics.
    struct Restore(Option<OfVariables>);
    impl Drop for Restore {
        fn drop(&mut self) {
            OF_VARIABLES.set(self.0.take());
        }
    }
    let restore = Restore(OF_VARIABLES.replace(Some(OfVariables::new())));
    let mut store = loss.backward()?;
    let found = OF_VARIABLES.take().unwrap_or_default();
    drop(restore);
    for (id, (shape, numbers)) in found {
        let gradient = tensor(numbers, &shape)?;
        let gradient = match store.get_id(id) {
            Some(other) => (other + gradient)?,
            None => gradient,
        };
        store.insert_id(id, gradient);
    }
    Ok(store)
}

/// A tensor of `values`, which were computed from `arguments`. `backward` has what it needs for their gradients.
pub(super) fn computed(
    values: Vec<f32>,
    shape: &Shape,
    arguments: &[&Tensor],
    backward: impl Fn(&[f32]) -> Result<Vec<Gradient>> + Send + Sync + 'static,
) -> Result<Tensor> {
    if !tracked(arguments) {
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
        arguments: arguments.iter().copied().map(Argument::new).collect(),
        waiting,
        backward: Box::new(backward),
    })
}

/// Whether anything wants the gradient with respect to any of these.
pub(super) fn tracked(arguments: &[&Tensor]) -> bool {
    arguments.iter().any(|argument| argument.track_op())
}

struct Argument {
    shape: Shape,
    variable: Option<TensorId>,
}

impl Argument {
    fn new(tensor: &Tensor) -> Self {
        Self {
            shape: tensor.shape().clone(),
            variable: tensor.is_variable().then(|| tensor.id()),
        }
    }

    /// Gives the gradient to [`backward`], or back where that is for candle to do.
    fn hand_over(&self, mut gradient: Vec<f32>) -> Result<Option<Tensor>> {
        let id = match self.variable {
            Some(id) if OF_VARIABLES.with_borrow(Option::is_some) => id,
            _ => return tensor(gradient, &self.shape).map(Some),
        };
        // Taken out before it is added: while a sum is shared out, this thread may be given another backward pass.
        let before = OF_VARIABLES.with_borrow_mut(|found| found.as_mut()?.remove(&id));
        if let Some((_, before)) = before {
            add_in_place(&mut gradient, &before);
        }
        OF_VARIABLES.with_borrow_mut(|found| {
            if let Some(found) = found {
                found.insert(id, (self.shape.clone(), gradient));
            }
        });
        Ok(None)
    }
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
        Ok((CpuStorage::F32(vec![0.0]), Shape::from(1)))
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
    arguments: Vec<Argument>,
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
        let values = std::mem::take(&mut *values);
        Ok((CpuStorage::F32(values), self.shape.clone()))
    }

    fn bwd(&self, link: &Tensor, _: &Tensor, gradient: &Tensor) -> Result<Option<Tensor>> {
        values!(gradient = gradient);
        let gradients = (self.backward)(gradient)?;
        let arguments = self.arguments.iter().zip(gradients);
        let left = arguments.map(|(argument, gradient)| match gradient {
            Some(gradient) => argument.hand_over(gradient),
            None => Ok(None),
        });
        let left = left.collect::<Result<_>>()?;
        match self.waiting.lock() {
            Ok(mut waiting) => *waiting = left,
            Err(_) => bail!("a backward pass was interrupted"),
        }
        Ok(Some(link.zeros_like()?))
    }
}
