//! The figures of an evaluation, and how they are shown.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::wishes::{KeyFigures, SOON, WishFigures};
use crate::measure::Agreement;
use crate::observer::Figures;

/// Everything that an evaluation found. As JSON, the fields' names are the keys.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Evaluation {
    /// Name of the world.
    pub world: String,
    /// Its hash.
    pub hash: String,
    /// Whether the video was held out from training; else it is training video, as the dataset has no other.
    pub held_out: bool,
    /// Clips that rollouts were measured on.
    pub clips: usize,
    /// Frames that started each.
    pub prompt: usize,
    /// The tokenizer.
    pub tokenizer: TokenizerFigures,
    /// The latent action model.
    pub latent_actions: LatentActionFigures,
    /// The action prior.
    pub prior: PriorFigures,
    /// Median PSNR in dB over clips, by frames after the prompt.
    pub rollout: RolloutFigures,
    /// Mean PSNR in dB, likewise.
    pub rollout_mean: RolloutTable,
    /// Median SSIM, likewise.
    pub rollout_ssim: RolloutTable,
    /// What comes of held keys; `None` where it was not measured.
    #[serde(default)]
    pub wishes: Option<WishFigures>,
    /// Distance of long rollouts under the random player from real video, by frame: squared Fréchet distance of features, in
    /// units of that of equally much real video. 1 is as good as real.
    pub drift: BTreeMap<u32, f64>,
    /// Mean edge strength of those rollouts as a share of real video's, by frame.
    pub sharpness: BTreeMap<u32, f64>,
    /// How much drift was measured on; `None` where it was not measured.
    pub drift_measure: Option<DriftMeasure>,
    /// What makes these figures mean less than they should, in plain words.
    pub warnings: Vec<String>,
}

/// How much drift was measured on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DriftMeasure {
    /// Long rollouts.
    pub rollouts: usize,
    /// Frames up to each point that stand for it, in each rollout.
    pub stretch: usize,
    /// Frames of real video that there are to compare with.
    pub real_frames: usize,
}

/// Figures of the tokenizer.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct TokenizerFigures {
    /// Mean PSNR in dB of decoded frames.
    pub psnr: f64,
    /// Mean SSIM.
    pub ssim: f64,
    /// Edge strength (differences of neighbouring pixels) of decoded frames, as a share of the real ones': falls when pictures blur.
    #[serde(default)]
    pub edges: f64,
    /// Mean error of those differences, as a share of their strength in real frames: rises with blur and with false detail alike.
    #[serde(default)]
    pub edge_error: f64,
    /// Codes that occur.
    pub codes_used: usize,
    /// Codes that there are.
    pub vocabulary: usize,
}

/// Figures of the latent action model; PSNRs in dB of predicting the next frame.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct LatentActionFigures {
    /// With the inferred code.
    pub psnr: f64,
    /// With a random code of those in use.
    pub psnr_random: f64,
    /// The difference.
    pub gap: f64,
    /// With the description before clustering.
    pub psnr_continuous: f64,
    /// Of the frame before, unchanged.
    pub psnr_copy: f64,
    /// The gap four frames on, the predictor fed back into itself.
    pub gap4: Option<f64>,
    /// Normalised mutual information of code and true action, where the dataset has true actions.
    pub nmi: Option<f64>,
    /// The same with the true actions shuffled.
    #[serde(default)]
    pub nmi_by_chance: Option<f64>,
    /// Changes of which the true action is known, where the dataset has true actions.
    #[serde(default)]
    pub nmi_changes: Option<usize>,
    /// Codes that occur.
    pub codes_used: usize,
    /// Codes that there are.
    pub codes: usize,
    /// How often each occurs.
    pub usage: Vec<u64>,
    /// What each code stood for, where the dataset has true actions.
    #[serde(default)]
    pub true_actions: Vec<TrueActionsOfCode>,
}

/// What a code stood for.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct TrueActionsOfCode {
    /// What the world calls the code.
    pub code: String,
    /// How often each true action was pressed where the change had this code.
    pub pressed: BTreeMap<String, u64>,
}

impl TrueActionsOfCode {
    /// For people, the most frequent first.
    fn to_text(&self) -> String {
        let mut pressed: Vec<(&String, &u64)> = self.pressed.iter().collect();
        pressed.sort_by_key(|(_, count)| std::cmp::Reverse(**count));
        let parts = pressed
            .iter()
            .map(|(name, count)| format!("{name} {count}"));
        parts.collect::<Vec<_>>().join(", ")
    }
}

/// Figures of the action prior, in nats.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct PriorFigures {
    /// Of the next code, under the prior.
    pub cross_entropy: f64,
    /// Of the next code, under the codes' frequencies in the same clips.
    pub entropy_of_frequencies: f64,
    /// Share of changes whose code the prior thought most likely.
    pub accuracy: f64,
    /// Changes that were judged: those that follow a prompt.
    pub changes: usize,
}

/// A figure by what continued the clip and by frames after the prompt.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct RolloutTable {
    /// The world with the codes inferred from the true continuation.
    pub inferred: BTreeMap<u32, f64>,
    /// The world with random codes of those in use.
    pub random: BTreeMap<u32, f64>,
    /// The prompt's last frame, repeated.
    pub copy: BTreeMap<u32, f64>,
    /// The forecast alone, fed back into itself.
    pub forecast: BTreeMap<u32, f64>,
    /// The world with the codes that the true actions alone come to, where the dataset has true actions.
    #[serde(default)]
    pub true_actions: Option<BTreeMap<u32, f64>>,
}

/// A [`RolloutTable`] of PSNRs, with the controllability.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct RolloutFigures {
    /// The world with the codes inferred from the true continuation.
    pub inferred: BTreeMap<u32, f64>,
    /// The world with random codes of those in use.
    pub random: BTreeMap<u32, f64>,
    /// The prompt's last frame, repeated.
    pub copy: BTreeMap<u32, f64>,
    /// The forecast alone, fed back into itself.
    pub forecast: BTreeMap<u32, f64>,
    /// The world with the codes that the true actions alone come to, where the dataset has true actions.
    #[serde(default)]
    pub true_actions: Option<BTreeMap<u32, f64>>,
    /// Inferred minus random at frame 4, in dB (Genie's controllability).
    pub gap4: Option<f64>,
}

impl Evaluation {
    /// All numbers by dotted name, as they go into a bundle's manifest: `tokenizer.psnr`, `rollout.inferred.4` and so on.
    pub fn figures(&self) -> Figures {
        fn collect(prefix: &str, value: &serde_json::Value, figures: &mut Figures) {
            match value {
                serde_json::Value::Number(number) => {
                    if let Some(number) = number.as_f64() {
                        figures.insert(prefix.to_owned(), number);
                    }
                }
                serde_json::Value::Object(fields) => {
                    for (name, value) in fields {
                        let name = match prefix {
                            "" => name.clone(),
                            prefix => format!("{prefix}.{name}"),
                        };
                        collect(&name, value, figures);
                    }
                }
                _ => {}
            }
        }
        let mut figures = Figures::new();
        if let Ok(value) = serde_json::to_value(self) {
            collect("", &value, &mut figures);
        }
        figures
    }

    /// The table, what its figures are, and warnings.
    pub fn to_text(&self) -> String {
        let warnings = self.warnings.iter().map(|text| format!("warning: {text}"));
        let below: Vec<String> = self.explanations().into_iter().chain(warnings).collect();
        format!("{}\n{}", self.to_table(), below.join("\n"))
    }

    /// What the figures are that a name in a table does not explain, a sentence each.
    pub fn explanations(&self) -> Vec<String> {
        let mut explanations = vec![format!(
            "Rollouts go on from {} true frames; their figures are medians over {} clips, with the means beside them. The action prior is judged on the {} changes that follow such prompts.",
            self.prompt, self.clips, self.prior.changes
        )];
        if let Some(wishes) = &self.wishes {
            explanations.push(format!(
                "Keys were held for {} frames from {} true beginnings. A key is obeyed when one of its codes is played within {SOON} frames, judged where real video shows such a code so soon after the last one; it rests when what stopped the view in the second half keeps it still to the end; it lands when a view that rose goes down and stops again. Plausibility is the mean log-probability that the action prior gives the codes that were played.",
                wishes.frames, wishes.starts
            ));
        }
        if let Some(DriftMeasure {
            rollouts,
            stretch,
            real_frames,
        }) = self.drift_measure
        {
            explanations.push(format!(
                "Drift is how far long rollouts stray from real video: the squared Fréchet distance of the statistics of pictures (colours, edges and change in a coarse grid, along the 16 main axes of real video), between the last {stretch} frames up to a point of {} under a random player and {real_frames} real frames, in units of the same distance of equally much real video.",
                counted(rollouts, "rollout")
            ));
        }
        explanations
    }

    /// The figures as a Markdown table.
    pub fn to_table(&self) -> String {
        let rows = self.figure_rows();
        let widest = |column: fn(&(String, String)) -> &str| {
            rows.iter()
                .map(|row| column(row).chars().count())
                .max()
                .unwrap_or(0)
        };
        let (left, right) = (widest(|row| &row.0), widest(|row| &row.1));
        let line = |a: &str, b: &str| format!("| {a:<left$} | {b:<right$} |\n");
        let head = line("measured on held-out video", "figure");
        let rule = line(&"-".repeat(left), &"-".repeat(right));
        let body: String = rows.iter().map(|(name, value)| line(name, value)).collect();
        let head = match self.held_out {
            true => head,
            false => line("measured on TRAINING video", "figure"),
        };
        head + &rule + &body
    }

    /// Names and figures for people, then what they are, and warnings.
    pub(crate) fn rows(&self) -> Vec<(String, String)> {
        let mut rows = self.figure_rows();
        let notes = self.explanations().into_iter().map(|text| ("note", text));
        let warnings = self.warnings.iter().map(|text| ("WARNING", text.clone()));
        rows.extend(
            notes
                .chain(warnings)
                .map(|(name, text)| (name.to_owned(), text)),
        );
        rows
    }

    fn figure_rows(&self) -> Vec<(String, String)> {
        let mut rows: Vec<(String, String)> = Vec::new();
        let mut row = |name: &str, value: String| rows.push((name.to_owned(), value));
        let TokenizerFigures {
            psnr,
            ssim,
            edges,
            edge_error,
            codes_used,
            vocabulary,
        } = &self.tokenizer;
        row("tokenizer: PSNR, SSIM", format!("{psnr:.2} dB, {ssim:.3}"));
        row(
            "tokenizer: edge strength (1: as real), edge error",
            format!("{edges:.3}, {edge_error:.3}"),
        );
        row(
            "tokenizer: codes used",
            format!("{codes_used} of {vocabulary}"),
        );
        let actions = &self.latent_actions;
        row(
            "latent actions: next frame with inferred / random codes",
            format!("{:.2} / {:.2} dB", actions.psnr, actions.psnr_random),
        );
        row("latent actions: gap", format!("{:.2} dB", actions.gap));
        row("latent actions: gap four frames on", gap_text(actions.gap4));
        row(
            "latent actions: before clustering / frame unchanged",
            format!(
                "{:.2} / {:.2} dB",
                actions.psnr_continuous, actions.psnr_copy
            ),
        );
        if let Some(changes) = actions.nmi_changes {
            let agreement = Agreement {
                nmi: actions.nmi.unwrap_or(0.0),
                chance: actions.nmi_by_chance.unwrap_or(0.0),
                changes,
            };
            row(
                "latent actions: NMI with the true action",
                agreement.to_text(),
            );
        }
        for (number, code) in actions.true_actions.iter().enumerate() {
            if !code.pressed.is_empty() {
                let name = format!("latent actions: pressed under code {number}, {}", code.code);
                row(&name, code.to_text());
            }
        }
        row(
            "latent actions: codes used",
            format!("{} of {}", actions.codes_used, actions.codes),
        );
        let prior = &self.prior;
        row(
            "action prior: cross-entropy (of frequencies alone)",
            format!(
                "{:.3} ({:.3}) nats, right {:.0}%",
                prior.cross_entropy,
                prior.entropy_of_frequencies,
                100.0 * prior.accuracy
            ),
        );
        let frames: Vec<String> = self.rollout.inferred.keys().map(u32::to_string).collect();
        let frames = frames.join(" / ");
        let list = |figures: &BTreeMap<u32, f64>, digits: usize| {
            let values = figures.values().map(|value| format!("{value:.digits$}"));
            values.collect::<Vec<_>>().join(" / ")
        };
        let true_actions = match (
            &self.rollout.true_actions,
            &self.rollout_mean.true_actions,
            &self.rollout_ssim.true_actions,
        ) {
            (Some(psnr), Some(mean), Some(ssim)) => {
                Some(("codes that true actions come to", psnr, mean, ssim))
            }
            _ => None,
        };
        for (name, psnr, mean, ssim) in [
            (
                "inferred codes",
                &self.rollout.inferred,
                &self.rollout_mean.inferred,
                &self.rollout_ssim.inferred,
            ),
            (
                "random codes",
                &self.rollout.random,
                &self.rollout_mean.random,
                &self.rollout_ssim.random,
            ),
            (
                "last frame repeated",
                &self.rollout.copy,
                &self.rollout_mean.copy,
                &self.rollout_ssim.copy,
            ),
            (
                "forecast alone",
                &self.rollout.forecast,
                &self.rollout_mean.forecast,
                &self.rollout_ssim.forecast,
            ),
        ]
        .into_iter()
        .chain(true_actions)
        {
            row(
                &format!("rollout, {name}: PSNR at frames {frames}"),
                format!(
                    "{} dB (means {}); SSIM {}",
                    list(psnr, 1),
                    list(mean, 1),
                    list(ssim, 2)
                ),
            );
        }
        row("rollout: gap at frame 4", gap_text(self.rollout.gap4));
        if let Some(wishes) = &self.wishes {
            for (name, value) in wish_rows(wishes, &self.prior) {
                row(&name, value);
            }
        }
        if !self.drift.is_empty() {
            let frames: Vec<String> = self.drift.keys().map(u32::to_string).collect();
            row(
                &format!("drift at frames {} (1: as real video)", frames.join(" / ")),
                list(&self.drift, 1),
            );
            row(
                &format!(
                    "edge strength at frames {} (1: as real video)",
                    frames.join(" / ")
                ),
                list(&self.sharpness, 2),
            );
        }
        rows
    }
}

fn wish_rows(wishes: &WishFigures, prior: &PriorFigures) -> Vec<(String, String)> {
    let key = |(key, figures): (&String, &KeyFigures)| {
        let after = match figures.frames_to_obey {
            Some(frames) => format!("after {frames:.1} frames"),
            None => "never".to_owned(),
        };
        let parts = [("rested", figures.rested), ("landed", figures.landed)];
        let judged = parts.into_iter().filter(|(_, share)| share.of > 0);
        let judged = judged.map(|(what, share)| format!("; {what} {}", share.to_text()));
        (
            format!("key {key} ({})", figures.wishes),
            format!(
                "obeyed {} ({after}){}",
                figures.obeyed.to_text(),
                judged.collect::<String>()
            ),
        )
    };
    let mut rows: Vec<(String, String)> = wishes.keys.iter().map(key).collect();
    if let Some(share) = wishes.stayed_idle {
        let name = format!("idle: stayed still for {} frames", wishes.frames);
        rows.push((name, share.to_text()));
    }
    rows.push((
        "plausibility: codes under keys / of real video".to_owned(),
        format!(
            "{:.2} / {:.2} nats",
            wishes.plausibility, -prior.cross_entropy
        ),
    ));
    if let (Some(played), Some(real)) = (wishes.rise_and_fall, wishes.rise_and_fall_real) {
        rows.push((
            "up or down at a stretch: world by itself / real video".to_owned(),
            format!("{played:.1} / {real:.1} frames"),
        ));
    }
    rows
}

/// A number of things.
fn counted(number: usize, thing: &str) -> String {
    match number {
        1 => format!("1 {thing}"),
        _ => format!("{number} {thing}s"),
    }
}

/// A gap four frames on, or why there is none.
fn gap_text(gap: Option<f64>) -> String {
    match gap {
        Some(gap) => format!("{gap:.2} dB"),
        None => "not measured: the episodes are too short".to_owned(),
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::evaluate::Share;

    pub(crate) fn example() -> Evaluation {
        let table = |base: f64| -> BTreeMap<u32, f64> {
            [1, 4, 8, 16]
                .map(|frame| (frame, base - f64::from(frame)))
                .into()
        };
        let rollouts = RolloutTable {
            inferred: table(25.0),
            random: table(20.0),
            copy: table(21.0),
            forecast: table(23.0),
            true_actions: Some(table(22.0)),
        };
        Evaluation {
            world: "x".to_owned(),
            hash: "ff".to_owned(),
            held_out: true,
            clips: 3,
            prompt: 4,
            tokenizer: TokenizerFigures {
                psnr: 28.5,
                ssim: 0.9,
                edges: 0.95,
                edge_error: 0.2,
                codes_used: 600,
                vocabulary: 1000,
            },
            latent_actions: LatentActionFigures {
                psnr: 24.0,
                psnr_random: 18.0,
                gap: 6.0,
                psnr_continuous: 25.0,
                psnr_copy: 19.0,
                gap4: Some(5.0),
                nmi: None,
                nmi_by_chance: None,
                nmi_changes: None,
                codes_used: 8,
                codes: 8,
                usage: vec![1; 8],
                true_actions: Vec::new(),
            },
            prior: PriorFigures {
                cross_entropy: 0.6,
                entropy_of_frequencies: 2.0,
                accuracy: 0.78,
                changes: 192,
            },
            rollout: RolloutFigures {
                inferred: rollouts.inferred.clone(),
                random: rollouts.random.clone(),
                copy: rollouts.copy.clone(),
                forecast: rollouts.forecast.clone(),
                true_actions: rollouts.true_actions.clone(),
                gap4: Some(5.0),
            },
            rollout_mean: rollouts.clone(),
            rollout_ssim: rollouts,
            wishes: Some(WishFigures {
                starts: 20,
                frames: 60,
                keys: [(
                    "ArrowUp".to_owned(),
                    KeyFigures {
                        wishes: "jump".to_owned(),
                        obeyed: Share { good: 18, of: 20 },
                        frames_to_obey: Some(1.25),
                        rested: Share::default(),
                        landed: Share { good: 19, of: 19 },
                    },
                )]
                .into(),
                stayed_idle: Some(Share { good: 17, of: 20 }),
                plausibility: -0.8,
                rise_and_fall: Some(7.5),
                rise_and_fall_real: Some(8.0),
            }),
            drift: [(50, 1.5), (1000, 4.0)].into(),
            sharpness: [(50, 1.0), (1000, 0.9)].into(),
            drift_measure: Some(DriftMeasure {
                rollouts: 6,
                stretch: 50,
                real_frames: 9000,
            }),
            warnings: Vec::new(),
        }
    }

    #[test]
    fn json_has_the_promised_keys() {
        let value = serde_json::to_value(example()).unwrap();
        for path in [
            "/tokenizer/psnr",
            "/tokenizer/ssim",
            "/tokenizer/codes_used",
            "/latent_actions/psnr",
            "/latent_actions/psnr_random",
            "/latent_actions/gap",
            "/latent_actions/codes_used",
            "/prior/cross_entropy",
            "/prior/entropy_of_frequencies",
            "/rollout/inferred/1",
            "/rollout/random/4",
            "/rollout/copy/8",
            "/rollout/forecast/16",
            "/rollout/true_actions/8",
            "/rollout/gap4",
            "/wishes/keys/ArrowUp/obeyed/good",
            "/wishes/plausibility",
            "/drift/50",
            "/drift/1000",
        ] {
            assert!(value.pointer(path).is_some_and(|v| v.is_number()), "{path}");
        }
        assert!(value.pointer("/latent_actions/nmi").unwrap().is_null());
        let back: Evaluation = serde_json::from_value(value).unwrap();
        assert_eq!(back, example());
    }

    #[test]
    fn figures_are_flat_and_the_table_is_aligned() {
        let figures = example().figures();
        assert_eq!(figures["rollout.inferred.4"], 21.0);
        assert_eq!(figures["drift.1000"], 4.0);
        assert!(!figures.contains_key("world"));
        let table = example().to_table();
        let widths: Vec<usize> = table.lines().map(|line| line.chars().count()).collect();
        assert!(widths.iter().all(|&width| width == widths[0]), "{table}");
        assert!(table.contains("| rollout: gap at frame 4"));
        assert!(table.contains("obeyed 18 of 20 (after 1.2 frames); landed 19 of 19 "));
        assert!(table.contains("17 of 20") && table.contains("-0.80 / -0.60 nats"));
        assert!(!table.contains("not measured") && !table.contains("NMI"));
        let mut short = example();
        (short.rollout.gap4, short.latent_actions.gap4) = (None, None);
        short.latent_actions.nmi_changes = Some(0);
        short.latent_actions.true_actions = vec![TrueActionsOfCode {
            code: "turn".into(),
            pressed: [("up".into(), 2), ("left".into(), 30)].into(),
        }];
        let table = short.to_table();
        assert_eq!(table.matches("not measured").count(), 2);
        assert!(table.contains("of no held-out change is the true action known"));
        assert!(table.contains("pressed under code 0, turn "));
        assert!(table.contains("| left 30, up 2 "));
    }

    #[test]
    fn figures_are_explained_and_what_spoils_them_is_told() {
        let text = example().to_text();
        assert!(text.starts_with(&example().to_table()));
        for part in [
            "medians over 3 clips",
            "squared Fréchet distance",
            "last 50 frames up to a point of 6 rollouts under a random player and 9000 real frames",
            "in units of the same distance of equally much real video",
        ] {
            assert!(text.contains(part), "{part} is not in {text}");
        }
        assert!(!text.contains("warning"));
        let mut without = example();
        (without.drift, without.drift_measure) = (BTreeMap::new(), None);
        without.warnings = vec!["drift is left out: why".to_owned()];
        let text = without.to_text();
        assert!(!text.contains("Fréchet") && text.ends_with("\nwarning: drift is left out: why"));
        let rows = without.rows();
        let last = rows
            .last()
            .map(|(name, text)| (name.as_str(), text.as_str()));
        assert_eq!(last, Some(("WARNING", "drift is left out: why")));
    }
}
