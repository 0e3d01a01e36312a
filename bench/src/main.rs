//! The load generator of Holdfast, and its comparison with other servers. See README.md.

mod apart;
mod compare;
mod document;
mod lanes;
mod load;
mod machine;
mod plot;
mod process;
mod report;
mod servers;
mod service;
mod soak;
mod subject;

use std::fs;
use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context as _, Result, bail};
use clap::{Parser, Subcommand, ValueEnum};
use serde::Serialize;

use crate::compare::CompareOptions;
use crate::load::{
    AmqpIdleOptions, AttackOptions, ChurnOptions, ConversationOptions, FloodOptions, IdleOptions,
    PublishOptions, ReadOptions, ReportsOptions, StormOptions, ThroughOptions,
};
use crate::machine::Machine;
use crate::report::Report;
use crate::servers::Kind;
use crate::soak::SoakOptions;
use crate::subject::Subject;

/// By how much attackers lower their priority: they stand for clients elsewhere, which take no time of this machine.
const PRIORITY_LOWER: i32 = 19;

/// Loads on MQTT servers over TLS 1.3, and what they cost the server.
#[derive(Parser)]
struct Args {
    #[command(subcommand)]
    command: Command,
    /// How to print.
    #[arg(short, long, value_enum, default_value_t = Format::Table, global = true)]
    output: Format,
    /// Where the stores of the servers go.
    #[arg(long, value_name = "DIR", global = true)]
    stores: Option<PathBuf>,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Format {
    /// For people.
    Table,
    /// For programs.
    Json,
}

#[derive(Subcommand)]
enum Command {
    /// Connect and disconnect for a while.
    Churn {
        #[command(flatten)]
        options: ChurnOptions,
        #[command(flatten)]
        on: On,
    },
    /// Connect every device once, as fast as the server takes them.
    Storm {
        #[command(flatten)]
        options: StormOptions,
        #[command(flatten)]
        on: On,
    },
    /// Hold silent devices and see what they take.
    Idle {
        #[command(flatten)]
        options: IdleOptions,
        #[command(flatten)]
        on: On,
    },
    /// Publish with QoS 1 for a while.
    Publish {
        #[command(flatten)]
        options: PublishOptions,
        #[command(flatten)]
        on: On,
    },
    /// Publish at an even rate to Holdfast, first alone and then beside a flood of bad tokens.
    Flood {
        #[command(flatten)]
        options: FloodOptions,
        #[command(flatten)]
        on: On,
    },
    /// Come to Holdfast with bad tokens, at a low priority, until standard input ends.
    Attack {
        #[command(flatten)]
        options: AttackOptions,
        #[command(flatten)]
        on: On,
    },
    /// Read the event stream of Holdfast from its beginning.
    Read {
        #[command(flatten)]
        options: ReadOptions,
        #[command(flatten)]
        on: On,
    },
    /// Publish at an even rate to Holdfast while its event stream is read.
    Through {
        #[command(flatten)]
        options: ThroughOptions,
        #[command(flatten)]
        on: On,
    },
    /// Hold silent AMQP readers on a Holdfast and see what they take.
    AmqpIdle {
        #[command(flatten)]
        options: AmqpIdleOptions,
        #[command(flatten)]
        on: On,
    },
    /// Hold devices with their twins on a Holdfast, call their methods and change their desired properties.
    Conversation {
        #[command(flatten)]
        options: ConversationOptions,
        #[command(flatten)]
        on: On,
    },
    /// Update the reported properties of twins on a Holdfast as fast as they are durable.
    Reports {
        #[command(flatten)]
        options: ReportsOptions,
        #[command(flatten)]
        on: On,
    },
    /// Start a Holdfast, connect and disconnect, and see whether its memory grows.
    SoakConnect {
        #[command(flatten)]
        options: SoakOptions,
        /// The release build of Holdfast.
        #[arg(long, value_name = "FILE")]
        holdfast: PathBuf,
    },
    /// Start all servers in turn, put all loads on them, and print one table with ratios.
    Compare(#[command(flatten)] CompareOptions),
}

/// A server that runs already.
#[derive(clap::Args)]
struct On {
    /// The ready file of a Holdfast: SAS tokens and the topics of Azure.
    #[arg(long, value_name = "FILE", conflicts_with_all = ["address", "ca_file", "pid"])]
    ready_file: Option<PathBuf>,
    /// The address that this Holdfast listens on.
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1")]
    listen: IpAddr,
    /// The address of a server of plain MQTT over TLS.
    #[arg(long, value_name = "ADDRESS:PORT", requires_all = ["ca_file", "pid"])]
    address: Option<SocketAddr>,
    /// The CA of that server.
    #[arg(long, value_name = "FILE")]
    ca_file: Option<PathBuf>,
    /// The process of that server.
    #[arg(long)]
    pid: Option<u32>,
}

impl On {
    fn subject(&self, devices: usize) -> Result<Subject> {
        let subject = match (&self.ready_file, self.address, &self.ca_file, self.pid) {
            (Some(file), ..) => Subject::holdfast(file, self.listen)?,
            (None, Some(address), Some(ca_file), Some(pid)) => {
                Subject::plain(pid, address, &fs::read_to_string(ca_file)?)?
            }
            _ => bail!("name a server: --ready-file FILE, or --address A --ca-file FILE --pid PID"),
        };
        subject.register(devices)?;
        Ok(subject)
    }
}

fn main() -> Result<ExitCode> {
    let args = Args::parse();
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    process::raise_open_files().context("the limit of open files could not be raised")?;
    let below =
        args.stores.clone().unwrap_or_else(|| Path::new(env!("CARGO_MANIFEST_DIR")).join("target/stores"));
    if let Command::Attack { .. } = args.command {
        // Before there are other threads, which then have it too.
        rustix::process::nice(PRIORITY_LOWER).context("the priority could not be lowered")?;
    }
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    runtime.block_on(run(args.command, args.output, &below))
}

async fn run(command: Command, output: Format, below: &Path) -> Result<ExitCode> {
    match command {
        Command::Churn { options, on } => {
            print(&load::churn(&on.subject(options.devices())?, options).await?, output)
        }
        Command::Storm { options, on } => {
            let subject = on.subject(options.devices)?;
            if options.look {
                subject.look()?;
            }
            print(&load::storm(&subject, options).await?, output)
        }
        Command::Idle { options, on } => {
            print(&load::idle(&on.subject(options.devices)?, options).await?, output)
        }
        Command::Publish { options, on } => {
            print(&load::publish(&on.subject(options.devices)?, options).await?, output)
        }
        Command::Flood { options, on } => {
            let subject = on.subject(options.attack.devices)?;
            let ready_file =
                on.ready_file.as_deref().context("a flood needs a Holdfast: --ready-file FILE")?;
            print(&load::flood(&subject, ready_file, options).await?, output)
        }
        Command::Attack { options, on } => {
            // They are registered already, by those whose names they are.
            print(&load::attack(&on.subject(0)?, options).await?, output)
        }
        Command::Read { options, on } => print(&load::read(&on.subject(0)?, options).await?, output),
        Command::Through { options, on } => {
            print(&load::through(&on.subject(options.devices)?, options).await?, output)
        }
        Command::AmqpIdle { options, on } => print(&load::amqp_idle(&on.subject(0)?, options).await?, output),
        Command::Conversation { options, on } => {
            print(&load::conversation(&on.subject(options.devices)?, options).await?, output)
        }
        Command::Reports { options, on } => {
            print(&load::reports(&on.subject(options.devices)?, options).await?, output)
        }
        Command::SoakConnect { options, holdfast } => {
            let soak = soak::soak(&Kind::Holdfast(holdfast), below, options).await?;
            print(&soak, output)?;
            return Ok(if soak.holds { ExitCode::SUCCESS } else { ExitCode::FAILURE });
        }
        Command::Compare(options) => {
            let machine = Machine::look(below)?;
            let rounds = compare::compare(&options, below).await?;
            let report = Report::new(&options, machine, rounds);
            if let Some(directory) = &options.write {
                document::write(&report, directory)?;
            }
            match output {
                Format::Table => report.print(),
                Format::Json => print(&report, output)?,
            }
            Ok(())
        }
    }?;
    Ok(ExitCode::SUCCESS)
}

fn print(measured: &impl Serialize, output: Format) -> Result<()> {
    let value = serde_json::to_value(measured)?;
    match (output, value.as_object()) {
        (Format::Table, Some(object)) => {
            object.iter().for_each(|(name, value)| println!("{name:<28} {value}"));
        }
        _ => println!("{value:#}"),
    }
    Ok(())
}
