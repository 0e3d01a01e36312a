//! System calls that bypass the functions of this library: it must not watch itself.

use std::ffi::{CStr, CString};
use std::path::Path;

use libc::{c_int, c_long, c_void, mode_t, off_t};

pub(crate) fn c_path(path: &Path) -> CString {
    CString::new(path.as_os_str().as_encoded_bytes()).unwrap_or_default()
}

pub(crate) fn open(path: &CStr, flags: c_int, mode: mode_t) -> c_int {
    // SAFETY: a path that ends with a zero, and no pointer is kept.
    unsafe {
        libc::syscall(libc::SYS_openat, libc::AT_FDCWD, path.as_ptr(), flags | libc::O_CLOEXEC, mode) as c_int
    }
}

pub(crate) fn close(fd: c_int) {
    // SAFETY: the descriptor is our own.
    unsafe { libc::syscall(libc::SYS_close, fd) };
}

pub(crate) fn mkdir(path: &CStr) {
    // SAFETY: as for `open`.
    unsafe { libc::syscall(libc::SYS_mkdirat, libc::AT_FDCWD, path.as_ptr(), 0o700) };
}

/// Writes all of it, or as much as goes.
pub(crate) fn append(fd: c_int, mut bytes: &[u8]) {
    while !bytes.is_empty() {
        // SAFETY: the pointer and the length are those of a slice.
        let n = unsafe { libc::syscall(libc::SYS_write, fd, bytes.as_ptr().cast::<c_void>(), bytes.len()) };
        let Ok(n @ 1..) = usize::try_from(n) else { return };
        bytes = &bytes[n..];
    }
}

pub(crate) fn truncate(fd: c_int, size: off_t) {
    // SAFETY: no pointer.
    unsafe { libc::syscall(libc::SYS_ftruncate, fd, size) };
}

/// Copies a range from one file to another, as far as the first one goes.
pub(crate) fn copy(from: c_int, to: c_int, start: u64, end: u64) {
    let mut buffer = vec![0_u8; 128 * 1024];
    let mut at = start;
    while at < end {
        let want = buffer.len().min((end - at) as usize);
        // SAFETY: the buffer has room for that many bytes.
        let n = unsafe {
            libc::syscall(libc::SYS_pread64, from, buffer.as_mut_ptr().cast::<c_void>(), want, at as off_t)
        };
        let Ok(n @ 1..) = usize::try_from(n) else { return };
        // SAFETY: that many bytes were just read.
        let written: c_long = unsafe {
            libc::syscall(libc::SYS_pwrite64, to, buffer.as_ptr().cast::<c_void>(), n, at as off_t)
        };
        if written <= 0 {
            return;
        }
        at += written as u64;
    }
}

pub(crate) fn stat_fd(fd: c_int) -> Option<libc::stat> {
    let mut stat = std::mem::MaybeUninit::<libc::stat>::uninit();
    // SAFETY: `fstat` of the C library is not one of our functions; it fills the structure when it returns 0.
    (unsafe { libc::fstat(fd, stat.as_mut_ptr()) } == 0).then(|| unsafe { stat.assume_init() })
}

pub(crate) fn stat_path(path: &CStr) -> Option<libc::stat> {
    let mut stat = std::mem::MaybeUninit::<libc::stat>::uninit();
    // SAFETY: as above.
    (unsafe { libc::lstat(path.as_ptr(), stat.as_mut_ptr()) } == 0).then(|| unsafe { stat.assume_init() })
}

pub(crate) fn set_errno(value: c_int) {
    // SAFETY: the C library gives the address of this thread's variable.
    unsafe { *libc::__errno_location() = value };
}
