//! The allocator of programs that train: buffers begin on a cache line, and those that are freed are kept for the next step.
//!
//! A training step allocates and frees the same large buffers again and again. Most systems' allocators map each of them anew, and the kernel zeroes it page by page: under Wine,
//! that took up to 45% of a step's time (docs/performance.md). What glibc does with large blocks can be told to it ([`crate::tune_allocator`]); elsewhere they are kept here. Loops over
//! whole registers of 64 bytes are slower where each of them lies in two cache lines.

use std::alloc::{GlobalAlloc, Layout, System};
use std::ptr;
use std::sync::{Mutex, MutexGuard, PoisonError};

/// Bytes of a cache line.
const LINE: usize = 64;
/// Blocks from this size on begin on a cache line.
const ALIGNED: usize = 4 << 10;
/// Blocks from this size on are kept.
const LARGE: usize = 1 << LARGE_BITS;
const LARGE_BITS: usize = 16;
/// Sizes of kept blocks between a power of two and the next: a block is at most an eighth larger than it was asked to be.
const STEPS: usize = 1 << STEP_BITS;
const STEP_BITS: usize = 3;
/// Sizes of kept blocks, up to nearly 4 GiB.
const CLASSES: usize = 16 * STEPS;
/// Blocks that are in use or kept may take so many times what the blocks in use have taken at most.
const MOST_HELD: usize = 2;

/// The system's allocator with aligned buffers, of which the large ones are kept when they are freed. For `#[global_allocator]`.
pub struct BufferAllocator {
    keeps: bool,
    state: Mutex<State>,
}

struct State {
    /// The first kept block of each size; each begins with the address of the next.
    kept: [*mut u8; CLASSES],
    /// Bytes of these.
    kept_bytes: usize,
    /// Bytes of large blocks in use, now and at most.
    used_bytes: usize,
    most_used_bytes: usize,
}

// SAFETY: kept blocks belong to nobody else, so whichever thread holds the state may use them.
unsafe impl Send for State {}

/// A size that large blocks have, by its number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Class(usize);

impl Class {
    /// The smallest that has room for `layout`; none for blocks that are small, very large, or must lie on more than a cache line's start.
    fn of(layout: Layout) -> Option<Self> {
        if layout.size() < LARGE || layout.align() > LINE {
            return None;
        }
        let step = 1 << ((layout.size() - 1).ilog2() as usize - STEP_BITS);
        let size = layout.size().checked_next_multiple_of(step)?;
        let bits = size.ilog2() as usize;
        // The leading bits of the size: a one and the step.
        let number = (bits - LARGE_BITS) * STEPS + (size >> (bits - STEP_BITS)) - STEPS;
        let valid = Layout::from_size_align(size, LINE).is_ok();
        (valid && number < CLASSES).then_some(Self(number))
    }

    fn size(self) -> usize {
        let bits = LARGE_BITS + self.0 / STEPS;
        (STEPS + self.0 % STEPS) << (bits - STEP_BITS)
    }

    fn layout(self) -> Layout {
        // SAFETY: blocks have only classes that `of` has found valid.
        unsafe { Layout::from_size_align_unchecked(self.size(), LINE) }
    }
}

impl BufferAllocator {
    /// An allocator that has kept nothing yet.
    #[allow(clippy::new_without_default)]
    pub const fn new() -> Self {
        Self::that_keeps(cfg!(not(all(target_os = "linux", target_env = "gnu"))))
    }

    const fn that_keeps(keeps: bool) -> Self {
        Self {
            keeps,
            state: Mutex::new(State {
                kept: [ptr::null_mut(); CLASSES],
                kept_bytes: 0,
                used_bytes: 0,
                most_used_bytes: 0,
            }),
        }
    }

    fn class_of(&self, layout: Layout) -> Option<Class> {
        Class::of(layout).filter(|_| self.keeps)
    }

    /// Nothing panics while it is held.
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The layout that a block has which is not kept: buffers are aligned.
fn aligned(layout: Layout) -> Layout {
    match layout.size() >= ALIGNED {
        true => layout.align_to(LINE).unwrap_or(layout),
        false => layout,
    }
}

impl State {
    /// A kept block, if there is one; either way, one more is in use.
    fn take(&mut self, class: Class) -> Option<*mut u8> {
        self.used_bytes += class.size();
        self.most_used_bytes = self.most_used_bytes.max(self.used_bytes);
        let first = &mut self.kept[class.0];
        let block = *first;
        if block.is_null() {
            // Sizes change from one stage of training to the next: what has been kept for the last one goes.
            if self.used_bytes + self.kept_bytes > MOST_HELD * self.most_used_bytes {
                self.release();
            }
            return None;
        }
        // SAFETY: a kept block begins with the address of the next.
        *first = unsafe { block.cast::<*mut u8>().read() };
        self.kept_bytes -= class.size();
        Some(block)
    }

    /// Keeps a block that was in use.
    ///
    /// # Safety
    /// The block is of this class, and nobody uses it any more.
    unsafe fn keep(&mut self, class: Class, block: *mut u8) {
        self.used_bytes -= class.size();
        let first = &mut self.kept[class.0];
        // SAFETY: the block is nobody's, large enough for an address and aligned for it.
        unsafe { block.cast::<*mut u8>().write(*first) };
        *first = block;
        self.kept_bytes += class.size();
    }

    /// Gives all kept blocks back to the system.
    fn release(&mut self) {
        for (number, first) in self.kept.iter_mut().enumerate() {
            while !first.is_null() {
                let block = *first;
                // SAFETY: a kept block begins with the address of the next, and was allocated with its class's layout.
                unsafe {
                    *first = block.cast::<*mut u8>().read();
                    System.dealloc(block, Class(number).layout());
                }
            }
        }
        self.kept_bytes = 0;
    }
}

// SAFETY: blocks come from the system's allocator, with layouts that have room for what is asked and depend on it alone, so that each goes back as what it was
// allocated as; a kept block is handed out once, to one of the same class.
unsafe impl GlobalAlloc for BufferAllocator {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        let Some(class) = self.class_of(layout) else {
            // SAFETY: the size is not zero, by this function's contract.
            return unsafe { System.alloc(aligned(layout)) };
        };
        if let Some(block) = self.state().take(class) {
            return block;
        }
        // SAFETY: no class's size is zero.
        let block = unsafe { System.alloc(class.layout()) };
        if !block.is_null() {
            return block;
        }
        self.state().release();
        // SAFETY: as above.
        let block = unsafe { System.alloc(class.layout()) };
        if block.is_null() {
            self.state().used_bytes -= class.size();
        }
        block
    }

    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        match self.class_of(layout) {
            // SAFETY: the block was allocated with this layout, so it is of its class, and nobody uses it any more.
            Some(class) => unsafe { self.state().keep(class, block) },
            // SAFETY: as above, and so it was allocated by the system.
            None => unsafe { System.dealloc(block, aligned(layout)) },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn layout(size: usize) -> Layout {
        Layout::from_size_align(size, 4).unwrap()
    }

    proptest! {
        #[test]
        fn a_class_has_room_for_its_blocks_and_little_more(size in LARGE..1usize << 31) {
            let class = Class::of(layout(size)).unwrap();
            let room = class.size();
            prop_assert!(room >= size && (room - size) * STEPS < size);
            prop_assert_eq!(Class::of(layout(room)), Some(class));
            let larger = Class::of(layout(room + 1)).unwrap();
            prop_assert_eq!(larger, Class(class.0 + 1));
        }
    }

    #[test]
    fn what_is_small_or_lies_otherwise_has_no_class() {
        assert_eq!(Class::of(layout(LARGE - 1)), None);
        assert_eq!(Class::of(layout(LARGE)), Some(Class(0)));
        assert_eq!(Class::of(layout(1 << 40)), None);
        let page = Layout::from_size_align(LARGE, 4096).unwrap();
        assert_eq!(Class::of(page), None);
    }

    /// Blocks, their layouts and the number that each is filled with; how many there have been.
    struct Blocks<'a>(&'a BufferAllocator, Vec<(*mut u8, Layout, u8)>, u8);

    impl Blocks<'_> {
        fn add(&mut self, size: usize) -> *mut u8 {
            let (layout, number) = (layout(size), self.2);
            self.2 += 1;
            // SAFETY: the size is not zero, and the block has room for so many bytes.
            let block = unsafe {
                let block = self.0.alloc(layout);
                block.write_bytes(number, size);
                block
            };
            assert!(size < ALIGNED || block.addr().is_multiple_of(LINE));
            self.1.push((block, layout, number));
            block
        }

        fn free(&mut self, index: usize) {
            let (block, layout, number) = self.1.swap_remove(index);
            // SAFETY: the block was allocated with this layout and filled.
            unsafe {
                let bytes = std::slice::from_raw_parts(block, layout.size());
                assert!(bytes.iter().all(|&byte| byte == number));
                self.0.dealloc(block, layout);
            }
        }
    }

    proptest! {
        /// No two blocks overlap, whatever is kept, released or not kept at all.
        #[test]
        fn blocks_stay_as_they_were_filled(
            keeps: bool, turns in proptest::collection::vec((1usize..20, 0usize..9000, 0usize..40), 1..60),
        ) {
            let allocator = BufferAllocator::that_keeps(keeps);
            let mut blocks = Blocks(&allocator, Vec::new(), 0);
            for (pages, more, free) in turns {
                blocks.add(pages * pages * 1024 + more);
                if free < blocks.1.len() {
                    blocks.free(free);
                }
                let state = allocator.state();
                prop_assert!(state.used_bytes + state.kept_bytes <= MOST_HELD * state.most_used_bytes);
            }
            while !blocks.1.is_empty() {
                blocks.free(0);
            }
            let mut state = allocator.state();
            prop_assert_eq!(state.used_bytes, 0);
            state.release();
            prop_assert!(state.kept.iter().all(|block| block.is_null()));
        }
    }

    #[test]
    fn a_freed_block_is_the_next_one_of_about_its_size_until_too_much_is_kept() {
        let allocator = BufferAllocator::that_keeps(true);
        let mut blocks = Blocks(&allocator, Vec::new(), 0);
        let first = blocks.add(1_000_000);
        blocks.free(0);
        assert_eq!(blocks.add(990_000), first);
        blocks.free(0);
        let kept = |allocator: &BufferAllocator| allocator.state().kept_bytes;
        // Two sizes of which one at a time is in use: within twice the most.
        blocks.add(900_000);
        blocks.free(0);
        assert!(kept(&allocator) > 1_900_000);
        blocks.add(500_000);
        blocks.free(0);
        assert!((500_000..600_000).contains(&kept(&allocator)));
        allocator.state().release();
    }
}
