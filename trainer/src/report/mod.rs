//! `report.html`: curves and pictures of a world in one file that needs no other.

mod chart;
mod html;
mod pictures;

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use worlds::World;

use crate::dataset::Dataset;
use crate::evaluate::Evaluation;
use crate::metrics::{self, MetricsLine};
use crate::observer::TrainObserver;
use crate::{Result, Stage, files};
use chart::{Chart, Series};
use html::Page;

/// Writes a report about a world: the figures of an evaluation, reconstructions beside originals, what each latent action
/// does, a rollout beside the true continuation; and, with the run folder of its training, the curves.
///
/// # Errors
/// When the world or the dataset cannot be used, the file cannot be written, or `cancel` became true.
pub fn write_report(
    path: &Path,
    (world, dataset): (&Arc<World>, &Dataset),
    evaluation: &Evaluation,
    run: Option<&Path>,
    observer: &mut dyn TrainObserver,
    cancel: &AtomicBool,
) -> Result<()> {
    let mut page = Page::new(&format!("World {}", world.manifest.name));
    page.paragraph(&format!(
        "{} frames/s, {} pixels, {} action codes, hash {}",
        world.manifest.frames_per_second,
        world.manifest.frame,
        world.manifest.codes(),
        &world.hash.get(..12).unwrap_or(&world.hash)
    ));
    page.heading("Figures");
    page.paragraph(match evaluation.held_out {
        true => "Measured on video that was held out from training.",
        false => "Measured on TRAINING video: the dataset has no other.",
    });
    page.table(&evaluation.rows());
    if let Some(run) = run {
        curves(&mut page, &metrics::read(run)?);
    }
    pictures::add(&mut page, world, dataset, observer, cancel)?;
    files::write_atomically(path, page.finish().as_bytes())
}

/// Figures that are drawn, each in a chart of its own: name in the metrics, and what it is called.
const CURVES: [(&str, &str); 14] = [
    ("loss", "loss"),
    ("psnr", "PSNR, dB"),
    ("mean_squared_error", "mean squared error"),
    ("ssim", "SSIM"),
    ("codes_used", "codes used"),
    ("gap", "gap of inferred to random codes, dB"),
    ("gap_continuous", "gap before clustering, dB"),
    ("nmi", "NMI with the true action"),
    ("cross_entropy", "cross-entropy of masked tokens, nats"),
    (
        "prior_cross_entropy",
        "cross-entropy of the next action, nats",
    ),
    ("rollout_psnr4", "PSNR of rollouts at frame 4, dB"),
    ("rollout_gap4", "gap of rollouts at frame 4, dB"),
    ("learning_rate", "learning rate"),
    ("gradient_norm", "length of the gradient"),
];

fn curves(page: &mut Page, lines: &[MetricsLine]) {
    for stage in Stage::ALL {
        let of_stage: Vec<&MetricsLine> = lines.iter().filter(|line| line.stage == stage).collect();
        if of_stage.is_empty() {
            continue;
        }
        page.heading(&format!("Stage {stage}"));
        let mut charts = String::new();
        for (figure, title) in CURVES {
            let series = |held_out: bool, name: &'static str| Series {
                name,
                points: of_stage
                    .iter()
                    .filter(|line| line.held_out == held_out)
                    .filter_map(|line| Some((line.step as f64, *line.figures.get(figure)?)))
                    .filter(|(_, value)| value.is_finite())
                    .collect(),
            };
            let series: Vec<Series> = [series(false, "training"), series(true, "held out")]
                .into_iter()
                .filter(|series| !series.points.is_empty())
                .collect();
            if !series.is_empty() {
                charts += &Chart { title, series }.svg();
            }
        }
        page.raw(&format!("<div class=\"charts\">{charts}</div>\n"));
    }
}

pub(crate) use pictures::play_gif;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_stage_with_metrics_gets_its_curves() {
        let line = |stage, step, held_out, figure: &str, value| MetricsLine {
            stage,
            step,
            seconds: 0.0,
            held_out,
            figures: [(figure.to_owned(), value)].into(),
        };
        let lines = [
            line(Stage::Tokenizer, 10, false, "loss", 0.5),
            line(Stage::Tokenizer, 20, false, "loss", f64::NAN),
            line(Stage::Tokenizer, 30, false, "loss", 0.2),
            line(Stage::Tokenizer, 30, true, "psnr", 28.0),
        ];
        let mut page = Page::new("x");
        curves(&mut page, &lines);
        let text = page.finish();
        assert!(text.contains("Stage tokenizer") && !text.contains("Stage dynamics"));
        assert_eq!(text.matches("<svg").count(), 2);
        assert!(!text.contains("NaN"));
    }
}
