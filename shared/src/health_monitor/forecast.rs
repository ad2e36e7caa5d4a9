//! Forecasts when the disk will be full: ordinary least squares over the bytes that are available and not promised.
//!
//! The line `y = a + b·t` minimises the squared vertical distances; R² = Sxy² / (Sxx·Syy) is the share of the variance
//! that it explains. A forecast is made only if the line falls, is based on enough samples over enough time, and fits.
//! A line through the first and the last sample would change its sign with one spike or one deleted file.
//!
//! A clean-up in the middle of the window would hide the refill after it for half an hour. So the window begins at the
//! last sample at which more than [`FREED_PCT`] percent of the volume had become free at once.

use std::collections::VecDeque;

use super::{HealthConfig, HealthSample};
use crate::time::Monotonic;

/// A rise by more than this percentage of the volume between two samples is a clean-up and starts a new window.
const FREED_PCT: u64 = 1;

/// How much R² may fall below its minimum before an announced forecast is withdrawn.
const R2_MARGIN: f64 = 0.1;

/// Seconds from the last sample until no space is left; `None` if no forecast can be made. Never negative.
pub(super) fn seconds_to_exhaustion(
    config: &HealthConfig,
    history: &VecDeque<(Monotonic, HealthSample)>,
    is_held: bool,
) -> Option<f64> {
    let points = window(history);
    let (first, last) = (points.first()?, points.last()?);
    let is_supported = points.len() >= config.prediction_samples_min.max(2)
        && last.0 - first.0 >= config.prediction_span_min.as_secs_f64();
    if !is_supported {
        return None;
    }
    let line = fit(&points)?;
    let r2_min = if is_held { config.prediction_r2_min - R2_MARGIN } else { config.prediction_r2_min };
    let falls_and_fits = line.slope < 0.0 && line.r2 >= r2_min;
    falls_and_fits.then(|| ((line.intercept + line.slope * last.0) / -line.slope).max(0.0))
}

/// Seconds since the first sample of the window, and the bytes free then.
fn window(history: &VecDeque<(Monotonic, HealthSample)>) -> Vec<(f64, f64)> {
    let mut points: Vec<(f64, f64)> = Vec::with_capacity(history.len());
    let mut free_before = None;
    for (at, sample) in history {
        if sample.disk_total_bytes == 0 {
            continue;
        }
        let free = sample.disk_available_bytes.saturating_sub(sample.reserved_bytes);
        let risen = free.saturating_sub(free_before.unwrap_or(free));
        if risen > sample.disk_total_bytes / 100 * FREED_PCT {
            points.clear();
        }
        free_before = Some(free);
        points.push((at.elapsed().as_secs_f64(), free as f64));
    }
    let start = points.first().map_or(0.0, |point| point.0);
    for point in &mut points {
        point.0 -= start;
    }
    points
}

struct Line {
    intercept: f64,
    slope: f64,
    r2: f64,
}

/// `None` when all points share one time or one height.
fn fit(points: &[(f64, f64)]) -> Option<Line> {
    let count = points.len() as f64;
    let mean_t = points.iter().map(|point| point.0).sum::<f64>() / count;
    let mean_y = points.iter().map(|point| point.1).sum::<f64>() / count;
    let (mut tt, mut ty, mut yy) = (0.0, 0.0, 0.0);
    for (t, y) in points {
        let (dt, dy) = (t - mean_t, y - mean_y);
        tt += dt * dt;
        ty += dt * dy;
        yy += dy * dy;
    }
    if tt <= 0.0 || yy <= 0.0 {
        return None;
    }
    let slope = ty / tt;
    Some(Line { intercept: mean_y - slope * mean_t, slope, r2: ty * ty / (tt * yy) })
}
