//! Holdfast: an IoT hub that unmodified Azure SDKs connect to, with a guard that explains each refusal.

mod app;
mod cli;
mod config;
mod drain;
mod files;
mod fronts;
mod guard;
mod io;
mod lanes;
mod listen;
mod management;
mod methods;
mod metrics;
mod notary;
mod outgoing;
mod positions;
mod recorder;
mod remote;
mod secrets;
mod tls;

use std::process::ExitCode;

use clap::Parser as _;
use mimalloc::MiMalloc;

/// With glibc's a connect takes 5 to 6 % more (`docs/performance.md`).
#[global_allocator]
static ALLOCATOR: MiMalloc = MiMalloc;

fn main() -> ExitCode {
    end_quietly_when_nobody_reads();
    match cli::run(cli::Args::parse()) {
        Ok(code) => code,
        Err(error) => {
            eprintln!("holdfast: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// `holdfast … | head` ends the reader early, and that is no fault of anybody: the status is that of a program which died
/// of SIGPIPE, which Rust programs ignore.
fn end_quietly_when_nobody_reads() {
    const DIED_OF_SIGPIPE: i32 = 128 + 13;
    let otherwise = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        if panic.payload_as_str().is_some_and(|text| text.starts_with("failed printing to stdout")) {
            std::process::exit(DIED_OF_SIGPIPE);
        }
        otherwise(panic);
    }));
}
