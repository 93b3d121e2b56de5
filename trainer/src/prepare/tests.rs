//! That what is written is what play would compute, and that damage is noticed.

use std::fs;

use latent_actions::LatentActionConfig;
use media::Fit;
use nn::Parameters;
use nn::quantizer::QuantizerConfig;
use proptest::prelude::*;
use rand::Rng as _;
use tokenizer::TokenizerConfig;

use super::*;
use crate::dataset::{DatasetWriter, MAXIMUM_SHARD_BYTES, WriterOptions};
use crate::prepared::Sizes;
use candle_core::Device;

const SIZE: FrameSize = FrameSize {
    height: 16,
    width: 24,
};
const EPISODE: usize = 45;

fn dataset(folder: &Path) -> Dataset {
    dataset_of(folder, EPISODE)
}

/// Four episodes of noise, the last one held out.
fn dataset_of(folder: &Path, length: usize) -> Dataset {
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
    let mut random = generator(1, 0);
    for episode in 0..4 {
        writer.begin_source(format!("{episode}"), "0".repeat(64), "none".to_owned());
        for _ in 0..length {
            let frame: Vec<u8> = (0..SIZE.bytes()).map(|_| random.random()).collect();
            writer.push_frame(&frame, None).unwrap();
        }
        writer.end_episode();
    }
    let mut records = writer.episodes().to_vec();
    records[3].split = Split::Validation;
    writer.finish(records).unwrap();
    Dataset::open(&path).unwrap()
}

fn tokenizer(temporal_window: Option<usize>) -> Tokenizer {
    let config = TokenizerConfig {
        frame: SIZE,
        width: 32,
        heads: 2,
        encoder_layers: 1,
        decoder_layers: 1,
        temporal_window,
        quantizer: QuantizerConfig::Fsq {
            levels: vec![5, 5, 4],
        },
        ..TokenizerConfig::default()
    };
    Tokenizer::new(&config, Parameters::seeded(1, &Device::Cpu).builder()).unwrap()
}

fn latent_actions() -> LatentActionModel {
    let config = LatentActionConfig {
        frame: SIZE,
        width: 32,
        heads: 2,
        encoder_layers: 1,
        predictor_layers: 1,
        action_width: 4,
        codes: 4,
        ..LatentActionConfig::default()
    };
    let parameters = Parameters::seeded(2, &Device::Cpu);
    let model = LatentActionModel::new(&config, parameters.builder()).unwrap();
    let mut random = generator(3, 0);
    let centres: Vec<f32> = (0..16).map(|_| nn::normal(&mut random)).collect();
    model
        .set_codebook(&Tensor::from_vec(centres, (4, 4), &Device::Cpu).unwrap())
        .unwrap();
    model
}

fn sizes() -> Sizes {
    Sizes {
        frame: SIZE,
        tokens_per_frame: 6,
        latent_width: 3,
        vocabulary: 100,
        codes: 4,
    }
}

/// Prepares everything, and gives the folder and whether that came to its end.
fn prepare(
    dataset: &Dataset,
    tokenizer: &Tokenizer,
    corruption: f64,
    cancel: &AtomicBool,
) -> (PathBuf, bool) {
    let (folder, done, _) = prepare_within(1e6, dataset, tokenizer, corruption, cancel);
    (folder, done)
}

/// [`prepare`] in so many seconds, with what was noted meanwhile.
fn prepare_within(
    budget_seconds: f64,
    dataset: &Dataset,
    tokenizer: &Tokenizer,
    corruption: f64,
    cancel: &AtomicBool,
) -> (PathBuf, bool, Vec<String>) {
    let config = PreparationConfig {
        corruption,
        ..PreparationConfig::default()
    };
    let folder = dataset.path().with_file_name("prepared");
    let mut notes = Vec::new();
    let done = Preparation {
        dataset,
        tokenizer,
        latent_actions: &latent_actions(),
        config: &config,
        identity: "me".to_owned(),
        seed: 1,
        budget_seconds,
        folder: folder.clone(),
        cancel,
    }
    .run(&mut |event: &TrainEvent| {
        if let TrainEvent::Note(text) = event {
            notes.push(text.clone());
        }
    });
    (folder, done.unwrap().is_some(), notes)
}

#[test]
fn tokens_codes_and_forecasts_are_those_of_play() {
    for temporal_window in [None, Some(3)] {
        let folder = tempfile::tempdir().unwrap();
        let dataset = dataset(folder.path());
        let (tokenizer, model) = (tokenizer(temporal_window), latent_actions());
        let (prepared, done) = prepare(&dataset, &tokenizer, 0.0, &false.into());
        assert!(done);
        let set = PreparedSet::open(&prepared, Split::Validation, "me", sizes()).unwrap();
        assert_eq!(set.frames(), EPISODE);
        // One clip is the whole episode.
        let clips = set
            .sampler(EPISODE)
            .unwrap()
            .batch(1, &mut generator(1, 0))
            .unwrap();
        let episode = dataset.episodes(Split::Validation)[0];
        let clip = Clip {
            episode,
            start: 0,
            length: EPISODE,
        };
        let pictures = frames(&dataset, &[clip]).unwrap();
        let tokens = tokenizer.encode(&pictures).unwrap();
        let flat = |tensor: &Tensor| tensor.flatten_all().unwrap().to_vec1::<u32>().unwrap();
        assert_eq!(clips.tokens, flat(&tokens));
        // The change from frame i to i + 1, chunk borders and the episode's ends included.
        let codes = model.codes(&pictures).unwrap();
        let found = clips.codes[0].as_slice();
        let numbers: Vec<u32> = found.iter().map(|code| u32::from(code.0)).collect();
        assert_eq!(numbers, flat(&codes));
        assert!(found.iter().any(|&code| code != found[0]));
        let decoded = tokenizer.decode(&tokens).unwrap().squeeze(0).unwrap();
        for i in [0, 1, CHUNK - 1, CHUNK, EPISODE - 2] {
            let from = decoded.narrow(0, i, 1).unwrap().contiguous().unwrap();
            let code = Tensor::new(&[numbers[i]], &Device::Cpu).unwrap();
            let guess = model.forecast(&from, &code).unwrap();
            let latents = tokenizer.latents(&guess.unsqueeze(1).unwrap()).unwrap();
            let difference = |a: &Tensor, b: &Tensor| {
                let a = a.flatten_all().unwrap();
                let b = b.flatten_all().unwrap();
                let d = (a - b).unwrap().abs().unwrap().max(0).unwrap();
                d.to_scalar::<f32>().unwrap()
            };
            // A byte's rounding.
            let stored = clips.forecast.narrow(1, i, 1).unwrap();
            assert!(difference(&guess, &stored) < 0.51 / 255.0, "frame {i}");
            assert!(difference(&latents, &clips.latents.narrow(1, i, 1).unwrap()) < 1e-4);
        }
    }
}

#[test]
fn a_share_of_the_tokens_under_the_forecast_is_corrupted_but_not_the_tokens_themselves() {
    let folder = tempfile::tempdir().unwrap();
    let dataset = dataset(folder.path());
    let tokenizer = tokenizer(None);
    let read = |corruption: f64| {
        let (prepared, _) = prepare(&dataset, &tokenizer, corruption, &false.into());
        let set = PreparedSet::open(&prepared, Split::Train, "me", sizes()).unwrap();
        let clips = set
            .sampler(EPISODE)
            .unwrap()
            .batch(1, &mut generator(1, 0))
            .unwrap();
        fs::remove_dir_all(prepared).unwrap();
        (
            clips.tokens,
            clips
                .forecast
                .flatten_all()
                .unwrap()
                .to_vec1::<f32>()
                .unwrap(),
        )
    };
    let (clean, corrupted) = (read(0.0), read(0.5));
    assert_eq!(clean.0, corrupted.0);
    assert_ne!(clean.1, corrupted.1);
}

#[test]
fn long_episodes_are_cut_into_pieces_without_losing_a_frame() {
    let episode = |length| Episode {
        shard: 3,
        start: 100,
        length,
        source: 2,
        split: Split::Train,
    };
    for length in [2, 511, 512, 513, 1025, 20_000] {
        let pieces = pieces(&episode(length));
        let mut next = 100;
        for piece in &pieces {
            assert_eq!((piece.shard, piece.source, piece.start), (3, 2, next));
            assert!((2..=SHARD_FRAMES).contains(&piece.length));
            next += piece.length;
        }
        assert_eq!(next, 100 + length);
        assert_eq!(pieces.len(), length.div_ceil(SHARD_FRAMES));
    }
}

#[test]
fn without_time_there_is_one_shard_of_each_split() {
    let folder = tempfile::tempdir().unwrap();
    let dataset = dataset_of(folder.path(), 40 * EPISODE);
    let (prepared, done, notes) =
        prepare_within(0.0, &dataset, &tokenizer(None), 0.08, &false.into());
    assert!(done && notes.len() == 1, "{notes:?}");
    for split in [Split::Train, Split::Validation] {
        let frames = PreparedSet::open(&prepared, split, "me", sizes())
            .unwrap()
            .frames();
        assert!((2..2 * SHARD_FRAMES).contains(&frames), "{frames}");
        assert!(frames < dataset.frame_count(split));
    }
}

#[test]
fn more_time_prepares_more_to_train_on_and_leaves_what_is_held_out() {
    let folder = tempfile::tempdir().unwrap();
    let dataset = dataset_of(folder.path(), 40 * EPISODE);
    let frames = |seconds| {
        let tokenizer = tokenizer(None);
        let (prepared, done, _) =
            prepare_within(seconds, &dataset, &tokenizer, 0.08, &false.into());
        assert!(done);
        let frames = [Split::Train, Split::Validation].map(|split| {
            let set = PreparedSet::open(&prepared, split, "me", sizes());
            set.unwrap().frames()
        });
        (prepared, frames)
    };
    let (prepared, [train, held_out]) = frames(0.0);
    assert!(held_out < dataset.frame_count(Split::Validation));
    assert_eq!(frames(0.0).1, [train, held_out]);
    let all = dataset.frame_count(Split::Train);
    assert_eq!(frames(1e6).1, [all, held_out]);
    // What is lost is made again, in no time at all.
    for (split, number) in [(Split::Train, 1), (Split::Validation, 0)] {
        let path = crate::prepared::shard_path(&prepared, split, number);
        let bytes = fs::read(&path).unwrap();
        fs::remove_file(&path).unwrap();
        assert_eq!(frames(0.0).1, [all, held_out]);
        assert!(fs::read(&path).unwrap() == bytes);
    }
}

#[test]
fn an_interrupted_preparation_goes_on_and_a_foreign_one_is_made_anew() {
    let folder = tempfile::tempdir().unwrap();
    let dataset = dataset(folder.path());
    let tokenizer = tokenizer(None);
    let (prepared, done) = prepare(&dataset, &tokenizer, 0.08, &true.into());
    let path = crate::prepared::shard_path(&prepared, Split::Train, 0);
    assert!(!done && !path.exists());
    prepare(&dataset, &tokenizer, 0.08, &false.into());
    let (bytes, written) = (
        fs::read(&path).unwrap(),
        fs::metadata(&path).unwrap().modified().unwrap(),
    );
    prepare(&dataset, &tokenizer, 0.08, &false.into());
    assert_eq!(fs::metadata(&path).unwrap().modified().unwrap(), written);
    assert!(!PreparedSet::is_current(&path, "someone else"));
    fs::write(&path, &bytes[..bytes.len() - 1]).unwrap();
    prepare(&dataset, &tokenizer, 0.08, &false.into());
    assert!(fs::read(&path).unwrap() == bytes);
}

#[test]
fn the_time_of_an_interrupted_preparation_counts() {
    let folder = tempfile::tempdir().unwrap();
    let dataset = dataset(folder.path());
    let tokenizer = tokenizer(None);
    let (prepared, done) = prepare(&dataset, &tokenizer, 0.08, &true.into());
    let mut record = Record::read(&prepared, "me");
    assert!(!done && record.seconds > 0.0);
    record.seconds = 1000.0;
    record.write(&prepared).unwrap();
    for finish in [false, true] {
        let (_, done) = prepare(&dataset, &tokenizer, 0.08, &(!finish).into());
        let before = std::mem::replace(&mut record, Record::read(&prepared, "me")).seconds;
        assert_eq!(done, finish);
        assert!(record.seconds > before, "{} after {before}", record.seconds);
    }
    // That of other frames does not.
    assert_eq!(Record::read(&prepared, "someone else").seconds, 0.0);
}

#[test]
fn what_is_prepared_stays_in_use_when_the_time_is_over() {
    let folder = tempfile::tempdir().unwrap();
    let dataset = dataset_of(folder.path(), 12 * EPISODE);
    let told = |seconds| {
        let tokenizer = tokenizer(None);
        prepare_within(seconds, &dataset, &tokenizer, 0.08, &false.into()).2
    };
    // Everything, and then there is nothing left for which the time could be too short.
    assert_eq!(told(1e6), [""; 0]);
    assert_eq!(told(0.0), [""; 0]);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(60))]
    #[test]
    fn damaged_shards_are_read_or_refused(at in 0usize..2500, byte in any::<u8>(), cut in any::<bool>()) {
        static BYTES: std::sync::OnceLock<Vec<u8>> = std::sync::OnceLock::new();
        let bytes = BYTES.get_or_init(|| {
            let folder = tempfile::tempdir().unwrap();
            let dataset = dataset(folder.path());
            let (prepared, _) = prepare(&dataset, &tokenizer(None), 0.0, &false.into());
            fs::read(crate::prepared::shard_path(&prepared, Split::Validation, 0)).unwrap()
        });
        let folder = tempfile::tempdir().unwrap();
        let path = crate::prepared::shard_path(folder.path(), Split::Validation, 0);
        let mut bytes = bytes.clone();
        let at = at % bytes.len();
        if cut { bytes.truncate(at) } else { bytes[at] = byte }
        fs::write(&path, &bytes).unwrap();
        match PreparedSet::open(folder.path(), Split::Validation, "me", sizes()) {
            Ok(set) => if let Ok(sampler) = set.sampler(4) {
                let clips = sampler.batch(2, &mut generator(1, 0)).unwrap();
                prop_assert!(clips.tokens.iter().all(|&token| token < 100));
            },
            Err(error) => prop_assert!(error.to_string().contains("validation-00000"), "{error}"),
        }
    }
}
