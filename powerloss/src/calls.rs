//! The functions that take the C library's place. Each does the real thing and tells the image.
//!
//! `open` and its siblings are variadic in C; on the platforms this runs on (Linux on x86-64 and AArch64) a third
//! integer argument is passed alike, and it is only looked at when the flags say that it is there.
//!
//! What makes each call sound is what the caller promises the C library; nothing is added to it.
#![allow(unsafe_op_in_unsafe_fn)]

use std::ffi::CStr;
use std::path::Path;

use libc::{c_char, c_int, c_uint, c_void, iovec, mode_t, off_t, size_t, ssize_t};

use crate::image::{File, Image, image};
use crate::raw;

/// The next definition of a function: that of the C library.
macro_rules! real {
    ($name:literal as $type:ty) => {{
        static NEXT: std::sync::OnceLock<usize> = std::sync::OnceLock::new();
        let next = *NEXT.get_or_init(|| libc::dlsym(libc::RTLD_NEXT, $name.as_ptr()) as usize);
        std::mem::transmute::<usize, $type>(next)
    }};
}

type Open = unsafe extern "C" fn(c_int, *const c_char, c_int, mode_t) -> c_int;

unsafe fn open_at(directory: c_int, path: *const c_char, flags: c_int, mode: mode_t) -> c_int {
    let inside = image().and_then(|image| Some((image, image.inside(directory, CStr::from_ptr(path))?)));
    let Some((image, inside)) = inside else { return real!(c"openat" as Open)(directory, path, flags, mode) };
    let before = raw::stat_path(&raw::c_path(&inside));
    let fd = real!(c"openat" as Open)(directory, path, flags, mode);
    if fd >= 0
        && let Some(stat) = raw::stat_fd(fd)
        && stat.st_mode & libc::S_IFMT == libc::S_IFREG
    {
        if before.is_none() {
            image.created(&inside, stat.st_ino);
        } else if flags & libc::O_TRUNC != 0
            && let Some(file) = image.file(fd)
        {
            file.resized(0);
        }
    }
    fd
}

fn mode_of(flags: c_int, mode: mode_t) -> mode_t {
    if flags & (libc::O_CREAT | libc::O_TMPFILE) == 0 { 0 } else { mode }
}

#[unsafe(no_mangle)]
unsafe extern "C" fn open(path: *const c_char, flags: c_int, mode: mode_t) -> c_int {
    open_at(libc::AT_FDCWD, path, flags, mode_of(flags, mode))
}

#[unsafe(no_mangle)]
unsafe extern "C" fn open64(path: *const c_char, flags: c_int, mode: mode_t) -> c_int {
    open_at(libc::AT_FDCWD, path, flags, mode_of(flags, mode))
}

#[unsafe(no_mangle)]
unsafe extern "C" fn openat(directory: c_int, path: *const c_char, flags: c_int, mode: mode_t) -> c_int {
    open_at(directory, path, flags, mode_of(flags, mode))
}

#[unsafe(no_mangle)]
unsafe extern "C" fn openat64(directory: c_int, path: *const c_char, flags: c_int, mode: mode_t) -> c_int {
    open_at(directory, path, flags, mode_of(flags, mode))
}

fn watched(fd: c_int) -> Option<(&'static Image, std::sync::Arc<File>)> {
    let image = image()?;
    Some((image, image.file(fd)?))
}

/// Writes at a position, or where the descriptor stands, as much as the disk has room for.
unsafe fn write_at(fd: c_int, bytes: *const c_void, length: size_t, position: Option<off_t>) -> ssize_t {
    type Write = unsafe extern "C" fn(c_int, *const c_void, size_t) -> ssize_t;
    type WriteAt = unsafe extern "C" fn(c_int, *const c_void, size_t, off_t) -> ssize_t;
    let real = |length| match position {
        Some(position) => real!(c"pwrite64" as WriteAt)(fd, bytes, length, position),
        None => real!(c"write" as Write)(fd, bytes, length),
    };
    let Some((image, file)) = watched(fd) else { return real(length) };
    let start = position.unwrap_or_else(|| place_of(fd)) as u64;
    let fits = image.fit(&file, start, length as u64);
    if fits == 0 && length > 0 {
        raw::set_errno(libc::ENOSPC);
        return -1;
    }
    let written = real(fits as size_t);
    if let Ok(written) = u64::try_from(written) {
        file.wrote(start, written);
    }
    written
}

/// Where the next `write` goes.
unsafe fn place_of(fd: c_int) -> off_t {
    let flags = libc::fcntl(fd, libc::F_GETFL);
    let (offset, whence) =
        if flags & libc::O_APPEND != 0 { (0, libc::SEEK_END) } else { (0, libc::SEEK_CUR) };
    libc::lseek(fd, offset, whence).max(0)
}

#[unsafe(no_mangle)]
unsafe extern "C" fn write(fd: c_int, bytes: *const c_void, length: size_t) -> ssize_t {
    write_at(fd, bytes, length, None)
}

#[unsafe(no_mangle)]
unsafe extern "C" fn pwrite(fd: c_int, bytes: *const c_void, length: size_t, position: off_t) -> ssize_t {
    write_at(fd, bytes, length, Some(position))
}

#[unsafe(no_mangle)]
unsafe extern "C" fn pwrite64(fd: c_int, bytes: *const c_void, length: size_t, position: off_t) -> ssize_t {
    write_at(fd, bytes, length, Some(position))
}

/// A gathered write to a watched file writes its first part: a short write, as the caller must expect one.
unsafe fn first_part(parts: *const iovec, count: c_int) -> Option<iovec> {
    let parts = std::slice::from_raw_parts(parts, usize::try_from(count).ok()?);
    parts.iter().find(|part| part.iov_len > 0).copied()
}

#[unsafe(no_mangle)]
unsafe extern "C" fn writev(fd: c_int, parts: *const iovec, count: c_int) -> ssize_t {
    type Real = unsafe extern "C" fn(c_int, *const iovec, c_int) -> ssize_t;
    match watched(fd).and_then(|_| first_part(parts, count)) {
        Some(part) => write_at(fd, part.iov_base, part.iov_len, None),
        None => real!(c"writev" as Real)(fd, parts, count),
    }
}

#[unsafe(no_mangle)]
unsafe extern "C" fn pwritev(fd: c_int, parts: *const iovec, count: c_int, position: off_t) -> ssize_t {
    type Real = unsafe extern "C" fn(c_int, *const iovec, c_int, off_t) -> ssize_t;
    match watched(fd).and_then(|_| first_part(parts, count)) {
        Some(part) => write_at(fd, part.iov_base, part.iov_len, Some(position)),
        None => real!(c"pwritev64" as Real)(fd, parts, count, position),
    }
}

#[unsafe(no_mangle)]
unsafe extern "C" fn pwritev64(fd: c_int, parts: *const iovec, count: c_int, position: off_t) -> ssize_t {
    pwritev(fd, parts, count, position)
}

#[unsafe(no_mangle)]
unsafe extern "C" fn ftruncate(fd: c_int, size: off_t) -> c_int {
    ftruncate64(fd, size)
}

#[unsafe(no_mangle)]
unsafe extern "C" fn ftruncate64(fd: c_int, size: off_t) -> c_int {
    type Real = unsafe extern "C" fn(c_int, off_t) -> c_int;
    let done = real!(c"ftruncate64" as Real)(fd, size);
    if done == 0
        && let Some((_, file)) = watched(fd)
    {
        file.resized(size as u64);
    }
    done
}

/// SQLite lengthens its database so where it may; a file system without it is a real one too.
#[unsafe(no_mangle)]
unsafe extern "C" fn fallocate(fd: c_int, mode: c_int, start: off_t, length: off_t) -> c_int {
    type Real = unsafe extern "C" fn(c_int, c_int, off_t, off_t) -> c_int;
    if watched(fd).is_some() {
        raw::set_errno(libc::EOPNOTSUPP);
        return -1;
    }
    real!(c"fallocate64" as Real)(fd, mode, start, length)
}

#[unsafe(no_mangle)]
unsafe extern "C" fn fallocate64(fd: c_int, mode: c_int, start: off_t, length: off_t) -> c_int {
    fallocate(fd, mode, start, length)
}

#[unsafe(no_mangle)]
unsafe extern "C" fn posix_fallocate(fd: c_int, start: off_t, length: off_t) -> c_int {
    type Real = unsafe extern "C" fn(c_int, off_t, off_t) -> c_int;
    if watched(fd).is_some() {
        libc::EOPNOTSUPP
    } else {
        real!(c"posix_fallocate64" as Real)(fd, start, length)
    }
}

#[unsafe(no_mangle)]
unsafe extern "C" fn posix_fallocate64(fd: c_int, start: off_t, length: off_t) -> c_int {
    posix_fallocate(fd, start, length)
}

/// The real sync is left out: this process is killed, the machine is not, and the image says what is durable.
#[unsafe(no_mangle)]
unsafe extern "C" fn fdatasync(fd: c_int) -> c_int {
    type Real = unsafe extern "C" fn(c_int) -> c_int;
    if let Some((image, file)) = watched(fd) {
        if image.sync(fd, &file) {
            return 0;
        }
        raw::set_errno(libc::EIO);
        return -1;
    }
    if let Some(image) = image()
        && let Some(directory) = image.directory(fd)
    {
        image.wait();
        image.name_changed("names", &[&directory]);
        return 0;
    }
    real!(c"fdatasync" as Real)(fd)
}

#[unsafe(no_mangle)]
unsafe extern "C" fn fsync(fd: c_int) -> c_int {
    fdatasync(fd)
}

/// Does a change of names and notes it when it was done.
unsafe fn rename_at(names: [(c_int, *const c_char); 2], flags: c_uint) -> c_int {
    type Real = unsafe extern "C" fn(c_int, *const c_char, c_int, *const c_char, c_uint) -> c_int;
    let [from, to] = names;
    let inside = |(directory, path)| image().and_then(|image| image.inside(directory, CStr::from_ptr(path)));
    let (old, new) = (inside(from), inside(to));
    let done = real!(c"renameat2" as Real)(from.0, from.1, to.0, to.1, flags);
    if done == 0
        && let (Some(image), Some(old), Some(new)) = (image(), old, new)
    {
        image.name_changed("rename", &[&old, &new]);
    }
    done
}

#[unsafe(no_mangle)]
unsafe extern "C" fn rename(from: *const c_char, to: *const c_char) -> c_int {
    rename_at([(libc::AT_FDCWD, from), (libc::AT_FDCWD, to)], 0)
}

#[unsafe(no_mangle)]
unsafe extern "C" fn renameat(
    from_directory: c_int,
    from: *const c_char,
    to_directory: c_int,
    to: *const c_char,
) -> c_int {
    rename_at([(from_directory, from), (to_directory, to)], 0)
}

#[unsafe(no_mangle)]
unsafe extern "C" fn renameat2(
    from_directory: c_int,
    from: *const c_char,
    to_directory: c_int,
    to: *const c_char,
    flags: c_uint,
) -> c_int {
    rename_at([(from_directory, from), (to_directory, to)], flags)
}

unsafe fn remove_at(directory: c_int, path: *const c_char, flags: c_int) -> c_int {
    type Real = unsafe extern "C" fn(c_int, *const c_char, c_int) -> c_int;
    let inside = image().and_then(|image| Some((image, image.inside(directory, CStr::from_ptr(path))?)));
    let done = real!(c"unlinkat" as Real)(directory, path, flags);
    if done == 0
        && let Some((image, inside)) = inside
    {
        image.name_changed(if flags & libc::AT_REMOVEDIR == 0 { "unlink" } else { "rmdir" }, &[&inside]);
    }
    done
}

#[unsafe(no_mangle)]
unsafe extern "C" fn unlink(path: *const c_char) -> c_int {
    remove_at(libc::AT_FDCWD, path, 0)
}

#[unsafe(no_mangle)]
unsafe extern "C" fn unlinkat(directory: c_int, path: *const c_char, flags: c_int) -> c_int {
    remove_at(directory, path, flags)
}

#[unsafe(no_mangle)]
unsafe extern "C" fn rmdir(path: *const c_char) -> c_int {
    remove_at(libc::AT_FDCWD, path, libc::AT_REMOVEDIR)
}

#[unsafe(no_mangle)]
unsafe extern "C" fn mkdir(path: *const c_char, mode: mode_t) -> c_int {
    mkdirat(libc::AT_FDCWD, path, mode)
}

#[unsafe(no_mangle)]
unsafe extern "C" fn mkdirat(directory: c_int, path: *const c_char, mode: mode_t) -> c_int {
    type Real = unsafe extern "C" fn(c_int, *const c_char, mode_t) -> c_int;
    let done = real!(c"mkdirat" as Real)(directory, path, mode);
    if done == 0
        && let Some(image) = image()
        && let Some(inside) = image.inside(directory, CStr::from_ptr(path))
    {
        let inside: &Path = &inside;
        image.name_changed("mkdir", &[inside]);
    }
    done
}
