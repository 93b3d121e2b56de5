//! Keeping freed memory for the next tensor.

/// Asks the C library's allocator to keep freed memory instead of handing each large buffer back to the kernel.
///
/// A training step frees and allocates the same large buffers again and again; with the defaults each of them is mapped and
/// zeroed anew, page by page. Call it once, first thing in `main`. Does nothing where the C library is not glibc.
pub fn tune_allocator() {
    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    {
        // SAFETY: `mallopt` only sets limits of the allocator; any values are allowed.
        unsafe {
            libc::mallopt(libc::M_MMAP_THRESHOLD, 1 << 30);
            libc::mallopt(libc::M_TRIM_THRESHOLD, i32::MAX);
            libc::mallopt(libc::M_TOP_PAD, 64 << 20);
            libc::mallopt(libc::M_ARENA_MAX, 2);
        }
    }
}
