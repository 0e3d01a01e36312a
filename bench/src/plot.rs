//! Plots as SVG: bars in groups, and lines. Written by hand, for these two need no library.

use std::fmt::Write as _;

const WIDTH: f64 = 860.0;
const COLOURS: [&str; 6] = ["#0b6e99", "#b0b7c0", "#d9730d", "#448361", "#9065b0", "#c14c8a"];
const TOP: f64 = 52.0;
const BAR: f64 = 17.0;
const GAP: f64 = 4.0;
const LABELS: f64 = 385.0;
/// Room for what is written behind the longest bar.
const NUMBERS: f64 = 190.0;

/// Bars that are compared with each other, under a heading.
pub(crate) struct Group {
    pub(crate) heading: String,
    pub(crate) bars: Vec<Bar>,
}

/// A bar, and what is written behind it.
pub(crate) struct Bar {
    pub(crate) label: String,
    pub(crate) value: f64,
    pub(crate) text: String,
    pub(crate) colour: usize,
}

/// Bars; those of a group have one scale. A mark is a line across groups without headings, which then share that scale.
pub(crate) fn bars(title: &str, groups: &[Group], mark: Option<(f64, &str)>) -> String {
    let greatest = |group: &Group| group.bars.iter().map(|bar| bar.value).fold(0.0, f64::max);
    let shared = mark.map(|(mark, _)| groups.iter().map(greatest).fold(mark * 1.25, f64::max));
    let room = WIDTH - LABELS - NUMBERS;
    let (mut body, mut y) = (String::new(), TOP);
    if let (Some((mark, label)), Some(shared)) = (mark, shared) {
        let x = LABELS + mark * room / shared;
        let height: f64 = groups.iter().map(|group| group.bars.len() as f64 * (BAR + GAP)).sum();
        line(&mut body, (x, TOP - 6.0), (x, TOP + height), "#c4281c", 1.5);
        text(&mut body, x, TOP - 10.0, "middle", "#c4281c", label);
    }
    for group in groups {
        let scale = room / shared.unwrap_or_else(|| greatest(group)).max(f64::MIN_POSITIVE);
        if !group.heading.is_empty() {
            y += 8.0;
            text(&mut body, 16.0, y + 12.0, "start", "#37352f", &group.heading);
            y += 20.0;
        }
        for bar in &group.bars {
            text(&mut body, LABELS - 8.0, y + 12.5, "end", "#6b6b6b", &bar.label);
            let (width, colour) = ((bar.value * scale).max(1.0), COLOURS[bar.colour % COLOURS.len()]);
            let _ = writeln!(
                body,
                r#"<rect x="{LABELS}" y="{y:.1}" width="{width:.1}" height="{BAR}" fill="{colour}"/>"#
            );
            text(&mut body, LABELS + width + 6.0, y + 12.5, "start", "#37352f", &bar.text);
            y += BAR + GAP;
        }
    }
    page(title, y + 12.0, &body)
}

/// A line through points.
pub(crate) struct Series {
    pub(crate) name: String,
    pub(crate) points: Vec<(f64, f64)>,
}

/// An axis: where its ticks stand and what is written there. Values between are placed between.
pub(crate) struct Axis {
    pub(crate) name: &'static str,
    pub(crate) ticks: Vec<(f64, String)>,
    /// Ticks stand at equal distances, whatever their values.
    pub(crate) even: bool,
}

impl Axis {
    /// Where a value stands, from 0 to 1.
    fn place(&self, value: f64) -> f64 {
        let last = self.ticks.len().saturating_sub(1).max(1) as f64;
        let (low, high) = (self.ticks[0].0, self.ticks[self.ticks.len() - 1].0);
        if !self.even {
            return (value - low) / (high - low);
        }
        let after = self.ticks.iter().position(|(tick, _)| *tick >= value).unwrap_or(self.ticks.len() - 1);
        let (Some((from, _)), (to, _)) = (after.checked_sub(1).map(|at| &self.ticks[at]), &self.ticks[after])
        else {
            return 0.0;
        };
        ((after - 1) as f64 + ((value - from) / (to - from)).clamp(0.0, 1.0)) / last
    }
}

/// Lines over a common axis, with their names above.
pub(crate) fn lines(title: &str, across: &Axis, up: &Axis, series: &[Series]) -> String {
    const HEIGHT: f64 = 300.0;
    let top = 56.0 + 20.0 * series.len().div_ceil(2) as f64;
    let (left, right, bottom) = (80.0, WIDTH - 30.0, top + HEIGHT);
    let x = |value: f64| left + across.place(value) * (right - left);
    let y = |value: f64| bottom - up.place(value) * HEIGHT;
    let mut body = String::new();
    for (value, label) in &up.ticks {
        line(&mut body, (left, y(*value)), (right, y(*value)), "#e9e9e7", 1.0);
        text(&mut body, left - 8.0, y(*value) + 4.0, "end", "#6b6b6b", label);
    }
    for (value, label) in &across.ticks {
        text(&mut body, x(*value), bottom + 18.0, "middle", "#6b6b6b", label);
    }
    text(&mut body, (left + right) / 2.0, bottom + 38.0, "middle", "#6b6b6b", across.name);
    text(&mut body, left - 8.0, top - 14.0, "end", "#6b6b6b", up.name);
    for (at, Series { name, points }) in series.iter().enumerate() {
        let colour = COLOURS[at % COLOURS.len()];
        let path = points.iter().map(|(across, up)| format!("{:.1},{:.1}", x(*across), y(*up)));
        let path = path.collect::<Vec<_>>().join(" ");
        let _ = writeln!(
            body,
            r#"<polyline points="{path}" fill="none" stroke="{colour}" stroke-width="2.2" stroke-linejoin="round"/>"#
        );
        for (across, up) in points {
            let _ = writeln!(
                body,
                r#"<circle cx="{:.1}" cy="{:.1}" r="3" fill="{colour}"/>"#,
                x(*across),
                y(*up)
            );
        }
        let (column, row) = ((at % 2) as f64, (at / 2) as f64);
        let (legend_x, legend_y) = (left + column * 380.0, 48.0 + row * 20.0);
        line(&mut body, (legend_x, legend_y), (legend_x + 22.0, legend_y), colour, 3.0);
        text(&mut body, legend_x + 30.0, legend_y + 4.0, "start", "#37352f", name);
    }
    page(title, bottom + 52.0, &body)
}

fn page(title: &str, height: f64, body: &str) -> String {
    format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {height:.0}\" font-family=\"system-ui, \
         'Segoe UI', 'DejaVu Sans', sans-serif\" font-size=\"13\" paint-order=\"stroke\">\n\
         <rect width=\"{WIDTH}\" height=\"{height:.0}\" fill=\"#ffffff\"/>\n\
         <text x=\"16\" y=\"26\" font-size=\"16\" font-weight=\"600\" fill=\"#37352f\">{}</text>\n{body}</svg>\n",
        escaped(title)
    )
}

fn text(body: &mut String, x: f64, y: f64, anchor: &str, colour: &str, text: &str) {
    let text = escaped(text);
    let _ = writeln!(
        body,
        r#"<text x="{x:.1}" y="{y:.1}" text-anchor="{anchor}" fill="{colour}" stroke="white" stroke-width="3">{text}</text>"#
    );
}

fn line(body: &mut String, from: (f64, f64), to: (f64, f64), colour: &str, width: f64) {
    let ((x1, y1), (x2, y2)) = (from, to);
    let _ = writeln!(
        body,
        r#"<line x1="{x1:.1}" y1="{y1:.1}" x2="{x2:.1}" y2="{y2:.1}" stroke="{colour}" stroke-width="{width}"/>"#
    );
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}
