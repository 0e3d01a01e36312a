//! Holdfast: an IoT hub that unmodified Azure SDKs connect to, with a guard that explains each refusal.

#![deny(clippy::print_stdout, clippy::print_stderr)]

mod app;
mod belongings;
mod certificate_duty;
mod cli;
mod config;
mod descriptors;
mod drain;
mod files;
mod fronts;
mod guard;
mod io;
mod lanes;
#[cfg(test)]
mod limits_tests;
mod listen;
mod management;
mod master_key;
mod methods;
mod metrics;
mod notary;
mod outgoing;
mod pem;
mod positions;
mod recorder;
mod remote;
mod retention;
mod scrub;
mod secrets;
mod tls;
mod unadmitted;
mod upkeep;
mod websocket;

use std::process::ExitCode;

use clap::Parser as _;
use mimalloc::MiMalloc;

use crate::cli::terminal::errln;

/// With glibc's a connect takes 5 to 6 % more (`docs/performance.md`).
#[global_allocator]
static ALLOCATOR: MiMalloc = MiMalloc;

fn main() -> ExitCode {
    match cli::run(cli::Args::parse()) {
        Ok(code) => code,
        Err(error) => {
            errln!("holdfast: {error:#}");
            ExitCode::FAILURE
        }
    }
}
