//! Moving pictures of what every action code does, made beside play when they are first asked for.

use crate::hud::Thumbnail;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, TryRecvError, channel};
use std::time::{Duration, Instant};
use worlds::{CodeEffect, EffectOptions, Frame, World, measure_effects};

/// From how many starting frames, and for how many frames, each code is shown.
const SHOWN: EffectOptions = EffectOptions {
    starts: 2,
    frames: 12,
};
/// Frames that a picture rests at its end before it starts again.
const REST: usize = 5;
/// Pixels between the starting frames.
const GAP: usize = 2;

/// The pictures, as far as they are there.
#[derive(Default)]
pub(super) struct Effects {
    state: State,
}

#[derive(Default)]
enum State {
    #[default]
    Unasked,
    Coming(Receiver<Vec<Vec<Thumbnail>>>),
    /// For each code, the frames that loop.
    There {
        pictures: Vec<Vec<Thumbnail>>,
        interval: Duration,
        since: Instant,
    },
}

impl Effects {
    /// Begins to make them, unless that was done before.
    pub(super) fn ask(&mut self, world: &Arc<World>) {
        if !matches!(self.state, State::Unasked) {
            return;
        }
        let (sender, receiver) = channel();
        // The thread holds the sender alone, and so learns from it when nobody waits any more.
        let theirs = world.clone();
        let spawned = std::thread::Builder::new()
            .name("effects".into())
            .spawn(move || {
                let mut begun = Instant::now();
                // Rests in between, so that play keeps its pace.
                let rest = &mut || {
                    std::thread::sleep(begun.elapsed() / 2);
                    begun = Instant::now();
                    sender.send(Vec::new()).is_ok()
                };
                match measure_effects(&theirs, SHOWN, rest) {
                    Ok(effects) => drop(sender.send(effects.iter().map(frames).collect())),
                    Err(error) => tracing::warn!("what the actions do cannot be shown: {error}"),
                }
            });
        match spawned {
            Ok(_) => self.state = State::Coming(receiver),
            Err(error) => tracing::warn!("what the actions do cannot be shown: {error}"),
        }
    }

    /// The pictures of this moment, one for each code, and when to look again; nothing before they are there.
    pub(super) fn at(
        &mut self,
        world: &World,
        now: Instant,
    ) -> (Vec<Option<Thumbnail>>, Option<Duration>) {
        if let State::Coming(receiver) = &self.state {
            let pictures = loop {
                match receiver.try_recv() {
                    Ok(pictures) if pictures.is_empty() => {}
                    Ok(pictures) => break pictures,
                    Err(TryRecvError::Empty) => {
                        return (Vec::new(), Some(Duration::from_millis(200)));
                    }
                    Err(TryRecvError::Disconnected) => return (Vec::new(), None),
                }
            };
            self.state = State::There {
                pictures,
                interval: Duration::from_secs_f64(1.0 / world.manifest.frames_per_second),
                since: now,
            };
        }
        let State::There {
            pictures,
            interval,
            since,
        } = &self.state
        else {
            return (Vec::new(), None);
        };
        let frame =
            (now.saturating_duration_since(*since).as_secs_f64() / interval.as_secs_f64()) as usize;
        let shown = pictures.iter().map(|frames| {
            let at = frame % (frames.len() + REST).max(1);
            frames.get(at.min(frames.len().saturating_sub(1))).cloned()
        });
        (shown.collect(), Some(*interval))
    }
}

/// The frames of a code: all starting frames side by side.
fn frames(effect: &CodeEffect) -> Vec<Thumbnail> {
    let count = effect.pictures.iter().map(Vec::len).min().unwrap_or(0);
    let beside = |frame| {
        side_by_side(
            effect
                .pictures
                .iter()
                .filter_map(|frames: &Vec<Frame>| frames.get(frame)),
        )
    };
    (0..count).map(beside).collect()
}

fn side_by_side<'a>(frames: impl Iterator<Item = &'a Frame> + Clone) -> Thumbnail {
    let sizes = || frames.clone().map(Frame::size);
    let height = sizes().map(|size| size.height).max().unwrap_or(0);
    let width = sizes()
        .map(|size| size.width + GAP)
        .sum::<usize>()
        .saturating_sub(GAP);
    let mut picture = egui::ColorImage::filled([width, height], egui::Color32::TRANSPARENT);
    let mut left = 0;
    for frame in frames {
        let size = frame.size();
        let rows = frame.rgb().chunks_exact(3 * size.width.max(1));
        for (row, pixels) in rows.zip(picture.pixels.chunks_exact_mut(width.max(1))) {
            for (pixel, rgb) in pixels[left..].iter_mut().zip(row.as_chunks::<3>().0) {
                *pixel = egui::Color32::from_rgb(rgb[0], rgb[1], rgb[2]);
            }
        }
        left += size.width + GAP;
    }
    Arc::new(picture)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_code_gets_a_picture_that_moves_and_loops() {
        let world = Arc::new(worlds::find("coinrun").unwrap().load().unwrap());
        let mut effects = Effects::default();
        let start = Instant::now();
        assert!(effects.at(&world, start).0.is_empty());
        effects.ask(&world);
        let shown = loop {
            assert!(start.elapsed() < Duration::from_secs(120));
            match effects.at(&world, start) {
                (shown, _) if !shown.is_empty() => break shown,
                (_, again) => std::thread::sleep(again.unwrap()),
            }
        };
        assert_eq!(shown.len(), world.manifest.codes());
        let first = shown[0].as_ref().unwrap();
        assert_eq!(first.size, [2 * 64 + GAP, 64]);
        let interval = Duration::from_secs_f64(1.0 / world.manifest.frames_per_second);
        let picture = |frame: u32| {
            effects
                .at(&world, start + interval * frame + interval / 2)
                .0[0]
                .clone()
                .unwrap()
        };
        let [begin, later, again] = [0, 8, 13 + REST as u32].map(picture);
        assert_ne!(begin.pixels, later.pixels);
        assert_eq!(begin.pixels, again.pixels);
    }
}
