//! The growth as two charts in one: the cost of an item, and the memory of the coordinator.

use std::path::Path;

use plotters::coord::Shift;
use plotters::prelude::*;

use crate::growth::{Point, ratio};

const SIZE: (u32, u32) = (960, 360);
/// The target: maximum cost of an item at ten million, relative to its cost at ten thousand.
const RATIO_MAX: f64 = 1.5;
/// The target for the coordinator's memory, in MiB.
const MEBIBYTES_MAX: f64 = 256.0;
const CORE: RGBColor = RGBColor(33, 113, 181);
const WHOLE: RGBColor = RGBColor(217, 95, 2);
const PROCESSOR: RGBColor = RGBColor(117, 112, 179);
const TARGET: RGBColor = RGBColor(158, 158, 158);

type Area<'a> = DrawingArea<SVGBackend<'a>, Shift>;
type Problem<'a> = DrawingAreaErrorKind<<SVGBackend<'a> as DrawingBackend>::ErrorType>;

/// One line of a chart: its name, its colour and its value at each number of items.
type Line = (&'static str, RGBColor, Vec<(f64, f64)>);

/// Draws the points into an SVG file.
pub(crate) fn draw(points: &[Point], path: &Path) -> Result<(), String> {
    let root = SVGBackend::new(path, SIZE).into_drawing_area();
    draw_both(&root, points).map_err(|problem| format!("--svg {}: {problem}", path.display()))
}

fn draw_both<'a>(root: &Area<'a>, points: &[Point]) -> Result<(), Problem<'a>> {
    root.fill(&WHITE)?;
    let along = |height: &dyn Fn(&Point) -> f64| -> Vec<(f64, f64)> {
        points.iter().map(|point| (point.items as f64, height(point))).collect()
    };
    let times = |time| along(&move |point| ratio(points, point, time));
    let costs = [
        ("core alone", CORE, times(|point| point.core)),
        ("through gRPC, durable", WHOLE, times(|point| point.whole)),
        ("coordinator CPU", PROCESSOR, times(|point| point.cost.processor)),
        ("target: at most", TARGET, along(&|_| RATIO_MAX)),
    ];
    let memory = [
        ("coordinator", WHOLE, along(&|point| point.cost.peak_mebibytes as f64)),
        ("target: under", TARGET, along(&|_| MEBIBYTES_MAX)),
    ];
    let (left, right) = root.split_horizontally(SIZE.0 / 2);
    draw_lines(&left, "Cost of an item, in times of that at the first number", &costs)?;
    draw_lines(&right, "Peak memory of the coordinator, MiB", &memory)?;
    root.present()
}

fn draw_lines<'a>(area: &Area<'a>, title: &str, lines: &[Line]) -> Result<(), Problem<'a>> {
    let places = || lines.iter().flat_map(|(_, _, line)| line.iter().copied());
    let first = places().map(|(items, _)| items).fold(f64::INFINITY, f64::min);
    let last = places().map(|(items, _)| items).fold(first + 1.0, f64::max);
    let top = places().map(|(_, height)| height).fold(f64::MIN_POSITIVE, f64::max) * 1.1;
    let mut chart = ChartBuilder::on(area)
        .caption(title, ("sans-serif", 15))
        .margin(12)
        .margin_right(24)
        .x_label_area_size(32)
        .y_label_area_size(44)
        .build_cartesian_2d((first..last).log_scale(), 0.0..top)?;
    chart
        .configure_mesh()
        .x_desc("items")
        .x_label_formatter(&|items| format!("10^{:.0}", items.log10()))
        .y_label_formatter(&|height| format!("{height:.1}").trim_end_matches(".0").to_owned())
        .light_line_style(TRANSPARENT)
        .draw()?;
    for (name, color, line) in lines {
        let color = *color;
        chart
            .draw_series([PathElement::new(line.clone(), color.stroke_width(2))])?
            .label(*name)
            .legend(move |(x, y)| PathElement::new([(x, y), (x + 16, y)], color.stroke_width(2)));
        chart.draw_series(line.iter().map(|&place| Circle::new(place, 3, color.filled())))?;
    }
    chart
        .configure_series_labels()
        .position(SeriesLabelPosition::LowerRight)
        .background_style(WHITE.mix(0.8))
        .draw()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::growth::points;

    #[test]
    fn both_pictures_are_drawn_with_their_targets() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("growth.svg");
        draw(&points(), &path).unwrap();
        let drawn = std::fs::read_to_string(&path).unwrap();
        for text in ["core alone", "through gRPC", "target: at most", "MiB", "10^4", "10^5"] {
            assert!(drawn.contains(text), "{text} is not in {drawn}");
        }
        assert!(draw(&points(), &directory.path().join("none/growth.svg")).is_err());
    }
}
