//! Results of kernels with any number of arguments as candle tensors, whose gradients go past candle where they can.
//!
//! Candle's operations take three arguments at most, and its backward pass adds each gradient to zeros, on one core. So a result hangs on a *token*, a tensor of one number:
//!
//! ```text
//! arguments, two at a time ──► link ──► link ──► token ──► result
//! ```
//!
//! Each link depends on two arguments and on the link before, the token on the last link, and the result on the token. An argument that is itself such a result is
//! represented by its token. In the backward pass, operations leave gradients with respect to a result with its token ([`Incoming`]); the result itself does that with what candle found. The
//! token comes after all of these. It computes the gradients with respect to the arguments from their sum, and leaves them with the arguments' tokens, with [`backward`] if they are
//! variables, and otherwise where the links pick them up for candle.

use super::{tensor, values};
use crate::kernels::elementwise::add_in_place;
use candle_core::backprop::GradStore;
use candle_core::{
    CpuStorage, CustomOp1, CustomOp3, DType, Device, Layout, Result, Shape, Tensor, TensorId, bail,
};
use std::borrow::Cow;
use std::cell::RefCell;
use std::collections::HashMap;
use std::sync::{Arc, LazyLock, Mutex, MutexGuard, OnceLock};

/// The gradient with respect to an argument; `None` where nothing depends on it.
pub(super) type Gradient = Option<Vec<f32>>;
/// Gradients in the order of the arguments, from the token's backward pass until the links have taken them.
type Waiting = Arc<Mutex<Vec<Option<Tensor>>>>;
/// Gradients with respect to all arguments, in their order, from the result's.
type Backward = Box<dyn Fn(Cow<[f32]>) -> Result<Vec<Gradient>> + Send + Sync>;
/// Gradients of variables, with their shapes.
type OfVariables = HashMap<TensorId, (Shape, Vec<f32>)>;

thread_local! {
    /// What [`backward`] has found so far, while it runs on this thread.
    static OF_VARIABLES: RefCell<Option<OfVariables>> = const { RefCell::new(None) };
}

/// The tokens of all results that are still there.
static TOKENS: LazyLock<Mutex<HashMap<TensorId, Token>>> = LazyLock::new(Mutex::default);

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
    backward: impl Fn(Cow<[f32]>) -> Result<Vec<Gradient>> + Send + Sync + 'static,
) -> Result<Tensor> {
    if !tracked(arguments) {
        return tensor(values, shape);
    }
    let nothing = Tensor::zeros(1, DType::F32, &Device::Cpu)?;
    let waiting = Waiting::default();
    let (mut last, mut own_arguments) = (nothing.clone(), Vec::new());
    for (number, pair) in arguments.chunks(2).enumerate() {
        let link = Link {
            waiting: waiting.clone(),
            first: 2 * number,
        };
        let mut linked = [nothing.clone(), nothing.clone()];
        for (linked, argument) in linked.iter_mut().zip(pair) {
            let own_argument = Argument::new(argument)?;
            *linked = match &own_argument.source {
                Source::Result(token) => token.tensor.clone(),
                _ => (*argument).clone(),
            };
            own_arguments.push(own_argument);
        }
        let [a, b] = &linked;
        last = last.apply_op3(a, b, link)?;
    }
    let incoming = Arc::<Incoming>::default();
    let token = Token {
        incoming: incoming.clone(),
        tensor: last.apply_op1(Computation {
            shape: shape.clone(),
            arguments: own_arguments,
            incoming: incoming.clone(),
            waiting,
            backward: Box::new(backward),
        })?,
    };
    let result = token.tensor.apply_op1(Values {
        values: Mutex::new(values),
        shape: shape.clone(),
        incoming,
    })?;
    let id = *token.incoming.id.get_or_init(|| result.id());
    lock(&TOKENS)?.insert(id, token);
    Ok(result)
}

/// Whether anything wants the gradient with respect to any of these.
pub(super) fn tracked(arguments: &[&Tensor]) -> bool {
    arguments.iter().any(|argument| argument.track_op())
}

/// What the gradients with respect to a result are left with until its token's turn.
#[derive(Default)]
struct Incoming {
    /// The result.
    id: OnceLock<TensorId>,
    /// The sum of those from operations of this crate.
    handed: Mutex<Option<Vec<f32>>>,
    /// That from candle's.
    found: Mutex<Option<Tensor>>,
}

/// `gradient` and what there was before.
fn sum(mut gradient: Vec<f32>, before: Option<&[f32]>) -> Vec<f32> {
    if let Some(before) = before {
        add_in_place(&mut gradient, before);
    }
    gradient
}

/// What only a panic within a pass could keep from being locked.
fn lock<T>(mutex: &Mutex<T>) -> Result<MutexGuard<'_, T>> {
    match mutex.lock() {
        Ok(guard) => Ok(guard),
        Err(_) => bail!("a pass over results was interrupted"),
    }
}

/// What represents a result in the graph of those that are computed from it.
#[derive(Clone)]
struct Token {
    tensor: Tensor,
    incoming: Arc<Incoming>,
}

struct Argument {
    shape: Shape,
    source: Source,
}

/// Where an argument is from.
enum Source {
    Result(Token),
    Variable(TensorId),
    Candle,
}

impl Argument {
    fn new(tensor: &Tensor) -> Result<Self> {
        let source = match tensor.is_variable() {
            true => Source::Variable(tensor.id()),
            false => match lock(&TOKENS)?.get(&tensor.id()) {
                Some(token) => Source::Result(token.clone()),
                None => Source::Candle,
            },
        };
        let shape = tensor.shape().clone();
        Ok(Self { shape, source })
    }

    /// Leaves the gradient where it belongs, and returns what is for candle to add up.
    fn hand_over(&self, gradient: Vec<f32>) -> Result<Option<Tensor>> {
        // What was there before is taken out before it is added: while a sum is shared out, this thread may be given another backward pass.
        match &self.source {
            Source::Result(token) => {
                let handed = &token.incoming.handed;
                let before = lock(handed)?.take();
                let all = sum(gradient, before.as_deref());
                *lock(handed)? = Some(all);
                // Only so that the token has its turn.
                token.tensor.zeros_like().map(Some)
            }
            Source::Variable(id) if OF_VARIABLES.with_borrow(Option::is_some) => {
                let before = OF_VARIABLES.with_borrow_mut(|found| found.as_mut()?.remove(id));
                let all = sum(gradient, before.as_ref().map(|(_, numbers)| &numbers[..]));
                OF_VARIABLES.with_borrow_mut(|found| {
                    if let Some(found) = found {
                        found.insert(*id, (self.shape.clone(), all));
                    }
                });
                Ok(None)
            }
            Source::Variable(_) | Source::Candle => tensor(gradient, &self.shape).map(Some),
        }
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
        let mut waiting = lock(&self.waiting)?;
        let mut take = |number: usize| waiting.get_mut(number).and_then(Option::take);
        let (a, b) = (take(self.first), take(self.first + 1));
        // Only so that the link before has its turn.
        Ok((before.track_op().then(|| gradient.clone()), a, b))
    }
}

/// The token of a result.
struct Computation {
    shape: Shape,
    arguments: Vec<Argument>,
    incoming: Arc<Incoming>,
    waiting: Waiting,
    backward: Backward,
}

impl CustomOp1 for Computation {
    fn name(&self) -> &'static str {
        "computation"
    }

    fn cpu_fwd(&self, _: &CpuStorage, _: &Layout) -> Result<(CpuStorage, Shape)> {
        Ok((CpuStorage::F32(vec![0.0]), Shape::from(1)))
    }

    fn bwd(&self, link: &Tensor, _: &Tensor, _: &Tensor) -> Result<Option<Tensor>> {
        let handed = lock(&self.incoming.handed)?.take();
        let found = lock(&self.incoming.found)?.take();
        let gradients = match (handed, found) {
            (Some(handed), None) => (self.backward)(Cow::Owned(handed))?,
            (handed, Some(found)) => {
                values!(found = found);
                (self.backward)(match handed {
                    Some(handed) => Cow::Owned(sum(handed, Some(found))),
                    None => Cow::Borrowed(found),
                })?
            }
            (None, None) => bail!("nothing depends on a result of {:?}", self.shape),
        };
        let arguments = self.arguments.iter().zip(gradients);
        let left = arguments.map(|(argument, gradient)| match gradient {
            Some(gradient) => argument.hand_over(gradient),
            None => Ok(None),
        });
        let left = left.collect::<Result<_>>()?;
        *lock(&self.waiting)? = left;
        Ok(Some(link.zeros_like()?))
    }
}

/// A result, to candle's operations.
struct Values {
    /// Until they are the tensor's.
    values: Mutex<Vec<f32>>,
    shape: Shape,
    incoming: Arc<Incoming>,
}

impl CustomOp1 for Values {
    fn name(&self) -> &'static str {
        "computed"
    }

    fn cpu_fwd(&self, _: &CpuStorage, _: &Layout) -> Result<(CpuStorage, Shape)> {
        let values = std::mem::take(&mut *lock(&self.values)?);
        Ok((CpuStorage::F32(values), self.shape.clone()))
    }

    fn bwd(&self, token: &Tensor, _: &Tensor, gradient: &Tensor) -> Result<Option<Tensor>> {
        *lock(&self.incoming.found)? = Some(gradient.clone());
        Ok(Some(token.zeros_like()?))
    }
}

impl Drop for Values {
    fn drop(&mut self) {
        let token = match (self.incoming.id.get(), lock(&TOKENS)) {
            (Some(id), Ok(mut tokens)) => tokens.remove(id),
            _ => None,
        };
        // Not while the list is locked: what is dropped with it may be results, too.
        drop(token);
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::noise;
    use super::super::{add, add_rows, linear, rms_norm, with_compositions};
    use super::*;
    use crate::quality::largest_difference;
    use candle_core::Var;

    /// A result that both kinds of operations use, one of them twice.
    fn loss(vars: &[Var; 4]) -> Result<Tensor> {
        let [x, weight, rows, scale] = vars.each_ref().map(|var| var.as_tensor());
        let product = linear(x, weight)?;
        let twice = add(&product, &product)?;
        let sum = add(&add_rows(&product, rows)?, &twice)?;
        let normal = rms_norm(&sum, scale)?.sqr()?.sum_all()?;
        let view = product.reshape((3, 8))?.narrow(0, 1, 2)?.sqr()?.sum_all()?;
        (normal + view)? + sum.sum_all()?
    }

    #[test]
    fn gradients_of_results_meet_whichever_way_they_come() -> Result<()> {
        let vars = [&[6, 3][..], &[4, 3], &[4], &[4]];
        let vars: Vec<Var> = (0..).zip(vars).map(|(i, dims)| noise(dims, i)).collect();
        let vars: [Var; 4] = vars.try_into().unwrap();
        let expected = with_compositions(|| loss(&vars)?.backward())?;
        let loss = loss(&vars)?;
        // A graph may be gone through again.
        for store in [backward(&loss)?, backward(&loss)?, loss.backward()?] {
            for var in &vars {
                let [found, expected] =
                    [&store, &expected].map(|store| store.get(var.as_tensor()).unwrap());
                assert!(largest_difference(found, expected) < 1e-4);
            }
        }
        Ok(())
    }

    #[test]
    fn tokens_go_with_their_results() -> Result<()> {
        let known = |id| TOKENS.lock().unwrap().contains_key(&id);
        let (x, weight) = (noise(&[2, 3], 1), noise(&[3, 3], 2));
        let first = linear(x.as_tensor(), weight.as_tensor())?;
        let second = linear(&first, weight.as_tensor())?;
        let ids = [first.id(), second.id()];
        assert!(ids.into_iter().all(known));
        drop(first);
        // The second one's backward pass needs its numbers.
        assert!(ids.into_iter().all(known));
        let view = second.reshape((3, 2))?;
        drop(second);
        assert!(known(ids[1]));
        drop(view);
        assert!(!ids.into_iter().any(known));
        assert!(!known(
            linear(&x.as_tensor().detach(), &weight.as_tensor().detach())?.id()
        ));
        Ok(())
    }
}
