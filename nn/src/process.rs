//! Settings of the whole process that training and play are faster with.

/// Asks the C library's allocator to keep freed memory instead of handing each large buffer back to the kernel.
///
/// A training step frees and allocates the same large buffers again and again; with the defaults each of them is mapped and
/// zeroed anew, page by page. Call it once, first thing in `main`. Does nothing where the C library is not glibc: there
/// [`BufferAllocator`](crate::BufferAllocator) keeps it.
pub fn tune_allocator() {
    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    {
        // SAFETY: `mallopt` only sets limits of the allocator; any values are allowed.
        unsafe {
            // Older versions refuse more than half an arena; refused, the limit would stay at 128 KiB.
            let keeps_large = libc::mallopt(libc::M_MMAP_THRESHOLD, 1 << 30) != 0;
            if !keeps_large {
                libc::mallopt(libc::M_MMAP_THRESHOLD, 32 << 20);
            }
            libc::mallopt(libc::M_TRIM_THRESHOLD, i32::MAX);
            libc::mallopt(libc::M_TOP_PAD, 64 << 20);
            // What lies in another arena would not be in large pages.
            libc::mallopt(libc::M_ARENA_MAX, 1);
            if keeps_large {
                ask_for_large_pages();
            }
        }
    }
}

/// Asks the kernel to back the first 1.5 GiB that will be allocated with pages of 2 MiB: products walk over rows that lie kilobytes apart, and
/// with small pages the CPU looks up an address for each of them. Memory is taken only as it is used.
///
/// # Safety
/// The allocator keeps what is freed up to 2 GiB, and takes blocks of half a GiB from its heap.
#[cfg(all(target_os = "linux", target_env = "gnu"))]
unsafe fn ask_for_large_pages() {
    const BLOCK: usize = 512 << 20;
    const PAGE: usize = 2 << 20;
    // Several blocks, because larger ones would not come from the heap. They are one piece of it again when they are free.
    // SAFETY: `malloc` gives what `free` takes back, and nothing where there is no room; advice is about whole pages within a block.
    unsafe {
        let blocks = [(); 3].map(|()| libc::malloc(BLOCK));
        for block in blocks.into_iter().filter(|block| !block.is_null()) {
            let skipped = block.cast::<u8>().align_offset(PAGE);
            let start = block.cast::<u8>().wrapping_add(skipped);
            libc::madvise(start.cast(), BLOCK - PAGE, libc::MADV_HUGEPAGE);
        }
        for block in blocks {
            libc::free(block);
        }
    }
}

/// Runs what installs handlers of signals, and has those signals ignored afterwards that were before: `nohup`, and shells that begin work in the background, tell a
/// program so that it is to go on.
pub fn keeping_ignored_signals<R>(install: impl FnOnce() -> R) -> R {
    #[cfg(unix)]
    {
        let ignored = [libc::SIGHUP, libc::SIGINT, libc::SIGTERM].map(|signal| {
            // SAFETY: a record of zeros is a valid one, and the call only writes to it.
            let is = unsafe {
                let mut now: libc::sigaction = std::mem::zeroed();
                libc::sigaction(signal, std::ptr::null(), &raw mut now) == 0
                    && now.sa_sigaction == libc::SIG_IGN
            };
            is.then_some(signal)
        });
        let result = install();
        for signal in ignored.into_iter().flatten() {
            // SAFETY: it only says what becomes of a signal.
            unsafe { libc::signal(signal, libc::SIG_IGN) };
        }
        result
    }
    #[cfg(not(unix))]
    install()
}

/// Keeps candle from starting its own pool of spinning threads, which would fight with the kernels' threads over the same cores:
/// what candle still computes beside the fused operations is too small to share out. A choice made in the environment is left alone.
///
/// # Safety
/// No other thread may run yet: call it first thing in `main`.
pub unsafe fn quiet_candle_threads() {
    if std::env::var_os("CANDLE_NUM_THREADS").is_none() {
        // SAFETY: no other thread reads or writes the environment, by this function's contract.
        unsafe { std::env::set_var("CANDLE_NUM_THREADS", "1") };
    }
}

#[cfg(all(test, unix))]
mod tests {
    use super::*;

    #[test]
    fn signals_that_were_ignored_stay_so_and_others_are_handled() {
        extern "C" fn handler(_: libc::c_int) {}
        let handler = handler as *const () as libc::sighandler_t;
        // SAFETY: the handler does nothing, and no other test cares about these two signals.
        let set = |signal, to| unsafe { libc::signal(signal, to) };
        let before = set(libc::SIGHUP, libc::SIG_IGN);
        // Whoever began the tests in the background may have had it ignored.
        let of_interrupt = set(libc::SIGINT, libc::SIG_DFL);
        keeping_ignored_signals(|| [libc::SIGHUP, libc::SIGINT].map(|signal| set(signal, handler)));
        assert_eq!(set(libc::SIGHUP, before), libc::SIG_IGN);
        assert_eq!(set(libc::SIGINT, of_interrupt), handler);
    }
}
