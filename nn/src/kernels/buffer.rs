//! Results without zeros first.

use super::parallel::for_each_chunk;

/// Numbers that one task copies.
const CHUNK: usize = 16 * 1024;

/// A vector of `count` numbers that `fill` writes. Zeroing memory only to overwrite it is a tenth of a training step.
///
/// # Safety
/// `fill` writes every number and reads none that it has not written.
pub(crate) unsafe fn filled(count: usize, fill: impl FnOnce(&mut [f32])) -> Vec<f32> {
    let mut numbers = Vec::with_capacity(count);
    // SAFETY: the capacity is there, and by this function's contract each number is written before it is read. (A slice of numbers that are none yet is more than
    // Rust promises to allow; nothing is made of it but writes.)
    unsafe {
        fill(std::slice::from_raw_parts_mut(numbers.as_mut_ptr(), count));
        numbers.set_len(count);
    }
    numbers
}

/// A copy, made on all cores.
pub(crate) fn copied(numbers: &[f32]) -> Vec<f32> {
    // SAFETY: the chunks cover all numbers, and each is written as a whole.
    unsafe {
        filled(numbers.len(), |out| {
            for_each_chunk(out, CHUNK, |index, out| {
                out.copy_from_slice(&numbers[index * CHUNK..][..out.len()]);
            });
        })
    }
}

/// Zeros, written on all cores.
pub(super) fn zeros(count: usize) -> Vec<f32> {
    // SAFETY: as above.
    unsafe {
        filled(count, |out| {
            for_each_chunk(out, CHUNK, |_, out| out.fill(0.0))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn copies_and_zeros_are_whole() {
        for count in [0, 1, CHUNK - 1, 3 * CHUNK + 5] {
            let numbers: Vec<f32> = (0..count).map(|i| i as f32).collect();
            assert_eq!(copied(&numbers), numbers);
            assert_eq!(zeros(count), vec![0.0; count]);
        }
    }
}
