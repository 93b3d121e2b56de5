//! Splitting work over the cores.

use rayon::prelude::*;

/// Work on fewer elements than this stays on one core: waking another costs more than it saves.
const SMALLEST_SHARED_WORK: usize = 16 * 1024;

/// Calls `work(index, chunk)` for each `chunk_len` elements of `data`, on several cores when there is enough of it.
pub fn for_each_chunk(
    data: &mut [f32],
    chunk_len: usize,
    work: impl Fn(usize, &mut [f32]) + Sync + Send,
) {
    if data.len() < SMALLEST_SHARED_WORK {
        data.chunks_mut(chunk_len)
            .enumerate()
            .for_each(|(index, chunk)| work(index, chunk));
    } else {
        data.par_chunks_mut(chunk_len)
            .enumerate()
            .for_each(|(index, chunk)| work(index, chunk));
    }
}

/// Calls `work(index)` for each index, on several cores when `cost` (elements touched in all) is worth it.
pub fn for_each_index(count: usize, cost: usize, work: impl Fn(usize) + Sync + Send) {
    if cost < SMALLEST_SHARED_WORK || count < 2 {
        (0..count).for_each(work);
    } else {
        (0..count).into_par_iter().for_each(work);
    }
}

/// Adds up `parts` rows of `width` elements each, in order, so that the sum does not depend on who computed them.
pub fn sum_rows(parts: &[f32], width: usize) -> Vec<f32> {
    let mut sum = vec![0.0; width];
    for row in parts.chunks_exact(width) {
        for (total, value) in sum.iter_mut().zip(row) {
            *total += value;
        }
    }
    sum
}

/// Memory that several threads may write to, each to its own elements.
pub struct Shared<T>(*mut T, usize);

impl<T> Clone for Shared<T> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<T> Copy for Shared<T> {}

/// Numbers that several threads may write to.
pub type SharedMut = Shared<f32>;
/// Packed words that several threads may write to.
pub type SharedWords = Shared<u32>;

// SAFETY: `Shared::row` leaves it to its caller that no two threads touch the same elements.
unsafe impl<T: Send> Send for Shared<T> {}
// SAFETY: as above.
unsafe impl<T: Send> Sync for Shared<T> {}

impl<T> Shared<T> {
    /// Shares `data` among threads for as long as the borrow that it was made from is not used otherwise.
    pub fn new(data: &mut [T]) -> Self {
        Self(data.as_mut_ptr(), data.len())
    }

    /// The elements `start..start + len`.
    ///
    /// # Safety
    /// The slice that this was made from is still alive, and no other thread uses these elements at the same time.
    #[allow(clippy::mut_from_ref)]
    pub unsafe fn row<'a>(&self, start: usize, len: usize) -> &'a mut [T] {
        assert!(
            start.checked_add(len).is_some_and(|end| end <= self.1),
            "row {start}+{len} of {}",
            self.1
        );
        // SAFETY: within bounds by the check above; exclusive by this function's contract.
        unsafe { std::slice::from_raw_parts_mut(self.0.add(start), len) }
    }

    /// Where element `start` is.
    ///
    /// # Safety
    /// `start` lies within the slice.
    pub unsafe fn pointer(&self, start: usize) -> *mut T {
        // SAFETY: by this function's contract.
        unsafe { self.0.add(start) }
    }

    /// All elements.
    ///
    /// # Safety
    /// The slice that this was made from is still alive, and no thread writes to it as long as the result is used.
    pub unsafe fn whole<'a>(&self) -> &'a [T] {
        // SAFETY: the whole slice; shared with readers alone by this function's contract.
        unsafe { std::slice::from_raw_parts(self.0, self.1) }
    }
}
