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
    write(
        path,
        (world, dataset),
        evaluation,
        (run, FULL),
        observer,
        cancel,
    )
}

/// As [`write_report`], with as many pictures as `scale` says.
pub(crate) fn write(
    path: &Path,
    (world, dataset): (&Arc<World>, &Dataset),
    evaluation: &Evaluation,
    (run, scale): (Option<&Path>, Scale),
    observer: &mut dyn TrainObserver,
    cancel: &AtomicBool,
) -> Result<()> {
    let lines = run.map_or(Ok(Vec::new()), metrics::read)?;
    let mut page = Page::new(&format!("World {}", world.manifest.name));
    page.warnings(&metrics::warnings(&lines));
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
    curves(&mut page, &lines);
    pictures::add(&mut page, (world, dataset), scale, observer, cancel)?;
    files::write_atomically(path, page.finish().as_bytes())
}

/// Name of the report in the run folder, and of the folder with what it shows of stages so far.
pub(crate) const REPORT_FILE: &str = "report.html";
const PICTURES_FOLDER: &str = "pictures";
/// Seconds after which a browser looks at an unfinished report again.
const REFRESH_SECONDS: u32 = 30;

/// Writes the report of a run that is going on: warnings, curves, and the pictures that each stage has made so far. `pictures` are the
/// newest ones of `stage`, as HTML; they are kept beside the report, for the stages that follow and for runs that are resumed.
pub(crate) fn write_progress(run: &Path, stage: Stage, pictures: Option<&str>) -> Result<()> {
    let folder = run.join(PICTURES_FOLDER);
    let file = |stage: Stage| folder.join(format!("{stage}.html"));
    if let Some(pictures) = pictures {
        files::make_folder(&folder)?;
        files::write_atomically(&file(stage), pictures.as_bytes())?;
    }
    let lines = metrics::read(run)?;
    let name = run.file_name().unwrap_or(run.as_os_str()).to_string_lossy();
    let mut page = Page::new(&format!("Training in {name}"));
    page.refresh(REFRESH_SECONDS);
    page.paragraph(&match lines.last() {
        Some(line) => format!(
            "Stage {} of latent_actions, tokenizer and dynamics is at step {}, after {:.1} minutes of it. This page is written anew after every evaluation.",
            line.stage,
            line.step,
            line.seconds / 60.0
        ),
        None => format!("Stage {stage} has begun; there are no figures yet."),
    });
    page.warnings(&metrics::warnings(&lines));
    curves(&mut page, &lines);
    for stage in Stage::ALL {
        // No file: the stage has shown nothing yet.
        if let Ok(pictures) = std::fs::read_to_string(file(stage)) {
            page.raw(&pictures);
        }
    }
    files::write_atomically(&run.join(REPORT_FILE), page.finish().as_bytes())
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

pub(crate) use pictures::{BRIEF, FULL, Scale, of_world, play_gif, reconstructions};

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_report_of_a_run_shows_what_there_is_so_far() {
        let folder = tempfile::tempdir().unwrap();
        let read = || std::fs::read_to_string(folder.path().join(REPORT_FILE)).unwrap();
        write_progress(folder.path(), Stage::LatentActions, None).unwrap();
        assert!(read().contains("no figures yet") && !read().contains("Warnings"));
        let line = MetricsLine {
            stage: Stage::LatentActions,
            step: 7,
            seconds: 90.0,
            held_out: true,
            figures: [("gap".to_owned(), 0.01)].into(),
            warnings: vec!["collapsed & <done>".to_owned()],
        };
        let text = serde_json::to_string(&line).unwrap() + "\n";
        std::fs::write(folder.path().join("metrics.jsonl"), text).unwrap();
        write_progress(
            folder.path(),
            Stage::Tokenizer,
            Some("<p>first pictures</p>"),
        )
        .unwrap();
        write_progress(folder.path(), Stage::Tokenizer, Some("<p>of tokens</p>")).unwrap();
        write_progress(folder.path(), Stage::Dynamics, Some("<p>of play</p>")).unwrap();
        let text = read();
        for part in [
            "step 7, after 1.5 minutes",
            "<li>latent_actions: collapsed &amp; &lt;done&gt;</li>",
            "<svg",
            "<p>of tokens</p>",
            "<p>of play</p>",
        ] {
            assert!(text.contains(part), "{part} is not in {text}");
        }
        assert!(!text.contains("first pictures"));
    }

    #[test]
    fn every_stage_with_metrics_gets_its_curves() {
        let line = |stage, step, held_out, figure: &str, value| MetricsLine {
            stage,
            step,
            seconds: 0.0,
            held_out,
            figures: [(figure.to_owned(), value)].into(),
            warnings: Vec::new(),
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
