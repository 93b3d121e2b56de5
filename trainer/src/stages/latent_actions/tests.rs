//! Collapse is noticed, and dead codes come back.

use std::path::Path;

use candle_core::Device;
use latent_actions::LatentActionConfig;
use media::Fit;
use nn::FrameSize;

use super::*;
use crate::dataset::{DatasetWriter, MAXIMUM_SHARD_BYTES, WriterOptions};

const SIZE: FrameSize = FrameSize {
    height: 16,
    width: 16,
};
const CODES: usize = 4;

fn dataset(folder: &Path) -> Dataset {
    let path = folder.join("dataset");
    let options = WriterOptions {
        height: SIZE.height,
        width: SIZE.width,
        frames_per_second: 10.0,
        fit: Fit::Crop,
        crop: None,
        max_shard_bytes: MAXIMUM_SHARD_BYTES,
    };
    let mut writer = DatasetWriter::create(&path, options).unwrap();
    let mut random = nn::generator(1, 0);
    for episode in 0..2 {
        writer.begin_source(format!("{episode}"), "0".repeat(64), "none".to_owned());
        for _ in 0..20 {
            let frame: Vec<u8> = (0..SIZE.bytes()).map(|_| random.random()).collect();
            writer.push_frame(&frame, None).unwrap();
        }
        writer.end_episode();
    }
    let mut records = writer.episodes().to_vec();
    records[1].split = Split::Validation;
    writer.finish(records).unwrap();
    Dataset::open(&path).unwrap()
}

fn stage(bottleneck: BottleneckConfig) -> LatentActionStage {
    LatentActionStage {
        model: LatentActionConfig {
            frame: SIZE,
            width: 32,
            heads: 2,
            encoder_layers: 1,
            predictor_layers: 1,
            action_width: 4,
            codes: CODES,
            bottleneck,
            ..LatentActionConfig::default()
        },
        batch: 4,
        attempts: 2,
        ..LatentActionStage::default()
    }
}

fn standing(progress: f64, attempt: u32) -> Standing {
    Standing {
        phase: usize::from(progress > 0.75),
        progress,
        attempt_progress: 0.0,
        attempt,
    }
}

fn quality(psnr: f64, usage: [u64; CODES]) -> LatentActionQuality {
    LatentActionQuality {
        psnr,
        psnr_random: 20.0,
        usage: usage.into(),
        ..LatentActionQuality::default()
    }
}

const BOTH: [BottleneckConfig; 2] = [BottleneckConfig::Noisy { noise: 0.4 }, BottleneckConfig::Vq];

#[test]
fn one_code_for_everything_is_a_collapse_whatever_the_gap() {
    let folder = tempfile::tempdir().unwrap();
    let dataset = dataset(folder.path());
    for bottleneck in BOTH {
        let config = stage(bottleneck);
        let task = LatentActionTask::new(&config, &dataset, 1, 1.0).unwrap();
        let warned = |quality| task.warnings(&quality, &standing(1.0, 0)).join(" ");
        let single = warned(quality(30.0, [0, 90, 0, 0]));
        assert!(
            single.contains("collapsed: 100% of the changes"),
            "{single}"
        );
        assert!(warned(quality(30.0, [1, 95, 2, 2])).contains("collapsed: 95%"));
        assert!(warned(quality(20.1, [20, 20, 30, 30])).contains("gap 0.10 dB"));
        assert!(warned(quality(30.0, [50, 0, 0, 0])).contains("collapsed"));
        assert!(warned(quality(30.0, [70, 0, 0, 30])).is_empty());
        assert!(warned(quality(30.0, [25, 25, 25, 25])).is_empty());
        let early = task.warnings(&quality(20.0, [9, 0, 0, 0]), &standing(0.1, 0));
        assert!(early.is_empty());
    }
}

#[test]
fn stagnation_starts_anew_and_on_the_last_attempt_warns_while_there_is_time() {
    let folder = tempfile::tempdir().unwrap();
    let dataset = dataset(folder.path());
    let figures = |gap: f64, share: f64| -> Figures {
        [
            ("gap".to_owned(), gap),
            ("gap_continuous".to_owned(), gap),
            ("largest_share".to_owned(), share),
        ]
        .into()
    };
    for bottleneck in BOTH {
        let config = stage(bottleneck);
        let task = LatentActionTask::new(&config, &dataset, 1, 1.0).unwrap();
        let judged = |gap, share, progress, attempt| match task
            .judge(&figures(gap, share), &standing(progress, attempt))
        {
            Verdict::Continue => "go on".to_owned(),
            Verdict::Warn(text) | Verdict::Restart(text) => text,
        };
        assert_eq!(judged(0.0, 0.3, 0.1, 0), "go on");
        assert!(judged(0.0, 0.3, 0.5, 0).contains("attempt 2 of 2"));
        let last = judged(0.0, 0.3, 0.5, 1);
        assert!(
            last.contains("last attempt") && last.contains("Ctrl-C"),
            "{last}"
        );
        assert_eq!(judged(5.0, 0.3, 0.5, 1), "go on");
    }
    let config = stage(BottleneckConfig::Vq);
    let task = LatentActionTask::new(&config, &dataset, 1, 1.0).unwrap();
    // A large gap proves nothing when nearly all changes get one code.
    let verdict = task.judge(&figures(5.0, 0.97), &standing(0.5, 0));
    assert!(matches!(verdict, Verdict::Restart(why) if why.contains("97% of the changes")));
}

#[test]
fn dead_codes_of_a_quantized_bottleneck_come_back_in_training() {
    let folder = tempfile::tempdir().unwrap();
    let dataset = dataset(folder.path());
    let config = stage(BottleneckConfig::Vq);
    let task = LatentActionTask::new(&config, &dataset, 1, 1.0).unwrap();
    let model = task.build(&Parameters::seeded(1, &Device::Cpu)).unwrap();
    // One code where the descriptions are, all others out of reach.
    let mut codes = vec![1e3f32; CODES * 4];
    codes[..4].fill(0.0);
    let codes = Tensor::from_vec(codes, (CODES, 4), &Device::Cpu).unwrap();
    model.set_codebook(&codes).unwrap();
    let used = || {
        let described = describe(&model, &dataset, &task.clustered[..16]).unwrap();
        let counts = usage(&model.nearest(&described).unwrap(), CODES).unwrap();
        counts.iter().filter(|&&count| count > 0).count()
    };
    assert_eq!(used(), 1);
    let mut random = nn::generator(1, 1);
    task.maintain(&model, REVIVAL_STEPS - 1, &mut random)
        .unwrap();
    assert_eq!(used(), 1);
    task.maintain(&model, REVIVAL_STEPS, &mut random).unwrap();
    assert!(used() >= CODES - 1, "{} of {CODES}", used());
}
