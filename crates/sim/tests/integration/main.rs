//! The simulated device against a server made of `wire`'s other end, over real TLS.

mod device;
mod server;
