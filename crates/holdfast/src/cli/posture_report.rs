//! The report of `holdfast posture report` as text and as a page.

use std::fmt::Write as _;

use super::terminal::visible;
use serde_json::Value;

/// The report for a terminal.
pub(super) fn text(report: &Value) -> String {
    let mut out = String::new();
    let _ = writeln!(out, "{}", visible(&headline(report)));
    let _ = writeln!(out, "{}", visible(&counts(report)));
    for row in rows(report) {
        let _ = writeln!(
            out,
            "\n{}  {:<15}  {}",
            visible(of(row, "id")),
            state(row).to_uppercase(),
            visible(of(row, "recommendation"))
        );
        let _ = writeln!(out, "     {}", visible(of(row, "evidence")));
        for finding in row["findings"].as_array().into_iter().flatten().filter_map(Value::as_str) {
            let _ = writeln!(out, "     holdfast posture show {}", visible(finding));
        }
    }
    out
}

/// The report as one page that needs nothing else.
pub(super) fn html(report: &Value) -> String {
    let mut out = String::from(HEAD);
    let _ = write!(out, "<h1>Posture of {}</h1>", escaped(of(report, "hub")));
    let _ = write!(
        out,
        "<p class=\"score\">{}</p><p>{}</p>",
        escaped(&headline(report)),
        escaped(&counts(report))
    );
    out.push_str(
        "<table><thead><tr><th>Row</th><th>Recommendation</th><th>State</th><th>Evidence</th><th>Date</th></tr></thead><tbody>",
    );
    for row in rows(report) {
        let findings: Vec<&str> =
            row["findings"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
        let findings = match findings.is_empty() {
            true => String::new(),
            false => format!("<br><code>{}</code>", escaped(&findings.join(" "))),
        };
        let _ = write!(
            out,
            "<tr class=\"{}\"><td>{}</td><td>{}</td><td>{}</td><td>{}{findings}</td><td>{}</td></tr>",
            escaped(of(row, "state")),
            escaped(of(row, "id")),
            escaped(of(row, "recommendation")),
            state(row),
            escaped(of(row, "evidence")),
            escaped(day(of(row, "date"))),
        );
    }
    out.push_str("</tbody></table></body></html>\n");
    out
}

const HEAD: &str = "<!doctype html><html lang=\"en\"><head><meta charset=\"utf-8\"><title>Posture report</title><style>
body{font:15px/1.5 system-ui,sans-serif;margin:2rem auto;max-width:70rem;padding:0 1rem;color:#1c1c1c;background:#fff}
h1{font-size:1.4rem}.score{font-size:1.1rem;font-weight:600}
table{border-collapse:collapse;width:100%}th,td{text-align:left;vertical-align:top;padding:.4rem .6rem;border-bottom:1px solid #ddd}
td:nth-child(3){white-space:nowrap;font-weight:600}td:nth-child(5){white-space:nowrap}
.doneByHub td:nth-child(3),.verified td:nth-child(3){color:#17692f}.yours td:nth-child(3){color:#9a3412}
.unknown td:nth-child(3){color:#555}code{font-size:.9em}
@media print{body{margin:0;max-width:none;font-size:11px}}
</style></head><body>";

fn headline(report: &Value) -> String {
    format!(
        "Score {:.1} of 100, with {:.0} % of what the checks concern known. {}",
        report["score"].as_f64().unwrap_or_default(),
        report["coverage"].as_f64().unwrap_or_default() * 100.0,
        day(of(report, "time")),
    )
}

fn counts(report: &Value) -> String {
    let count = |state: &str| rows(report).iter().filter(|row| of(row, "state") == state).count();
    let missing = rows(report).iter().filter(|row| row["exists"] == false).count();
    format!(
        "{} recommendations: {} done by the hub, {} verified, {} yours, {} unknown, {missing} of them because Holdfast does not have the feature yet.",
        rows(report).len(),
        count("doneByHub"),
        count("verified"),
        count("yours"),
        count("unknown"),
    )
}

fn rows(report: &Value) -> &[Value] {
    report["rows"].as_array().map(Vec::as_slice).unwrap_or_default()
}

fn state(row: &Value) -> &'static str {
    match of(row, "state") {
        "doneByHub" => "done by the hub",
        "verified" => "verified",
        "yours" => "yours",
        _ => "unknown",
    }
}

fn of<'a>(value: &'a Value, member: &str) -> &'a str {
    value[member].as_str().unwrap_or_default()
}

/// The day and minute of a time.
fn day(time: &str) -> &str {
    time.get(..16).unwrap_or(time)
}

fn escaped(text: &str) -> String {
    visible(text).replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn what_a_device_calls_itself_is_no_markup() {
        let report = json!({ "hub": "<script>", "rows": [{ "id": "S01", "evidence": "\"><img src=x>" }] });
        let page = html(&report);
        assert!(!page.contains("<script>") && !page.contains("<img"), "{page}");
    }
}
