//! Stands between a program and the C library and keeps an image of what would survive a loss of power; see the
//! README beside it.
//!
//! `control` is what a test may ask for, `image` the image and its log, `raw` system calls that bypass this library
//! itself, `calls` the functions that take the C library's place.

mod calls;
mod control;
mod image;
mod raw;
