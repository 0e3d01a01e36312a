//! The command line.

mod audit;
mod c2d;
mod certificate;
mod connection_string;
mod demo;
mod device;
mod events;
mod explain;
mod export;
mod file;
mod hub;
mod lines;
mod method;
mod module;
mod output;
#[cfg(test)]
mod pages_tests;
mod policy;
mod posture;
mod posture_report;
mod ready_file;
mod scrub;
mod send;
mod settings;
#[cfg(test)]
mod shell_words;
mod simulate;
mod target;
pub(crate) mod terminal;
mod trace;
mod trust_clock;
mod twin;
mod watch;
mod why;

use std::process::ExitCode;

use clap::{CommandFactory as _, Parser, Subcommand};

use self::output::Format;
use self::target::TargetArgs;

/// An IoT hub that unmodified Azure SDKs connect to by changing the connection string, with a guard that explains
/// each refusal.
#[derive(Parser)]
#[command(name = "holdfast", version, arg_required_else_help = true)]
#[command(after_help = "Examples:
  holdfast dev                                 a hub for development, ready in a second
  holdfast demo                                the same with simulated devices
  holdfast device create pump-1                register a device and print its connection string
  holdfast device simulate pump-1              be that device: send, receive, answer
  holdfast why pump-1                          why was it refused, and what would admit it
  holdfast audit verify                        was the record of all this changed

The commands other than dev, demo and serve talk to a running hub. Name it by --ready-file, by
--connection-string, or by the variables HOLDFAST_READY_FILE and HOLDFAST_CONNECTION_STRING.")]
pub(crate) struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Run a hub for development: loopback, its own throw-away CA, temporary data unless --data is given.
    Dev(hub::DevArgs),
    /// Run a hub with simulated devices on the real wire, one of them set up badly on purpose.
    Demo(demo::DemoArgs),
    /// Run a hub in production, from a configuration file.
    Serve(hub::ServeArgs),
    /// Check a configuration file and say what is wrong with it.
    CheckConfig(hub::CheckArgs),
    /// Register, show, change and delete devices; be one, or watch one.
    #[command(subcommand)]
    Device(device::DeviceCommand),
    /// Register, show, change and delete modules of a device.
    #[command(subcommand)]
    Module(module::ModuleCommand),
    /// Show and change the twins of devices and modules.
    #[command(subcommand)]
    Twin(twin::TwinCommand),
    /// Call the direct methods of devices and modules.
    #[command(subcommand)]
    Method(method::MethodCommand),
    /// Send messages to devices and modules, and list and purge what waits for them.
    #[command(subcommand)]
    C2d(c2d::C2dCommand),
    /// Create, show, change and delete shared access policies.
    #[command(subcommand)]
    Policy(policy::PolicyCommand),
    /// Add, verify, show and delete the certificate authorities of devices.
    #[command(subcommand)]
    Certificate(certificate::CertificateCommand),
    /// List and fetch the files that devices uploaded.
    #[command(subcommand)]
    File(file::FileCommand),
    /// Show and change the settings of the running hub.
    #[command(subcommand)]
    Settings(settings::SettingsCommand),
    /// Read the event stream, and manage its consumer groups.
    #[command(subcommand)]
    Events(events::EventsCommand),
    /// Send a message as a device.
    Send(send::SendArgs),
    /// Score the fleet, show what is unsafe about it, and fix it with an undo.
    Posture(posture::PostureArgs),
    /// Print the whole state of the hub as JSON, keys as fingerprints.
    Export(export::ExportArgs),
    /// Say why somebody was refused, and what would have admitted them.
    Why(why::WhyArgs),
    Trace(trace::TraceArgs),
    Scrub(scrub::ScrubArgs),
    TrustClock(trust_clock::TrustClockArgs),
    /// List the audit log, verify it, prove a record, export a checkpoint.
    #[command(subcommand)]
    Audit(audit::AuditCommand),
    /// Say what a connection string or token is, and what is wrong with it.
    Explain(explain::ExplainArgs),
    /// Print the completions of a shell.
    Completions {
        /// The shell.
        shell: clap_complete::Shell,
    },
}

/// How a command reaches the hub, and how it answers.
#[derive(clap::Args, Clone)]
struct Common {
    #[command(flatten)]
    target: TargetArgs,
    /// How to print.
    #[arg(short, long, value_enum, default_value_t = Format::Table, global = true)]
    output: Format,
}

/// Runs a command.
pub(crate) fn run(args: Args) -> anyhow::Result<ExitCode> {
    match args.command {
        Command::Dev(args) => hub::dev(args),
        Command::Demo(args) => demo::run(args),
        Command::Serve(args) => hub::serve(args),
        Command::CheckConfig(args) => hub::check_config(&args),
        Command::Device(command) => device::run(command),
        Command::Module(command) => module::run(command),
        Command::Twin(command) => twin::run(command),
        Command::Method(command) => method::run(command),
        Command::C2d(command) => c2d::run(command),
        Command::Policy(command) => policy::run(command),
        Command::Certificate(command) => certificate::run(command),
        Command::File(command) => file::run(command),
        Command::Settings(command) => settings::run(command),
        Command::Events(command) => events::run(command),
        Command::Send(args) => send::run(args),
        Command::Posture(args) => posture::run(args),
        Command::Export(args) => export::run(args),
        Command::Why(args) => why::run(args),
        Command::Trace(args) => trace::run(args),
        Command::Scrub(args) => scrub::run(args),
        Command::TrustClock(args) => trust_clock::run(args),
        Command::Audit(command) => audit::run(command),
        Command::Explain(args) => explain::run(args),
        Command::Completions { shell } => {
            let mut script = Vec::new();
            clap_complete::generate(shell, &mut Args::command(), "holdfast", &mut script);
            terminal::lines(&String::from_utf8_lossy(&script));
            Ok(ExitCode::SUCCESS)
        }
    }
}
