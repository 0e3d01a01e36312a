//! Holdfast: an IoT hub that unmodified Azure SDKs connect to, with a guard that explains each refusal.

mod app;
mod cli;
mod config;
mod drain;
mod files;
mod fronts;
mod guard;
mod io;
mod listen;
mod management;
mod metrics;
mod notary;
mod recorder;
mod secrets;
mod tls;

use std::process::ExitCode;

use clap::Parser as _;

fn main() -> ExitCode {
    match cli::run(cli::Args::parse()) {
        Ok(code) => code,
        Err(error) => {
            eprintln!("holdfast: {error:#}");
            ExitCode::FAILURE
        }
    }
}
