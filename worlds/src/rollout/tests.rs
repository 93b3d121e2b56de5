use super::*;
use crate::tiny::with_random_weights;
use crate::{Lasting, RandomPlayer, WeightFormat, tiny_contents, tiny_world};
use candle_core::Tensor;
use dynamics::prior_probabilities;
use std::sync::OnceLock;

fn world() -> Arc<World> {
    static WORLD: OnceLock<Arc<World>> = OnceLock::new();
    WORLD.get_or_init(|| exact(tiny_world(1).unwrap())).clone()
}

/// A world whose rollouts compute as whole clips do, to the last digits.
fn exact(mut world: World) -> Arc<World> {
    world.precision = nn::Precision::F32;
    Arc::new(world)
}

fn start(seed: u64, strength: Strength) -> Rollout {
    let world = world();
    let settings = RolloutSettings {
        strength,
        ..RolloutSettings::of(&world.manifest, seed)
    };
    let prompt = world.prompts[..1].to_vec();
    Rollout::start(world, &prompt, settings).unwrap()
}

fn wish(codes: &[u16]) -> Wish {
    codes.iter().map(|&code| ActionCode(code)).collect()
}

fn play(rollout: &mut Rollout, seed: u64, frames: usize) -> Vec<Step> {
    let mut player = RandomPlayer::new(seed, 4);
    (0..frames)
        .map(|_| rollout.step(&player.next_wish()).unwrap())
        .collect()
}

#[test]
fn a_step_gives_a_numbered_frame_of_the_worlds_size() {
    let mut rollout = start(1, Strength::Wish(4.0));
    let steps = play(&mut rollout, 1, 10);
    for (index, step) in steps.iter().enumerate() {
        assert_eq!(step.number, index as u64 + 1);
        assert_eq!(step.tokens.len(), 6);
        assert!(step.tokens.iter().all(|&token| token < 100));
        assert_eq!(step.frame.size(), rollout.world().manifest.frame);
    }
    assert_eq!(rollout.frames(), 11);
    assert_eq!(rollout.frame().unwrap(), steps[9].frame);
    let sum: f32 = rollout.prior().iter().sum();
    assert!((sum - 1.0).abs() < 1e-5);
}

#[test]
fn one_seed_gives_one_sequence_and_another_gives_another() {
    let run = |seed| play(&mut start(seed, Strength::Wish(2.0)), 1, 8);
    assert_eq!(run(7), run(7));
    assert_ne!(run(7), run(8));
}

#[test]
fn luck_stays_the_same_while_nothing_is_done() {
    let mut now = start(1, Strength::Order);
    now.settings.sampler.temperature = 1.0;
    let mut later = Rollout::resume(now.world.clone(), &now.snapshot(), now.settings).unwrap();
    later.state.frames += 5;
    let idle = now.world.manifest.idle.unwrap();
    for code in (0..4).map(ActionCode) {
        let [a, b] = [&now, &later].map(|rollout| {
            let (state, settings) = (&rollout.state, rollout.settings);
            let mut rollout = Rollout::resume(rollout.world.clone(), state, settings).unwrap();
            rollout.step_with_code(code).unwrap().tokens
        });
        assert_eq!(a == b, code == idle, "{code}: {a:?} {b:?}");
    }
}

#[test]
fn orders_are_carried_out() {
    let mut rollout = start(1, Strength::Order);
    for frame in 0..12u16 {
        let step = rollout.step(&wish(&[frame % 4])).unwrap();
        assert_eq!(step.code, ActionCode(frame % 4));
        let either = rollout.choose(&wish(&[1, 3])).unwrap();
        assert!([1, 3].contains(&either.0));
    }
}

#[test]
fn strength_zero_samples_the_prior_whatever_the_wish() {
    let wishes = [wish(&[]), wish(&[2]), wish(&[0, 3])];
    let mut counts = [0u32; 4];
    let mut prior = Vec::new();
    for seed in 0..4000 {
        // Only the seed differs: the prompt and so the prior are the same.
        let mut rollout = start(0, Strength::Wish(0.0));
        rollout.settings.seed = seed;
        let codes = wishes.each_ref().map(|wish| rollout.choose(wish).unwrap());
        assert!(codes.iter().all(|code| *code == codes[0]));
        counts[usize::from(codes[0].0)] += 1;
        prior = rollout.prior().to_vec();
    }
    for (count, expected) in counts.iter().zip(prior) {
        let share = f64::from(*count) / 4000.0;
        assert!(
            (share - f64::from(expected)).abs() < 0.03,
            "{share} {expected}"
        );
    }
}

#[test]
fn a_wish_is_likelier_the_stronger_it_is() {
    let rollout = start(0, Strength::Wish(0.0));
    let least = (0..4).min_by(|&a, &b| rollout.prior()[a].total_cmp(&rollout.prior()[b]));
    let wanted = wish(&[least.unwrap() as u16]);
    let share = |strength| {
        let mut rollout = start(0, Strength::Wish(strength));
        let hits = (0..500).filter(|&seed| {
            rollout.settings.seed = seed;
            rollout.choose(&wanted).unwrap() == wanted.codes()[0]
        });
        hits.count()
    };
    let (weak, strong, sure) = (share(0.0), share(1.5), share(20.0));
    assert!(weak < strong && strong < sure, "{weak} {strong} {sure}");
    assert_eq!(sure, 500);
}

#[test]
fn what_has_lasted_as_long_as_it_can_is_for_the_prior_to_decide_even_in_a_stored_snapshot() {
    let mut contents = tiny_contents(1).unwrap();
    contents.manifest.lasts = vec![None, None, Some(Lasting { frames: 3, of: 4 })];
    let world = Arc::new(contents.world(WeightFormat::F32).unwrap());
    let settings = RolloutSettings {
        strength: Strength::Wish(1000.0),
        ..RolloutSettings::of(&world.manifest, 1)
    };
    let prompt = world.prompts[..1].to_vec();
    let mut rollout = Rollout::start(world.clone(), &prompt, settings).unwrap();
    let held = wish(&[2]);
    for _ in 0..3 {
        assert_eq!(rollout.step(&held).unwrap().code, ActionCode(2));
    }
    let mut seeds = 0..64;
    let decided = |settings: RolloutSettings, snapshot: &Snapshot, wish: &Wish| {
        let rollout = Rollout::resume(world.clone(), snapshot, settings).unwrap();
        rollout.choose(wish).unwrap()
    };
    let snapshot = rollout.snapshot();
    let bytes = snapshot.to_bytes(&world, &[]).unwrap();
    let stored = Snapshot::from_bytes(&bytes, &snapshot).unwrap();
    assert!(seeds.clone().any(|seed| {
        let settings = RolloutSettings { seed, ..settings };
        decided(settings, &stored, &held) != ActionCode(2)
    }));
    assert!(seeds.all(|seed| {
        let settings = RolloutSettings { seed, ..settings };
        let alone = decided(settings, &snapshot, &Wish::none());
        let order = RolloutSettings {
            strength: Strength::Order,
            ..settings
        };
        decided(settings, &stored, &held) == alone
            && decided(order, &stored, &held) == ActionCode(2)
    }));
}

#[test]
fn what_is_for_the_player_to_begin_begins_with_a_wish_and_then_goes_on() {
    let mut contents = tiny_contents(1).unwrap();
    contents.manifest.voluntary = vec![vec![ActionCode(0), ActionCode(1)], vec![ActionCode(2)]];
    let world = Arc::new(contents.world(WeightFormat::F32).unwrap());
    let prompt = world.prompts[..1].to_vec();
    let codes_after = |before: u16, asked: &[u16]| {
        let mut codes: Vec<u16> = (0..200)
            .map(|seed| {
                let settings = RolloutSettings {
                    strength: Strength::Wish(0.0),
                    ..RolloutSettings::of(&world.manifest, seed)
                };
                let mut rollout = Rollout::start(world.clone(), &prompt, settings).unwrap();
                rollout.step_with_code(ActionCode(before)).unwrap();
                rollout.choose(&wish(asked)).unwrap().0
            })
            .collect();
        codes.sort_unstable();
        codes.dedup();
        codes
    };
    assert_eq!(codes_after(3, &[3]), [3]);
    assert_eq!(codes_after(3, &[2]), [2, 3]);
    assert_eq!(codes_after(0, &[3]), [0, 1, 3]);
    // With nothing wished for, the world plays by itself.
    assert_eq!(codes_after(3, &[]), [0, 1, 2, 3]);
}

#[test]
fn a_wish_that_has_ended_leaves_all_to_the_prior_where_every_code_is_for_the_player_to_begin() {
    let mut contents = tiny_contents(1).unwrap();
    contents.manifest.lasts = vec![Some(Lasting { frames: 1, of: 1 })];
    contents.manifest.voluntary = (0..4).map(|code| vec![ActionCode(code)]).collect();
    let world = Arc::new(contents.world(WeightFormat::F32).unwrap());
    let prompt = world.prompts[..1].to_vec();
    let codes = (0..200).map(|seed| {
        let settings = RolloutSettings::of(&world.manifest, seed);
        let mut rollout = Rollout::start(world.clone(), &prompt, settings).unwrap();
        rollout.step_with_code(ActionCode(0)).unwrap();
        rollout.choose(&wish(&[0])).unwrap().0
    });
    let codes: std::collections::BTreeSet<u16> = codes.collect();
    assert_eq!(codes.len(), 4);
}

#[test]
fn a_snapshot_leads_to_the_same_frames_again() {
    let mut rollout = start(3, Strength::Wish(2.0));
    play(&mut rollout, 1, 5);
    let snapshot = rollout.snapshot();
    let first = play(&mut rollout, 2, 7);
    let elsewhere = play(&mut rollout, 3, 3);
    rollout.restore(&snapshot);
    assert_eq!(rollout.frames(), snapshot.frames());
    assert_eq!(play(&mut rollout, 2, 7), first);
    assert_ne!(elsewhere[0].frame, first[0].frame);
}

#[test]
fn codes_played_again_give_the_same_frames_as_the_wishes_that_led_to_them() {
    let steps = play(&mut start(5, Strength::Wish(1.0)), 1, 10);
    let mut replay = start(5, Strength::Wish(1.0));
    for step in &steps {
        assert_eq!(&replay.step_with_code(step.code).unwrap(), step);
    }
}

#[test]
fn a_prompt_of_several_frames_continues_from_all_of_them() {
    let world = world();
    let settings = RolloutSettings::of(&world.manifest, 1);
    let prompt = world.prompts.clone();
    let start = |prompt: &[Frame]| Rollout::start(world.clone(), prompt, settings).unwrap();
    let three = start(&prompt);
    assert_eq!(three.frames(), 3);
    let last = start(&prompt[2..]);
    assert_eq!(three.frame().unwrap(), last.frame().unwrap());
    assert_ne!(three.prior(), last.prior());
    // The past within the prompt is what batch evaluation would give it: the inferred codes lead from frame to frame.
    let clip = Frame::clip(&prompt, &world.device).unwrap();
    let codes = world.latent_actions.codes(&clip).unwrap();
    let codes = codes.flatten_all().unwrap().to_vec1::<u32>().unwrap();
    let tokens = world.tokenizer.encode(&clip).unwrap();
    let mut cache = world.dynamics.start();
    let mut logits = Vec::new();
    for (frame, tokens) in tokens
        .get(0)
        .unwrap()
        .to_vec2::<u32>()
        .unwrap()
        .iter()
        .enumerate()
    {
        let code = frame
            .checked_sub(1)
            .map(|change| ActionCode(codes[change] as u16));
        logits = world.dynamics.commit(&mut cache, code, tokens).unwrap();
    }
    let expected = prior_probabilities(&logits);
    assert!(
        three
            .prior()
            .iter()
            .zip(&expected)
            .all(|(a, b)| (a - b).abs() < 1e-5)
    );
}

#[test]
fn what_a_world_is_not_made_for_is_refused() {
    let world = world();
    let settings = RolloutSettings::of(&world.manifest, 1);
    let refusal = |prompt: &[Frame], settings: RolloutSettings| {
        let refused = Rollout::start(world.clone(), prompt, settings).err();
        refused.unwrap().to_string()
    };
    assert!(refusal(&[], settings).contains("prompt of 0 frames"));
    let size = nn::FrameSize {
        height: 8,
        width: 8,
    };
    let small = Frame::new(size, vec![0; size.bytes()]).unwrap();
    assert!(refusal(&[small], settings).contains("8x8"));
    let mut slow = settings;
    slow.sampler.steps = 9;
    assert!(refusal(&world.prompts, slow).contains("1 to 8"));
    let mut odd = settings;
    odd.strength = Strength::Wish(-1.0);
    assert!(refusal(&world.prompts, odd).contains("strength"));
    let mut rollout = Rollout::start(world.clone(), &world.prompts, settings).unwrap();
    assert!(rollout.step(&wish(&[4])).is_err());
    assert!(rollout.step_with_code(ActionCode(4)).is_err());
    // A refused step leaves no trace.
    assert_eq!(rollout.frames(), 3);
}

#[test]
fn weights_that_lead_to_infinity_are_reported_and_not_shown() {
    let mut contents = tiny_contents(1).unwrap();
    for name in ["prior_hidden", "prior_output"] {
        let huge = (&contents.dynamics[name] * 1e30).unwrap();
        contents.dynamics.insert(name.into(), huge);
    }
    let world = Arc::new(contents.world(WeightFormat::F32).unwrap());
    let settings = RolloutSettings::of(&world.manifest, 1);
    let prompt = world.prompts.clone();
    let error = Rollout::start(world, &prompt[..1], settings).err().unwrap();
    assert!(matches!(error, Error::NotFinite { frame: 0 }), "{error}");
}

#[test]
fn a_picture_of_no_numbers_is_reported_and_not_shown() {
    let mut contents = tiny_contents(1).unwrap();
    // What enters the decoder runs over, and its norm divides that by as much.
    let input = &contents.tokenizer["decoder.input"];
    let huge = (input.ones_like().unwrap() * 3e38).unwrap();
    contents.tokenizer.insert("decoder.input".into(), huge);
    let world = Arc::new(contents.world(WeightFormat::F32).unwrap());
    let settings = RolloutSettings::of(&world.manifest, 1);
    let prompt = world.prompts.clone();
    let error = Rollout::start(world, &prompt[..1], settings).err().unwrap();
    assert!(matches!(error, Error::NotFinite { frame: 0 }), "{error}");
}

#[test]
fn temporal_tokenizers_vector_quantizers_and_plain_genie_play_too() {
    let mut manifest = tiny_contents(1).unwrap().manifest;
    manifest.tokenizer.temporal_window = Some(3);
    manifest.tokenizer.quantizer = nn::quantizer::QuantizerConfig::Vq {
        codes: 32,
        width: 4,
    };
    manifest.dynamics.vocabulary = 32;
    manifest.dynamics.latent_width = 4;
    manifest.dynamics.forecast = false;
    manifest.latent_actions.bottleneck = latent_actions::BottleneckConfig::Vq;
    let contents = with_random_weights(manifest, 4).unwrap();
    let world = exact(contents.world(WeightFormat::F32).unwrap());
    let settings = RolloutSettings::of(&world.manifest, 1);
    let start = || Rollout::start(world.clone(), &world.prompts, settings).unwrap();
    let (mut one, mut two) = (start(), start());
    let steps = play(&mut one, 1, 6);
    assert_eq!(play(&mut two, 1, 6), steps);
    // The decoder streams: frames are those that decoding the whole clip gives.
    let clip = Frame::clip(&world.prompts, &world.device).unwrap();
    let mut tokens = world
        .tokenizer
        .encode(&clip)
        .unwrap()
        .flatten_all()
        .unwrap();
    for step in &steps {
        let next = Tensor::from_slice(&step.tokens, 6, &world.device).unwrap();
        tokens = Tensor::cat(&[tokens, next], 0).unwrap();
    }
    let whole = world
        .tokenizer
        .decode(&tokens.reshape((1, 9, 6)).unwrap())
        .unwrap();
    let last = Frame::from_tensor(&whole.get(0).unwrap().get(8).unwrap(), world.manifest.frame);
    let (last, streamed) = (last.unwrap(), &steps[5].frame);
    let close = |(a, b): (&u8, &u8)| a.abs_diff(*b) <= 1;
    assert!(last.rgb().iter().zip(streamed.rgb()).all(close));
}

#[test]
fn other_devices_compositions_play_as_packed_weights_do() {
    let (packed, composed) = (world(), exact(tiny_world(1).unwrap()));
    let start = |world: &Arc<World>| {
        let settings = RolloutSettings::of(&world.manifest, 1);
        Rollout::start(world.clone(), &world.prompts, settings).unwrap()
    };
    let mut one = start(&packed);
    let mut two = nn::ops::with_compositions(|| start(&composed));
    assert_eq!(composed.kernels().unwrap(), "compositions");
    let mut player = RandomPlayer::new(1, 4);
    for _ in 0..10 {
        let wish = player.next_wish();
        let step = one.step(&wish).unwrap();
        let other = nn::ops::with_compositions(|| two.step(&wish).unwrap());
        assert_eq!((step.code, &step.tokens), (other.code, &other.tokens));
        let close = |(a, b): (&u8, &u8)| a.abs_diff(*b) <= 1;
        assert!(step.frame.rgb().iter().zip(other.frame.rgb()).all(close));
        let priors = one.prior().iter().zip(two.prior());
        assert!(priors.into_iter().all(|(a, b)| (a - b).abs() < 1e-4));
    }
}

#[test]
fn a_frame_costs_the_same_however_long_the_session_has_lasted() {
    let mut manifest = tiny_contents(1).unwrap().manifest;
    manifest.tokenizer.temporal_window = Some(3);
    let world = with_random_weights(manifest, 4).unwrap();
    let world = exact(world.world(WeightFormat::F32).unwrap());
    let mut settings = RolloutSettings::of(&world.manifest, 1);
    settings.sampler.steps = 1;
    let mut rollout = Rollout::start(world.clone(), &world.prompts, settings).unwrap();
    let mut player = RandomPlayer::new(1, 4);
    let mut costs = Vec::new();
    for frame in 0..=10_000 {
        let wish = player.next_wish();
        let (step, pairs) = nn::count::attention_pairs(|| rollout.step(&wish));
        step.unwrap();
        if [1, 100, 101, 9_999, 10_000].contains(&frame) {
            costs.push((pairs, rollout.snapshot().bytes()));
        }
    }
    assert!(costs[0].0 > 0 && costs[0].1 > 0);
    // Both windows are full by frame 100.
    assert!(costs[1..].iter().all(|cost| *cost == costs[1]), "{costs:?}");
}
