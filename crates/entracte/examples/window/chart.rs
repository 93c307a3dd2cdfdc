//! The closed times as bars, in an SVG that needs nothing but itself, light and dark.

use std::fmt::Write as _;

use crate::measured::{PARTS, Pair, Side};

const WIDTH: u32 = 860;
const LEFT: u32 = 170;
const RIGHT: u32 = 70;
const BAR: u32 = 18;
const GROUP: u32 = 62;
const TOP: u32 = 74;
const COLOURS: [&str; PARTS.len()] =
    ["#8f6bb8", "#d1632f", "#c79a1f", "#3d8f5f", "#3f7fbf", "#7a8a99", "#b0b7bd"];

/// One pair of bars for each database, on one scale.
pub fn svg(pairs: &[Pair]) -> String {
    let longest = pairs.iter().map(|pair| pair.hand.closed_ms.max(pair.ours.closed_ms)).max();
    let scale = f64::from(WIDTH - LEFT - RIGHT) / longest.unwrap_or(1).max(1) as f64;
    let height = TOP + GROUP * u32::try_from(pairs.len()).unwrap_or(0) + 12;
    let mut out = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {height}\" role=\"img\" \
         aria-labelledby=\"t d\" font-family=\"system-ui, sans-serif\" font-size=\"12\">\n\
         <title id=\"t\">How long the game is closed, by hand and by Entracte</title>\n\
         <desc id=\"d\">{}</desc>\n\
         <style>text{{fill:#24292f}}.b{{fill:#ffffff}}@media (prefers-color-scheme: dark){{\
         text{{fill:#e6edf3}}.b{{fill:#0d1117}}}}</style>\n\
         <rect class=\"b\" width=\"{WIDTH}\" height=\"{height}\"/>\n\
         <text x=\"12\" y=\"24\" font-size=\"15\" font-weight=\"600\">Closed time of a release with SQL, \
         in seconds</text>\n",
        described(pairs)
    );
    legend(&mut out);
    for (number, pair) in (0..).zip(pairs) {
        let y = TOP + GROUP * number;
        let line = |out: &mut String, dy: u32, text: &str| {
            writeln!(out, "<text x=\"12\" y=\"{}\">{text}</text>", y + dy).expect("a text");
        };
        line(&mut out, 13, &format!("{:.2} GB", pair.bytes as f64 / 1e9));
        line(&mut out, 33, pair.series());
        bar(&mut out, y, "by hand", &pair.hand, scale);
        bar(&mut out, y + BAR + 4, "us", &pair.ours, scale);
    }
    out.push_str("</svg>\n");
    out
}

fn described(pairs: &[Pair]) -> String {
    let one = |pair: &Pair| {
        format!(
            "{} GB, scripts touch {}: by hand {:.1} s, us {:.1} s",
            pair.gb,
            pair.series(),
            pair.hand.closed_ms as f64 / 1e3,
            pair.ours.closed_ms as f64 / 1e3
        )
    };
    pairs.iter().map(one).collect::<Vec<_>>().join("; ")
}

fn legend(out: &mut String) {
    for (number, (name, colour)) in (0..).zip(PARTS.iter().zip(COLOURS)) {
        let x = LEFT + number * 92;
        writeln!(
            out,
            "<rect x=\"{x}\" y=\"42\" width=\"12\" height=\"12\" fill=\"{colour}\"/>\
             <text x=\"{}\" y=\"52\">{name}</text>",
            x + 17
        )
        .expect("a text");
    }
}

fn bar(out: &mut String, y: u32, who: &str, side: &Side, scale: f64) {
    writeln!(
        out,
        "<text x=\"{}\" y=\"{}\" text-anchor=\"end\">{who}</text>",
        LEFT - 8,
        y + BAR - 5
    )
    .expect("a text");
    let mut x = f64::from(LEFT);
    for (ms, colour) in side.parts_ms.iter().zip(COLOURS) {
        let width = *ms as f64 * scale;
        if width > 0.0 {
            writeln!(
                out,
                "<rect x=\"{x:.1}\" y=\"{y}\" width=\"{width:.1}\" height=\"{BAR}\" fill=\"{colour}\"/>"
            )
            .expect("a text");
        }
        x += width;
    }
    writeln!(
        out,
        "<text x=\"{:.1}\" y=\"{}\">{:.1}</text>",
        x + 6.0,
        y + BAR - 5,
        side.closed_ms as f64 / 1e3
    )
    .expect("a text");
}
