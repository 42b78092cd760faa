//! Memory of columns, asked of the kernel at once.
//!
//! Whoever keeps all batches takes new memory for each of them, and meets a page fault for every 4 KiB: a sixth of the
//! time of a decode. The kernel gives the pages of a whole buffer for a fraction of that. Where it cannot (before Linux
//! 5.14), nothing changes.

use std::alloc::{GlobalAlloc, Layout, System};

/// Buffers of columns lie in between. Smaller ones come from memory that is in use; larger ones may stay unused.
const SIZES: std::ops::RangeInclusive<usize> = 32 << 10..=4 << 20;
const PAGE_BYTES: usize = 4096;

pub struct Pages;

// SAFETY: all of it is the system's allocator; memory that it has just given may be written to.
unsafe impl GlobalAlloc for Pages {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        let start = unsafe { System.alloc(layout) };
        if SIZES.contains(&layout.size()) && !start.is_null() {
            let skipped = start.align_offset(PAGE_BYTES);
            let whole = layout.size().saturating_sub(skipped) / PAGE_BYTES * PAGE_BYTES;
            // Its failure is no loss: the pages come one by one then.
            unsafe { libc::madvise(start.add(skipped).cast(), whole, libc::MADV_POPULATE_WRITE) };
        }
        start
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn realloc(&self, start: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        unsafe { System.realloc(start, layout, size) }
    }

    unsafe fn dealloc(&self, start: *mut u8, layout: Layout) {
        unsafe { System.dealloc(start, layout) }
    }
}
