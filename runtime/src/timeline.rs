//! The past of a play, to go back in: all codes and tokens, and as many snapshots as a memory limit allows.

use crate::error::Result;
use nn::ActionCode;
use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::Arc;
use worlds::{Rollout, RolloutSettings, Snapshot, World};

/// Most frames from one kept snapshot to the next before the oldest past is forgotten instead: what lies between is made again, and this many
/// frames are made again in well under a second.
const WIDEST_SPACING: u64 = 64;

/// One frame of the past.
struct PastFrame {
    code: ActionCode,
    tokens: Box<[u32]>,
}

/// The frames of a play from the oldest that is remembered to the newest, and snapshots to go back to.
///
/// A snapshot costs what is new in it beside its neighbours, so snapshots of all frames are kept while memory allows. When the limit is
/// reached, the older ones are thinned to every second, fourth, ... and 64th, and after that the oldest past is forgotten.
/// The newest frames always have their snapshots, so that going back begins at once; while it goes on, the snapshots further back are made
/// again from tokens, one for each frame gone back.
pub struct Timeline {
    world: Arc<World>,
    limit: usize,
    /// Whether nothing is ever forgotten.
    whole: bool,
    spacing: u64,
    /// Number of the oldest frame.
    oldest: u64,
    /// The frames after the oldest.
    frames: VecDeque<PastFrame>,
    /// By the number of their newest frame; that of the oldest frame is always there.
    snapshots: BTreeMap<u64, Snapshot>,
    memory: Memory,
    /// Makes snapshots again ahead of going back.
    ahead: Option<Rollout>,
}

/// Counts bytes that snapshots share once.
#[derive(Default)]
struct Memory {
    /// By place: bytes, and how many snapshots hold them.
    parts: HashMap<usize, (usize, usize)>,
    bytes: usize,
}

impl Memory {
    fn add(&mut self, snapshot: &Snapshot) {
        for (place, bytes) in snapshot.memory() {
            let (_, holders) = self.parts.entry(place).or_insert((bytes, 0));
            if *holders == 0 {
                self.bytes += bytes;
            }
            *holders += 1;
        }
    }

    fn remove(&mut self, snapshot: &Snapshot) {
        for (place, _) in snapshot.memory() {
            if let Some((bytes, holders)) = self.parts.get_mut(&place) {
                *holders -= 1;
                if *holders == 0 {
                    self.bytes -= *bytes;
                    self.parts.remove(&place);
                }
            }
        }
    }
}

impl Timeline {
    /// A timeline that begins with the newest frame of `start` and forgets its oldest frames where `limit` bytes cannot hold them.
    pub fn new(world: Arc<World>, start: Snapshot, limit: usize) -> Self {
        Self::with(world, start, limit, false)
    }

    /// A timeline that forgets nothing, however long it takes to go back far, and even where that takes more than `limit` bytes: for
    /// recordings, which are whole.
    pub fn whole(world: Arc<World>, start: Snapshot, limit: usize) -> Self {
        Self::with(world, start, limit, true)
    }

    fn with(world: Arc<World>, start: Snapshot, limit: usize, whole: bool) -> Self {
        let mut timeline = Self {
            world,
            limit,
            whole,
            spacing: 1,
            oldest: start.number(),
            frames: VecDeque::new(),
            snapshots: BTreeMap::new(),
            memory: Memory::default(),
            ahead: None,
        };
        timeline.keep(start);
        timeline
    }

    /// Begins anew with the newest frame of `start`: what was before cannot be gone back to.
    pub fn begin(&mut self, start: Snapshot) {
        *self = Self::with(self.world.clone(), start, self.limit, self.whole);
    }

    /// Number of the oldest frame that can be gone back to.
    pub fn oldest(&self) -> u64 {
        self.oldest
    }

    /// Number of the newest frame.
    pub fn newest(&self) -> u64 {
        self.oldest + self.frames.len() as u64
    }

    /// Bytes that the timeline keeps from other use.
    pub fn bytes(&self) -> usize {
        let tokens = self.frames.back().map_or(0, |frame| frame.tokens.len() * 4);
        let part = size_of::<(usize, (usize, usize))>();
        self.memory.bytes
            + self.memory.parts.len() * part
            + self.frames.len() * (size_of::<PastFrame>() + tokens)
            + self.snapshots.len() * size_of::<Snapshot>()
    }

    /// Changes the memory limit.
    pub fn set_limit(&mut self, limit: usize) {
        self.limit = limit;
        self.thin();
    }

    /// Adds the frame that followed: its code, its tokens, and the snapshot after it.
    pub fn push(&mut self, code: ActionCode, tokens: &[u32], snapshot: Snapshot) {
        let tokens = tokens.into();
        self.frames.push_back(PastFrame { code, tokens });
        self.keep(snapshot);
        self.ahead = None;
        if let Some(number) = self.newest().checked_sub(self.tail() + 1) {
            self.drop_between(number);
        }
        self.thin();
    }

    /// Goes back by one frame and returns the snapshot of it; `None` at the oldest frame. Frames gone back are forgotten.
    ///
    /// # Errors
    /// When the world refuses to make a snapshot again, which it made before.
    pub fn back(&mut self) -> Result<Option<Snapshot>> {
        let Some(target) = self.newest().checked_sub(1) else {
            return Ok(None);
        };
        let snapshot = self.back_to(target)?;
        self.make_ahead()?;
        self.thin();
        Ok(snapshot)
    }

    /// Goes back to the frame of number `target`; `None`, and nothing changes, when it is not remembered.
    ///
    /// # Errors
    /// As [`Self::back`].
    pub fn back_to(&mut self, target: u64) -> Result<Option<Snapshot>> {
        if !(self.oldest..=self.newest()).contains(&target) {
            return Ok(None);
        }
        let snapshot = self.make(target)?;
        for number in target + 1..=self.newest() {
            self.forget(number);
        }
        self.frames.truncate((target - self.oldest) as usize);
        Ok(Some(snapshot))
    }

    /// Frames before the newest that keep their snapshots.
    fn tail(&self) -> u64 {
        2 * self.spacing.min(WIDEST_SPACING)
    }

    fn keep(&mut self, snapshot: Snapshot) {
        self.memory.add(&snapshot);
        if let Some(old) = self.snapshots.insert(snapshot.number(), snapshot) {
            self.memory.remove(&old);
        }
    }

    fn forget(&mut self, number: u64) {
        if let Some(snapshot) = self.snapshots.remove(&number) {
            self.memory.remove(&snapshot);
        }
    }

    /// Forgets the snapshot of frame `number` unless it is one of those that are spaced out.
    fn drop_between(&mut self, number: u64) {
        if !number.is_multiple_of(self.spacing) && number != self.oldest {
            self.forget(number);
        }
    }

    /// Brings the timeline below its limit, if there is any way.
    fn thin(&mut self) {
        while self.bytes() > self.limit && self.snapshots.len() > 1 {
            let spaced = self.snapshots.range(..self.tail_start()).count() as u64;
            // The wider the spacing, the more of the newest frames keep their snapshots: at some width nothing is gained.
            let gains = self.spacing < WIDEST_SPACING && 2 * spaced > self.tail();
            match self.whole {
                false if gains => self.widen(),
                false => self.forget_oldest(),
                true if spaced > 1 => self.widen(),
                true => return,
            }
        }
    }

    /// Number of the first of the newest frames that keep their snapshots.
    fn tail_start(&self) -> u64 {
        self.newest().saturating_sub(self.tail())
    }

    /// Keeps every other of the spaced out snapshots.
    fn widen(&mut self) {
        self.spacing *= 2;
        let spaced = self.snapshots.range(..self.tail_start());
        for number in spaced.map(|(number, _)| *number).collect::<Vec<_>>() {
            self.drop_between(number);
        }
    }

    fn forget_oldest(&mut self) {
        let next = self.snapshots.range(self.oldest + 1..).next();
        if let Some((&next, _)) = next {
            self.forget(self.oldest);
            self.frames.drain(..(next - self.oldest) as usize);
            self.oldest = next;
        }
    }

    /// The snapshot of a remembered frame, made again where it is not kept.
    fn make(&mut self, number: u64) -> Result<Snapshot> {
        if let Some(snapshot) = self.snapshots.get(&number) {
            return Ok(snapshot.clone());
        }
        let mut rollout = match self.ahead.take() {
            Some(ahead) if ahead.frames() <= number => ahead,
            _ => self.rollout_before(number)?,
        };
        loop {
            self.make_next(&mut rollout)?;
            let snapshot = rollout.snapshot();
            if snapshot.number() + WIDEST_SPACING > number {
                self.keep(snapshot.clone());
            }
            if snapshot.number() >= number {
                return Ok(snapshot);
            }
        }
    }

    /// Makes one snapshot again of those that going back will soon need.
    fn make_ahead(&mut self) -> Result<()> {
        let mut rollout = match self.ahead.take() {
            Some(rollout) => rollout,
            None => {
                let from = self.tail_start().max(self.oldest);
                let missing = |number: &u64| !self.snapshots.contains_key(number);
                match (from..self.newest()).rev().find(missing) {
                    Some(number) => self.rollout_before(number)?,
                    None => return Ok(()),
                }
            }
        };
        if rollout.frames() <= self.oldest || rollout.frames() > self.newest() {
            return Ok(());
        }
        self.make_next(&mut rollout)?;
        let snapshot = rollout.snapshot();
        if !self.snapshots.contains_key(&snapshot.number()) {
            self.keep(snapshot);
            self.ahead = Some(rollout);
        }
        Ok(())
    }

    /// A rollout at the last snapshot before frame `number`.
    fn rollout_before(&self, number: u64) -> Result<Rollout> {
        let before = self.snapshots.range(..number).next_back();
        let (_, snapshot) = before.ok_or(crate::Error::Forgotten { frame: number })?;
        // How frames are sampled does not matter where their tokens are known.
        let settings = RolloutSettings::of(&self.world.manifest, 0);
        Ok(Rollout::resume(self.world.clone(), snapshot, settings)?)
    }

    /// Shows the frame that follows in `rollout` again.
    fn make_next(&self, rollout: &mut Rollout) -> Result<()> {
        let number = rollout.frames();
        let index = number.checked_sub(self.oldest + 1);
        let frame = index.and_then(|index| self.frames.get(index as usize));
        let frame = frame.ok_or(crate::Error::Forgotten { frame: number })?;
        rollout.step_with_tokens(frame.code, frame.tokens.to_vec())?;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::sync::OnceLock;
    use worlds::{Frame, RandomPlayer};

    fn start() -> Rollout {
        static WORLD: OnceLock<Arc<World>> = OnceLock::new();
        let world = WORLD
            .get_or_init(|| Arc::new(worlds::tiny_world(1).unwrap()))
            .clone();
        let settings = RolloutSettings::of(&world.manifest, 3);
        Rollout::start(world.clone(), &world.prompts[..1], settings).unwrap()
    }

    fn timeline(rollout: &Rollout, limit: usize) -> Timeline {
        Timeline::new(rollout.world().clone(), rollout.snapshot(), limit)
    }

    /// Plays on and returns the frames.
    fn play(
        rollout: &mut Rollout,
        timeline: &mut Timeline,
        seed: u64,
        frames: usize,
    ) -> Vec<Frame> {
        let mut player = RandomPlayer::new(seed, 4);
        let mut all = Vec::new();
        for _ in 0..frames {
            let step = rollout.step(&player.next_wish()).unwrap();
            timeline.push(step.code, &step.tokens, rollout.snapshot());
            all.push(step.frame);
        }
        all
    }

    #[test]
    fn the_whole_way_back_is_the_way_that_was_played() {
        // Dense; thinned; and thinned with the oldest forgotten.
        for (limit, whole) in [(usize::MAX, true), (2_000_000, true), (700_000, false)] {
            let mut rollout = start();
            let mut timeline = timeline(&rollout, limit);
            let mut frames = vec![rollout.frame().unwrap()];
            frames.extend(play(&mut rollout, &mut timeline, 1, 600));
            assert!(timeline.bytes() <= limit);
            assert_eq!(timeline.newest(), 600);
            let oldest = timeline.oldest();
            assert_eq!(oldest == 0, whole, "{limit}: from {oldest}");
            assert!(oldest < 500, "{limit}: from {oldest}");
            for number in (oldest..600).rev() {
                let snapshot = timeline.back().unwrap().unwrap();
                assert_eq!(snapshot.number(), number);
                let frame = snapshot.frame(rollout.world()).unwrap();
                assert_eq!(frame, frames[number as usize], "{limit}: {number}");
                assert!(timeline.bytes() <= limit);
            }
            assert!(timeline.back().unwrap().is_none());
        }
    }

    #[test]
    fn going_back_never_has_to_make_much_again_at_once() {
        let mut rollout = start();
        let mut timeline = timeline(&rollout, 1_200_000);
        play(&mut rollout, &mut timeline, 1, 600);
        assert!(
            timeline.oldest == 0 && timeline.spacing > 8,
            "{}",
            timeline.spacing
        );
        while timeline.newest() > 0 {
            let next = timeline.newest() - 1;
            assert!(timeline.snapshots.contains_key(&next), "{next}");
            timeline.back().unwrap();
        }
    }

    #[test]
    fn bytes_are_those_of_all_that_is_held_once() {
        let mut rollout = start();
        let mut timeline = timeline(&rollout, 1_000_000);
        play(&mut rollout, &mut timeline, 1, 400);
        for _ in 0..130 {
            timeline.back().unwrap();
        }
        let held = timeline.snapshots.values();
        let parts: BTreeMap<_, _> = held.flat_map(Snapshot::memory).collect();
        assert_eq!(parts.values().sum::<usize>(), timeline.memory.bytes);
        assert_eq!(parts.len(), timeline.memory.parts.len());
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(24))]
        #[test]
        fn any_way_to_and_fro_stays_within_memory_and_true(
            moves in proptest::collection::vec((1usize..90, 0u64..120), 1..8),
            limit in 200_000usize..1_500_000,
            whole in any::<bool>(),
        ) {
            let mut rollout = start();
            let world = rollout.world().clone();
            let mut timeline = match whole {
                true => Timeline::whole(world.clone(), rollout.snapshot(), limit),
                false => Timeline::new(world.clone(), rollout.snapshot(), limit),
            };
            let mut frames = vec![rollout.frame().unwrap()];
            for (seed, (forth, back)) in moves.into_iter().enumerate() {
                frames.extend(play(&mut rollout, &mut timeline, seed as u64, forth));
                let target = timeline.newest().saturating_sub(back);
                let found = timeline.back_to(target).unwrap();
                prop_assert_eq!(found.is_some(), target >= timeline.oldest());
                if let Some(snapshot) = found {
                    frames.truncate(target as usize + 1);
                    rollout.restore(&snapshot);
                    prop_assert_eq!(&rollout.frame().unwrap(), frames.last().unwrap());
                }
                prop_assert!(!whole || timeline.oldest() == 0);
                prop_assert_eq!(timeline.newest() + 1, frames.len() as u64);
            }
        }
    }
}
