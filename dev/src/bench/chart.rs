//! Lines over time, as an SVG picture that every browser shows.

use std::fmt::Write;

use super::figure::readable;

const WIDTH: f64 = 960.0;
const PANEL: f64 = 200.0;
const LEFT: f64 = 80.0;
const RIGHT: f64 = 160.0;
const TOP: f64 = 56.0;
const GAP: f64 = 56.0;
/// Told apart by people who see red and green alike, too.
const COLOURS: [&str; 5] = ["#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00"];
const STEPS: usize = 4;

/// One value over time: seconds, and what was seen then. What is no number leaves a gap.
#[derive(Debug, Clone)]
pub struct Line {
    pub name: &'static str,
    pub points: Vec<(f64, f64)>,
}

/// Lines that share an axis.
#[derive(Debug, Clone)]
pub struct Panel {
    /// What is seen, and its unit.
    pub title: &'static str,
    pub lines: Vec<Line>,
}

/// The panels one below the other, above the same time.
pub fn svg(title: &str, panels: &[Panel]) -> String {
    let height = TOP + panels.len() as f64 * (PANEL + GAP);
    let end_s = seen(panels).map(|(at, _)| at).fold(1.0, f64::max);
    let mut out = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {height}\" font-family=\"sans-serif\" \
         font-size=\"12\" fill=\"#222\">\n<rect width=\"{WIDTH}\" height=\"{height}\" fill=\"#fff\"/>\n\
         <text x=\"{LEFT}\" y=\"24\" font-size=\"16\">{}</text>\n",
        escaped(title)
    );
    for (index, panel) in panels.iter().enumerate() {
        draw(&mut out, panel, TOP + index as f64 * (PANEL + GAP), end_s);
    }
    out + "</svg>\n"
}

fn draw(out: &mut String, panel: &Panel, top: f64, end_s: f64) {
    let (bottom, right) = (top + PANEL, WIDTH - RIGHT);
    let most = round_up(seen(std::slice::from_ref(panel)).map(|(_, value)| value).fold(0.0, f64::max));
    let place = |(at, value): (f64, f64)| (LEFT + (right - LEFT) * at / end_s, bottom - PANEL * value.max(0.0) / most);
    let _ = writeln!(out, "<text x=\"{LEFT}\" y=\"{}\">{}</text>", top - 8.0, escaped(panel.title));
    for step in 0..=STEPS {
        let part = step as f64 / STEPS as f64;
        let ((x, y), down) = (place((end_s * part, most * part)), bottom + 16.0);
        let _ = writeln!(
            out,
            "<path d=\"M{LEFT} {y:.1}H{right}\" stroke=\"#ddd\"/>\
             <text x=\"{}\" y=\"{:.1}\" text-anchor=\"end\">{}</text>\
             <text x=\"{x:.1}\" y=\"{down:.1}\" text-anchor=\"middle\">{}</text>",
            LEFT - 8.0,
            y + 4.0,
            readable(most * part),
            time(end_s * part)
        );
    }
    for (index, line) in panel.lines.iter().enumerate() {
        let colour = COLOURS[index % COLOURS.len()];
        for run in line.points.split(|(_, value)| !value.is_finite()).filter(|run| !run.is_empty()) {
            let places = run.iter().map(|point| place(*point)).map(|(x, y)| format!("{x:.1},{y:.1}"));
            let places = places.collect::<Vec<_>>().join(" ");
            let _ =
                writeln!(out, "<polyline points=\"{places}\" fill=\"none\" stroke=\"{colour}\" stroke-width=\"1.5\"/>");
        }
        let (x, y) = (right + 12.0, top + 12.0 + 18.0 * index as f64);
        let _ = writeln!(out, "<text x=\"{x}\" y=\"{y}\" fill=\"{colour}\">{}</text>", escaped(line.name));
    }
}

fn seen(panels: &[Panel]) -> impl Iterator<Item = (f64, f64)> {
    let lines = panels.iter().flat_map(|panel| &panel.lines);
    lines.flat_map(|line| line.points.iter().copied()).filter(|(_, value)| value.is_finite())
}

/// The least of 1, 2, 2.5, 4, 5, 8 and 10 times a power of ten that is not below `value`, so that quarters of it are short.
fn round_up(value: f64) -> f64 {
    if value <= 0.0 {
        return 1.0;
    }
    let power = 10_f64.powf(value.log10().floor());
    let factors = [1.0, 2.0, 2.5, 4.0, 5.0, 8.0, 10.0];
    factors.into_iter().map(|factor| factor * power).find(|bound| *bound >= value).unwrap_or(power * 10.0)
}

fn time(seconds: f64) -> String {
    if seconds < 120.0 { format!("{} s", readable(seconds)) } else { format!("{} min", readable(seconds / 60.0)) }
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn panel(values: &[f64]) -> Panel {
        let points = values.iter().enumerate().map(|(at, value)| (at as f64 * 10.0, *value)).collect();
        Panel { title: "size < limit, MB", lines: vec![Line { name: "a & b", points }] }
    }

    fn places(svg: &str) -> Vec<Vec<(f64, f64)>> {
        let lines = svg.lines().filter_map(|line| line.strip_prefix("<polyline points=\"")?.split('"').next());
        let place = |place: &str| place.split_once(',').map(|(x, y)| (x.parse().unwrap(), y.parse().unwrap())).unwrap();
        lines.map(|line| line.split(' ').map(place).collect()).collect()
    }

    #[test]
    fn a_line_begins_at_the_left_and_higher_values_are_higher() {
        let svg = svg("t", &[panel(&[0.0, 50.0, 100.0])]);
        let bottom = TOP + PANEL;
        let middle = LEFT + (WIDTH - RIGHT - LEFT) / 2.0;
        assert_eq!(places(&svg), [[(LEFT, bottom), (middle, bottom - PANEL / 2.0), (WIDTH - RIGHT, TOP)]]);
        assert!(svg.contains("size &lt; limit") && svg.contains("a &amp; b") && !svg.contains("a & b"));
    }

    #[test]
    fn what_was_not_seen_leaves_a_gap() {
        let svg = svg("t", &[panel(&[1.0, 2.0, f64::NAN, 1.0])]);
        assert_eq!(places(&svg).iter().map(Vec::len).collect::<Vec<_>>(), [2, 1]);
        assert!(!svg.contains("NaN"), "{svg}");
    }

    #[test]
    fn every_panel_stays_within_its_own_place() {
        let svg = svg("t", &[panel(&[3.0, 7.3]), panel(&[0.0, 0.0]), panel(&[])]);
        for (index, line) in places(&svg).iter().enumerate() {
            let top = TOP + index as f64 * (PANEL + GAP);
            assert!(line.iter().all(|(_, y)| (top..=top + PANEL).contains(y)), "{line:?}");
        }
        assert_eq!(svg.matches("<svg").count(), svg.matches("</svg>").count());
    }

    #[test]
    fn an_axis_ends_at_a_round_number() {
        for (value, end) in
            [(0.0, 1.0), (1.0, 1.0), (1.1, 2.0), (23.0, 25.0), (61.0, 80.0), (81.0, 100.0), (0.03, 0.04)]
        {
            assert!((round_up(value) - end).abs() < 1e-9, "{value}: {}", round_up(value));
        }
    }
}
