//! Line charts as SVG.

use super::html::escape;

/// Size of a chart in pixels, and of the plot's margins.
const WIDTH: f64 = 340.0;
const HEIGHT: f64 = 210.0;
const LEFT: f64 = 48.0;
const RIGHT: f64 = 10.0;
const TOP: f64 = 26.0;
const BOTTOM: f64 = 24.0;
/// Points of a line beyond which neighbours are averaged.
const MOST_POINTS: usize = 300;
const COLOURS: [&str; 2] = ["#4477aa", "#ee6677"];

/// One line of a chart.
pub(super) struct Series {
    pub name: &'static str,
    /// Finite (x, y), x rising.
    pub points: Vec<(f64, f64)>,
}

/// Lines over training steps.
pub(super) struct Chart<'a> {
    pub title: &'a str,
    pub series: Vec<Series>,
}

impl Chart<'_> {
    pub fn svg(&self) -> String {
        let points = || self.series.iter().flat_map(|series| &series.points);
        let range = |value: fn(&(f64, f64)) -> f64| {
            let (low, high) = points()
                .map(value)
                .fold((f64::INFINITY, f64::NEG_INFINITY), |(low, high), v| {
                    (low.min(v), high.max(v))
                });
            let room = if high > low {
                0.0
            } else {
                high.abs().max(1.0) * 0.05
            };
            (low - room, high + room)
        };
        let (x, y) = (range(|p| p.0), range(|p| p.1));
        let across = |v: f64| LEFT + (v - x.0) / (x.1 - x.0) * (WIDTH - LEFT - RIGHT);
        let up = |v: f64| HEIGHT - BOTTOM - (v - y.0) / (y.1 - y.0) * (HEIGHT - TOP - BOTTOM);
        let mut svg = format!(
            "<svg width=\"{WIDTH}\" height=\"{HEIGHT}\" viewBox=\"0 0 {WIDTH} {HEIGHT}\" role=\"img\"><text x=\"{LEFT}\" y=\"14\" font-weight=\"bold\">{}</text>",
            escape(self.title)
        );
        for tick in ticks(y.0, y.1) {
            let at = up(tick);
            svg += &format!(
                "<line x1=\"{LEFT}\" x2=\"{}\" y1=\"{at:.1}\" y2=\"{at:.1}\" stroke=\"#8884\"/><text x=\"{}\" y=\"{:.1}\" text-anchor=\"end\">{}</text>",
                WIDTH - RIGHT,
                LEFT - 4.0,
                at + 4.0,
                number(tick)
            );
        }
        for tick in ticks(x.0, x.1) {
            svg += &format!(
                "<text x=\"{:.1}\" y=\"{}\" text-anchor=\"middle\">{}</text>",
                across(tick),
                HEIGHT - 8.0,
                number(tick)
            );
        }
        for (index, series) in self.series.iter().enumerate() {
            let colour = COLOURS[usize::from(series.name != "training") % COLOURS.len()];
            let line = thinned(&series.points);
            let path: Vec<String> = line
                .iter()
                .map(|&(x, y)| format!("{:.1},{:.1}", across(x), up(y)))
                .collect();
            svg += &format!(
                "<polyline points=\"{}\" fill=\"none\" stroke=\"{colour}\" stroke-width=\"1.5\"/>",
                path.join(" ")
            );
            if let (true, Some(&(x, y))) = (line.len() < 30, line.last()) {
                svg += &format!(
                    "<circle cx=\"{:.1}\" cy=\"{:.1}\" r=\"2.5\" fill=\"{colour}\"/>",
                    across(x),
                    up(y)
                );
            }
            let last = series.points.last().map_or(0.0, |point| point.1);
            svg += &format!(
                "<text x=\"{}\" y=\"{}\" text-anchor=\"end\" style=\"fill:{colour}\">{} {}</text>",
                WIDTH - RIGHT,
                TOP + 12.0 + 13.0 * index as f64,
                series.name,
                number(last)
            );
        }
        svg + "</svg>"
    }
}

/// Means of neighbours, so that a long run's line is short and smooth.
fn thinned(points: &[(f64, f64)]) -> Vec<(f64, f64)> {
    let group = points.len().div_ceil(MOST_POINTS).max(1);
    let mean = |part: &[(f64, f64)]| {
        let n = part.len() as f64;
        let sum = part.iter().fold((0.0, 0.0), |s, p| (s.0 + p.0, s.1 + p.1));
        (sum.0 / n, sum.1 / n)
    };
    points.chunks(group).map(mean).collect()
}

/// A few round numbers within a range.
fn ticks(low: f64, high: f64) -> Vec<f64> {
    const ABOUT: f64 = 4.0;
    let rough = (high - low) / ABOUT;
    let power = 10f64.powf(rough.log10().floor());
    let step = [1.0, 2.0, 5.0, 10.0]
        .into_iter()
        .map(|factor| factor * power)
        .find(|&step| step >= rough)
        .unwrap_or(10.0 * power);
    let first = (low / step).ceil() as i64;
    let last = (high / step).floor() as i64;
    (first..=last.min(first + 10))
        .map(|index| index as f64 * step)
        .collect()
}

/// A number in few characters.
fn number(value: f64) -> String {
    let size = value.abs();
    if size != 0.0 && !(1e-3..1e5).contains(&size) {
        return format!("{value:.1e}");
    }
    let digits = match size {
        s if s >= 100.0 => 0,
        s if s >= 10.0 => 1,
        s if s >= 1.0 => 2,
        _ => 3,
    };
    let text = format!("{value:.digits$}");
    match text.contains('.') {
        true => text.trim_end_matches('0').trim_end_matches('.').to_owned(),
        false => text,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ticks_are_round_and_inside() {
        assert_eq!(ticks(0.0, 100.0), [0.0, 50.0, 100.0]);
        assert_eq!(ticks(3.1, 7.9), [4.0, 6.0]);
        assert!(ticks(1e-4, 9e-4).len() > 1);
    }

    #[test]
    fn numbers_are_short() {
        let cases = [
            (0.0, "0"),
            (0.25, "0.25"),
            (28.456, "28.5"),
            (1500.0, "1500"),
            (1e-5, "1.0e-5"),
        ];
        for (value, text) in cases {
            assert_eq!(number(value), text);
        }
    }

    #[test]
    fn one_point_and_equal_points_are_drawn() {
        for points in [vec![(5.0, 1.0)], vec![(1.0, 0.0), (2.0, 0.0)]] {
            let series = vec![Series {
                name: "training",
                points,
            }];
            let svg = Chart {
                title: "a < b",
                series,
            }
            .svg();
            assert!(!svg.contains("NaN") && !svg.contains("inf"), "{svg}");
            assert!(svg.contains("a &lt; b"));
        }
    }

    #[test]
    fn long_lines_are_thinned_to_their_means() {
        let points: Vec<(f64, f64)> = (0..900).map(|i| (f64::from(i), f64::from(i % 3))).collect();
        let thin = thinned(&points);
        assert_eq!(thin.len(), 300);
        assert!(thin.iter().all(|point| (point.1 - 1.0).abs() < 1e-9));
    }
}
