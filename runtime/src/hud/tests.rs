//! The HUD without a window: what it shows, where, and what pressing it wants.

use super::*;
use crate::frame_loop::{FrameLoop, LoopOptions, ReplayView};
use crate::play::Play;
use crate::player::Player;
use egui::{Event, Modifiers, PointerButton, Pos2, RawInput, Rect, Shape, Vec2, vec2};
use proptest::prelude::*;
use std::sync::OnceLock;
use worlds::{RolloutSettings, Strength, Wish, World};

fn world() -> &'static Arc<World> {
    static WORLD: OnceLock<Arc<World>> = OnceLock::new();
    WORLD.get_or_init(|| Arc::new(worlds::tiny_world(1).unwrap()))
}

/// Everything that a HUD state is made of.
struct Scenery {
    view: View,
    settings: Settings,
    page: Option<Page>,
    bar: bool,
    hint: f32,
    hints: Vec<String>,
    notices: Vec<Notice>,
    commands: Vec<KeyLine>,
    action_names: Vec<String>,
    action_keys: Vec<Vec<String>>,
    worlds: Vec<WorldCard>,
    prompts: Vec<Thumbnail>,
}

impl Scenery {
    fn new() -> Self {
        let world = world();
        let settings = RolloutSettings::of(&world.manifest, 1234);
        let prompt = world.prompts[..1].to_vec();
        let play = Play::start(world.clone(), prompt, settings, None).unwrap();
        let nobody = Player::Person(Box::new(|| (Wish::none(), "keyboard")));
        let frames = FrameLoop::new(play, nobody, LoopOptions::default()).unwrap();
        let mut view = frames.view();
        view.graph = (0..60).map(|i| 20.0 + (i * 13 % 40) as f32).collect();
        view.frames_per_second = world.manifest.frames_per_second;
        let picture = thumbnail(&world.prompts[0]);
        let key = |name: &str| vec![name.to_owned()];
        let card = |name: &str, played| WorldCard {
            name: name.to_owned(),
            picture: Some(picture.clone()),
            played,
        };
        Self {
            view,
            settings: Settings::default(),
            page: None,
            bar: false,
            hint: 0.0,
            hints: hints(&ControlTable::default(), &HINTS),
            notices: Vec::new(),
            commands: ["P", "R", "F1", "F2", "F11"]
                .map(|name| KeyLine {
                    keys: key(name),
                    what: format!("what the key {name} does, at some length"),
                })
                .to_vec(),
            action_names: world
                .manifest
                .actions
                .iter()
                .map(|action| action.name.clone())
                .collect(),
            action_keys: world.manifest.actions.iter().map(|_| key("Left")).collect(),
            worlds: vec![card("First", true), card("A second world", false)],
            prompts: vec![picture.clone(), picture],
        }
    }

    fn state(&self) -> HudState<'_> {
        HudState {
            view: &self.view,
            manifest: &world().manifest,
            settings: &self.settings,
            sound: true,
            fullscreen: false,
            page: self.page,
            bar: self.bar,
            notices: &self.notices,
            hint: self.hint,
            hints: &self.hints,
            commands: &self.commands,
            action_names: &self.action_names,
            action_keys: &self.action_keys,
            action_pictures: &[],
            binding: None,
            worlds: &self.worlds,
            prompts: &self.prompts,
        }
    }
}

/// What was shown: texts and pictures with the part of each that is seen.
#[derive(Debug, Default)]
struct Shown {
    texts: Vec<(String, Rect)>,
    /// Texts that are cut off at the window's right edge.
    cut: Vec<String>,
    pictures: Vec<Rect>,
    actions: Vec<HudAction>,
}

impl Shown {
    fn has(&self, text: &str) -> bool {
        self.texts.iter().any(|(shown, _)| shown == text)
    }

    fn text(&self) -> String {
        let texts: Vec<_> = self.texts.iter().map(|(text, _)| text.as_str()).collect();
        texts.join("|")
    }

    fn place(&self, text: &str) -> Pos2 {
        self.room(text).center()
    }

    fn room(&self, text: &str) -> Rect {
        let found = self.texts.iter().find(|(shown, _)| shown == text);
        found
            .unwrap_or_else(|| panic!("no {text:?} in {}", self.text()))
            .1
    }

    fn take(&mut self, shape: &Shape, clip: Rect) {
        match shape {
            Shape::Vec(shapes) => shapes.iter().for_each(|shape| self.take(shape, clip)),
            Shape::Text(text) => {
                // Ink, not the line's height.
                let place = text.galley.mesh_bounds.translate(text.pos.to_vec2());
                let seen = place.intersect(clip);
                if place.right() > clip.right() + 1.0 {
                    self.cut.push(text.galley.text().to_owned());
                }
                if seen.is_positive() && text.opacity_factor > 0.0 {
                    self.texts.push((text.galley.text().to_owned(), seen));
                }
            }
            Shape::Rect(rect) if rect.brush.is_some() => {
                let seen = rect.rect.intersect(clip);
                if seen.is_positive() {
                    self.pictures.push(seen);
                }
            }
            _ => {}
        }
    }
}

/// Runs the HUD in a window of that size, a few times so that everything has found its size, and presses at a place at last.
fn run(scenery: &Scenery, size: Vec2, press: Option<&dyn Fn(&Shown) -> Pos2>) -> Shown {
    let context = egui::Context::default();
    set_style(&context);
    let pass = |time: f64, events: Vec<Event>| {
        let input = RawInput {
            screen_rect: Some(Rect::from_min_size(Pos2::ZERO, size)),
            time: Some(time),
            events,
            focused: true,
            ..RawInput::default()
        };
        let mut shown = Shown::default();
        let mut output = context.run_ui(input, |ui| {
            shown.actions.extend(show(ui, &scenery.state()));
        });
        for clipped in &output.shapes {
            shown.take(&clipped.shape, clipped.clip_rect);
        }
        output.textures_delta.clear();
        shown
    };
    for time in 0..3 {
        pass(f64::from(time), Vec::new());
    }
    let shown = pass(3.0, Vec::new());
    let Some(press) = press else { return shown };
    let pos = press(&shown);
    let button = |pressed| Event::PointerButton {
        pos,
        button: PointerButton::Primary,
        pressed,
        modifiers: Modifiers::NONE,
    };
    pass(5.0, vec![Event::PointerMoved(pos)]);
    let mut actions = pass(5.1, vec![button(true)]).actions;
    let mut shown = pass(5.2, vec![button(false)]);
    actions.append(&mut shown.actions);
    shown.actions = actions;
    shown
}

const USUAL: Vec2 = vec2(640.0, 640.0);
const PAGES: [Page; 4] = [Page::Help, Page::Actions, Page::Settings, Page::Worlds];

#[test]
fn nothing_is_shown_unless_there_is_something_to_say() {
    let mut scenery = Scenery::new();
    assert!(run(&scenery, USUAL, None).texts.is_empty());
    scenery.hint = 1.0;
    assert_eq!(
        run(&scenery, USUAL, None).text(),
        "F1 help     F4 settings     F7 worlds     Esc quit"
    );
    assert_eq!(run(&scenery, vec2(200.0, 200.0), None).text(), "F1 help");
    scenery.hint = 0.0;
    scenery.view.paused = true;
    assert_eq!(run(&scenery, USUAL, None).text(), "paused");
    scenery.view.rewinding = true;
    assert_eq!(run(&scenery, USUAL, None).text(), "rewind");
    scenery.view.recording = Some("s".into());
    assert_eq!(run(&scenery, USUAL, None).text(), "REC|rewind");
}

#[test]
fn hints_name_the_players_own_keys() {
    let own = [
        (Control::Help, vec!["ControlLeft+KeyH".to_owned()]),
        (Control::Worlds, vec!["Start".to_owned()]),
        (Control::Pause, vec!["South".to_owned(), "KeyO".to_owned()]),
    ];
    let table = ControlTable::of_player(&own.into(), false).unwrap();
    let words = [
        (Control::Help, "help"),
        (Control::Worlds, "worlds"),
        (Control::Pause, "pause"),
        (Control::Leave, "quit"),
    ];
    // No key opens the worlds now: nothing is said of them.
    assert_eq!(
        hints(&table, &words),
        ["ControlLeft+H help", "O pause", "Esc quit"]
    );
}

#[test]
fn the_bar_tells_speed_wish_code_seed_and_recording() {
    let mut scenery = Scenery::new();
    scenery.action_names[0] = "hop".into();
    let names = scenery.action_names.clone();
    scenery.bar = true;
    scenery.view.wish = [nn::ActionCode(1)].into_iter().collect();
    scenery.view.code = Some(nn::ActionCode(0));
    scenery.view.recording = Some("s".into());
    let shown = run(&scenery, vec2(900.0, 640.0), None);
    let rate = format!("{:.0}", world().manifest.frames_per_second);
    for text in [rate.as_str(), &names[1], &names[0], "1234", "REC"] {
        assert!(shown.has(text), "{text:?} in {}", shown.text());
    }
    let small = run(&scenery, vec2(200.0, 200.0), None);
    assert!(small.has(&rate) && !small.has("1234"), "{}", small.text());
}

#[test]
fn what_is_pressed_is_wanted() {
    let mut scenery = Scenery::new();
    let press = |scenery: &Scenery, text: &'static str| {
        run(scenery, USUAL, Some(&|shown: &Shown| shown.place(text))).actions
    };
    for page in PAGES {
        scenery.page = Some(page);
        let actions = press(&scenery, "Close");
        assert!(
            matches!(actions[..], [HudAction::Open(None)]),
            "{actions:?}"
        );
    }
    scenery.page = Some(Page::Settings);
    let actions = press(&scenery, "CRT");
    assert!(
        matches!(actions[..], [HudAction::Filter(Filter::Crt)]),
        "{actions:?}"
    );
    let actions = press(&scenery, "Fill the screen");
    assert!(
        matches!(actions[..], [HudAction::Fullscreen(true)]),
        "{actions:?}"
    );
    let actions = press(&scenery, "Mute");
    assert!(
        matches!(actions[..], [HudAction::Mute(true)]),
        "{actions:?}"
    );
    let actions = press(&scenery, "Wishes are orders");
    let [HudAction::World(Command::Change(settings))] = &actions[..] else {
        panic!("{actions:?}");
    };
    let order = world().manifest.strength == Strength::Order;
    assert_eq!(settings.strength == Strength::Order, !order);
    let below = |shown: &Shown| shown.place("Temperature") + vec2(0.0, 24.0);
    let actions = run(&scenery, USUAL, Some(&below)).actions;
    let Some(HudAction::World(Command::Change(settings))) = actions.first() else {
        panic!("{actions:?}");
    };
    assert_ne!(
        settings.sampler.temperature,
        scenery.view.settings.sampler.temperature
    );
    assert_eq!(settings.seed, 1234);

    scenery.page = Some(Page::Worlds);
    let actions = press(&scenery, "A second world");
    assert!(
        matches!(actions[..], [HudAction::ChooseWorld(1)]),
        "{actions:?}"
    );
    let second_prompt = |shown: &Shown| shown.pictures[3].center();
    let actions = run(&scenery, USUAL, Some(&second_prompt)).actions;
    assert!(
        matches!(actions[..], [HudAction::ChoosePrompt(1)]),
        "{actions:?}"
    );
}

#[test]
fn a_recording_has_a_seek_bar_and_a_way_to_play_on() {
    let mut scenery = Scenery::new();
    let rate = world().manifest.frames_per_second;
    let replay = ReplayView {
        position: (75.0 * rate) as usize,
        last: (150.0 * rate) as usize,
    };
    scenery.view.replay = Some(replay);
    for size in [USUAL, vec2(200.0, 300.0)] {
        let pressed = |at: &dyn Fn(&Shown) -> Pos2| run(&scenery, size, Some(at));
        let shown = run(&scenery, size, None);
        assert!(
            shown.has("1:15") && shown.has("of 2:30"),
            "{}",
            shown.text()
        );
        let actions = pressed(&|shown| shown.place("Take over")).actions;
        let [HudAction::World(Command::TakeOver)] = actions[..] else {
            panic!("{actions:?}");
        };
        // The symbol before the time.
        let actions = pressed(&|shown| shown.place("1:15") - vec2(26.0, 0.0)).actions;
        let [HudAction::World(Command::Pause(true))] = actions[..] else {
            panic!("{actions:?}");
        };
    }
    let press = |right: f32| {
        let place = move |shown: &Shown| shown.place("of 2:30") + vec2(right, 0.0);
        run(&scenery, USUAL, Some(&place)).actions
    };
    let sought = |right| match press(right)[..] {
        [.., HudAction::World(Command::Seek(position))] => position,
        ref actions => panic!("{actions:?}"),
    };
    let (early, late) = (sought(60.0), sought(300.0));
    assert!(early < replay.position && replay.position < late && late < replay.last);
    scenery.view.replay = None;
    assert!(run(&scenery, USUAL, None).texts.is_empty());
}

#[test]
fn steps_that_give_way_do_not_change_what_the_player_wants() {
    let mut scenery = Scenery::new();
    scenery.page = Some(Page::Settings);
    scenery.view.wanted_steps = 2;
    scenery.view.settings.sampler.steps = 1;
    let shown = run(&scenery, USUAL, None);
    assert!(shown.has("2 (now 1)"), "{}", shown.text());
    let below = |shown: &Shown| shown.place("Temperature") + vec2(0.0, 24.0);
    let actions = run(&scenery, USUAL, Some(&below)).actions;
    let Some(HudAction::World(Command::Change(settings))) = actions.first() else {
        panic!("{actions:?}");
    };
    assert_eq!(settings.sampler.steps, 2);
}

#[test]
fn values_that_no_slider_offers_stay_until_they_are_moved() {
    let mut scenery = Scenery::new();
    scenery.page = Some(Page::Settings);
    scenery.view.settings.strength = Strength::Wish(14.03);
    scenery.view.settings.sampler.temperature = 3.0;
    scenery.view.speed = 0.12;
    scenery.settings.volume = 0.123;
    let shown = run(&scenery, USUAL, None);
    assert!(shown.actions.is_empty(), "{:?}", shown.actions);
    let below = |shown: &Shown| shown.place("Temperature") + vec2(0.0, 24.0);
    let actions = run(&scenery, USUAL, Some(&below)).actions;
    assert!(!actions.is_empty());
    for action in &actions {
        let HudAction::World(Command::Change(settings)) = action else {
            panic!("{actions:?}");
        };
        assert_eq!(settings.strength, Strength::Wish(14.03));
        assert!(settings.sampler.temperature <= 2.0, "{actions:?}");
    }
}

#[test]
fn keys_of_a_full_line_go_on_below() {
    let mut scenery = Scenery::new();
    scenery.page = Some(Page::Help);
    let keys = |first: usize, count| (first..first + count).map(|i| format!("a long key {i}"));
    scenery.action_keys = vec![
        keys(0, 6).collect(),
        vec!["alone".into()],
        keys(6, 6).collect(),
    ];
    scenery
        .action_keys
        .resize(scenery.action_names.len(), Vec::new());
    let shown = run(&scenery, USUAL, None);
    let first = shown.room("a long key 0").left();
    for text in ["alone", "a long key 6"] {
        assert!((shown.room(text).left() - first).abs() < 2.0, "{text}");
    }
    // The page lies in the middle and is 470 points wide.
    for i in 0..12 {
        let right = shown.room(&format!("a long key {i}")).right();
        assert!(right < USUAL.x / 2.0 + 235.0, "key {i} ends at {right}");
    }
}

#[test]
fn keys_have_the_names_that_players_know() {
    for (key, name) in [
        ("ArrowLeft", "Left"),
        ("KeyA", "A"),
        ("Digit1", "1"),
        ("Space", "Space"),
        ("Key", "Key"),
    ] {
        assert_eq!(key_name(key), name);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(120))]

    #[test]
    fn at_any_size_everything_lies_inside_the_window_and_no_text_on_another(
        width in 160f32..1700.0,
        height in 160f32..1300.0,
        page in prop::option::of(prop::sample::select(PAGES.to_vec())),
        (bar, paused, slow, recording) in any::<(bool, bool, bool, bool)>(),
        words in prop::collection::vec("[a-z]{1,12}( [a-z]{1,12}){0,6}", 0..4),
        hint in prop::bool::ANY,
        replay in prop::option::of((0usize..30_000, 0usize..30_000)),
    ) {
        let mut scenery = Scenery::new();
        scenery.page = page;
        scenery.bar = bar;
        scenery.view.paused = paused;
        scenery.view.slow = slow;
        scenery.view.replay = replay.map(|(a, b)| ReplayView { position: a.min(b), last: a.max(b) });
        scenery.view.recording = recording.then(|| "s".into());
        scenery.hint = if hint { 1.0 } else { 0.0 };
        // Long messages on a page are scrolled under; short ones must find room.
        scenery.notices = words.into_iter().map(|text| Notice { text, warning: slow, opacity: 1.0 }).collect();
        let shown = run(&scenery, vec2(width, height), None);
        let window = Rect::from_min_size(Pos2::ZERO, vec2(width, height)).expand(1.0);
        for (text, place) in &shown.texts {
            prop_assert!(window.contains_rect(*place), "{text:?} at {place:?}");
        }
        prop_assert!(shown.cut.is_empty(), "{:?}", shown.cut);
        let tall = height > 330.0;
        for (index, (text, place)) in shown.texts.iter().enumerate() {
            for (other, other_place) in &shown.texts[index + 1..] {
                let both = place.shrink(1.0).intersect(other_place.shrink(1.0));
                prop_assert!(!tall || !both.is_positive(), "{text:?} at {place:?} on {other:?} at {other_place:?}");
            }
        }
    }
}
