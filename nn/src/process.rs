//! Settings of the whole process that training and play are faster with.

/// Asks the C library's allocator to keep freed memory instead of handing each large buffer back to the kernel.
///
/// A training step frees and allocates the same large buffers again and again; with the defaults each of them is mapped and
/// zeroed anew, page by page. Call it once, first thing in `main`. Does nothing where the C library is not glibc.
pub fn tune_allocator() {
    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    {
        // SAFETY: `mallopt` only sets limits of the allocator; any values are allowed.
        unsafe {
            // Older versions refuse more than half an arena; refused, the limit would stay at 128 KiB.
            if libc::mallopt(libc::M_MMAP_THRESHOLD, 1 << 30) == 0 {
                libc::mallopt(libc::M_MMAP_THRESHOLD, 32 << 20);
            }
            libc::mallopt(libc::M_TRIM_THRESHOLD, i32::MAX);
            libc::mallopt(libc::M_TOP_PAD, 64 << 20);
            libc::mallopt(libc::M_ARENA_MAX, 2);
        }
    }
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
