//! `holdfast posture`.

use std::collections::BTreeMap;
use std::io::IsTerminal as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context as _, bail};
use clap::{Subcommand, ValueEnum};
use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};

use super::Common;
use super::output::{Format, list, one};
use super::posture_report;
use super::target::{Request, Target, encoded};
use super::terminal::{self, outln};

const PATH: &str = "/holdfast/v1/posture";

/// `holdfast posture`.
#[derive(clap::Args)]
#[command(args_conflicts_with_subcommands = true)]
#[command(after_help = "Examples:
  holdfast posture                                     the score and what is wrong
  holdfast posture fix 3fa9c1d2e0 --dry-run            what a fix would change
  holdfast posture fix 3fa9c1d2e0                      fix it
  holdfast posture undo 77ab01ff23                     take a fix back
  holdfast posture waive 3fa9c1d2e0 --owner anna --reason 'a test rig' --days 30

Exit code of `holdfast posture`: 0 when nothing is open, 1 otherwise.")]
pub(crate) struct PostureArgs {
    #[command(subcommand)]
    command: Option<PostureCommand>,
    /// Show closed findings and what each check counted too.
    #[arg(long)]
    all: bool,
    #[command(flatten)]
    common: Common,
}

#[derive(Subcommand)]
enum PostureCommand {
    /// Show a finding with its evidence.
    Show {
        /// Its id.
        id: String,
        #[command(flatten)]
        common: Common,
    },
    /// Fix a finding. On a terminal it asks before it cuts anybody off.
    Fix {
        /// The id of the finding.
        id: String,
        /// Print the exact change and make none.
        #[arg(long)]
        dry_run: bool,
        /// Do not ask.
        #[arg(long)]
        yes: bool,
        #[command(flatten)]
        common: Common,
    },
    /// Take a fix back: everything is as it was before.
    Undo {
        /// The id of the fix.
        id: String,
        #[command(flatten)]
        common: Common,
    },
    /// List the fixes that were made.
    Fixes {
        #[command(flatten)]
        common: Common,
    },
    /// Take the risk of a finding for a time; it does not count until then.
    Waive {
        /// The id of the finding.
        id: String,
        /// Who answers for it.
        #[arg(long)]
        owner: String,
        /// Why.
        #[arg(long)]
        reason: String,
        /// Until when: 2027-01-31 or 2027-01-31T12:00:00Z.
        #[arg(long, value_name = "DATE", required_unless_present = "days")]
        until: Option<String>,
        /// For how many days from now.
        #[arg(long, value_name = "N", conflicts_with = "until")]
        days: Option<u16>,
        #[command(flatten)]
        common: Common,
    },
    /// End a waiver before its time.
    EndWaiver {
        /// The id of the finding.
        id: String,
        #[command(flatten)]
        common: Common,
    },
    /// Say of each of Microsoft's 38 recommendations who has done it: the hub, its checks, or you.
    #[command(after_help = "Examples:
  holdfast posture report
  holdfast posture report --format html --out posture.html")]
    Report {
        /// As what.
        #[arg(long, value_enum, default_value_t = ReportFormat::Text)]
        format: ReportFormat,
        /// Write it here instead of to the terminal.
        #[arg(long, value_name = "FILE")]
        out: Option<PathBuf>,
        #[command(flatten)]
        common: Common,
    },
    /// List what is checked, or explain one check: threat, remedy, what it covers.
    Checks {
        /// The id of a check.
        check: Option<String>,
        #[command(flatten)]
        common: Common,
    },
}

#[derive(Clone, Copy, ValueEnum)]
enum ReportFormat {
    /// For a terminal.
    Text,
    /// One page that needs nothing else.
    Html,
    /// For programs.
    Json,
}

/// Runs a command about the posture.
pub(super) fn run(args: PostureArgs) -> anyhow::Result<ExitCode> {
    match args.command {
        None => return overview(&args.common, args.all),
        Some(PostureCommand::Show { id, common }) => {
            let finding = common.target.open()?.management(Request::new("GET", finding_path(&id)))?;
            show(&common, &finding);
        }
        Some(PostureCommand::Fix { id, dry_run, yes, common }) => return fix(&id, dry_run, yes, &common),
        Some(PostureCommand::Undo { id, common }) => {
            let path = format!("{PATH}/fixes/{}/undo", encoded(&id));
            let undone = common.target.open()?.management(Request::new("POST", path))?;
            match common.output {
                Format::Table => {
                    outln!("The fix {id} of {} is undone.", text(&undone, "check"));
                    outln!("{}", score_line(&undone));
                }
                _ => terminal::document(&undone),
            }
        }
        Some(PostureCommand::Fixes { common }) => {
            let fixes = common.target.open()?.management(Request::new("GET", format!("{PATH}/fixes")))?;
            let fixes: Vec<Value> = fixes.as_array().cloned().unwrap_or_default();
            let columns = [
                ("FIX", "/id"),
                ("FINDING", "/finding"),
                ("CHECK", "/check"),
                ("TIME", "/time"),
                ("BY", "/actor"),
                ("UNDONE", "/undone"),
            ];
            list(common.output, &fixes, &columns);
        }
        Some(PostureCommand::Waive { id, owner, reason, until, days, common }) => {
            let until = end_of_waiver(until.as_deref(), days)?;
            let waiver = json!({ "owner": owner, "reason": reason, "until": until });
            let path = format!("{}/waiver", finding_path(&id));
            let finding = common.target.open()?.management(Request::new("PUT", path).with(waiver))?;
            show(&common, &finding);
        }
        Some(PostureCommand::EndWaiver { id, common }) => {
            let path = format!("{}/waiver", finding_path(&id));
            let finding = common.target.open()?.management(Request::new("DELETE", path))?;
            show(&common, &finding);
        }
        Some(PostureCommand::Report { format, out, common }) => report(format, out.as_deref(), &common)?,
        Some(PostureCommand::Checks { check, common }) => checks(check.as_deref(), &common)?,
    }
    Ok(ExitCode::SUCCESS)
}

fn overview(common: &Common, all: bool) -> anyhow::Result<ExitCode> {
    let report = common.target.open()?.management(Request::new("GET", PATH))?;
    let findings = members(&report, "findings");
    let open = findings.iter().filter(|finding| finding["state"] == "open").count();
    match common.output {
        Format::Json => terminal::document(&report),
        Format::Jsonl => findings.iter().for_each(terminal::document_line),
        Format::Table => {
            outln!("{}", score_line(&report));
            outln!();
            match findings.as_slice() {
                [] => outln!("Nothing is wrong that the checks can see."),
                findings => print_findings(findings),
            }
            if all {
                print_more(&report);
            }
        }
    }
    Ok(if open == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Findings of one check that the overview shows: a fleet with more has one fault, and not a thousand.
const SHOWN_PER_CHECK: usize = 5;

fn print_findings(findings: &[Value]) {
    let mut shown: BTreeMap<&str, usize> = BTreeMap::new();
    for finding in findings {
        let count = shown.entry(text(finding, "check")).or_default();
        *count += 1;
        if *count > SHOWN_PER_CHECK {
            continue;
        }
        let waived = if finding["state"] == "waived" { "  (waived)" } else { "" };
        outln!(
            "{:<8}  {}  {}{waived}",
            text(finding, "severity").to_uppercase(),
            text(finding, "id"),
            text(finding, "check")
        );
        outln!("          {}", text(finding, "summary"));
        match finding["fix"]["command"].as_str() {
            Some(command) => outln!("          fix: {command} --dry-run"),
            None => outln!("          {}", finding["fix"]["advice"].as_str().unwrap_or_default()),
        }
    }
    for (check, count) in shown.into_iter().filter(|(_, count)| *count > SHOWN_PER_CHECK) {
        outln!("And {} more of {check}; `-o jsonl` lists all.", count - SHOWN_PER_CHECK);
    }
}

fn print_more(report: &Value) {
    let closed = members(report, "closed");
    if !closed.is_empty() {
        outln!();
        outln!("Closed:");
        for finding in &closed {
            outln!(
                "          {}  {}  {}",
                text(finding, "id"),
                text(finding, "check"),
                text(finding, "summary")
            );
        }
    }
    outln!();
    let columns = [
        ("CHECK", "/check"),
        ("SEVERITY", "/severity"),
        ("HEALTHY", "/healthy"),
        ("UNHEALTHY", "/unhealthy"),
        ("UNKNOWN", "/unknown"),
        ("N/A", "/notApplicable"),
    ];
    list(Format::Table, &members(report, "checks"), &columns);
}

fn show(common: &Common, finding: &Value) {
    const LINES: &[(&str, &str)] = &[
        ("Finding", "/id"),
        ("Check", "/check"),
        ("Title", "/title"),
        ("Severity", "/severity"),
        ("State", "/state"),
        ("Resource", "/resource"),
        ("What", "/summary"),
        ("What to do", "/fix/advice"),
        ("Fix", "/fix/command"),
        ("First seen", "/firstSeen"),
        ("Opened", "/opened"),
        ("Closed", "/closed"),
        ("Waived by", "/waiver/owner"),
        ("Because", "/waiver/reason"),
        ("Until", "/waiver/until"),
    ];
    one(common.output, finding, LINES);
    if matches!(common.output, Format::Table) {
        outln!("Evidence");
        terminal::document(&finding["evidence"]);
    }
}

fn fix(id: &str, dry_run: bool, yes: bool, common: &Common) -> anyhow::Result<ExitCode> {
    let target = common.target.open()?;
    let path = format!("{}/fix", finding_path(id));
    let interactive = std::io::stdin().is_terminal() && matches!(common.output, Format::Table);
    if dry_run || (interactive && !yes) {
        let proposal = target.management(Request::new("POST", format!("{path}?dryRun=true")))?;
        print_changes(common, &proposal);
        if dry_run {
            if matches!(common.output, Format::Table) {
                outln!("Nothing was changed. To do it: holdfast posture fix {id}");
            }
            return Ok(ExitCode::SUCCESS);
        }
        if !members(&proposal, "cutsOff").is_empty() && !confirmed()? {
            outln!("Nothing was changed.");
            return Ok(ExitCode::FAILURE);
        }
    }
    let fixed = target.management(Request::new("POST", path))?;
    if !matches!(common.output, Format::Table) {
        terminal::document(&fixed);
        return Ok(ExitCode::SUCCESS);
    }
    if !interactive || yes {
        print_changes(common, &fixed);
    }
    outln!("Done. {}", score_line(&fixed));
    for next in members(&fixed, "next") {
        outln!("  next   {}", next.as_str().unwrap_or_default());
    }
    outln!("  undo   {}", text(&fixed, "undo"));
    print_new_connection_string(&target, &fixed);
    Ok(ExitCode::SUCCESS)
}

/// A policy that a fix made is of no use without its key: it is printed here, once.
fn print_new_connection_string(target: &Target, fixed: &Value) {
    let made = members(fixed, "changes").into_iter().find_map(|change| {
        let made = text(&change, "change").starts_with("is created");
        made.then(|| text(&change, "target").strip_prefix("policy ").map(str::to_owned))?
    });
    let Some(policy) = made else { return };
    let path = format!("/holdfast/v1/policies/{}", encoded(&policy));
    if let Ok(policy) = target.management(Request::new("GET", path)) {
        let (name, key) = (text(&policy, "name"), text(&policy, "primaryKey"));
        outln!("  string HostName={};SharedAccessKeyName={name};SharedAccessKey={key}", target.host);
    }
}

fn print_changes(common: &Common, proposal: &Value) {
    if !matches!(common.output, Format::Table) {
        terminal::document(proposal);
        return;
    }
    for change in members(proposal, "changes") {
        outln!("  {}: {}", text(&change, "target"), text(&change, "change"));
    }
    let cut: Vec<Value> = members(proposal, "cutsOff");
    if !cut.is_empty() {
        let names: Vec<&str> = cut.iter().filter_map(Value::as_str).collect();
        outln!("  cut off until it has what it needs: {}", names.join(", "));
    }
}

fn confirmed() -> anyhow::Result<bool> {
    terminal::prompt("Go on? [y/N] ");
    let mut answer = String::new();
    std::io::stdin().read_line(&mut answer).context("no answer could be read")?;
    Ok(matches!(answer.trim(), "y" | "Y" | "yes"))
}

fn checks(check: Option<&str>, common: &Common) -> anyhow::Result<()> {
    let checks = common.target.open()?.management(Request::new("GET", format!("{PATH}/checks")))?;
    let checks: Vec<Value> = checks.as_array().cloned().unwrap_or_default();
    let Some(wanted) = check else {
        list(common.output, &checks, &[("CHECK", "/id"), ("SEVERITY", "/severity"), ("TITLE", "/title")]);
        return Ok(());
    };
    let Some(found) = checks.iter().find(|check| check["id"] == wanted) else {
        bail!("there is no check `{wanted}`; `holdfast posture checks` lists them");
    };
    let mut found = found.clone();
    if let (Format::Table, Some(covers)) = (common.output, found["covers"].as_array()) {
        let covers: Vec<&str> = covers.iter().filter_map(Value::as_str).collect();
        found["covers"] = json!(covers.join(", "));
    }
    const LINES: &[(&str, &str)] = &[
        ("Check", "/id"),
        ("Title", "/title"),
        ("Kind", "/kind"),
        ("Severity", "/severity"),
        ("Threat", "/threat"),
        ("Remedy", "/remedy"),
        ("Covers", "/covers"),
    ];
    one(common.output, &found, LINES);
    Ok(())
}

fn report(format: ReportFormat, out: Option<&Path>, common: &Common) -> anyhow::Result<()> {
    let report = common.target.open()?.management(Request::new("GET", format!("{PATH}/report")))?;
    let format = if matches!(common.output, Format::Table) { format } else { ReportFormat::Json };
    let text = match format {
        ReportFormat::Text => posture_report::text(&report),
        ReportFormat::Html => posture_report::html(&report),
        ReportFormat::Json => terminal::json(&format!("{report:#}\n")).into_owned(),
    };
    match out {
        Some(file) => {
            std::fs::write(file, text).with_context(|| format!("could not write {}", file.display()))?;
        }
        None => terminal::lines(&text),
    }
    Ok(())
}

fn end_of_waiver(until: Option<&str>, days: Option<u16>) -> anyhow::Result<Timestamp> {
    if let Some(days) = days {
        return Ok(Timestamp::now() + SignedDuration::from_hours(i64::from(days) * 24));
    }
    let text = until.context("--until or --days")?;
    if let Ok(time) = text.parse::<Timestamp>() {
        return Ok(time);
    }
    let date: jiff::civil::Date =
        text.parse().with_context(|| format!("`{text}` is no date: 2027-01-31 or 2027-01-31T12:00:00Z"))?;
    Ok(date.at(23, 59, 59, 0).to_zoned(jiff::tz::TimeZone::UTC)?.timestamp())
}

fn score_line(value: &Value) -> String {
    let score = value["score"].as_f64().unwrap_or_default();
    let coverage = value["coverage"].as_f64().unwrap_or_default() * 100.0;
    format!("Score {score:.1} of 100, with {coverage:.0} % of what the checks concern known.")
}

fn finding_path(id: &str) -> String {
    format!("{PATH}/findings/{}", encoded(id))
}

fn text<'a>(value: &'a Value, member: &str) -> &'a str {
    value[member].as_str().unwrap_or_default()
}

fn members(value: &Value, member: &str) -> Vec<Value> {
    value[member].as_array().cloned().unwrap_or_default()
}
