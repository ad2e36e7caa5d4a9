//! The medians of wall time as bars, in one chart.

use std::path::Path;

use plotters::prelude::*;
use plotters::style::text_anchor::{HPos, Pos, VPos};

use crate::report::{Case, Report};

const WIDTH: u32 = 900;
const ROW_HEIGHT: i32 = 22;
const TITLE_HEIGHT: i32 = 34;
const NAMES_WIDTH: i32 = 190;
const VALUES_WIDTH: i32 = 80;
const FONT_PIXELS: i32 = 14;
const OURS: RGBColor = RGBColor(33, 113, 181);
const OTHERS: RGBColor = RGBColor(158, 158, 158);
const LIMITS: RGBColor = RGBColor(217, 217, 217);

/// Draws the report into an SVG file.
pub(crate) fn draw(report: &Report, path: &Path) -> Result<(), String> {
    let height: i32 = report.cases.iter().map(case_height).sum();
    let root = SVGBackend::new(path, (WIDTH, height.max(TITLE_HEIGHT) as u32)).into_drawing_area();
    let mut top = 0;
    let mut drawn = root.fill(&WHITE).map_err(|error| error.to_string());
    for case in &report.cases {
        drawn = drawn.and_then(|()| draw_case(&root, case, top).map_err(|error| error.to_string()));
        top += case_height(case);
    }
    let drawn = drawn.and_then(|()| root.present().map_err(|error| error.to_string()));
    drawn.map_err(|problem| format!("--svg {}: {problem}", path.display()))
}

fn case_height(case: &Case) -> i32 {
    TITLE_HEIGHT + ROW_HEIGHT * i32::try_from(case.programs().len()).unwrap_or_default() + ROW_HEIGHT / 2
}

type Area<'a> = DrawingArea<SVGBackend<'a>, plotters::coord::Shift>;
type Problem<'a> = DrawingAreaErrorKind<<SVGBackend<'a> as DrawingBackend>::ErrorType>;

fn draw_case<'a>(area: &Area<'a>, case: &Case, top: i32) -> Result<(), Problem<'a>> {
    let programs = case.programs();
    let walls: Vec<f64> =
        programs.iter().map(|program| case.runs(program).map_or(0.0, |runs| runs.wall())).collect();
    let longest = walls.iter().copied().fold(f64::MIN_POSITIVE, f64::max);
    let style = |anchor| ("sans-serif", FONT_PIXELS).into_font().color(&BLACK).pos(anchor);
    let (left, right) = (Pos::new(HPos::Left, VPos::Center), Pos::new(HPos::Right, VPos::Center));
    let title = format!("{}: wall time in seconds", case.name);
    area.draw_text(&title, &style(left), (NAMES_WIDTH, top + TITLE_HEIGHT / 2))?;
    let room = f64::from(WIDTH as i32 - NAMES_WIDTH - VALUES_WIDTH);
    for (index, (program, wall)) in (0..).zip(programs.iter().zip(walls)) {
        let middle = top + TITLE_HEIGHT + ROW_HEIGHT * index + ROW_HEIGHT / 2;
        let end = NAMES_WIDTH + (wall / longest * room).round() as i32;
        let color = match program {
            _ if program.starts_with("orbit") => OURS,
            _ if program.starts_with('(') => LIMITS,
            _ => OTHERS,
        };
        let (upper, lower) = (middle - ROW_HEIGHT / 2 + 3, middle + ROW_HEIGHT / 2 - 3);
        area.draw(&Rectangle::new([(NAMES_WIDTH, upper), (end, lower)], color.filled()))?;
        area.draw_text(program, &style(right), (NAMES_WIDTH - 8, middle))?;
        area.draw_text(&format!("{wall:.2}"), &style(left), (end + 6, middle))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::data_set::Size;
    use crate::measure::Cost;

    #[test]
    fn every_program_has_a_bar() {
        let mut report = Report::default();
        for (program, seconds) in [("orbit copy", 1), ("cp -a", 2)] {
            let cost = Cost { wall: Duration::from_secs(seconds), ..Cost::default() };
            report.add("L", Size { files: 1, bytes: 1 }, program, cost);
        }
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("chart.svg");
        draw(&report, &path).unwrap();
        let drawn = std::fs::read_to_string(&path).unwrap();
        for text in ["<svg", "orbit copy", "cp -a", "1.00", "2.00", "L: wall time"] {
            assert!(drawn.contains(text), "{text} is not in {drawn}");
        }
        assert!(draw(&report, &directory.path().join("none/chart.svg")).is_err());
    }
}
