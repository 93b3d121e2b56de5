//! The fused operations as candle operations with hand-written backward passes.
//!
//! Each function takes and gives tensors. On the CPU it runs one fused kernel ([`crate::kernels`]); elsewhere, the same mathematics
//! composed of candle's own operations ([`composed`]), which is also what the tests check the kernels against.

mod add_rows;
mod attention;
pub mod composed;
mod computed;
mod cross_entropy;
mod elementwise;
mod error;
mod exchange;
mod feed_forward;
mod linear;
mod norm;
mod normed;
mod sub_layers;
mod warp;

pub use add_rows::add_rows;
pub use attention::AttentionArguments;
pub use computed::backward;
pub use cross_entropy::cross_entropy;
pub use elementwise::{add, film, shift_groups};
pub use error::picture_error;
pub use exchange::{beside, exchange_middle};
pub use feed_forward::FeedForwardArguments;
pub use linear::{linear, linear_onto};
pub use norm::rms_norm;
pub use normed::{NormArguments, normed};
pub use sub_layers::{SubLayer, sub_layers};
pub use warp::warp;

use candle_core::{CpuStorage, Device, Layout, Result, Shape, Tensor, bail};
use computed::Gradient;
use std::cell::Cell;

/// The numbers of a contiguous `f32` CPU tensor.
pub(crate) fn slice<'a>(storage: &'a CpuStorage, layout: &Layout) -> Result<&'a [f32]> {
    let values = storage.as_slice::<f32>()?;
    match layout.contiguous_offsets() {
        Some((start, end)) => Ok(&values[start..end]),
        None => bail!("a fused operation needs contiguous tensors, got {layout:?}"),
    }
}

/// Binds names to the numbers of contiguous CPU tensors for the rest of the scope.
macro_rules! values {
    ($($name:ident = $tensor:expr),* $(,)?) => {
        $(
            let tensor = $tensor.contiguous()?;
            let (guard, layout) = tensor.storage_and_layout();
            let $name = match &*guard {
                candle_core::Storage::Cpu(storage) => $crate::ops::slice(storage, layout)?,
                _ => candle_core::bail!("a fused operation's gradient needs CPU tensors"),
            };
        )*
    };
}
pub(crate) use values;

fn tensor(values: Vec<f32>, shape: &Shape) -> Result<Tensor> {
    Tensor::from_vec(values, shape, &Device::Cpu)
}

/// The gradient with respect to `input`, `None` where nothing depends on it: data have none.
fn wanted(input: &Tensor, gradient: impl FnOnce() -> Vec<f32>) -> Gradient {
    input.track_op().then(gradient)
}

/// Whether the fused kernels run on these tensors.
pub(crate) fn fused(tensors: &[&Tensor]) -> bool {
    let fits = |t: &Tensor| t.device().is_cpu() && t.dtype() == candle_core::DType::F32;
    !is_composing() && tensors.iter().all(|tensor| fits(tensor))
}

thread_local! {
    static COMPOSING: Cell<bool> = const { Cell::new(false) };
}

/// Runs `work` with the operations that this thread asks for composed of candle's, on the CPU as on other devices: the way to test the code that
/// those run where there is none of them.
pub fn with_compositions<R>(work: impl FnOnce() -> R) -> R {
    with_composing(true, work)
}

/// Runs `work` within [`with_compositions`], or outside of any.
pub(crate) fn with_composing<R>(composing: bool, work: impl FnOnce() -> R) -> R {
    /// Puts the outer state back, even when `work` panics.
    struct Restore(bool);
    impl Drop for Restore {
        fn drop(&mut self) {
            COMPOSING.set(self.0);
        }
    }
    let _restore = Restore(COMPOSING.replace(composing));
    work()
}

/// Whether the caller is within [`with_compositions`].
pub fn is_composing() -> bool {
    COMPOSING.get()
}

/// `x` without its last dimension.
fn leading(shape: &Shape) -> usize {
    shape.elem_count() / shape.dims().last().copied().unwrap_or(1).max(1)
}

#[cfg(test)]
mod finite_differences;
#[cfg(test)]
pub(crate) mod tests;
