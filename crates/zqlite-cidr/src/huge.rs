//! Memory of large arrays, in huge pages where the system has them to give.
//!
//! Lookups go to random places of some 30 MB. In pages of 4 KiB most of them miss the processor's table of pages as well
//! as its caches; in pages of 2 MiB none does.

/// What an array must have at least, so that a page of 2 MiB lies within it wherever it begins.
#[cfg(target_os = "linux")]
const LEAST: usize = 4 << 20;

/// A vector with room for `count` items. Room that is not written takes no memory but for the rest of a page.
pub(crate) fn with_capacity<T>(count: usize) -> Vec<T> {
    let mut items = Vec::with_capacity(count);
    advise(items.as_mut_ptr(), items.capacity());
    items
}

#[cfg(target_os = "linux")]
fn advise<T>(items: *mut T, count: usize) {
    let bytes = count * size_of::<T>();
    if bytes < LEAST {
        return;
    }
    let first = items.addr().next_multiple_of(PAGE);
    let end = (items.addr() + bytes) / PAGE * PAGE;
    // SAFETY: the range lies within one allocation, at whole pages. The advice changes how the kernel backs it, never what
    // is in it; a kernel that does not know it returns an error, which changes nothing either.
    unsafe { libc::madvise(items.with_addr(first).cast(), end - first, libc::MADV_HUGEPAGE) };
}

/// What `madvise` wants addresses to be multiples of: the largest page that any Linux of these architectures uses.
#[cfg(target_os = "linux")]
const PAGE: usize = 64 << 10;

#[cfg(not(target_os = "linux"))]
fn advise<T>(_: *mut T, _: usize) {}
